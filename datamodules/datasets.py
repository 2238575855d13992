"""The datasets by name: which class reads each, which splits it has, and what its constructor takes.

Readers are imported when they are asked for. The number of frames that a split should have is the reader's own
(`HandFrames.expected`).
"""

import importlib
import inspect
from dataclasses import dataclass
from typing import get_args

from datamodules.frames import HandDataset, Split
from ops.checks import check_choice

ALL_SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class DatasetEntry:
    """Where a reader is and what the check command must know beside it."""

    module: str
    reader: str  # name of the class in `module`
    splits: tuple[Split, ...] = ALL_SPLITS


DATASETS: dict[str, DatasetEntry] = {
    "nyu": DatasetEntry("datamodules.nyu", "NYU"),
    "icvl": DatasetEntry("datamodules.icvl", "ICVL"),
    "msra15": DatasetEntry("datamodules.msra15", "MSRA15"),
    "synhand5m": DatasetEntry("datamodules.synhand5m", "SynHand5M"),
    "rhd": DatasetEntry("datamodules.rhd", "RHD"),
    "stb": DatasetEntry("datamodules.stb", "STB"),
    "dexter_object": DatasetEntry("datamodules.dexter_object", "DexterObject", splits=("test",)),
    "freihand": DatasetEntry("datamodules.freihand", "FreiHAND"),
    "ho3d": DatasetEntry("datamodules.ho3d", "HO3D"),
    "ge": DatasetEntry("datamodules.ge", "Ge", splits=("test",)),
    "rendered": DatasetEntry("datamodules.rendered_shards", "RenderedShards"),
}


def dataset_class(name: str) -> type[HandDataset]:
    """The reader of the dataset `name`; its constructor takes the folder and the dataset's own options."""
    check_choice("dataset", name, DATASETS)
    entry = DATASETS[name]
    return getattr(importlib.import_module(entry.module), entry.reader)


def dataset_options(name: str) -> list[str]:
    """Names of the options that the constructor of dataset `name` takes beside the folder."""
    parameters = inspect.signature(dataset_class(name)).parameters
    return [parameter for parameter in parameters if parameter != "folder"]
