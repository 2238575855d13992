"""Runs under a real slurmctld that are stopped, queued again and end where an unbroken run ends, to the bit."""

import re
import subprocess

import pytest

from tests.slurm.cluster import NODES
from tests.slurm.commands import job_state, wait_for
from tests.slurm.jobs import PATIENCE, assert_same_end, experiment, finish, last, output_of, submit, wait_for_rows

# what a test waits for may add up to more than usual
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_a_job_that_gets_usr1_is_queued_again_and_ends_as_an_unbroken_run(train, slurm, whole):
    job = submit(train, slurm, experiment(train), run_id="usr1")
    folder = train.runs / "job" / "usr1"
    wait_for_rows(folder)
    subprocess.run(["scancel", "--signal=USR1", job], env=slurm, check=True)
    assert finish(train, job, slurm) == 1
    assert_same_end(folder, whole)


def test_a_job_whose_time_ends_is_queued_again_until_it_is_done(train, slurm, whole):
    job = submit(train, slurm, experiment(train, pause=2), "--time=3", "--warning=60", run_id="limit")
    wait_for(lambda: job_state(job, slurm)[1] >= 1, PATIENCE, "requeue")
    state, _ = job_state(job, slurm)
    assert state in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED")
    assert finish(train, job, slurm) >= 1
    assert_same_end(train.runs / "job" / "limit", whole)


def test_a_job_that_makes_room_for_an_urgent_one_is_saved_and_queued_again(train, slurm, whole):
    job = submit(train, slurm, experiment(train), run_id="preempted")
    folder = train.runs / "job" / "preempted"
    wait_for_rows(folder)
    urgent = ["sbatch", "--partition=urgent", f"--nodes={len(NODES)}", "--output=/dev/null", "--wrap=sleep 5"]
    subprocess.run(urgent, env=slurm, check=True, capture_output=True)
    wait_for(lambda: job_state(job, slurm)[1] == 1, PATIENCE, "requeue")
    said = re.search(r"SIGTERM: stopped after step (\d+), saved", output_of(train, job))
    assert said and last(folder)["global_step"] >= int(said.group(1)), "not saved when it was told to make room"
    assert finish(train, job, slurm) == 1
    assert_same_end(folder, whole)
