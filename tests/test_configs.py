"""Every experiment in configs/ runs through the real command line, on a few samples."""

import importlib
import itertools
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.generated.rhd import write_rhd
from datamodules.patch_dictionary import build_dictionary
from lightning_modules.callbacks.checkpoints import FACTS
from lightning_modules.neverova import Neverova
from lightning_modules.prediction_files import read_predictions

# generated files in the published layout stand in for the datasets that experiments name
DATASETS = ("nyu", "icvl", "msra15", "rhd", "stb", "synhand5m")
CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SMALL = (
    "--trainer.fast_dev_run=1",
    "--trainer.accelerator=cpu",
    "--data.batch_size=2",
    "--data.val_size=1",
    "--data.test_size=2",
    "--data.num_workers=0",
)

# networks and pictures of the papers' size take minutes on a CPU
SMALLER = dict.fromkeys(("dhpe_rhd_stb", "dhpe_mix"), ("--model.joint_maps=small", "--data.image_size=64"))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    for name in DATASETS:
        writer = getattr(importlib.import_module(f"benchmarks.generated.{name}"), f"write_{name}")
        writer(folder / name, train=4, test=2)
    return folder


@pytest.fixture(scope="module")
def earlier_steps(tmp_path_factory):
    """A folder in which Neverova's steps find untrained checkpoints of the steps before, and a small dictionary."""
    folder = tmp_path_factory.mktemp("earlier")
    for name in ("neverova_segmentation", "neverova_weak", "neverova_nyu_segmentation", "neverova_nyu_weak"):
        checkpoint = folder / "runs" / name / "first" / "checkpoints" / "best.ckpt"
        checkpoint.parent.mkdir(parents=True)
        given = yaml.safe_load((CONFIGS[0].parent / f"{name}.yaml").read_text())["model"]["init_args"]
        module = Neverova(**{size: given[size] for size in ("widths", "hidden") if size in given})
        facts = {"class_path": "lightning_modules.neverova.Neverova", "init_args": {}}
        state = {"state_dict": module.state_dict(), FACTS: facts | {"hand_model": module.hand_model_id}}
        torch.save(state, checkpoint)
    build_dictionary(maps=4).save(folder / "runs" / "patches.safetensors")
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_experiment_runs_on_a_few_samples(train, datasets, earlier_steps, monkeypatch, path):
    monkeypatch.setenv("DATASETS", str(datasets))
    monkeypatch.chdir(earlier_steps)
    cli = train("fit", *SMALL, *SMALLER.get(path.stem, ()), config=path)
    assert cli.trainer.global_step == 1
    assert not (train.runs / path.stem).exists(), "fast_dev_run leaves nothing behind"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_experiments_file_is_short_and_starts_with_what_a_reader_needs(path):
    text = path.read_text()
    header = "".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    for word in ("Paper", "Command", "Hardware", "Expected"):
        assert word.lower() in header.lower(), f"{path.name}: its header does not say '{word}'"
    assert sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines()) <= 60
    assert isinstance(yaml.safe_load(text), dict)


def test_rendered_hands_mix_with_files_in_the_layouts_of_nyu_and_rhd(train, datasets, tmp_path):
    write_rhd(tmp_path / "rhd", train=6, test=2)
    sources = {
        "nyu": {"class_path": "datamodules.nyu.NYU", "init_args": {"folder": str(datasets / "nyu")}},
        "rhd": {"class_path": "datamodules.rhd.RHD", "init_args": {"folder": str(tmp_path / "rhd")}},
        "clean": {"class_path": "datamodules.sources.RenderedSource"},
    }
    settings = {
        "sources": sources,
        "weights": {"nyu": 0.25, "rhd": 0.25, "clean": 0.5},
        "evaluate_on": ["nyu", "rhd"],
        "modalities": ["depth"],
        **{"batch_size": 4, "epoch_size": 12, "val_size": 1, "test_size": 2, "num_workers": 0},
    }
    small = {"pose_trunk": "tiny", "scale_trunk": "tiny", "shape_trunk": "tiny", "report_domains": ["nyu", "rhd"]}
    config = train.write(
        "mixed",
        model={"class_path": "lightning_modules.deephps.DeepHPS", "init_args": small},
        data={"class_path": "datamodules.hand_data.HandData", "init_args": settings},
        trainer={"max_steps": 3, "accelerator": "cpu", "num_sanity_val_steps": 0},
    )
    cli = train("fit", config=config)
    seen = [domain for batch in cli.datamodule.train_dataloader() for domain in batch["domain"]]
    assert {name: seen.count(name) for name in sources} == {"nyu": 3, "rhd": 3, "clean": 6}
    assert {"test/nyu/joints_root_mm", "test/rhd/joints_root_mm"} <= set(cli.trainer.callback_metrics)
    found = {name: read_predictions(cli.folder / "predictions" / f"{name}.npz")[0] for name in ("nyu", "rhd")}
    assert found["nyu"].convention == "nyu" and found["nyu"].points.shape == (2, 36, 3)
    assert found["rhd"].convention == "rhd" and found["rhd"].points is None
