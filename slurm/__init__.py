"""From a login node to results: batch scripts for SLURM, the command that submits them, sweeps without an account."""
