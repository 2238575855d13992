"""Runs under a real slurmctld whose node dies, or that have two nodes, end where an unbroken run ends, to the bit."""

import subprocess

import pytest

from tests.slurm.commands import job_state, wait_for
from tests.slurm.jobs import PATIENCE, assert_same_end, experiment, finish, submit, wait_for_rows
from tests.slurm.nodes import end_node, node_of, node_state, start_node

# what a test waits for may add up to more than usual
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def test_a_job_whose_node_dies_is_queued_again_and_goes_on_on_the_other(train, slurm, whole):
    job = submit(train, slurm, experiment(train, pause=0.5), run_id="dead")
    folder = train.runs / "job" / "dead"
    wait_for_rows(folder)
    node = node_of(job, slurm)
    end_node(node, slurm)
    try:
        wait_for(lambda: job_state(job, slurm)[1] == 1, PATIENCE, "requeue")
        assert node_state(node, slurm).startswith("down"), "not the node's death, but something else ended the job"
        assert finish(train, job, slurm) == 1
    finally:
        start_node(node, slurm)
        wait_for(lambda: node_state(node, slurm) == "idle", PATIENCE, "return of the node")
    assert_same_end(folder, whole)


def test_two_nodes_agree_on_the_step_in_which_they_stop(train, slurm):
    for run_id in ("unbroken", "two"):
        job = submit(train, slurm, experiment(train, ranks=2), "--nodes=2", run_id=run_id)
        folder = train.runs / "job" / run_id
        if run_id == "two":
            wait_for_rows(folder)
            subprocess.run(["scancel", "--signal=USR1", job], env=slurm, check=True)
        assert finish(train, job, slurm) == int(run_id == "two")
    assert_same_end(train.runs / "job" / "two", train.runs / "job" / "unbroken")
