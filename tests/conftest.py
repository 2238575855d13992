"""What several tests share."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # a thread for each of the processes that share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from tests.command_line import CommandLine


@pytest.fixture
def train(tmp_path, monkeypatch):
    """train.py's command line, its runs in the test's own folder, without W&B."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return CommandLine(tmp_path, monkeypatch)
