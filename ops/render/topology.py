"""What the renderer derives from the faces alone, kept per face tensor; sizes and constants that all backends share."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ops.checks import check_shape

NEAR = 0.01  # metres; nothing of interest is nearer to a camera than 1 cm
# pixels²; on a triangle whose doubled area is less, all corners count alike and none is moved by a gradient
SLIVER = 1e-4


class Topology(NamedTuple):
    """Tables of a mesh, int32, contiguous, on one device."""

    faces: Tensor  # (F, 3)
    edges: Tensor  # (E, 4): end a, end b, the vertex opposite in one face, in the other (-1: there is none)
    sides: Tensor  # (E, 2): these faces f as f + 1 if they run from a to b, -f - 1 if from b to a (0: there is none)
    vertices: int  # smallest number of vertices that the faces can index


_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def topology_of(faces: Tensor, vertices: int) -> Topology:
    """Topology of `faces` (F, 3), integer, whose indices must lie in 0..vertices-1.

    Computed once per tensor (and again after it was changed in place): keep one face tensor and pass it each time.
    """
    version, topology = _known.get(faces, (None, None)) if isinstance(faces, Tensor) else (None, None)
    if version != getattr(faces, "_version", 0):
        topology = _build(faces)
        _known[faces] = (faces._version, topology)
    if topology.vertices > vertices:
        raise ValueError(
            f"faces: expected indices in 0..{vertices - 1} for {vertices} vertices, got {topology.vertices - 1}; "
            "are these the faces of this mesh?"
        )
    return topology


def check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W) of a picture given as its side or as (H, W); raises unless both are positive integers."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"size: expected a positive integer or (height, width), got {size!r}")
    return pair


def check_near(near: float) -> None:
    """Raise unless the near plane lies in front of the camera."""
    if not near > 0:
        raise ValueError(f"near: expected a positive distance in metres, got {near}")


def _build(faces: Tensor) -> Topology:
    check_shape("faces", faces, ("F", 3))
    if faces.is_floating_point() or faces.dtype == torch.bool:
        raise TypeError(f"faces: expected integers, got {faces.dtype}; convert with .long()")
    array = faces.detach().cpu().numpy()
    if array.size and array.min() < 0:
        raise ValueError(f"faces: expected indices from 0 on, got {array.min()}")
    tables = [
        torch.from_numpy(np.ascontiguousarray(table, dtype=np.int32)).to(faces.device)
        for table in (array, *_edges(array))
    ]
    return Topology(*tables, vertices=int(array.max()) + 1 if array.size else 0)


def _edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (E, 4) and sides (E, 2).

    An edge of more than two faces gets a row per face, each a rim: whichever of them bounds the outline is then found.
    """
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])  # (3F, 2)
    opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    face = np.tile(np.arange(1, len(faces) + 1), 3) * np.where(ends[:, 0] < ends[:, 1], 1, -1)
    ends = np.sort(ends, axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, opposite, face = ends[order], opposite[order], face[order]
    new = np.ones(len(ends), dtype=bool)
    new[1:] = (ends[1:] != ends[:-1]).any(axis=1)
    counts = np.diff(np.append(np.flatnonzero(new), len(ends)))
    paired = np.repeat(counts, counts) == 2
    rows = new | ~paired
    other_opposite = np.where(paired, np.roll(opposite, -1), -1)
    other_face = np.where(paired, np.roll(face, -1), 0)
    return np.column_stack([ends, opposite, other_opposite])[rows], np.column_stack([face, other_face])[rows]
