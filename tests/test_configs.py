"""Every experiment in configs/ runs through the real command line, on a few samples."""

import itertools
from pathlib import Path

import pytest
import yaml

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
SMALL = (
    "--trainer.fast_dev_run=1",
    "--trainer.accelerator=cpu",
    "--data.batch_size=2",
    "--data.val_size=2",
    "--data.test_size=2",
    "--data.num_workers=0",
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_experiment_runs_on_a_few_samples(train, path):
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
