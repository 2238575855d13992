"""The comparison of the DeepHPS paper: clean only, sensor only, joint training; without shape, without bone scales.

    python -m benchmarks.deephps_tables --budget cpu --seeds 3 [--list]

Sizes and arms stand in configs/benchmarks/deephps_tables.yaml. Each arm x seed is one run of train.py; its figures are
kept in benchmarks/results/deephps_tables/. What is there, made by the same command, is not run again, so that the whole
can be stopped and continued; a run that was cut off goes on from its last checkpoint.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import yaml
from rich.table import Table

from benchmarks.report import RESULTS, commit, emit, machine
from datamodules.fingerprint import stored_fingerprints

CONFIG = Path("configs/benchmarks/deephps_tables.yaml")
FOLDER = RESULTS / "deephps_tables"
COLUMNS = ("joints_absolute", "joints_root", "joints_procrustes", "vertices_root", "vertices_procrustes")
REFERENCE = ("mean_pose_absolute", "mean_pose_root", "mean_pose_procrustes")


class Run(NamedTuple):
    """One arm with one seed."""

    budget: str
    arm: str
    seed: int
    command: list[str]  # arguments of train.py

    @property
    def name(self) -> str:
        """Arm and seed."""
        return f"{self.arm.replace(' ', '-')}-seed{self.seed}"

    @property
    def run_id(self) -> str:
        """Run folder; another command is another run, never the continuation of this one."""
        return f"{self.name}-{hashlib.sha256(json.dumps(self.command).encode()).hexdigest()[:6]}"

    @property
    def result(self) -> Path:
        """Where its figures are kept."""
        return FOLDER / self.budget / f"{self.name}.json"

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

    def figures(self) -> dict[str, float] | None:
        """Its figures, or None if it has not been run, or not with this very identity."""
        if not self.result.is_file():
            return None
        stored = json.loads(self.result.read_text())
        same = all(stored.get(key) == value for key, value in self.identity().items())
        return stored["figures"] if same else None


def _flat(settings: dict[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Settings as (key, value), the key with dots; what is no mapping is a value."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def plan(budget: str, seeds: int, config: Path = CONFIG) -> list[Run]:
    """All runs of a budget, seed by seed: a stopped command leaves whole comparisons."""
    content = yaml.safe_load(config.read_text())
    if budget not in content["budgets"]:
        raise ValueError(f"budget: expected one of {', '.join(content['budgets'])}, got {budget!r}; add it to {config}")
    base = content["budgets"][budget]
    runs = []
    for seed in range(seeds):
        for arm, overrides in content["arms"].items():
            settings = content["shared"] | base["overrides"] | overrides
            settings |= {"seed_everything": seed, "data.init_args.seed": seed}
            # a string goes as it is: quotes would become part of it
            options = [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]
            runs.append(Run(budget, arm, seed, ["fit", f"--config={base['config']}", *options]))
    return runs


def train(run: Run, runs_folder: Path) -> None:
    """Run train.py to its end and keep the figures of its test."""
    experiment = f"deephps_tables_{run.budget}"
    environment = os.environ | {"RUN_ID": run.run_id, "WANDB_MODE": "disabled"}
    command = [sys.executable, "train.py", *run.command, f"--runs={runs_folder}", f"--experiment={experiment}"]
    start = time.monotonic()
    subprocess.run(command, env=environment, check=True)
    figures = final_figures(runs_folder / experiment / run.run_id / "metrics.csv")
    kept = {
        **run.identity(),
        "figures": figures,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "commit": commit(),
        "machine": machine(),
    }
    run.result.parent.mkdir(parents=True, exist_ok=True)
    run.result.write_text(json.dumps(kept, indent=2) + "\n")


def final_figures(metrics: Path) -> dict[str, float]:
    """The last test's errors in a run's metrics.csv, without `test/` and `_mm`."""
    figures = {}
    with open(metrics, newline="") as file:
        for row in csv.DictReader(file):
            for name in COLUMNS + REFERENCE:
                if row.get(f"test/{name}_mm"):
                    figures[name] = round(float(row[f"test/{name}_mm"]), 3)
    missing = [name for name in COLUMNS if name not in figures]
    if missing:
        raise ValueError(f"{metrics}: no test figures {', '.join(missing)}; the run did not reach its test")
    return figures


def summary(runs: list[Run]) -> tuple[Table, dict[str, float]]:
    """Mean and spread over the seeds that are there, arm by arm."""
    table = Table("mm on the sensor test split", "seeds", *(c.replace("_", " ") for c in COLUMNS))
    figures: dict[str, float] = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        done = [found for run in runs if run.arm == arm and (found := run.figures())]
        cells = []
        for column in COLUMNS:
            values = [found[column] for found in done]
            spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.2f}{spread}" if values else "-")
            if values:
                figures[f"{arm.replace(' ', '_')}_{column}_mm"] = round(mean(values), 3)
                figures[f"{arm.replace(' ', '_')}_seeds"] = len(values)
        table.add_row(arm, str(len(done)), *cells)
    constant = next((found for run in runs if (found := run.figures())), None)
    if constant:
        table.add_row("constant mean pose", "", *(f"{constant[name]:.2f}" for name in REFERENCE), "-", "-")
    return table, figures


def main() -> None:
    """Run what is missing, then print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", default="cpu", help="one of the budgets in the configuration")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing, run nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs themselves")
    arguments = parser.parse_args()
    runs = plan(arguments.budget, arguments.seeds)
    missing = [run for run in runs if run.figures() is None]
    print(f"{len(runs) - len(missing)} of {len(runs)} runs are there; missing: {[run.name for run in missing]}")
    for number, run in enumerate([] if arguments.list else missing, 1):
        print(f"run {number} of {len(missing)}: {run.name}", flush=True)
        train(run, arguments.runs)
    table, figures = summary(runs)
    emit(f"deephps_tables_{arguments.budget}", figures, table, save=not arguments.list)


if __name__ == "__main__":
    main()
