"""A W&B sweep without an account: proposals by W&B's own open engine, runs here or as a SLURM array, a ranking.

    make sweeps-env                                  # once: the engine, in an environment of its own
    python -m slurm.local_sweep configs/sweeps/vae_rendered.yaml --count 8
    python -m slurm.local_sweep configs/sweeps/vae_rendered.yaml --count 8 --slurm -- --gpus 1 --time 2:00:00

Runs are the usual folders, runs/<experiment>/<sweep>-<number>/. What was proposed and what became of it stands in
runs/sweeps/<sweep>.json: the same command goes on after a stop, a larger --count goes further. --extra=--key=value goes
to every run; what stands behind -- goes to slurm.submit. The table ranks runs by the best value of the sweep's metric.
"""

import argparse
import math
import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from slurm.sweep_jobs import run_as_array, run_here
from slurm.sweep_record import Record, SweepError, SweepRun


def main(arguments: list[str] | None = None) -> None:
    """Propose, run, rank."""
    words = sys.argv[1:] if arguments is None else arguments
    end = words.index("--") if "--" in words else len(words)
    given, submit = _parser().parse_args(words[:end]), words[end + 1 :]
    try:
        record = Record.open(given.sweep, given.name or given.sweep.stem, given.runs, given.seed)
        if given.retry:
            record.forget_failures()
        _run_all(record, given, submit)
    except SweepError as error:
        raise SystemExit(f"local_sweep: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(f"stopped; the same command goes on with it (what is done: {record.path})") from None
    ranked = rank(record)
    Console(width=None if sys.stdout.isatty() else 160).print(table(record, ranked))
    print(f"ranking: {record.write_ranking(ranked)}")


def _run_all(record: Record, given: argparse.Namespace, submit: list[str]) -> None:
    at_once = given.at_once if given.slurm else 1
    while True:
        waiting = record.unfinished()[:at_once]
        if not waiting:
            wanted = min(at_once, given.count - len(record.runs))
            waiting = record.propose(wanted) if wanted > 0 else []
        if not waiting:
            return
        if given.slurm:
            run_as_array(record, waiting, given.python, given.extra, submit)
        else:
            run_here(record, waiting[0], given.python, given.extra)
        _refuse_a_sweep_that_never_works(record)


def _refuse_a_sweep_that_never_works(record: Record) -> None:
    failed = [run for run in record.runs if run.state == "failed"]
    if failed and not any(run.state == "finished" for run in record.runs):
        output = record.log(failed[0])
        end = output.read_text()[-2000:] if output.is_file() else "it wrote nothing"
        raise SweepError(
            f"run {failed[0].run_id} failed, and none before it ended well; the end of {output}:\n{end}\n"
            "mend it, then the same command with --retry"
        )


def rank(record: Record) -> list[tuple[SweepRun, float]]:
    """Runs and the best values of the sweep's metric, the best run first; those without a value last, as NaN."""
    minimise = record.sweep["metric"].get("goal", "minimize") == "minimize"
    best = {run.run_id: (min if minimise else max)(record.history(run), default=math.nan) for run in record.runs}
    sign = 1 if minimise else -1
    place = {name: math.inf if math.isnan(value) else sign * value for name, value in best.items()}
    return [(run, best[run.run_id]) for run in sorted(record.runs, key=lambda run: place[run.run_id])]


def table(record: Record, ranked: list[tuple[SweepRun, float]]) -> Table:
    """A row per run."""
    names = list(record.sweep["parameters"])
    short = [name.rpartition(".")[2] for name in names]
    shown = Table("", "run", record.sweep["metric"]["name"], *short, "state", title=f"Sweep {record.name}")
    for place, (run, value) in enumerate(ranked, 1):
        options = [_text(run.options.get(name)) for name in names]
        shown.add_row(str(place), run.run_id, "-" if math.isnan(value) else f"{value:.3f}", *options, run.state)
    return shown


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slurm.local_sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=_sweep_file, help="configs/sweeps/<name>.yaml")
    parser.add_argument("--count", type=_positive, default=8, help="runs in all")
    parser.add_argument("--name", help="of the sweep; the file's name if not given")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--seed", type=int, default=0, help="of the proposals")
    parser.add_argument(
        "--extra", action="append", default=[], help="one more option of train.py, as --extra=--key=value"
    )
    parser.add_argument("--python", default=sys.executable, help="what starts Python (for --slurm: on the nodes)")
    parser.add_argument("--slurm", action="store_true", help="as SLURM arrays of --at-once runs")
    parser.add_argument("--at-once", type=_positive, default=4, help="runs proposed and run together under --slurm")
    parser.add_argument("--retry", action="store_true", help="run those that failed once more")
    return parser


def _sweep_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file {text}; sweeps are configs/sweeps/*.yaml")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{text} is not YAML: {error}") from error
    if not isinstance(content, dict) or "name" not in (content.get("metric") or {}):
        raise argparse.ArgumentTypeError(f"{text}: expected keys such as method, metric: {{name, goal}} and parameters")
    return path


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


if __name__ == "__main__":
    main()
