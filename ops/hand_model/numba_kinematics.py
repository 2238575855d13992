"""Rotations and forward kinematics as plain loops, forward and hand-derived backward, compiled by numba.

Per hand there are 16 rotations and a tree of 16 bones: a handful of numbers, for which dispatching a tensor operation
costs a hundred times its arithmetic. Kernels run on one thread (no thread pool to share with torch) without the GIL and
compute in float64 whatever the arrays hold. Letters: B batch. Gradients are written d_<name>.
"""

import math

import numpy as np
from numba import njit

from ops.joints import MODEL_PARENTS

_PARENTS = np.array(MODEL_PARENTS)
_SMALL_SQUARED_ANGLE = 1e-8  # below it two terms of the Taylor series are exact to float64


@njit(nogil=True, cache=True)
def rodrigues(axis_angles: np.ndarray, matrices: np.ndarray) -> None:
    """(n, 3) axis-angle to (n, 3, 3): R = cos(t) I + a [v]x + b v v^T, a = sin(t) / t, b = (1 - cos(t)) / t^2."""
    for n in range(len(axis_angles)):
        x, y, z = np.float64(axis_angles[n, 0]), np.float64(axis_angles[n, 1]), np.float64(axis_angles[n, 2])
        cosine, a, b = _coefficients(x * x + y * y + z * z)
        matrices[n, 0, 0] = cosine + b * x * x
        matrices[n, 0, 1] = b * x * y - a * z
        matrices[n, 0, 2] = b * x * z + a * y
        matrices[n, 1, 0] = b * x * y + a * z
        matrices[n, 1, 1] = cosine + b * y * y
        matrices[n, 1, 2] = b * y * z - a * x
        matrices[n, 2, 0] = b * x * z - a * y
        matrices[n, 2, 1] = b * y * z + a * x
        matrices[n, 2, 2] = cosine + b * z * z


@njit(nogil=True, cache=True)
def rodrigues_backward(axis_angles: np.ndarray, d_matrices: np.ndarray, d_axis_angles: np.ndarray) -> None:
    """Gradient of `rodrigues`: with G = d_matrices, the chain rule through cos(t), a and b, then [v]x and v v^T."""
    for n in range(len(axis_angles)):
        x, y, z = np.float64(axis_angles[n, 0]), np.float64(axis_angles[n, 1]), np.float64(axis_angles[n, 2])
        g = d_matrices[n]
        squared = x * x + y * y + z * z
        cosine, a, b = _coefficients(squared)
        if squared < _SMALL_SQUARED_ANGLE:  # a'(t) / t and b'(t) / t
            a_slope, b_slope = -1 / 3 + squared / 30, -1 / 12 + squared / 180
        else:
            a_slope, b_slope = (cosine - a) / squared, (a - 2 * b) / squared
        # <G, d[v]x / dv> and (G + G^T) v
        turn_x, turn_y, turn_z = g[2, 1] - g[1, 2], g[0, 2] - g[2, 0], g[1, 0] - g[0, 1]
        sym_x = 2 * g[0, 0] * x + (g[0, 1] + g[1, 0]) * y + (g[0, 2] + g[2, 0]) * z
        sym_y = (g[0, 1] + g[1, 0]) * x + 2 * g[1, 1] * y + (g[1, 2] + g[2, 1]) * z
        sym_z = (g[0, 2] + g[2, 0]) * x + (g[1, 2] + g[2, 1]) * y + 2 * g[2, 2] * z
        along = -a * (g[0, 0] + g[1, 1] + g[2, 2])
        along += a_slope * (turn_x * x + turn_y * y + turn_z * z)
        along += b_slope * 0.5 * (sym_x * x + sym_y * y + sym_z * z)
        d_axis_angles[n, 0] = along * x + a * turn_x + b * sym_x
        d_axis_angles[n, 1] = along * y + a * turn_y + b * sym_y
        d_axis_angles[n, 2] = along * z + a * turn_z + b * sym_z


