"""Runs of a sweep, started here one after the other or as an array of SLURM jobs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from slurm.sweep_record import Record, SweepError, SweepRun

ROOT = Path(__file__).parent.parent
_POLL_S = 10.0
# not NODE_FAIL: such a job is queued again
_GOOD, _BAD = {"COMPLETED"}, {"FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"}


def run_here(record: Record, run: SweepRun, python: str, extra: list[str]) -> None:
    """Run one proposal to its end; one that was stopped goes on."""
    words = [*record.words(run, shlex.split(python)), f"--runs={record.runs_folder}", *extra]
    log = record.log(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{run.run_id}: {shlex.join(words)}", flush=True)
    with open(log, "a") as output:
        environ = os.environ | {"RUN_ID": run.run_id}
        process = None
        try:
            process = subprocess.Popen(words, env=environ, stdout=output, stderr=subprocess.STDOUT)
            code = process.wait()
        except KeyboardInterrupt:  # the run has it, too, and saves itself
            if process is not None:
                process.wait()
            raise
    if code > 128 or code < 0:
        raise SweepError(f"{run.run_id} was stopped by a signal ({log}); the same command goes on with it")
    run.state = "failed" if code else "finished"
    record.save()


def run_as_array(record: Record, runs: list[SweepRun], python: str, extra: list[str], submit: list[str]) -> None:
    """Submit proposals that are in no job as one array, and wait until SLURM is done with all of them."""
    known = _states(runs)
    new = [run for run in runs if run.job not in known]  # what SLURM no longer knows goes on where it was
    if new:
        _submit(record, new, python, extra, submit)
    while runs := [run for run in runs if run.state == "proposed"]:
        known = _states(runs)
        for run in runs:
            state = known.get(run.job, "UNKNOWN")
            if state in _GOOD | _BAD:
                run.state = "finished" if state in _GOOD else "failed"
                record.save()
            elif state == "UNKNOWN":
                raise SweepError(f"{run.run_id}: SLURM does not know job {run.job} any more; the same command goes on")
        if any(run.state == "proposed" for run in runs):
            time.sleep(_POLL_S)


def _submit(record: Record, runs: list[SweepRun], python: str, extra: list[str], submit: list[str]) -> None:
    folder = record.log(runs[0]).parent
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        options = [*record.arguments(run)[1:], f"--runs={record.runs_folder}", *extra]  # without "fit"
        folder.joinpath(f"{run.run_id}.options").write_text("\n".join(options) + "\n")
    numbers = ",".join(run.run_id.rpartition("-")[2].lstrip("0") or "0" for run in runs)
    words = ["proposals", str(folder), f"--numbers={numbers}", f"--run-id={record.name}", f"--python={python}"]
    command = [sys.executable, "-m", "slurm.submit", *words, f"--logs={folder}", *submit]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout, end="", flush=True)
    job = re.search(r"Submitted batch job (\d+)", done.stdout)
    if job is None:
        raise SweepError(f"slurm.submit: {(done.stderr or done.stdout).strip()}")
    for run, number in zip(runs, numbers.split(","), strict=True):
        run.job = f"{job.group(1)}_{number}"
    record.save()


def _states(runs: list[SweepRun]) -> dict[str, str]:
    """State of every task of an array that SLURM still knows, by job and task, such as 17_3."""
    found = {}
    for job in {run.job.partition("_")[0] for run in runs if run.job}:
        command = ["squeue", "--array", "--states=all", "--noheader", f"--job={job}", "--format=%F_%K %T"]
        if shutil.which("squeue") is None:
            raise SweepError(f"squeue: not found, but job {job} of this sweep was SLURM's; go on where SLURM is")
        done = subprocess.run(command, capture_output=True, text=True)
        while done.returncode and "Invalid job id" not in done.stderr:  # a controller that does not answer now
            time.sleep(_POLL_S)
            done = subprocess.run(command, capture_output=True, text=True)
        found |= dict(line.split() for line in done.stdout.splitlines())
    return found
