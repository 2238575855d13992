"""The house's own promises: pins, licences, the command line's size."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_torch_stands_first_in_the_constraints_and_everything_is_pinned():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert re.fullmatch(r"torch==2\.\d+\.\d+", lines[0])
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)


def test_train_py_is_short_and_names_no_method():
    text = (ROOT / "train.py").read_text()
    assert len(text.splitlines()) <= 60
    assert not re.search("deephps|neverova|dhpe|vae", text, re.IGNORECASE)


def test_the_open_hand_carries_its_notice():
    assert "CC0" in (ROOT / "NOTICE").read_text()
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_no_model_under_a_foreign_licence_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing is tracked")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [f for f in files if re.search(r"MANO_(RIGHT|LEFT)|\.pkl$|\.pickle$|\.ckpt$", f)]


def test_every_tracked_experiment_says_how_to_run_it():
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    assert configs, "no experiment in configs/"
    for path in configs:
        header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
        assert "train.py fit --config" in header or "make train" in header, f"{path.name}: no command in its header"
