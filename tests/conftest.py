"""What several tests share."""

import os
import random

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # a thread for each of the processes that share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import numpy as np
import torch

from tests.command_line import CommandLine

# the same examples in every run, however slow the machine: a change is to blame for what fails
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers for a test, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """train.py's command line, its runs in the test's own folder, without W&B."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return CommandLine(tmp_path, monkeypatch)
