"""The batch script that writes sets of rendered hands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.rendered_shards import RenderedShards

ROOT = Path(__file__).parents[2]


def render(*words: str, **environ: str) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "slurm" / "render.sbatch"), *words]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True)


def test_options_reach_the_writer_with_a_process_per_core_and_one_thread_each(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" $OMP_NUM_THREADS$NUMBA_NUM_THREADS\n')
    python.chmod(0o755)
    done = render("a b", "--count=9", HANDFUL_PYTHON=str(python), SLURM_CPUS_PER_TASK="4", SLURM_SUBMIT_DIR=str(ROOT))
    assert done.stdout == "-u -m datamodules.rendered write a b --count=9 --workers=4 11\n"
    assert "submit with python -m slurm.submit render" in render().stderr


def test_submit_makes_an_array_whose_tasks_share_the_shards():
    words = ("render", "--jobs=20", "--cpus=16", "--dry-run", "--", "/data/x", "--domain=clean", "--count=9")
    command = [sys.executable, "-m", "slurm.submit", *words]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--array=1-20" in said and "--cpus-per-task=16" in said and "--run-id" not in said
    assert said.endswith("slurm/render.sbatch /data/x --domain=clean --count=9\n")


@pytest.mark.slow
def test_tasks_of_an_array_write_one_set(tmp_path):
    for task in ("1", "2"):
        array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
        words = (str(tmp_path), "--domain=clean", "--count=5", "--shard-size=2", "--image-size=32")
        done = render(*words, HANDFUL_PYTHON=sys.executable, SLURM_CPUS_PER_TASK="2", **array)
        assert done.returncode == 0, done.stderr
    assert len(RenderedShards(tmp_path).frames("train")) == 5
