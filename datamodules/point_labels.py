"""Labels that are a dataset's own points, as canonical joints."""

from collections.abc import Mapping, Sequence

import numpy as np


def canonical_weights(sources: Mapping[int, Sequence[int]], count: int) -> np.ndarray:
    """(21, P) float32 that make joints of points; rows of joints that the dataset does not label are 0.

    Args:
        sources: canonical joint -> the points whose mean it is (`ops.joints.NYU36_CANONICAL`).
        count: number of points P of the dataset.
    """
    weights = np.zeros((21, count), np.float32)
    for joint, rows in sources.items():
        weights[joint, list(rows)] = 1 / len(rows)
    return weights


def canonical_joints(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical joints (21, D) float32 of points (P, D), 0 where not labelled; and (21,) bool, labelled."""
    return weights @ points, weights.any(1)
