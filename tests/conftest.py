"""What several tests share."""

import pytest

from tests.command_line import CommandLine


@pytest.fixture
def train(tmp_path, monkeypatch):
    """train.py's command line, its runs in the test's own folder, without W&B."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return CommandLine(tmp_path, monkeypatch)
