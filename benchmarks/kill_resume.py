"""Kill a small real experiment at random moments, start it again, compare its end with an unbroken run's, bit by bit.

    python -m benchmarks.kill_resume --kills 100

A kill is SIGKILL, SIGTERM or SIGUSR1 in turn, at a random moment of a random step, also of the first, which begins with
the rest of the set-up: in a step, in a validation, while a checkpoint is written. Identical are weights, optimiser,
schedule and metrics.csv.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table

from benchmarks.report import emit
from lightning_modules.run_folder import LAST

ROOT = Path(__file__).parent.parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
COMPARED = ("state_dict", "optimizer_states", "lr_schedulers")
_TRACE = "steps.txt"


class Killed(NamedTuple):
    """What became of one killed run."""

    signal: str
    identical: bool
    repeated: int  # optimiser steps done twice
    restart_s: float | None  # from the second start to its first step; None where nothing was left to do


class StepTrace(Callback):
    """Writes step and time of every step to the run folder, past every buffer: a kill loses none."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """One line."""
        with open(Path(trainer.default_root_dir, _TRACE), "a") as file:
            file.write(f"{trainer.global_step} {time.time()}\n")


def experiment(steps: int) -> dict:
    """DeepHPS with its smallest networks on rendered hands, as configs/deephps_rendered.yaml in little."""
    trunks = {name: "tiny" for name in ("pose_trunk", "scale_trunk", "shape_trunk")}
    trainer = {"max_steps": steps, "val_check_interval": max(steps // 4, 1), "check_val_every_n_epoch": None}
    trainer |= {"log_every_n_steps": 1, "accelerator": "cpu", "num_sanity_val_steps": 0, "enable_progress_bar": False}
    data = {"domains": {"clean": 0.75, "sensor": 0.25}, "hide": {"sensor": ["mesh", "parts"]}, "modalities": ["depth"]}
    data |= {"batch_size": 4, "epoch_size": 4 * (steps * 2 // 3), "val_size": 8, "test_size": 8, "num_workers": 1}
    return {
        "seed_everything": 0,
        "save_every": 3,
        "test_after_fit": False,
        "picture_samples": 0,
        "trainer": trainer | {"callbacks": [{"class_path": "benchmarks.kill_resume.StepTrace"}]},
        "model": {"class_path": "lightning_modules.deephps.DeepHPS", "init_args": trunks | {"warmup_steps": 5}},
        "data": {"class_path": "datamodules.rendered.RenderedHandsData", "init_args": data},
    }


class Bench:
    """Runs of one experiment in a folder."""

    def __init__(self, folder: Path, steps: int, seed: int) -> None:
        self.folder, self.steps, self.draw = folder, steps, random.Random(seed)
        (folder / "small.yaml").write_text(yaml.safe_dump(experiment(steps)))
        self.finish(self.start("whole"))

    def run_folder(self, name: str) -> Path:
        """Where the run `name` lies."""
        return self.folder / "runs" / "small" / name

    def start(self, name: str) -> subprocess.Popen:
        """Start, or go on with, a run."""
        command = [sys.executable, "train.py", "fit", f"--config={self.folder / 'small.yaml'}"]
        environ = os.environ | {"RUN_ID": name, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        with open(self.folder / f"{name}.log", "a") as log:
            command.append(f"--runs={self.folder / 'runs'}")
            return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=subprocess.STDOUT)

    def wait_until(self, there: Callable[[], bool], process: subprocess.Popen) -> None:
        """Poll until `there()`, or the process is over."""
        while process.poll() is None and not there():
            time.sleep(0.01)

    def finish(self, process: subprocess.Popen) -> None:
        """Wait for a run that must end well."""
        if process.wait():
            logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
            raise RuntimeError(f"a run ended with exit code {process.returncode}:\n{logs}")

    def kill(self, number: int) -> Killed | None:
        """Kill one run and let it go on; None where it was over before the kill."""
        name, which = f"killed{number}", SIGNALS[number % len(SIGNALS)]
        process, step = self.start(name), self.draw.randrange(self.steps)
        begun = (self.run_folder(name) / "config.yaml").is_file  # the set-up is over, the first step is next
        self.wait_until(lambda: begun() and len(self.trace(name)) >= step, process)
        time.sleep(self.draw.uniform(0, self.step_s(name)))
        if process.poll() is not None:
            return None
        process.send_signal(which)
        if process.wait() == 0:  # it had nothing left but to end
            return None
        started, before = time.time(), len(self.trace(name))
        self.finish(self.start(name))
        trace = self.trace(name)
        restart = trace[before] - started if len(trace) > before else None
        return Killed(which.name, self.identical(name), len(trace) - self.steps, restart)

    def step_s(self, name: str) -> float:
        """Seconds that the steps of a run take now: a machine's load changes, and moments are to fall into steps."""
        times = self.trace(name)[-3:]
        return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0

    def trace(self, name: str) -> list[float]:
        """Times of all steps of a run, done twice or not."""
        file = self.run_folder(name) / _TRACE
        return (
            [float(line.split()[1]) for line in file.read_text().splitlines() if line.count(" ")]
            if file.is_file()
            else []
        )

    def identical(self, name: str) -> bool:
        """Whether a run ended as the unbroken one."""
        return same_end(self.run_folder(name), self.run_folder("whole"))


def same_end(left: Path, right: Path) -> bool:
    """Whether two runs have the same last checkpoint and the same metrics, bit by bit."""
    ends = [torch.load(run / "checkpoints" / LAST, weights_only=True) for run in (left, right)]
    same = all(_equal(ends[0][name], ends[1][name]) for name in (*COMPARED, "global_step"))
    return same and (left / "metrics.csv").read_bytes() == (right / "metrics.csv").read_bytes()


def _equal(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left == right


def main() -> None:
    """Kill, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--steps", type=int, default=24, help="of the experiment")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.steps, given.seed)
        found: list[Killed] = []
        number = 0
        while len(found) < given.kills:
            killed, number = bench.kill(number), number + 1
            if killed:
                found.append(killed)
                print(f"{len(found):4d}  {killed}", file=sys.stderr, flush=True)
    emit("kill_resume", figures(found), table(found), given.save)


def figures(found: list[Killed]) -> dict[str, float]:
    """Figures of all kills together."""
    restarts = [each.restart_s for each in found if each.restart_s is not None]
    return {
        "kills": len(found),
        "identical_share": sum(each.identical for each in found) / len(found),
        "steps_repeated_mean": statistics.mean(each.repeated for each in found),
        "restart_s_median": round(statistics.median(restarts), 2) if restarts else 0.0,
    }


def table(found: list[Killed]) -> Table:
    """A row per signal."""
    shown = Table("signal", "kills", "identical", "steps repeated", "restart, s (median)", title="Killed and gone on")
    for name in sorted({each.signal for each in found}):
        of = [each for each in found if each.signal == name]
        said = figures(of)
        same = f"{sum(each.identical for each in of)} of {len(of)}"
        shown.add_row(name, str(len(of)), same, f"{said['steps_repeated_mean']:.2f}", f"{said['restart_s_median']:.1f}")
    return shown


if __name__ == "__main__":
    main()
