"""Named joint conventions: what "the wrist" or "the knuckle" means differs by 10 mm between datasets.

A convention is 21 constant offsets, each in the frame of the bone that carries the joint (`ops.joints.CANONICAL_BONE`):
reported joint = joint of the model + world rotation of that bone @ offset. Offsets are those of a right hand; a left
hand mirrors them. Rotation centres and skinning never change.

A file may also describe the dataset's own points, such as the 36 of NYU: each is the mean of some of the model's
canonical joints plus an offset in the frame of a bone, and subsets of them have names of their own.

Conventions on file: `model` is the model's own joints, offsets zero; `open` is the anatomical mean of the measured
sets; the others are named after the dataset whose labels they were measured on. Letters: B batch, P points.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ops.checks import check_choice, check_shape
from ops.joints import CANONICAL_BONE, CANONICAL_JOINTS, MODEL_JOINTS

FOLDER = Path(__file__).parent / "conventions"
OWN_JOINTS = "model"  # the convention of a model's own joints and tip vertices
_MIRROR = (-1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class PointSet:
    """P points of a dataset, in its own order, by the model's own canonical joints."""

    name: str
    points: tuple[str, ...]  # names of the points
    weights: np.ndarray  # (P, 21) of the canonical joints; rows sum to 1
    bones: np.ndarray  # (P,) int64 model joints whose rotation carries the offset
    offsets: np.ndarray  # (P, 3) metres, right hand


@dataclass(frozen=True, eq=False)
class JointConvention:
    """Where a source of labels puts the 21 joints, and its own points if it has others."""

    name: str
    offsets: np.ndarray  # (21, 3) metres, canonical order, in the rest frame of the bone that carries the joint
    source: str  # what the offsets were measured on
    count: int  # number of hands they were measured on
    labelled: np.ndarray = field(default_factory=lambda: np.ones(21, dtype=bool))  # (21,) the others have offset 0
    point_sets: Mapping[str, PointSet] = field(default_factory=dict)  # by name

    @property
    def id(self) -> str:
        """Names the offsets, for results: `name-<hash>` of hundredths of a millimetre."""
        steps = np.round(self.offsets * 1e5).astype("<i8")
        return f"{self.name}-{hashlib.sha256(steps.tobytes()).hexdigest()[:8]}"


def convention_names() -> tuple[str, ...]:
    """Names of the conventions on file."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@lru_cache(maxsize=64)
def joint_convention(name: str, folder: Path = FOLDER) -> JointConvention:
    """Read one convention by name.

    Raises:
        ValueError: unknown name, or a file that does not hold 21 rows of finite offsets (null: not labelled).
    """
    check_choice("convention", name, sorted(path.stem for path in folder.glob("*.json")))
    path = folder / f"{name}.json"
    try:
        content = json.loads(path.read_text())
        labelled = np.array([row is not None for row in content["offsets_mm"]])
        rows = [row or (0.0, 0.0, 0.0) for row in content["offsets_mm"]]
        offsets = np.asarray(rows, dtype=np.float64) / 1000
        point_sets = _read_point_sets(name, content)
        convention = JointConvention(name, offsets, str(content["source"]), int(content["count"]), labelled, point_sets)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a JSON object with offsets_mm, source and count ({error!r})") from error
    if offsets.shape != (len(CANONICAL_JOINTS), 3) or not np.isfinite(offsets).all():
        raise ValueError(f"{path}: offsets_mm: expected 21 rows of 3 finite numbers or null, got shape {offsets.shape}")
    return convention


def point_set(name: str) -> PointSet:
    """The points of a dataset by name, such as `nyu-36`; the name of a convention gives its 21 joints."""
    conventions = [joint_convention(known) for known in convention_names()]
    found = {key: points for convention in conventions for key, points in convention.point_sets.items()}
    check_choice("points", name, (*convention_names(), *sorted(found)))
    if name in found:
        return found[name]
    offsets = joint_convention(name).offsets
    return PointSet(name, CANONICAL_JOINTS, np.eye(21), np.array(CANONICAL_BONE), offsets)


def own_points(convention: str) -> str:
    """Name of the set of all the dataset's own points; "" where its labels are the 21 joints."""
    sets = joint_convention(convention).point_sets.values()
    return max(sets, key=lambda points: len(points.points)).name if sets else ""


