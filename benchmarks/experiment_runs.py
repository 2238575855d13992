"""Runs of train.py that a table is made of: planned, run once, gone on with if they were cut off, their figures kept.

A run's figures lie in benchmarks/results/<table>/<budget>/ beside what they depend on, and count while that is the
same. A table can therefore be stopped at any time and continued by the same command.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml

from benchmarks.report import RESULTS, commit, machine
from datamodules.fingerprint import stored_fingerprints

RUNS = "{runs}"  # in a command: the folder of all runs, which is no part of what a run is
Figures = dict[str, float | list[float]]


class Run(NamedTuple):
    """One arm of a table with one seed."""

    table: str
    budget: str
    arm: str
    seed: int
    command: list[str]  # arguments of train.py
    earlier: str | None = None  # run id of the run of the same table whose weights it begins with
    by_settings: bool = False  # what its command leaves to its configuration is part of its id, too

    @property
    def name(self) -> str:
        """Arm and seed."""
        return f"{self.arm.replace(' ', '-')}-seed{self.seed}"

    @property
    def run_id(self) -> str:
        """Run folder; another command is another run, never the continuation of this one."""
        words = [*self.command, *([self.identity()["settings"]] if self.by_settings else [])]
        return f"{self.name}-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:6]}"

    @property
    def result(self) -> Path:
        """Where its figures are kept."""
        return RESULTS / self.table / self.budget / f"{self.name}.json"

    @property
    def experiment(self) -> str:
        """Folder of the table's runs in the folder of all runs."""
        return f"{self.table}_{self.budget}"

    def folder(self, runs_folder: Path) -> Path:
        """Where train.py puts what it makes."""
        return runs_folder / self.experiment / self.run_id

    def best(self, runs_folder: Path) -> Path:
        """Its best checkpoint."""
        return self.folder(runs_folder) / "checkpoints" / "best.ckpt"

    def identity(self) -> dict[str, object]:
        """What its figures depend on besides the code: the command, the settings it leaves alone, the test splits."""
        config = next(a.removeprefix("--config=") for a in self.command if a.startswith("--config="))
        overridden = {option.removeprefix("--").partition("=")[0] for option in self.command}
        base = _flat(yaml.safe_load(Path(config).read_text()))
        left = {key: value for key, value in base if not any(f"{key}.".startswith(f"{o}.") for o in overridden)}
        settings = json.dumps(left, sort_keys=True)
        return {
            "command": self.command,
            "settings": hashlib.sha256(settings.encode()).hexdigest()[:16],
            "test_splits": {name: found["parameters"] for name, found in stored_fingerprints().items()},
        }

    def figures(self) -> Figures | None:
        """Its figures, or None if it has not been run, or not with this very identity."""
        return kept_figures(self.result, self.identity())


def read_budget(config: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A table's configuration, and the budget of that name in it."""
    content = yaml.safe_load(config.read_text())
    if name not in content["budgets"]:
        raise ValueError(f"budget: expected one of {', '.join(content['budgets'])}, got {name!r}; add it to {config}")
    return content, content["budgets"][name]


def table_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every table's command; `description` begins with what it is."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--budget", default="cpu", help="one of the budgets in the configuration")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing, make nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs themselves")
    return parser


def options(settings: Mapping[str, object]) -> list[str]:
    """Settings by their names with dots, as arguments of train.py."""
    # a string goes as it is: quotes would become part of it
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def seeded(seed: int) -> dict[str, int]:
    """The settings that a seed is."""
    return {"seed_everything": seed, "data.init_args.seed": seed}


def kept_figures(path: Path, identity: Mapping[str, object]) -> Figures | None:
    """The figures in a file, or None if there are none of this very identity."""
    if not path.is_file():
        return None
    stored = json.loads(path.read_text())
    expected = dict(identity)
    if splits := expected.get("test_splits"):  # a domain that has come since then is no reason to run again
        expected["test_splits"] = {name: splits.get(name) for name in stored.get("test_splits", splits)}
    return stored["figures"] if all(stored.get(key) == value for key, value in expected.items()) else None


def keep(path: Path, identity: Mapping[str, object], figures: Figures, minutes: float) -> None:
    """Write figures and what they depend on."""
    kept = {**identity, "figures": figures, "minutes": round(minutes, 2), "commit": commit(), "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2) + "\n")


def missing(runs: Sequence[Run], runs_folder: Path) -> list[Run]:
    """Runs to be made, in their order: without figures, or needed by such a run and without a checkpoint."""
    wanted: list[Run] = []
    needed: set[str | None] = set()
    for run in reversed(runs):
        if run.figures() is None or (run.run_id in needed and not run.best(runs_folder).is_file()):
            wanted.append(run)
            needed.add(run.earlier)
    return wanted[::-1]


def listed(runs: Sequence[Run], runs_folder: Path) -> list[Run]:
    """Runs to be made, after saying which they are."""
    absent = missing(runs, runs_folder)
    print(f"{len(runs) - len(absent)} of {len(runs)} runs are there; missing: {[run.name for run in absent]}")
    return absent


def train(run: Run, runs_folder: Path, figures_of: Callable[[Run, Path], Figures]) -> None:
    """Run train.py to its end and keep what `figures_of` the run says in the folder of all runs."""
    environment = os.environ | {"RUN_ID": run.run_id, "WANDB_MODE": "disabled"}
    arguments = [argument.replace(RUNS, str(runs_folder)) for argument in run.command]
    command = [sys.executable, "train.py", *arguments, f"--runs={runs_folder}", f"--experiment={run.experiment}"]
    start = time.monotonic()
    subprocess.run(command, env=environment, check=True)
    keep(run.result, run.identity(), figures_of(run, runs_folder), (time.monotonic() - start) / 60)


def figures_of_test(metrics: Path, names: Sequence[str]) -> Figures:
    """The last test's figures in a run's metrics.csv, `test/<name>`; all of `names` must be there.

    Args:
        metrics: the file.
        names: of the figures, without `test/`.
    """
    values = last_values(metrics, [f"test/{name}" for name in names])
    found = {name.removeprefix("test/"): round(value, 3) for name, value in values.items()}
    if absent := [name for name in names if name not in found]:
        raise ValueError(f"{metrics}: no test figures {', '.join(absent)}; the run did not reach its test")
    return found


def last_values(metrics: Path, columns: Sequence[str]) -> dict[str, float]:
    """The last value of each of these columns of a run's metrics.csv that has one."""
    found = {}
    with open(metrics, newline="") as file:
        for row in csv.DictReader(file):
            found |= {name: float(row[name]) for name in columns if row.get(name)}
    return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds, as a cell of a table."""
    if not values:
        return "-"
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def _flat(settings: dict[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Settings as (key, value), the key with dots; what is no mapping is a value."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value
