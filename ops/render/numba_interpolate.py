"""Numba kernels for barycentrics and depth at the pixels (CPU), forward and backward; float64 inside."""

import numpy as np
from numba import njit
from numpy import ndarray as Array

from ops.render.topology import SLIVER

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _load(pixels: Array, z: Array, face: Array, x: int, y: int, corners: Array) -> float:
    # rows of corners: offset from the pixel, z, weight; returns twice the signed area, 0 for a sliver
    for i in range(3):
        v = face[i]
        corners[i, 0], corners[i, 1], corners[i, 2] = float(pixels[v, 0]) - x, float(pixels[v, 1]) - y, z[v]
    total = 0.0
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        corners[i, 3] = corners[j, 0] * corners[k, 1] - corners[k, 0] * corners[j, 1]
        total += corners[i, 3]
    if abs(total) < SLIVER:
        corners[:, 3] = 1.0 / 3.0
        return 0.0
    for i in range(3):
        corners[i, 3] /= total
    return total


@njit(**_OPTIONS)
def interpolate_kernel(
    start: int,
    stop: int,
    pixels: Array,
    z: Array,
    faces: Array,
    ids: Array,
    perspective: bool,
    barycentrics: Array,
    depth: Array,
) -> None:
    """Writes barycentrics (B, H, W, 3) and depth (B, H, W) of the faces seen, 0 where none is."""
    corners = np.empty((3, 4))
    for b in range(start, stop):
        for y in range(ids.shape[1]):
            for x in range(ids.shape[2]):
                if ids[b, y, x] < 0:
                    barycentrics[b, y, x] = 0
                    depth[b, y, x] = 0
                    continue
                _load(pixels[b], z[b], faces[ids[b, y, x]], x, y, corners)
                if not perspective:
                    barycentrics[b, y, x] = corners[:, 3]
                    depth[b, y, x] = (corners[:, 2] * corners[:, 3]).sum()
                    continue
                nearness = (corners[:, 3] / corners[:, 2]).sum()
                barycentrics[b, y, x] = corners[:, 3] / corners[:, 2] / nearness
                depth[b, y, x] = 1.0 / nearness


@njit(**_OPTIONS)
def interpolate_backward(
    start: int,
    stop: int,
    pixels: Array,
    z: Array,
    faces: Array,
    ids: Array,
    perspective: bool,
    grad_barycentrics: Array,
    grad_depth: Array,
    grad_pixels: Array,
    grad_z: Array,
) -> None:
    """Adds to grad_pixels (B, V, 2) and grad_z (B, V).

    With screen weights l_i, n_i = 1 / z_i and N = sum l_i n_i, perspective gives depth = 1 / N, barycentrics l_i n_i / N.
    """
    corners, grad = np.empty((3, 4)), np.empty(3)
    for b in range(start, stop):
        for y in range(ids.shape[1]):
            for x in range(ids.shape[2]):
                if ids[b, y, x] < 0:
                    continue
                face = faces[ids[b, y, x]]
                total = _load(pixels[b], z[b], face, x, y, corners)
                _to_weights(
                    corners, grad_barycentrics[b, y, x], grad_depth[b, y, x], perspective, grad, grad_z[b], face
                )
                if total == 0.0:
                    continue
                mean = (grad * corners[:, 3]).sum()
                for i in range(3):
                    # area i is the cross product of corners j and k
                    j, k = (i + 1) % 3, (i + 2) % 3
                    area = (grad[i] - mean) / total
                    grad_pixels[b, face[j], 0] += area * corners[k, 1]
                    grad_pixels[b, face[j], 1] -= area * corners[k, 0]
                    grad_pixels[b, face[k], 0] -= area * corners[j, 1]
                    grad_pixels[b, face[k], 1] += area * corners[j, 0]


@njit(**_OPTIONS)
def _to_weights(
    corners: Array, grad_bary: Array, grad_depth: float, perspective: bool, grad: Array, grad_z: Array, face: Array
) -> None:
    # writes the gradient of the screen weights to grad, adds that of the corners' z
    if not perspective:
        for i in range(3):
            grad[i] = grad_bary[i] + grad_depth * corners[i, 2]
            grad_z[face[i]] += grad_depth * corners[i, 3]
        return
    nearness, carried = 0.0, float(grad_depth)
    for i in range(3):
        part = corners[i, 3] / corners[i, 2]
        nearness += part
        carried += grad_bary[i] * part
    grad_nearness = -carried / (nearness * nearness)
    for i in range(3):
        near_i = 1.0 / corners[i, 2]
        shared = grad_bary[i] / nearness + grad_nearness
        grad[i] = shared * near_i
        grad_z[face[i]] -= shared * corners[i, 3] * near_i * near_i
