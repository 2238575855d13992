"""Where a run lives: `runs/<experiment>/<run id>/`, the same for all ranks and after a requeue.

    config.yaml  metrics.csv  checkpoints/{best,last,previous}.ckpt  pictures/  wandb/

The launcher fixes the run id in the environment variable RUN_ID; without it the one process that starts the others
makes one and hands it down through its environment.
"""

import os
import re
import secrets
import time
from collections.abc import MutableMapping
from pathlib import Path

RUN_ID = "RUN_ID"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"  # of a run folder's checkpoints: the newest, and the one before it
_WANDB_RUN_ID = "WANDB_RUN_ID"  # set by a W&B sweep's agent
_MADE_ID = "RUN_ID_MADE"  # tells ranks started from here that their RUN_ID is new, not a launcher's
# How launchers that start every rank themselves (srun, torchrun) tell the number of ranks.
_WORLD_SIZE_VARIABLES = ("WORLD_SIZE", "SLURM_NTASKS")


def settle_run_id(environ: MutableMapping[str, str] = os.environ) -> str:
    """The id of this run; a new one is written to `environ`, so that ranks started from here inherit it.

    Args:
        environ: the environment; RUN_ID wins, then WANDB_RUN_ID, else an id is made.
    """
    run_id = environ.get(RUN_ID) or environ.get(_WANDB_RUN_ID)
    if not run_id:
        for variable in _WORLD_SIZE_VARIABLES:
            if int(environ.get(variable, "1")) > 1:
                raise ValueError(
                    f"{RUN_ID} is not set and {variable}={environ[variable]}: ranks started one by one cannot agree on "
                    f"a run folder; export {RUN_ID}=<name> before srun or torchrun"
                )
        run_id = environ[_MADE_ID] = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    # W&B takes the same characters, and nothing here may climb out of the runs folder
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", run_id):
        raise ValueError(
            f"{RUN_ID}: expected up to 64 letters, digits, '-', '_' or '.', got {run_id!r}; rename the run"
        )
    environ[RUN_ID] = run_id
    return run_id


def check_tasks(ranks: int, environ: MutableMapping[str, str] = os.environ) -> None:
    """Raise unless SLURM starts as many processes as the trainer has ranks; nothing outside of SLURM's jobs.

    Args:
        ranks: trainer.num_nodes x trainer.devices.
        environ: the environment.
    """
    # Lightning takes jobs of these names for a shell, from which it starts its ranks itself
    if environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return
    if (tasks := int(environ.get("SLURM_NTASKS", ranks))) != ranks:
        raise ValueError(
            f"SLURM_NTASKS={tasks}, but trainer.num_nodes x trainer.devices = {ranks}: processes too many would each "
            "train the whole run, and the others would wait for those that are missing; give sbatch "
            "--nodes=<num_nodes> --ntasks-per-node=<devices>, as python -m slurm.submit does"
        )
    if ranks > 1 and "SLURM_NTASKS" in environ and "SLURM_STEP_ID" not in environ:
        raise ValueError(
            f"SLURM_NTASKS={tasks}, but srun did not start this process: it would wait for {ranks - 1} that nobody "
            "starts; let the command begin with srun, as slurm/train.sbatch does (of a W&B sweep: its `command`)"
        )


def is_launched(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Whether a launcher named this run, so that it may be the continuation of one; all its ranks say the same."""
    run_id = environ.get(RUN_ID) or environ.get(_WANDB_RUN_ID)
    return bool(run_id) and run_id != environ.get(_MADE_ID)


def folder_of_checkpoint(checkpoint: str | Path) -> Path | None:
    """The run folder that holds `checkpoint`, or None where it lies elsewhere."""
    parent = Path(checkpoint).resolve().parent
    return parent.parent if parent.name == "checkpoints" else None


def newest_best(runs: str | Path = "runs", experiment: str | None = None) -> Path:
    """The newest best checkpoint under `runs` (of one experiment, if named)."""
    return best_by_age(runs, experiment)[0]


def best_by_age(runs: str | Path = "runs", experiment: str | None = None) -> list[Path]:
    """All best checkpoints under `runs` (of one experiment, if named), the newest first."""
    found = list(Path(runs).glob(f"{experiment or '*'}/*/checkpoints/best.ckpt"))
    if not found:
        where = Path(runs) / experiment if experiment else Path(runs)
        raise FileNotFoundError(f"no best checkpoint under {where}/; train one (make train) or name one with --ckpt")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def resumable(folder: Path) -> list[Path]:
    """The checkpoints from which a stopped run in `folder` can go on, newest first; they may be damaged."""
    found = [path for name in (LAST, PREVIOUS) if (path := folder / "checkpoints" / name).is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
