"""Every experiment in configs/ runs through the real command line, on a few samples."""

import importlib
import itertools
from pathlib import Path

import pytest
import yaml

# generated files in the published layout stand in for the datasets that experiments name
DATASETS = ("nyu", "icvl", "synhand5m")
CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SMALL = (
    "--trainer.fast_dev_run=1",
    "--trainer.accelerator=cpu",
    "--data.batch_size=2",
    "--data.val_size=1",
    "--data.test_size=2",
    "--data.num_workers=0",
)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    for name in DATASETS:
        writer = getattr(importlib.import_module(f"benchmarks.generated.{name}"), f"write_{name}")
        writer(folder / name, train=4, test=2)
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_experiment_runs_on_a_few_samples(train, datasets, monkeypatch, path):
    monkeypatch.setenv("DATASETS", str(datasets))
    cli = train("fit", *SMALL, config=path)
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
