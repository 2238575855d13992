import pytest

from datamodules.datasets import ALL_SPLITS, DATASETS, dataset_class, dataset_options
from datamodules.frames import HandDataset


@pytest.mark.parametrize("name", DATASETS)
def test_every_name_has_a_reader_of_that_name(name, tmp_path):
    reader = dataset_class(name)
    assert issubclass(reader, HandDataset) and reader.name == name
    assert "folder" not in dataset_options(name)
    assert set(DATASETS[name].splits) <= set(ALL_SPLITS)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        reader(tmp_path / "nowhere")


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"dataset: expected one of 'nyu', .*'ge', .*got 'mnist'"):
        dataset_class("mnist")
