"""Submit runs to SLURM; prints the command that it runs.

    python -m slurm.submit train --nodes 1 --gpus 4 --time 12:00:00 -- --config configs/deephps_paper.yaml
    python -m slurm.submit seeds --seeds 0-4 --gpus 1 -- --config configs/deephps_rendered.yaml
    python -m slurm.submit sweep <entity>/<project>/<sweep id> --jobs 8 --gpus 1
    python -m slurm.submit render --jobs 20 --cpus 16 -- <folder> --domain clean --count 5000000
    python -m slurm.submit train --run-id <id> ...            # go on with a run that crashed

What stands behind -- goes to `train.py fit` as it is, that of render to `python -m datamodules.rendered write`.
--dry-run prints and submits nothing.
"""

import argparse
import os
import re
import secrets
import shlex
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = {
    "train": "train.sbatch",
    "seeds": "array_seeds.sbatch",
    "sweep": "sweep_agent.sbatch",
    "proposals": "array_sweep.sbatch",
    "render": "render.sbatch",
}
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SEEDS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*(%\d+)?")


def main(arguments: list[str] | None = None) -> None:
    """Submit, and say what."""
    given = _parser().parse_args(arguments)
    command, run_id = sbatch_command(given)
    environ = os.environ | {"RUN_ID": run_id, "HANDFUL_PYTHON": given.python}
    if given.what not in ("sweep", "render"):
        print(f"run {run_id} (to go on with it after a crash: the same command with --run-id {run_id})")
    print(f"RUN_ID={run_id} HANDFUL_PYTHON={shlex.quote(given.python)} {shlex.join(command)}", flush=True)
    if given.dry_run:
        return
    Path(given.logs).mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, check=True, env=environ)
    except FileNotFoundError as error:
        raise SystemExit("sbatch: not found; submit from a login node of the cluster, or see --dry-run") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"sbatch refused the job (exit code {error.returncode}); its own words stand above") from error


def sbatch_command(given: argparse.Namespace) -> tuple[list[str], str]:
    """The command of one submission, and the run's id.

    Args:
        given: options as `_parser` reads them.
    """
    run_id = given.run_id or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    if not _RUN_ID.fullmatch(run_id):
        raise SystemExit(
            f"--run-id: expected up to 64 letters, digits, '-', '_' or '.', got '{run_id}'; rename the run"
        )
    per_node = given.gpus or given.tasks
    command = ["sbatch", f"--nodes={given.nodes}", f"--ntasks-per-node={per_node}", f"--cpus-per-task={given.cpus}"]
    command += [f"--time={given.time}", f"--signal=SIGUSR1@{given.warning}", f"--output={given.logs}/%x-%j.out"]
    if given.gpus:
        command.append(f"--gpus-per-node={given.gpus}")
    if given.partition:
        command.append(f"--partition={given.partition}")
    if given.what == "seeds":
        command.append(f"--array={given.seeds}")
    if given.what == "proposals":
        command.append(f"--array={given.numbers}")
    if given.what in ("sweep", "render") and given.jobs > 1:
        command.append(f"--array=1-{given.jobs}")
    command += ["--export=ALL", *given.sbatch, str(HERE / SCRIPTS[given.what])]
    if given.what in ("sweep", "proposals"):
        return [*command, given.sweep if given.what == "sweep" else given.folder], run_id
    return command + given.options, run_id


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slurm.submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="what", required=True)
    texts = ("one run", "a run per seed", "agents of a W&B sweep", "proposals of slurm.local_sweep, which calls this")
    texts += ("shards of a set of rendered hands",)
    for what, text in zip(SCRIPTS, texts, strict=True):
        kind = kinds.add_parser(what, help=text)
        if what == "proposals":
            kind.add_argument("folder", help="where <run id>-<number>.options lie")
            kind.add_argument("--numbers", type=_seeds, required=True, help="of the proposals, such as 0-7")
        elif what == "sweep":
            kind.add_argument("sweep", help="<entity>/<project>/<sweep id>")
            kind.add_argument("--jobs", type=_positive, default=1, help="runs, a job each")
        else:
            kind.add_argument("options", nargs="*", help="of train.py fit, or of the writer of sets, behind --")
        if what == "render":
            kind.add_argument("--jobs", type=_positive, default=1, help="that share the shards")
        if what == "seeds":
            kind.add_argument(
                "--seeds", type=_seeds, required=True, help="such as 0-4, 0,3,7 or 0-9%%2 (two at a time)"
            )
        _add_common(kind)
    return parser


def _add_common(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--nodes", type=_positive, default=1)
    kind.add_argument("--gpus", type=int, default=0, help="per node, a process each; 0: --tasks processes on CPUs")
    kind.add_argument("--tasks", type=_positive, default=1, help="processes per node where there are no GPUs")
    kind.add_argument("--cpus", type=_positive, default=4, help="per process: data.num_workers and one more")
    kind.add_argument("--time", default="24:00:00", help="limit of one job; a run of several goes on by itself")
    kind.add_argument("--warning", type=_positive, default=180, help="seconds before the limit to save and requeue")
    kind.add_argument("--partition")
    kind.add_argument("--run-id", help="of a run to go on with; made anew if not given")
    kind.add_argument("--logs", default="runs/slurm", help="folder of the jobs' output")
    kind.add_argument("--python", default=os.environ.get("HANDFUL_PYTHON", "python"), help="what starts Python")
    kind.add_argument("--sbatch", action="append", default=[], help="one more option of sbatch, as --sbatch=--qos=x")
    kind.add_argument("--dry-run", action="store_true", help="print, submit nothing")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def _seeds(text: str) -> str:
    if not _SEEDS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected seeds such as 0-4 or 0,3,7, got '{text}'")
    return text


if __name__ == "__main__":
    main()
