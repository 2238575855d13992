"""What the kernels of `ops.hand_model.numba_fitting` work on: plain arrays, float64 unless said otherwise.

A hand is M numbers in a row: 45 angles, 9 of its rotation, 3 of its place, S of its shape, the logarithm of its scale.
Parameters stand in the same order, with 3 for the rotation, and the scale only if it is fitted.

Letters: B batch, P points, S shape components, N parameters.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

ANGLES = 45
TURN, PLACE, SHAPE = ANGLES, ANGLES + 9, ANGLES + 12  # where rotation, place and shape of a hand begin


class Tables(NamedTuple):
    """One problem: a skeleton, the points on it, and what is believed of the parameters."""

    rest: Array  # (21, 3, S + 1) from joint to joint, canonical order, the wrist from the origin; by shape, then mean
    hinges: Array  # (45, 3) unit axes of the angles, in the frames of the bones that carry them
    correctives: Array  # (135, 15) tips' pose correctives: finger, joint, rotation matrix; finger, xyz
    weights: Array  # (P, 21) of the joints that are averaged to a point
    offsets: Array  # (P, 3) of points
    bones: Array  # (P,) int64 4 * finger + number of its joints that turn the offset
    moved: Array  # (P, 2) int64 first and last + 1 of the angles that move a point
    lasts: Array  # (N,) int64 last + 1 of the angles that normal equations tie to a parameter; 0 beyond the angles
    beliefs: Array  # (45, 4) lowest, highest, middle, 1 / spread^2 of the angles, radians
    limit: float  # 1 / (standard deviation beyond a limit)^2
    scale: float  # 1 / (standard deviation of the logarithm of the scale)^2


class Labels(NamedTuple):
    """What hands are fitted to."""

    target: Array  # (B, P, 3) metres or (B, P, 2) pixels
    weight: Array  # (B, P) 1 / sigma, 0 where there is no label
    camera: Array  # (B, 4) fx, fy, cx, cy; unused in space


class Work(NamedTuple):
    """Memory for one hand."""

    bones: Array  # (20, 3, 3) world rotations of what joints 1 to 20 move with; that of joints 1, 5 ... is the palm
    axes: Array  # (45, 3) world axes of the angles
    places: Array  # (21, 3) joints before scale and translation
    moves: Array  # (15,) pose correctives of the tips
    levers: Array  # (P, 3) offsets, turned
    points: Array  # (P, 3) points before scale and translation
    placed: Array  # (P, 3) points
    residuals: Array  # (P, 3) of which as many columns are used as labels have
    growth: Array  # (21, 3, S) slopes of joints to shape
    arms: Array  # (15, 3) from every finger joint to one point
    rows: Array  # (3, N) slopes of one point
    normal: Array  # (N, N) upper half
    factor: Array  # (N, N) upper half, inverse numbers on the diagonal
    slope: Array  # (N,)
    step: Array  # (N,)
    matrix: Array  # (3, 3)
    proposal: Array  # (M,) a hand


def workspace(points: int, shapes: int, parameters: int) -> Work:
    """Memory for the kernels of one thread."""
    return Work(
        bones=np.zeros((20, 3, 3)),
        axes=np.zeros((ANGLES, 3)),
        places=np.zeros((21, 3)),
        moves=np.zeros(15),
        levers=np.zeros((points, 3)),
        points=np.zeros((points, 3)),
        placed=np.zeros((points, 3)),
        residuals=np.zeros((points, 3)),
        growth=np.zeros((21, 3, shapes)),
        arms=np.zeros((15, 3)),
        rows=np.zeros((3, parameters)),
        normal=np.zeros((parameters, parameters)),
        factor=np.zeros((parameters, parameters)),
        slope=np.zeros(parameters),
        step=np.zeros(parameters),
        matrix=np.zeros((3, 3)),
        proposal=np.zeros(SHAPE + shapes + 1),
    )
