"""Runs under a real slurmctld that are stopped, queued again and end where an unbroken run ends, to the bit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.slurm.cluster import NODES, cluster, reason_to_skip
from tests.slurm.commands import job_state, wait_for
from tests.slurm.nodes import end_node, node_of, node_state, start_node
from tests.test_resume import RENDERED

ROOT = Path(__file__).parents[2]
STEPS = 60
PATIENCE = 900  # seconds, with a machine that may have other work
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # what a test waits for may add up to more than usual


@pytest.fixture(scope="module")
def slurm():
    if reason := reason_to_skip():
        pytest.skip(reason)
    with cluster() as environ:
        yield environ


def experiment(train, ranks: int = 1, pause: float = 1.0) -> Path:
    data = {"class_path": RENDERED["class_path"], "init_args": RENDERED["init_args"] | {"epoch_size": 80}}
    data["init_args"] |= {"batch_size": 2 // ranks, "num_workers": 1}  # SLURM's signals reach workers, too
    model = {"image_size": 16, "lr": 0.05, "noise": 0.1, "pause": pause}
    trainer = {"max_steps": STEPS, "accelerator": "cpu", "num_sanity_val_steps": 0, "val_check_interval": 20}
    trainer |= {"log_every_n_steps": 1, "enable_progress_bar": False, "enable_model_summary": False}
    return train.write(
        "job", model={"class_path": "tests.toys.ToyMethod", "init_args": model}, data=data, trainer=trainer
    )


def submit(train, environ: dict[str, str], config: Path, *options: str, run_id: str) -> str:
    words = ["--cpus=1", f"--run-id={run_id}", f"--python={sys.executable}", f"--logs={train.folder}/logs", *options]
    given = [f"--config={config}", f"--runs={train.runs}", "--test_after_fit=false", "--picture_samples=0"]
    local = {"MASTER_ADDR": "127.0.0.1", "HANDFUL_NETWORK": "lo", "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "slurm.submit", "train", *words, "--", *given]
    done = subprocess.run(command, cwd=ROOT, env=environ | local, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return re.search(r"Submitted batch job (\d+)", done.stdout).group(1)


def rows(folder: Path) -> int:
    file = folder / "metrics.csv"
    return len(file.read_text().splitlines()) if file.is_file() else 0


def wait_for_rows(folder: Path) -> None:
    wait_for(lambda: rows(folder) > 1, PATIENCE, "first validation")


def finish(train, job: str, environ: dict[str, str]) -> int:
    """Waits for the end of a job, which must be a good one; how often it was queued again."""

    def over() -> bool:
        return job_state(job, environ)[0] in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")

    wait_for(over, PATIENCE, "end of the job")
    state, restarts = job_state(job, environ)
    output = "".join(path.read_text() for path in (train.folder / "logs").glob(f"*-{job}.out"))
    assert state == "COMPLETED", f"{state}: {output[-3000:]}"
    return restarts


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_end(left: Path, right: Path) -> None:
    ends = last(left), last(right)
    assert [end["global_step"] for end in ends] == [STEPS, STEPS]
    for name in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=0)
    assert (left / "metrics.csv").read_text() == (right / "metrics.csv").read_text()


@pytest.fixture
def whole(train):
    """The folder of an unbroken run, without SLURM."""
    options = ("--model.pause=0", "--test_after_fit=false", "--picture_samples=0")
    return train("fit", *options, config=experiment(train), run_id="whole").folder


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
    saved = last(folder)["global_step"]
    assert saved % 20, "the checkpoint of a validation: nothing was saved when the job was told to make room"
    assert finish(train, job, slurm) == 1
    assert_same_end(folder, whole)


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
