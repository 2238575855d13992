"""What the check sees of each record: small numbers per frame, collected by worker processes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.check.contract import broken_promises, valid_joints
from datamodules.frames import HandFrame, HandFrames

_BATCH = 8  # records that a worker hands over at once


@dataclass(frozen=True, eq=False)
class Observation:
    """One record. Only `index` and `error` are set where it cannot be used."""

    index: int
    error: str = ""
    key: str = ""
    side: int = -1
    size: tuple[int, int] = (0, 0)  # height, width
    joints: np.ndarray = field(default_factory=lambda: np.zeros((21, 3)))  # metres
    valid: np.ndarray = field(default_factory=lambda: np.zeros(21, bool))
    depth_range: tuple[float, float] | None = None  # metres, of the pixels that have depth; None: no depth picture
    projection: float | None = None  # px, mean distance of projected 3D joints from labelled 2D joints
    inside: float | None = None  # share of the valid joints that project into the picture
    behind_surface: float | None = None  # metres, median of joint depth minus the depth picture there


class _Observed(Dataset):
    def __init__(self, frames: HandFrames, pictures: bool) -> None:
        self.frames, self.pictures = frames, pictures

    def __getitem__(self, index: int) -> Observation:
        return observe(self.frames, index, self.pictures)


def observe_all(
    frames: HandFrames, indices: Sequence[int], workers: int, pictures: bool = True
) -> Iterator[Observation]:
    """Open the records `indices`, in that order, in `workers` processes (0: in this one).

    Args:
        frames: the split.
        indices: of its records.
        workers: number of processes.
        pictures: False reads labels alone, where there are no pictures.
    """
    loader = DataLoader(
        _Observed(frames, pictures),
        batch_size=_BATCH,
        sampler=indices,
        num_workers=workers,
        collate_fn=list,
    )
    for batch in loader:
        yield from batch


def observe(frames: HandFrames, index: int, pictures: bool = True) -> Observation:
    """Open one record; what is wrong with it becomes its `error`."""
    try:
        frame = frames.frame(index) if pictures else frames.labels(index)
    except (ValueError, OSError) as error:
        return Observation(index, error=str(error))
    broken = broken_promises(frame, frames.provides, pictures)
    if broken:
        return Observation(index, error=f"{frame.key}: {'; '.join(broken)}", key=frame.key)
    return _measure(frame, index)


def pixels_of(frame: HandFrame) -> np.ndarray | None:
    """(21, 2) pixels of the joints: the labels, or the projection of the 3D joints; None: neither."""
    if frame.joints_2d is not None:
        return frame.joints_2d
    return None if frame.joints_3d is None else _project(frame)


def _measure(frame: HandFrame, index: int) -> Observation:
    valid = valid_joints(frame)
    depth = None if frame.depth is None else frame.depth[frame.depth > 0]
    seen = {"key": frame.key, "side": frame.side, "size": frame.size, "valid": valid}
    if depth is not None:
        seen["depth_range"] = (float(depth.min()), float(depth.max())) if len(depth) else (0.0, 0.0)
    if frame.joints_3d is None:
        return Observation(index, **seen)
    projected = _project(frame)
    if frame.joints_2d is not None:
        seen["projection"] = float(np.linalg.norm(projected - frame.joints_2d, axis=-1)[valid].mean())
    height, width = frame.size
    column, row = np.rint(projected).astype(int).T
    inside = valid & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return Observation(
        index,
        joints=frame.joints_3d.astype(np.float64),
        inside=float(inside[valid].mean()),
        behind_surface=_behind_surface(frame, column[inside], row[inside], frame.joints_3d[inside, 2]),
        **seen,
    )


def _behind_surface(frame: HandFrame, column: np.ndarray, row: np.ndarray, z: np.ndarray) -> float | None:
    if frame.depth is None:
        return None
    surface = frame.depth[row, column]
    return float(np.median((z - surface)[surface > 0])) if (surface > 0).any() else None


def _project(frame: HandFrame) -> np.ndarray:
    """(21, 2) pixels; joints at or behind the camera land far outside every picture."""
    x, y, z = frame.joints_3d.astype(np.float64).T
    z = np.where(z > 1e-6, z, 1e-6)
    pixels = np.stack([x, y, z], -1) @ frame.K.T
    return np.clip(pixels[:, :2] / pixels[:, 2:], -1e6, 1e6)


def stacked(observations: Sequence[Observation]) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints (N, 21, 3) metres float64 and their validity (N, 21)."""
    joints = np.stack([observation.joints for observation in observations])
    valid = np.stack([observation.valid for observation in observations])
    return torch.from_numpy(joints), torch.from_numpy(valid)