def joints_in_conventions(
    joints: Tensor, rotations: Tensor, names: str | Sequence[str], given: str = OWN_JOINTS, side: str = "right"
) -> Tensor:
    """The same hands' 21 joints in other conventions, one per sample. `joints` and `rotations` get gradients.

    Args:
        joints: (B, 21, 3) canonical order, in the convention `given`, metres.
        rotations: (B, 16, 3, 3) world rotations of the bones (`HandOutput.rotations`).
        names: B names, or one for all.
        given: the convention that `joints` are in: that of the layer that made them.
        side: "right" or "left", that of the hands in space; a mirrored left hand is a right hand.

    Returns:
        (B, 21, 3). Joints that a convention does not label are the model's own: see `labelled_joints`.
    """
    check_shape("joints", joints, ("B", 21, 3))
    check_shape("rotations", rotations, (len(joints), 16, 3, 3))
    names = [names] * len(joints) if isinstance(names, str) else list(names)
    if len(names) != len(joints):
        raise ValueError(f"names: expected one convention for each of {len(joints)} hands, got {len(names)}")
    if all(name == given for name in names):
        return joints
    known = sorted(set(names))
    table = np.stack([joint_convention(name).offsets for name in known]) - joint_convention(given).offsets
    table = torch.as_tensor(table * _signs(side), dtype=joints.dtype, device=joints.device)  # (N, 21, 3)
    chosen = torch.tensor([known.index(name) for name in names], device=joints.device)
    carriers = rotations[:, list(CANONICAL_BONE)]  # (B, 21, 3, 3)
    return joints + (carriers @ table[chosen][..., None]).squeeze(-1)


def labelled_joints(names: Sequence[str]) -> Tensor:
    """(B, 21) bool: the joints that each of B conventions labels at all."""
    return torch.from_numpy(np.stack([joint_convention(name).labelled for name in names]))


def convention_points(
    joints: Tensor, rotations: Tensor, points: str | PointSet, given: str = OWN_JOINTS, side: str = "right"
) -> Tensor:
    """A dataset's own points (B, P, 3) of hands, for its protocol; arguments as in `joints_in_conventions`.

    Args:
        joints: (B, 21, 3) canonical order, in the convention `given`, metres.
        rotations: (B, 16, 3, 3) world rotations of the bones.
        points: a set, or its name: `nyu-36`, or that of a convention for its 21 joints.
        given: the convention of `joints`.
        side: "right" or "left".
    """
    own = joints_in_conventions(joints, rotations, OWN_JOINTS, given, side)
    chosen = point_set(points) if isinstance(points, str) else points
    weights = torch.as_tensor(chosen.weights, dtype=own.dtype, device=own.device)
    offsets = torch.as_tensor(chosen.offsets * _signs(side), dtype=own.dtype, device=own.device)
    return weights @ own + (rotations[:, chosen.bones.tolist()] @ offsets[..., None]).squeeze(-1)


def _signs(side: str) -> np.ndarray:
    check_choice("side", side, ("right", "left"))
    return np.array(_MIRROR if side == "left" else (1.0, 1.0, 1.0))


def _read_point_sets(name: str, content: dict) -> dict[str, PointSet]:
    """The set `<name>-<P>` of a file's points, and its named subsets."""
    points = content.get("points", [])
    if not points:
        return {}
    weights = np.zeros((len(points), 21))
    for row, point in zip(weights, points, strict=True):
        row[[CANONICAL_JOINTS.index(joint) for joint in point["joints"]]] = 1 / len(point["joints"])
    names = tuple(str(point["name"]) for point in points)
    bones = np.array([MODEL_JOINTS.index(point["bone"]) for point in points])
    offsets = np.array([point["offset_mm"] for point in points], dtype=np.float64) / 1000
    if offsets.shape != (len(points), 3) or not np.isfinite(offsets).all():
        raise ValueError(f"points: expected 3 finite numbers as offset_mm of each, got shape {offsets.shape}")
    rows = {f"{name}-{len(points)}": list(range(len(points)))} | content.get("subsets", {})
    return {
        key: PointSet(key, tuple(names[i] for i in kept), weights[kept], bones[kept], offsets[kept])
        for key, kept in rows.items()
    }
