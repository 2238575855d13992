"""Datasets' own points from 21 joints: near enough for generated files, whose labels need only be consistent."""

from itertools import pairwise

import numpy as np

from ops.joints import CANONICAL_JOINTS, NYU36

_SIDEWAYS = 0.015  # metres from the wrist to each of NYU's two wrist points


def nyu36(joints: np.ndarray) -> np.ndarray:
    """(..., 36, 3) of joints (..., 21, 3): B ends are the joints, A ends lie on the bone before them."""
    points = np.zeros((*joints.shape[:-2], len(NYU36), 3))
    for finger, first in enumerate((24, 18, 12, 6, 0)):  # thumb, index, middle, ring, little
        base, middle, last, tip = (joints[..., 1 + 4 * finger + i, :] for i in range(4))
        chain = tip, last, 0.6 * last + 0.4 * middle, middle, 0.6 * middle + 0.4 * base, base
        for place, point in enumerate(chain):
            points[..., first + place, :] = point
    wrist, index, middle, little = (_joint(joints, name) for name in ("wrist", "index_mcp", "middle_mcp", "little_mcp"))
    across = index - little
    across = _SIDEWAYS * across / np.linalg.norm(across, axis=-1, keepdims=True)
    palm = wrist - across, wrist + across, 0.4 * wrist + 0.6 * middle, 0.4 * wrist + 0.6 * little
    for place, point in enumerate((*palm, 0.6 * wrist + 0.4 * middle, wrist)):
        points[..., 30 + place, :] = point
    return points


def icvl16(joints: np.ndarray) -> np.ndarray:
    """(..., 16, 3) of joints (..., 21, 3): the palm, then the middles of each finger's last three bones."""
    points = [0.5 * (_joint(joints, "wrist") + _joint(joints, "middle_mcp"))]
    for finger in range(5):
        chain = [joints[..., 1 + 4 * finger + i, :] for i in range(4)]
        points += [0.5 * (a + b) for a, b in pairwise(chain)]
    return np.stack(points, -2)


def _joint(joints: np.ndarray, name: str) -> np.ndarray:
    return joints[..., CANONICAL_JOINTS.index(name), :]
