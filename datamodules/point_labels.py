"""Labels that are a dataset's own points, as canonical joints."""

from collections.abc import Mapping, Sequence

import numpy as np


def canonical_joints(
    points: np.ndarray, sources: Mapping[int, Sequence[int]], valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Canonical joints as means of a dataset's points.

    Args:
        points: (P, D) in the dataset's order.
        sources: canonical joint -> the points whose mean it is (`ops.joints.NYU36_CANONICAL`).
        valid: (P,) bool; None: all.

    Returns:
        (21, D) float32, 0 where not labelled; (21,) bool, labelled.
    """
    valid = np.ones(len(points), dtype=bool) if valid is None else valid
    joints, labelled = np.zeros((21, points.shape[1]), np.float32), np.zeros(21, dtype=bool)
    for joint, rows in sources.items():
        rows = list(rows)
        labelled[joint] = valid[rows].all()
        if labelled[joint]:
            joints[joint] = points[rows].mean(0)
    return joints, labelled
