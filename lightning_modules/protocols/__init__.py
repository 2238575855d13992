"""Named evaluation protocols: every figure says which of them it was measured by."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_modules.protocols.base import Protocol
from lightning_modules.protocols.keypoints import DexterTips, EvalUtil
from lightning_modules.protocols.mesh import FreiHAND
from lightning_modules.protocols.points import PixelsProtocol, PointsProtocol
from lightning_modules.protocols.segmentation import Segmentation
from ops.checks import check_choice
from ops.joints import FINGERS, NYU14_OF_36, NYU36

NYU14 = tuple(NYU36[i] for i in NYU14_OF_36)
ICVL16 = ("palm",) + tuple(f"{finger}_{place}" for finger in FINGERS for place in ("root", "mid", "tip"))
MSRA21 = ("wrist",) + tuple(
    f"{finger}_{i}" for finger in ("index", "middle", "ring", "little", "thumb") for i in (1, 2, 3, 4)
)

PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "nyu-14": lambda: PointsProtocol("nyu-14", NYU14),
    "nyu-14-px": lambda: PixelsProtocol("nyu-14-px", NYU14),
    "icvl-16": lambda: PointsProtocol("icvl-16", ICVL16),
    "msra-21": lambda: PointsProtocol("msra-21", MSRA21),
    "rhd-eval-util": lambda: EvalUtil("rhd"),
    "stb-eval-util": lambda: EvalUtil("stb"),
    "dexter-tips": DexterTips,
    "freihand": FreiHAND,
    "segmentation": Segmentation,
}

# the protocol by which papers report a dataset, by the name of its reader
PROTOCOL_OF_DATASET = {
    "nyu": "nyu-14",
    "icvl": "icvl-16",
    "msra15": "msra-21",
    "rhd": "rhd-eval-util",
    "stb": "stb-eval-util",
    "dexter_object": "dexter-tips",
    "freihand": "freihand",
}


def protocol(name: str) -> Protocol:
    """A new metric of the protocol `name`."""
    check_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]()


def protocols_of(datasets: Mapping[str, str]) -> dict[str, str]:
    """The protocol's name of every source, of {source: name of the dataset's reader}; sources without one left out."""
    return {source: PROTOCOL_OF_DATASET[name] for source, name in datasets.items() if name in PROTOCOL_OF_DATASET}


def result_of(
    metric: Protocol, figures: dict[str, Any], predictions: Path | str, ground_truth: Path | str
) -> dict[str, Any]:
    """What a JSON line says of a judgement: the protocol, its rules and joints, what was compared, the figures."""
    return {
        "protocol": metric.name,
        "predictions": str(predictions),
        "ground_truth": str(ground_truth),
        "rules": metric.facts,
        "joints": list(metric.point_names),
        **figures,
    }
