"""What a sweep has proposed and what became of it, in runs/sweeps/<sweep>.json; asks the engine for more."""

import csv
import json
import math
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_modules.preflight import experiment_name, preflight

ENGINE = Path(__file__).with_name("sweep_engine.py")
ENVIRONMENT = Path(__file__).parent.parent / ".venv-sweeps"
_STATES_OF_ENGINE = {"proposed": "running", "finished": "finished", "failed": "failed"}


class SweepError(Exception):
    """What the user can mend."""


@dataclass
class SweepRun:
    """One proposal and its run."""

    run_id: str
    options: dict[str, Any]  # option of train.py to value
    state: str = "proposed"  # then finished or failed
    job: str | None = None  # of SLURM, such as 17_3


@dataclass
class Record:
    """A sweep's file; every change is written at once.

    Attributes:
        sweep: content of the sweep file.
        runs_folder: of all runs.
    """

    name: str
    sweep: dict[str, Any]
    runs_folder: Path
    seed: int = 0
    runs: list[SweepRun] = field(default_factory=list)

    @classmethod
    def open(cls, file: Path, name: str, runs_folder: Path, seed: int) -> "Record":
        """A sweep that goes on, or a new one."""
        record = cls(name, yaml.safe_load(file.read_text()), runs_folder, seed)
        ask_engine(record.sweep, [], 0, seed)  # refuses what is no sweep before anything is written
        if not record.path.is_file():
            return record
        stored = json.loads(record.path.read_text())
        for fact, now, remedy in (
            ("sweep", record.sweep, f"give {file} as it was"),
            ("seed", seed, "give that --seed"),
        ):
            if stored[fact] != now:
                raise SweepError(
                    f"{record.path}: the sweep '{name}' began with another {fact} ({stored[fact]}); {remedy}, or begin "
                    "a new one with --name"
                )
        record.runs = [SweepRun(**run) for run in stored["runs"]]
        return record

    @property
    def path(self) -> Path:
        """The sweep's file."""
        return self.runs_folder / "sweeps" / f"{self.name}.json"

    def save(self) -> None:
        """Write the file as a whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".writing")
        content = {"sweep": self.sweep, "seed": self.seed, "runs": [asdict(run) for run in self.runs]}
        written.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(written, self.path)

    def unfinished(self) -> list[SweepRun]:
        """Proposed, and not known to have ended."""
        return [run for run in self.runs if run.state == "proposed"]

    def forget_failures(self) -> None:
        """What failed is to be run again."""
        for run in self.runs:
            if run.state == "failed":
                run.state, run.job = "proposed", None
        self.save()

    def propose(self, count: int) -> list[SweepRun]:
        """Ask the engine for so many runs, which the experiment must accept; fewer at the end of a grid."""
        told = [
            {"config": run.options, "state": _STATES_OF_ENGINE[run.state], "history": self.history(run)}
            for run in self.runs
        ]
        proposals = ask_engine(self.sweep, told, count, self.seed)
        new = [SweepRun(f"{self.name}-{len(self.runs) + i:03d}", options) for i, options in enumerate(proposals)]
        for run in new:
            preflight(self.arguments(run))
        self.runs += new
        self.save()
        return new

    def words(self, run: SweepRun, python: list[str]) -> list[str]:
        """The command of a run: the sweep's own, with W&B's placeholders filled in."""
        places = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": python,
            "${program}": [self.sweep.get("program", "train.py")],
            "${args}": [f"--{name}={_written(value)}" for name, value in run.options.items()],
        }
        command = self.sweep.get("command") or list(places)
        return [word for each in command for word in places.get(each, [each])]

    def arguments(self, run: SweepRun) -> list[str]:
        """Those of train.py."""
        words = self.words(run, [])
        return words[words.index(self.sweep.get("program", "train.py")) + 1 :]

    def run_folder(self, run: SweepRun) -> Path:
        """Where train.py puts the run."""
        return self.runs_folder / experiment_name(self.arguments(run)) / run.run_id

    def log(self, run: SweepRun) -> Path:
        """What a run prints."""
        return self.runs_folder / "sweeps" / self.name / f"{run.run_id}.log"

    def history(self, run: SweepRun) -> list[float]:
        """All finite values of the sweep's metric that a run has logged."""
        file = self.run_folder(run) / "metrics.csv"
        if not file.is_file():
            return []
        with open(file, newline="") as opened:
            cells = [row.get(self.sweep["metric"]["name"]) for row in csv.DictReader(opened)]
        return [value for cell in cells if cell and math.isfinite(value := float(cell))]

    def write_ranking(self, ranked: list[tuple[SweepRun, float]]) -> Path:
        """runs/sweeps/<sweep>_ranking.json."""
        path = self.path.with_name(f"{self.name}_ranking.json")
        rows = [
            {
                "place": place,
                "run_id": run.run_id,
                "folder": str(self.run_folder(run)),
                "state": run.state,
                "value": None if math.isnan(value) else value,
                "options": run.options,
            }
            for place, (run, value) in enumerate(ranked, 1)
        ]
        path.write_text(json.dumps({"sweep": self.name, "metric": self.sweep["metric"], "runs": rows}, indent=2) + "\n")
        return path


def ask_engine(sweep: dict[str, Any], runs: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Proposals of W&B's engine, option to value each; see sweep_engine.py."""
    python = ENVIRONMENT / "bin" / "python"
    if shutil.which(python) is None:
        raise SweepError(f"W&B's sweep engine is not installed ({ENVIRONMENT} is not there): make sweeps-env")
    question = json.dumps({"sweep": sweep, "runs": runs, "count": count, "seed": seed})
    done = subprocess.run([python, ENGINE], input=question, capture_output=True, text=True)
    if done.returncode:
        raise SweepError(f"W&B's sweep engine failed (make sweeps-env installs it anew):\n{done.stderr[-2000:]}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise SweepError(f"W&B's sweep engine refuses the sweep file: {answer['error']}")
    return answer["proposals"]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
