"""Named joint conventions: what "the wrist" or "the knuckle" means differs by 10 mm between datasets.

A convention is 21 constant offsets, each in the frame of the bone that carries the joint (`ops.joints.CANONICAL_BONE`):
reported joint = joint of the model + world rotation of that bone @ offset. Offsets are those of a right hand; a left
hand mirrors them. Rotation centres and skinning never change.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS

FOLDER = Path(__file__).parent / "conventions"


@dataclass(frozen=True, eq=False)
class JointConvention:
    """Where a source of labels puts the 21 joints."""

    name: str
    offsets: np.ndarray  # (21, 3) metres, canonical order, in the rest frame of the bone that carries the joint
    source: str  # what the offsets were measured on
    count: int  # number of hands they were measured on


def convention_names() -> tuple[str, ...]:
    """Names of the conventions on file."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def joint_convention(name: str, folder: Path = FOLDER) -> JointConvention:
    """Read one convention by name.

    Raises:
        ValueError: unknown name, or a file that does not hold 21 finite offsets.
    """
    check_choice("convention", name, sorted(path.stem for path in folder.glob("*.json")))
    path = folder / f"{name}.json"
    try:
        content = json.loads(path.read_text())
        offsets = np.asarray(content["offsets_mm"], dtype=np.float64) / 1000
        convention = JointConvention(name, offsets, str(content["source"]), int(content["count"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON object with offsets_mm, source and count ({error!r})") from error
    if offsets.shape != (len(CANONICAL_JOINTS), 3) or not np.isfinite(offsets).all():
        raise ValueError(f"{path}: offsets_mm: expected 21 rows of 3 finite numbers, got shape {offsets.shape}")
    return convention
