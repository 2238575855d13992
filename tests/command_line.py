"""Runs train.py's command line inside the test process: importing torch and Lightning once is dear enough."""

import copy
import sys
from pathlib import Path

import yaml

TOY = {
    "model": {
        "class_path": "tests.toys.ToyMethod",
        "init_args": {"image_size": "${data.init_args.image_size}", "lr": 0.05},
    },
    "data": {"class_path": "tests.toys.ToyData", "init_args": {"image_size": 16}},
    "trainer": {"max_steps": 4, "accelerator": "cpu", "num_sanity_val_steps": 0},
}


class CommandLine:
    """train.py with its runs in a folder of the test's own."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.runs = folder / "runs"

    def write(self, name: str = "toy", **changes) -> Path:
        """A configuration file: the toy experiment, or only what `changes` says."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(copy.deepcopy(changes or TOY)))
        return path

    def __call__(self, subcommand: str, *arguments: str, config: Path | None = None, run_id: str | None = None):
        """The HandCLI after it ran."""
        from lightning_modules.cli import HandCLI
        from lightning_modules.preflight import preflight

        words = [subcommand, f"--config={config or self.write()}", f"--runs={self.runs}", *arguments]
        self.monkeypatch.setattr(sys, "argv", ["train.py", *words])
        self.monkeypatch.setenv("RUN_ID", run_id or "")  # known to monkeypatch, so that what the run sets is undone
        if run_id is None:
            self.monkeypatch.delenv("RUN_ID")
            self.monkeypatch.setenv("RUN_ID_MADE", "")
        preflight(words)
        return HandCLI()