@njit(nogil=True, cache=True)
def pose_bones(
    local: np.ndarray, rest: np.ndarray, world: np.ndarray, joints: np.ndarray, transforms: np.ndarray
) -> None:
    """Local rotations (B, 16, 3, 3) and rest joints (B, 16, 3) to `ops.hand_model.kinematics.pose_bones`' outputs."""
    for n in range(len(local)):
        for i in range(16):
            parent = _PARENTS[i]
            for r in range(3):
                joints[n, i, r] = rest[n, i, r] if parent < 0 else joints[n, parent, r]
                for c in range(3):
                    if parent < 0:
                        world[n, i, r, c] = local[n, i, r, c]
                        continue
                    joints[n, i, r] += world[n, parent, r, c] * (rest[n, i, c] - rest[n, parent, c])
                    total = 0.0
                    for k in range(3):
                        total += world[n, parent, r, k] * local[n, i, k, c]
                    world[n, i, r, c] = total
            for r in range(3):
                offset = joints[n, i, r]
                for c in range(3):
                    offset -= world[n, i, r, c] * rest[n, i, c]
                    transforms[n, 4 * r + c, i] = world[n, i, r, c]
                transforms[n, 4 * r + 3, i] = offset


@njit(nogil=True, cache=True)
def pose_bones_backward(
    local: np.ndarray,
    rest: np.ndarray,
    world: np.ndarray,
    d_world: np.ndarray,
    d_joints: np.ndarray,
    d_transforms: np.ndarray,
    d_local: np.ndarray,
    d_rest: np.ndarray,
) -> None:
    """Gradient of `pose_bones`, from the tips to the root. `d_world` and `d_joints` are used up."""
    for n in range(len(local)):
        for i in range(15, -1, -1):
            parent = _PARENTS[i]
            # transforms = [world | joints - world rest]; children have already added their share to d_world, d_joints
            for r in range(3):
                d_offset = d_transforms[n, 4 * r + 3, i]
                d_joints[n, i, r] += d_offset
                for c in range(3):
                    d_world[n, i, r, c] += d_transforms[n, 4 * r + c, i] - d_offset * rest[n, i, c]
                    d_rest[n, i, c] -= d_offset * world[n, i, r, c]
            if parent < 0:
                for r in range(3):
                    d_rest[n, i, r] += d_joints[n, i, r]
                    for c in range(3):
                        d_local[n, i, r, c] = d_world[n, i, r, c]
                continue
            # joints = joints[parent] + world[parent] (rest - rest[parent]); world = world[parent] local
            for r in range(3):
                d_joints[n, parent, r] += d_joints[n, i, r]
                for c in range(3):
                    d_bone = d_joints[n, i, r] * world[n, parent, r, c]
                    d_rest[n, i, c] += d_bone
                    d_rest[n, parent, c] -= d_bone
                    total = d_joints[n, i, r] * (rest[n, i, c] - rest[n, parent, c])
                    d_local_rc = 0.0
                    for k in range(3):
                        total += d_world[n, i, r, k] * local[n, i, c, k]
                        d_local_rc += world[n, parent, k, r] * d_world[n, i, k, c]
                    d_world[n, parent, r, c] += total
                    d_local[n, i, r, c] = d_local_rc


@njit(nogil=True, cache=True)
def _coefficients(squared: float) -> tuple[float, float, float]:
    """cos(t), sin(t) / t and (1 - cos(t)) / t^2 of a squared angle t^2."""
    if squared < _SMALL_SQUARED_ANGLE:
        return 1 - squared / 2, 1 - squared / 6, 0.5 - squared / 24
    angle = math.sqrt(squared)
    half = math.sin(angle / 2)  # 1 - cos(t) cancels for small t, 2 sin(t / 2)^2 does not
    return math.cos(angle), math.sin(angle) / angle, 2 * half * half / squared
