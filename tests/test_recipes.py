"""The recipes in docs/ followed literally, from empty files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

import datamodules
from benchmarks.experiment_runs import last_values
from datamodules.check.__main__ import main as check
from datamodules.check.fit import hand_bends
from datamodules.datasets import DATASETS, DatasetEntry, dataset_class
from datamodules.hand_data import HandData
from datamodules.sources import RenderedSource
from lightning_modules.callbacks.checkpoints import FACTS

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The code of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_a_method_is_added(tmp_path):
    (code,), (config,) = blocks("add_a_method.md", "python"), blocks("add_a_method.md", "yaml")
    for folder in ("lightning_modules", "datamodules", "ops"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "train.py", tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "lightning_modules" / "centre_net.py").write_text(code)
    (tmp_path / "configs" / "centre_net_rendered.yaml").write_text(config)
    (command,) = re.findall(r"^# Command:  python (.*)$", config, re.MULTILINE)
    smaller = ["--trainer.accelerator=cpu", "--trainer.max_steps=20", "--trainer.val_check_interval=20"]
    smaller += ["--data.val_size=20", "--data.test_size=20", "--data.num_workers=0"]
    environ = os.environ | {"RUN_ID": "recipe", "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, *command.split(), *smaller], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "centre_net_rendered" / "recipe"
    assert last_values(run / "metrics.csv", ["test/sensor/joints_absolute_mm"])["test/sensor/joints_absolute_mm"] < 200
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert checkpoint[FACTS]["class_path"] == "lightning_modules.centre_net.CentreNet"


def test_a_dataset_is_added(tmp_path, monkeypatch, capsys):
    code, entry = blocks("add_a_dataset.md", "python")
    (tmp_path / "my_hands.py").write_text(code)
    monkeypatch.setattr(datamodules, "__path__", [*datamodules.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "datamodules.my_hands", raising=False)
    ((name, added),) = eval(f"{{{entry.strip()}}}", {"DatasetEntry": DatasetEntry}).items()
    monkeypatch.setitem(DATASETS, name, added)
    folder = tmp_path / "data"
    write_recordings(folder)
    assert check([name, str(folder), "--workers=0", f"--picture={tmp_path / 'sheet.png'}"]) == 0, (
        capsys.readouterr().out
    )
    assert cv2.imread(str(tmp_path / "sheet.png")).any()

    (config,) = blocks("add_a_dataset.md", "yaml")
    settings = yaml.safe_load(config.replace("/data/my_hands", str(folder)))["data"]["init_args"]
    sources = {"mine": dataset_class(name)(folder), "clean": RenderedSource("clean")}
    assert set(settings["sources"]) == set(sources)
    settings |= {"sources": sources, "batch_size": 8, "epoch_size": 8, "num_workers": 0, "image_size": 32}
    (batch,) = HandData(**settings).train_dataloader()
    assert sorted(batch["domain"]) == ["clean"] * 4 + ["mine"] * 4

    (folder / "50.png").write_bytes(b"no picture")
    assert check([name, str(folder), "--workers=0"]) == 1
    assert "50.png" in capsys.readouterr().out


def write_recordings(folder: Path, count: int = 60) -> None:
    """Hands before the camera of the recipe, each behind a wall a centimetre nearer than its nearest joint."""
    folder.mkdir()
    hands, random = hand_bends().numpy(), np.random.default_rng(0)
    joints = np.stack([hand - hand.mean(0) for hand in hands[np.arange(count) % len(hands)]])
    joints += np.concatenate([random.uniform(-0.05, 0.05, (count, 1, 2)), np.full((count, 1, 1), 0.6)], -1)
    for number, hand in enumerate(joints):
        wall = np.full((480, 640), round(1000 * (hand[:, 2].min() - 0.01)), np.uint16)
        cv2.imwrite(str(folder / f"{number}.png"), wall)
    np.savez(folder / "labels.npz", names=np.arange(count).astype(str), joints_mm=(1000 * joints).astype(np.float32))
