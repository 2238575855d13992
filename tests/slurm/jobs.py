"""Jobs of a toy experiment on a SLURM of one's own: submitted, waited for, held against each other."""

import re
import subprocess
import sys
from pathlib import Path

import torch

from tests.slurm.commands import job_state, wait_for
from tests.test_resume import RENDERED

ROOT = Path(__file__).parents[2]
STEPS = 60
PATIENCE = 900  # seconds, with a machine that may have other work


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
    assert state == "COMPLETED", f"{state}: {output_of(train, job)[-3000:]}"
    return restarts


def output_of(train, job: str) -> str:
    """What a job has printed, all its starts together."""
    return "".join(path.read_text() for path in (train.folder / "logs").glob(f"*-{job}.out"))


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def assert_same_end(left: Path, right: Path) -> None:
    ends = last(left), last(right)
    assert [end["global_step"] for end in ends] == [STEPS, STEPS]
    for name in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=0)
    assert (left / "metrics.csv").read_text() == (right / "metrics.csv").read_text()
