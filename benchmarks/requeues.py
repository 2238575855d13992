"""Jobs under a real slurmctld that are stopped, queued again, and compared with an unbroken run, bit by bit.

    python -m benchmarks.requeues --count 20

Needs root and SLURM (apt-get install slurm-wlm munge); starts a cluster of its own on this machine: slurmctld and three
slurmd as nodes. Jobs are submitted by slurm.submit and stopped in turn: twice by SIGUSR1 at random steps, by their
time limit, twice by the death of their node at random steps: slurmd, step daemons and processes are killed, slurmctld
finds the node down and queues the job again, which goes on where a node is free. Identical are weights, optimiser,
schedule and metrics.csv.
"""

import argparse
import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.table import Table

from benchmarks.kill_resume import ROOT, same_end
from benchmarks.report import emit
from tests.slurm.cluster import cluster, reason_to_skip
from tests.slurm.commands import job_state, wait_for
from tests.slurm.nodes import end_node, node_of, node_state, start_node

KINDS = ("SIGUSR1", "time limit", "node failure")
LANES = 2  # jobs at a time, a node each; a third node takes the job of one that died
STEPS = 60
PATIENCE = 2400  # seconds that anything may take
_OVER = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
# SLURM counts in minutes and may warn one too early; the steps take longer than what is left
_LIMIT, _LIMIT_PAUSE = ("--time=5", "--warning=120"), 4.0
_PAUSE = 0.5  # seconds per step of the others


class Requeued(NamedTuple):
    """What became of one job."""

    kind: str
    requeues: int
    identical: bool
    repeated: int  # optimiser steps done twice
    away_s: float  # from the last step before a stop to the first behind it, the longest of the job


