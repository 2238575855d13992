"""Masks of a hand from a depth picture and its labels, for datasets that have none: what lies near the skeleton.

Letters: H, W height and width of a picture; N points.
"""

import cv2
import numpy as np

from ops.joints import BONES

REACH = 0.025  # metres from a bone to the skin farthest from it, the palm's between two bones included
_CLOSED = 5  # pixels: gaps between points that another camera sees farther apart are closed up to here


def mask_from_depth(depth: np.ndarray, K: np.ndarray, joints: np.ndarray, reach: float = REACH) -> np.ndarray:
    """Where the surface lies within `reach` of the hand's skeleton.

    An object in the hand, and a forearm up to `reach` behind the wrist, count as hand: depth does not tell them apart.

    Args:
        depth: (H, W) metres, 0 where missing.
        K: (3, 3) pixels, of the depth camera.
        joints: (21, 3) metres, canonical order, the depth camera's frame.
        reach: metres.

    Returns:
        (H, W) bool.
    """
    mask = np.zeros(depth.shape, bool)
    rows, columns, points = _points(
        depth, K, (depth > joints[:, 2].min() - reach) & (depth < joints[:, 2].max() + reach)
    )
    near = np.full(len(points), np.inf)
    for parent, child in BONES:
        near = np.minimum(near, _squared_distance(points, joints[parent], joints[child]))
    mask[rows, columns] = near <= reach**2
    return mask


def as_seen_by(
    mask: np.ndarray,
    depth: np.ndarray,
    K: np.ndarray,
    rotation: np.ndarray,
    shift: np.ndarray,
    other: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """A mask of a depth picture, in the picture of a camera beside it.

    What the depth camera does not see is not in it: a rim of the hand is missing on the side towards the other camera.

    Args:
        mask: (H, W) bool.
        depth: (H, W) metres, 0 where missing.
        K: (3, 3) pixels, of the depth camera.
        rotation: (3, 3), of x_other = rotation x_depth + shift.
        shift: (3,) metres.
        other: (3, 3) pixels, of the other camera.
        size: height and width of its pictures.

    Returns:
        `size` bool.
    """
    _, _, points = _points(depth, K, mask & (depth > 0))
    rays = (points @ rotation.T + shift) @ other.T
    columns, rows = np.rint(rays[:, :2] / rays[:, 2:]).astype(int).T
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    seen = np.zeros(size, np.uint8)
    seen[rows[inside], columns[inside]] = 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_CLOSED, _CLOSED))
    return cv2.morphologyEx(seen, cv2.MORPH_CLOSE, kernel).astype(bool)


def _points(depth: np.ndarray, K: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (N,), columns (N,) and points (N, 3) of the chosen pixels."""
    rows, columns = np.nonzero(chosen)
    z = depth[rows, columns].astype(np.float64)
    homogeneous = np.stack([columns, rows, np.ones_like(rows)], 1)
    return rows, columns, homogeneous @ np.linalg.inv(K).T * z[:, None]


def _squared_distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(N,) of points (N, 3) to the segment between two."""
    way = (end - start).astype(np.float64)
    along = ((points - start) @ way / max(way @ way, 1e-12)).clip(0, 1)
    return np.square(points - start - along[:, None] * way).sum(1)
