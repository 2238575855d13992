"""From what was seen of a split to its verdicts: a row of the check's table each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from datamodules.batch import RIGHT
from datamodules.check.fit import MIN_JOINTS, fit_hands
from datamodules.check.observe import Observation, stacked
from datamodules.frames import HandFrames
from ops.joints import BONES

# Limits are wide: they find a wrong axis, unit, order or camera, not a poor label.
DEPTH_RANGE = (0.01, 20.0)  # metres: nearer or farther is a unit mistaken or a code for "missing" taken for depth
JOINT_RANGE = (0.05, 10.0)  # metres from the camera
MAX_PROJECTION = 3.0  # px, median over frames
MIN_INSIDE = 0.8  # share of joints inside the picture, mean over frames
SURFACE_RANGE = (-0.02, 0.06)  # metres, median over frames: joints lie under the skin, sometimes under a finger
MAX_BONE_VARIATION = 0.3  # standard deviation over mean of a bone's length, median over bones
SCALE_RANGE = (0.4, 1.8)  # spread of the joints over that of the open hand stretched out; a fist has 0.5
MAX_FITTED = 2000  # hands, evenly chosen: enough for a majority


@dataclass(frozen=True)
class Verdict:
    """One cell of the table. `right` is None where there is nothing to judge."""

    text: str
    right: bool | None = None


@dataclass(frozen=True)
class SplitReport:
    """One split: row name to verdict, and the bad records by name with what is wrong."""

    split: str
    verdicts: dict[str, Verdict]
    bad: list[tuple[str, str]] = field(default_factory=list)

    @property
    def mismatches(self) -> list[str]:
        """Names of the rows that are not right."""
        return [name for name, verdict in self.verdicts.items() if verdict.right is False]


def judge(
    frames: HandFrames, missing: Sequence[Path], seen: Sequence[Observation], labels_alone: bool = False
) -> SplitReport:
    """Judge a split.

    Args:
        frames: the split.
        missing: files of any of its records that do not exist.
        seen: the records that were opened.
        labels_alone: whether only their labels were read.
    """
    good = [observation for observation in seen if not observation.error]
    bad = [(str(path), "no such file") for path in missing]
    bad += [(o.key or f"record {o.index}", o.error) for o in seen if o.error]
    opened = f"0 of {len(frames)}, the labels of {len(seen)}" if labels_alone else f"{len(seen)} of {len(frames)}"
    verdicts = {
        "frames": _count(frames),
        "files missing": Verdict(str(len(missing)), not missing),
        "frames opened": Verdict(opened, None if seen else False),
        "bad frames": Verdict(str(len(seen) - len(good)), len(good) == len(seen)),
    }
    if good:
        verdicts |= {name: measure(good) for name, measure in _MEASURES.items()}
        verdicts |= _fit(good)
    return SplitReport(frames.split, verdicts, bad)


def _count(frames: HandFrames) -> Verdict:
    found, note = len(frames), f" ({frames.note})" if frames.note else ""
    if frames.expected is None:
        return Verdict(f"{found}, published count not known{note}", None if found else False)
    return Verdict(f"{found} of {frames.expected}{note}", found == frames.expected)


def _picture_sizes(seen: Sequence[Observation]) -> Verdict:
    sizes = sorted({observation.size for observation in seen})
    text = ", ".join(f"{width}x{height}" for height, width in sizes[:3])
    return Verdict(text if len(sizes) <= 3 else f"{text} and {len(sizes) - 3} more")


def _depth_range(seen: Sequence[Observation]) -> Verdict:
    ranges = [observation.depth_range for observation in seen if observation.depth_range]
    if not ranges:
        return Verdict("no depth pictures")
    near, far = min(low for low, _ in ranges), max(high for _, high in ranges)
    empty = sum(high == 0 for _, high in ranges)
    text = f"{near:.3f} to {far:.3f} m" + (f", {empty} empty" if empty else "")
    return Verdict(text, DEPTH_RANGE[0] <= near and far <= DEPTH_RANGE[1])


def _joint_range(axis: int) -> Callable[[Sequence[Observation]], Verdict]:
    def measure(seen: Sequence[Observation]) -> Verdict:
        joints, valid = stacked(seen)
        if not valid.any():
            return Verdict("no 3D labels")
        values = joints[..., axis][valid]
        low, high = float(values.min()), float(values.max())
        right = JOINT_RANGE[0] <= low and high <= JOINT_RANGE[1] if axis == 2 else None
        return Verdict(f"{low:.3f} to {high:.3f} m", right)

    return measure


def _projection(seen: Sequence[Observation]) -> Verdict:
    errors = [observation.projection for observation in seen if observation.projection is not None]
    if not errors:
        return Verdict("no 2D labels beside 3D")
    middle = float(np.median(errors))
    return Verdict(f"median {middle:.2f}, worst {max(errors):.2f} px", middle <= MAX_PROJECTION)


def _inside(seen: Sequence[Observation]) -> Verdict:
    shares = [observation.inside for observation in seen if observation.inside is not None]
    if not shares:
        return Verdict("no 3D labels")
    return Verdict(f"{100 * np.mean(shares):.1f} %", bool(np.mean(shares) >= MIN_INSIDE))


def _surface(seen: Sequence[Observation]) -> Verdict:
    if not any(observation.depth_range for observation in seen):
        return Verdict("no depth pictures")
    depths = [observation.behind_surface for observation in seen if observation.behind_surface is not None]
    if not depths:
        return Verdict("no depth at any joint", False)
    middle = float(np.median(depths))
    return Verdict(f"median {1000 * middle:.1f} mm", SURFACE_RANGE[0] <= middle <= SURFACE_RANGE[1])


def _bones(seen: Sequence[Observation]) -> Verdict:
    joints, valid = stacked(seen)
    variations = []
    for parent, child in BONES:
        both = valid[:, parent] & valid[:, child]
        if both.sum() > 1:
            lengths = (joints[both, parent] - joints[both, child]).norm(dim=-1)
            variations.append(float(lengths.std() / lengths.mean().clamp_min(1e-9)))
    if not variations:
        return Verdict("no bones in two frames")
    middle = float(np.median(variations))
    text = f"{100 * middle:.1f} %, worst {100 * max(variations):.1f} %"
    return Verdict(text, middle <= MAX_BONE_VARIATION)


_MEASURES: dict[str, Callable[[Sequence[Observation]], Verdict]] = {
    "picture sizes": _picture_sizes,
    "depth": _depth_range,
    "joints, x": _joint_range(0),
    "joints, y": _joint_range(1),
    "joints, z": _joint_range(2),
    "3D projected onto 2D": _projection,
    "joints in the picture": _inside,
    "joints behind the surface": _surface,
    "bone lengths vary by": _bones,
}


def _fit(seen: Sequence[Observation]) -> dict[str, Verdict]:
    """Hand size, side and joint order, judged by a rigid fit of the open hand."""
    joints, valid = stacked(seen)
    stated = torch.tensor([observation.side for observation in seen])
    chosen = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), MAX_FITTED)).round().astype(int))
    enough = chosen[(valid.sum(-1) >= MIN_JOINTS).numpy()[chosen]]
    rows = ("hand size", "side", "joint order")
    fit = fit_hands(joints[enough], valid[enough]) if len(enough) else None
    if fit is None:
        return dict.fromkeys(rows, Verdict(f"fewer than {MIN_JOINTS} joints: not told"))
    scale = float(fit.scale.median())
    stated = stated[enough]
    share = float((fit.side == stated).double().mean())
    rights = int((stated == RIGHT).sum())
    sides = f"{rights} right, {len(stated) - rights} left, {100 * share:.0f} % by the joints too"
    size = Verdict(f"{scale:.2f} of the open hand", SCALE_RANGE[0] <= scale <= SCALE_RANGE[1])
    order = Verdict(fit.order, fit.order == "as labelled")
    return dict(zip(rows, (size, Verdict(sides, share > 0.5), order), strict=True))