class Bench:
    """Jobs of one experiment on one cluster."""

    def __init__(self, folder: Path, environ: dict[str, str], seed: int) -> None:
        self.folder, self.environ, self.seed = folder, environ, seed
        self.config = folder / "job.yaml"
        self.config.write_text(yaml.safe_dump(experiment()))
        self.failing = threading.Lock()  # one node at a time, so that there is another
        command = [sys.executable, "train.py", "fit", *self._options(pause=0)]
        subprocess.run(command, cwd=ROOT, env=self._environ() | {"RUN_ID": "whole"}, check=True, capture_output=True)

    def requeue_until(self, count: int) -> list[Requeued]:
        """Jobs on both nodes until they were queued again `count` times together."""
        found: list[Requeued] = []
        numbers = itertools.count()

        def lane(_: int) -> None:
            while sum(each.requeues for each in found) < count and all(each.identical for each in found):
                found.append(each := self.requeue(next(numbers)))
                print(f"{len(found):4d}  {each}", file=sys.stderr, flush=True)

        with ThreadPoolExecutor(LANES) as pool:
            list(pool.map(lane, range(LANES)))
        return found

    def requeue(self, number: int) -> Requeued:
        """Submit a job, stop it, wait for its end."""
        kind, run, draw = KINDS[number % len(KINDS)], f"job{number}", random.Random(f"{self.seed} {number}")
        try:
            if kind == "time limit":
                job = self.submit(run, _LIMIT_PAUSE, *_LIMIT)
            else:
                job = self.submit(run, _PAUSE)
                stop = self._send_signal if kind == "SIGUSR1" else self._end_node
                for half in (0, STEPS // 2):
                    step = half + draw.randrange(1, STEPS // 2 - 5)
                    wait_for(lambda step=step: self.step(run) >= step, PATIENCE, f"step {step}")
                    stop(job)
            wait_for(lambda: job_state(job, self.environ)[0] in _OVER, PATIENCE, "end of the job")
        except TimeoutError as error:  # one job that went wrong is one that did not end alike, not the end of all
            print(f"{run} ({kind}): {error}", file=sys.stderr)
            return Requeued(kind, 0, False, 0, 0.0)
        return self._judged(kind, run, job)

    def _send_signal(self, job: str) -> None:
        subprocess.run(["scancel", "--signal=USR1", job], env=self.environ, check=True)

    def _end_node(self, job: str) -> None:
        """Until slurmctld has found the node down and has queued the job again; then the node comes back."""
        with self.failing:
            node, before = node_of(job, self.environ), job_state(job, self.environ)[1]
            end_node(node, self.environ)
            try:
                wait_for(lambda: node_state(node, self.environ).startswith("down"), PATIENCE, f"{node} down")
                wait_for(lambda: job_state(job, self.environ)[1] > before, PATIENCE, "requeue of the job")
                # a node that comes back ends what it had, by the job's number: the job is to be elsewhere
                wait_for(lambda: job_state(job, self.environ)[0] == "RUNNING", PATIENCE, "job on another node")
            finally:
                start_node(node, self.environ)
            wait_for(lambda: re.match("idle|alloc|mix", node_state(node, self.environ)), PATIENCE, f"{node} back")

    def _judged(self, kind: str, run: str, job: str) -> Requeued:
        state, requeues = job_state(job, self.environ)
        times = self.trace(run)
        good = state == "COMPLETED" and requeues > 0 and same_end(self.run_folder(run), self.run_folder("whole"))
        if not good:
            output = "".join(path.read_text() for path in self.folder.glob(f"logs/*-{job}.out"))
            print(f"{run} ({kind}): {state} after {requeues} requeues\n{output[-2000:]}", file=sys.stderr)
        away = max((right - left for left, right in itertools.pairwise(times)), default=0.0)
        return Requeued(kind, requeues, good, len(times) - STEPS, away)

    def submit(self, run: str, pause: float, *options: str) -> str:
        """The number of a job of one process that is one run."""
        words = ["--cpus=1", f"--run-id={run}", f"--python={sys.executable}", f"--logs={self.folder / 'logs'}"]
        command = [sys.executable, "-m", "slurm.submit", "train", *words, *options, "--", *self._options(pause)]
        done = subprocess.run(command, cwd=ROOT, env=self._environ(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"submit: {done.stderr}")
        return re.search(r"Submitted batch job (\d+)", done.stdout).group(1)

    def run_folder(self, run: str) -> Path:
        """Where a run lies."""
        return self.folder / "runs" / self.config.stem / run

    def step(self, run: str) -> int:
        """The last step that a run did."""
        return int(lines[-1][0]) if (lines := self._steps(run)) else 0

    def trace(self, run: str) -> list[float]:
        """Times of all steps of a run, done twice or not."""
        return [float(when) for _, when in self._steps(run)]

    def _steps(self, run: str) -> list[list[str]]:
        file = self.run_folder(run) / "steps.txt"
        lines = file.read_text().splitlines() if file.is_file() else []
        return [words for line in lines if len(words := line.split()) == 2]

    def _options(self, pause: float) -> list[str]:
        return [f"--config={self.config}", f"--runs={self.folder / 'runs'}", f"--model.pause={pause}"]

    def _environ(self) -> dict[str, str]:
        return self.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


def experiment() -> dict:
    """A method of 63 weights with noise and a schedule, on rendered hands: what it costs is the pause in its steps."""
    data = {"domains": "clean", "batch_size": 2, "epoch_size": 80, "val_size": 2, "test_size": 2, "image_size": 16}
    trainer = {"max_steps": STEPS, "val_check_interval": 20, "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    trainer |= {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    return {
        "seed_everything": 0,
        "test_after_fit": False,
        "picture_samples": 0,
        "trainer": trainer | {"callbacks": [{"class_path": "benchmarks.kill_resume.StepTrace"}]},
        "model": {
            "class_path": "tests.toys.ToyMethod",
            "init_args": {"image_size": 16, "lr": 0.05, "noise": 0.1, "pause": 0.0},
        },
        "data": {"class_path": "datamodules.rendered.RenderedHandsData", "init_args": data | {"num_workers": 0}},
    }


def main() -> None:
    """Requeue, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="requeues; ends at the first job that ends otherwise")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    given = parser.parse_args()
    if reason := reason_to_skip():
        parser.exit(1, f"benchmarks.requeues: {reason}\n")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, cluster() as environ:
        bench = Bench(Path(name), dict(os.environ) | environ, given.seed)
        found = bench.requeue_until(given.count)
    emit("requeues", figures(found) | {"minutes": round((time.monotonic() - start) / 60, 1)}, table(found), given.save)


def figures(found: list[Requeued]) -> dict[str, float]:
    """Figures of all jobs together, and of each kind."""
    said: dict[str, float] = {
        "jobs": len(found),
        "requeues": sum(each.requeues for each in found),
        "identical_share": sum(each.identical for each in found) / len(found),
        "steps_repeated_mean": round(statistics.mean(each.repeated for each in found), 2),
        "away_s_median": round(statistics.median(each.away_s for each in found), 1),
    }
    for kind in KINDS:
        of = [each for each in found if each.kind == kind]
        said[f"jobs_{kind.replace(' ', '_')}"] = len(of)
        said[f"identical_{kind.replace(' ', '_')}"] = sum(each.identical for each in of)
    return said


def table(found: list[Requeued]) -> Table:
    """A row per kind."""
    shown = Table("stopped by", "jobs", "requeues", "ended identical", "steps repeated (mean)", "away, s (median)")
    for kind in KINDS:
        if of := [each for each in found if each.kind == kind]:
            said = figures(of)
            same = f"{sum(each.identical for each in of)} of {len(of)}"
            numbers = (f"{said['steps_repeated_mean']:.1f}", f"{said['away_s_median']:.0f}")
            shown.add_row(kind, str(len(of)), str(said["requeues"]), same, *numbers)
    return shown


if __name__ == "__main__":
    main()
