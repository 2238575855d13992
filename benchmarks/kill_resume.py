"""Kill a small real experiment at random moments, start it again, compare its end with an unbroken run's, bit by bit.

    python -m benchmarks.kill_resume --kills 100 [--folder <folder>]

A kill is SIGKILL, SIGTERM, SIGUSR1 or SIGINT (Ctrl-C) in turn, at a random moment of a random step, also of the first,
which begins with the rest of the set-up: in a step, in a validation, in a save; every fifth is a SIGKILL while a
checkpoint's file is being written. Identical are weights, optimiser, schedule and metrics.csv.

Runs are forks of a server process that has imported what they need and nothing else: a kill costs a third of the time,
and what is tested begins behind the imports. A run that is not over in ten minutes is an error that shows its log. With
--folder the kills that are done are kept there, and a later start goes on.
"""

import argparse
import faulthandler
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table

from benchmarks.report import emit
from lightning_modules.run_folder import LAST

ROOT = Path(__file__).parent.parent
WRITING = "SIGKILL in a write"
KILLS = {each.name: each for each in (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
KILLS[WRITING] = signal.SIGKILL
IMPORTED = ("lightning_modules.cli", "lightning_modules.deephps", "datamodules.rendered", "train")
COMPARED = ("state_dict", "optimizer_states", "lr_schedulers")
PATIENCE_S = 600  # with a run, which takes seconds
_TRACE = "steps.txt"
_SERVER = multiprocessing.get_context("forkserver")  # a fork of this process would lack its threads, and might wait


class Killed(NamedTuple):
    """What became of one killed run."""

    signal: str  # of KILLS
    identical: bool
    repeated: int  # optimiser steps done twice
    restart_s: float | None  # from the second start, behind the imports, to its first step; None: nothing left to do


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
    """Runs of one experiment in a folder, which may hold the kills of an earlier start."""

    def __init__(self, folder: Path, steps: int, seed: int) -> None:
        self.folder, self.steps, self.seed = folder, steps, seed
        self.config, self.notes = folder / "small.yaml", folder / "kills.jsonl"
        text = yaml.safe_dump(experiment(steps))
        if self.config.exists() and self.config.read_text() != text:
            raise ValueError(
                f"--folder: {folder} holds kills of another experiment; give another folder, or the same --steps"
            )
        _SERVER.set_forkserver_preload(list(IMPORTED))
        if not self.config.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.finish(self.start("whole", text))
            self.config.write_text(text)

    def run_folder(self, name: str) -> Path:
        """Where the run `name` lies."""
        return self.folder / "runs" / "small" / name

    def start(self, name: str, text: str | None = None) -> BaseProcess:
        """Start, or go on with, a run."""
        config = self.folder / "experiment.yaml"
        if text is not None:
            config.write_text(text)
        words = ["fit", f"--config={config}", f"--runs={self.folder / 'runs'}", "--experiment=small"]
        process = _SERVER.Process(target=_train, name=name, args=(name, words, self.folder))
        process.start()
        return process

    def wait_until(self, there: Callable[[], bool], process: BaseProcess, every: float = 0.01) -> None:
        """Poll until `there()`, or the process is over."""
        given_up = time.monotonic() + PATIENCE_S
        while process.exitcode is None and not there():
            if time.monotonic() > given_up:
                self.give_up(process)
            time.sleep(every)

    def wait_for_end(self, process: BaseProcess) -> None:
        """Wait until a run is over."""
        process.join(PATIENCE_S)
        if process.exitcode is None:
            self.give_up(process)

    def give_up(self, process: BaseProcess) -> NoReturn:
        """End a run that hangs, with its stacks in its log."""
        os.kill(process.pid, signal.SIGABRT)  # faulthandler writes where every thread stands
        process.join()
        raise RuntimeError(f"{process.name} was not over in {PATIENCE_S} s:\n{self.log_of(process.name)}")

    def finish(self, process: BaseProcess) -> None:
        """Wait for a run that must end well."""
        self.wait_for_end(process)
        if process.exitcode:
            said = self.log_of(process.name)
            raise RuntimeError(f"{process.name} ended with exit code {process.exitcode}:\n{said}")

    def log_of(self, name: str) -> str:
        """The end of what a run said."""
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def kill(self, number: int) -> Killed | None:
        """Kill one run and let it go on; None where it was over before the kill."""
        name, how, draw = f"killed{number}", list(KILLS)[number % len(KILLS)], random.Random(f"{self.seed} {number}")
        process, step = self.start(name), draw.randrange(self.steps)
        begun = (self.run_folder(name) / "config.yaml").is_file  # the set-up is over, the first step is next
        self.wait_until(lambda: begun() and len(self.trace(name)) >= step, process)
        if how == WRITING:
            writing = self.run_folder(name) / "checkpoints" / f".{LAST}.writing"
            self.wait_until(writing.exists, process, every=0.0002)
        else:
            time.sleep(draw.uniform(0, self.step_s(name)))
        if process.exitcode is not None:
            return None
        os.kill(process.pid, KILLS[how])
        self.wait_for_end(process)
        if process.exitcode == 0:  # it had nothing left but to end
            return None
        started, before = time.time(), len(self.trace(name))
        self.finish(self.start(name))
        trace = self.trace(name)
        restart = trace[before] - started if len(trace) > before else None
        return Killed(how, self.identical(name), len(trace) - self.steps, restart)

    def kills(self, count: int, jobs: int = 1) -> list[Killed]:
        """At least `count` kills, those of an earlier start among them; `jobs` runs at a time."""
        # processes, not threads: a start in one thread may take away the exit code that another waits for
        lanes = [_SERVER.Process(target=self._lane, args=(count, range(job, 10**6, jobs))) for job in range(jobs)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        if any(lane.exitcode for lane in lanes):
            raise RuntimeError(f"a run could not be continued; its log is in {self.folder}")
        return [Killed(*killed) for killed in self._noted().values() if killed]

    def _lane(self, count: int, numbers: range) -> None:
        """Kill runs of `numbers` that no start has killed, until there are `count` in all."""
        for number in numbers:
            noted = self._noted()
            if sum(killed is not None for killed in noted.values()) >= count:
                return
            if number in noted:
                continue
            for old in (self.run_folder(f"killed{number}"), self.folder / f"killed{number}.log"):
                shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)  # of a start that was cut off
            killed = self.kill(number)
            with open(self.notes, "a") as notes:
                notes.write(json.dumps([number, killed]) + "\n")
            print(f"{number:4d}  {killed or 'over before the kill'}", file=sys.stderr, flush=True)
            if killed is None or killed.identical:
                shutil.rmtree(self.run_folder(f"killed{number}"))

    def _noted(self) -> dict[int, list | None]:
        """What became of the runs so far, by number."""
        return dict(map(json.loads, self.notes.read_text().splitlines())) if self.notes.exists() else {}

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


def _train(name: str, words: list[str], folder: Path) -> None:
    """One start of train.py, in a process of its own whose output goes to a file."""
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()
    os.chdir(ROOT)
    os.environ |= {"RUN_ID": name, "WANDB_MODE": "disabled"}
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as in a run of one's own; a server's child has the server's
    sys.argv = ["train.py", *words]
    importlib.import_module("train").main()


def imports_s() -> float:
    """Seconds of processor time that a fresh interpreter takes for what the forks have."""
    before = os.times()
    subprocess.run([sys.executable, "-c", f"import {', '.join(IMPORTED)}"], check=True, cwd=ROOT)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Kill, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--steps", type=int, default=24, help="of the experiment")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="keep runs and kills here, to go on later; nowhere if not given")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            found = Bench(given.folder or Path(temporary), given.steps, given.seed).kills(given.kills, given.jobs)
        except ValueError as error:
            parser.error(str(error))
    emit("kill_resume", figures(found) | {"imports_s": round(imports_s(), 2)}, table(found), given.save)


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
    shown = Table(
        "signal",
        "kills",
        "identical",
        "steps repeated",
        "restart behind imports, s (median)",
        title="Killed and gone on",
    )
    for name in sorted({each.signal for each in found}):
        of = [each for each in found if each.signal == name]
        said = figures(of)
        same = f"{sum(each.identical for each in of)} of {len(of)}"
        restart = f"{said['restart_s_median']:.1f}" if any(each.restart_s is not None for each in of) else "none"
        shown.add_row(name, str(len(of)), same, f"{said['steps_repeated_mean']:.2f}", restart)
    return shown


if __name__ == "__main__":
    main()
