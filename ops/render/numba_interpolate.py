"""Numba kernels for barycentrics and depth at the pixels (CPU), forward and backward; float64 inside.

With screen weights l_i = area_i / area and n_i = 1 / z_i, perspective gives N = sum l_i n_i, depth 1 / N and
barycentrics l_i n_i / N; weak perspective gives depth sum l_i z_i and barycentrics l_i.
"""

from numba import njit
from numpy import ndarray as Array

from ops.render.topology import SLIVER

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_INNER = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # of what only kernels call
Triple = tuple[float, float, float]


@njit(**_INNER)
def _offset(pixels: Array, vertex: int, x: int, y: int) -> tuple[float, float]:
    return float(pixels[vertex, 0]) - x, float(pixels[vertex, 1]) - y


@njit(**_INNER)
def _cross(a: tuple[float, float], b: tuple[float, float]) -> float:
    return a[0] * b[1] - b[0] * a[1]


@njit(**_INNER)
def _weights(pixels: Array, face: Array, x: int, y: int) -> tuple[Triple, float]:
    # screen weights of the corners and twice the signed area, 0 for a sliver, whose corners count alike
    a, b, c = _offset(pixels, face[0], x, y), _offset(pixels, face[1], x, y), _offset(pixels, face[2], x, y)
    at_a, at_b, at_c = _cross(b, c), _cross(c, a), _cross(a, b)
    total = at_a + at_b + at_c
    if abs(total) < SLIVER:
        return (1 / 3, 1 / 3, 1 / 3), 0.0
    return (at_a / total, at_b / total, at_c / total), total


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
    for b in range(start, stop):
        for y in range(ids.shape[1]):
            for x in range(ids.shape[2]):
                bary, distance = (0.0, 0.0, 0.0), 0.0
                if ids[b, y, x] >= 0:
                    face = faces[ids[b, y, x]]
                    bary, _ = _weights(pixels[b], face, x, y)
                    z0, z1, z2 = float(z[b, face[0]]), float(z[b, face[1]]), float(z[b, face[2]])
                    if perspective:
                        bary = (bary[0] / z0, bary[1] / z1, bary[2] / z2)
                        distance = 1.0 / (bary[0] + bary[1] + bary[2])
                        bary = (bary[0] * distance, bary[1] * distance, bary[2] * distance)
                    else:
                        distance = bary[0] * z0 + bary[1] * z1 + bary[2] * z2
                depth[b, y, x] = distance
                for i in range(3):
                    barycentrics[b, y, x, i] = bary[i]


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
    """Adds to grad_pixels (B, V, 2) and grad_z (B, V)."""
    for b in range(start, stop):
        for y in range(ids.shape[1]):
            for x in range(ids.shape[2]):
                if ids[b, y, x] < 0:
                    continue
                face = faces[ids[b, y, x]]
                weights, total = _weights(pixels[b], face, x, y)
                grad = _weight_gradient(
                    weights, z[b], face, perspective, grad_barycentrics[b, y, x], grad_depth[b, y, x], grad_z[b]
                )
                if total != 0.0:
                    _move(pixels[b], face, x, y, weights, total, grad, grad_pixels[b])


@njit(**_INNER)
def _weight_gradient(
    weights: Triple,
    z: Array,
    face: Array,
    perspective: bool,
    grad_bary: Array,
    grad_depth: float,
    grad_z: Array,
) -> Triple:
    # the gradient of the screen weights; adds that of the corners' z to grad_z
    l0, l1, l2 = weights
    z0, z1, z2 = float(z[face[0]]), float(z[face[1]]), float(z[face[2]])
    g0, g1, g2, gd = float(grad_bary[0]), float(grad_bary[1]), float(grad_bary[2]), float(grad_depth)
    if not perspective:
        grad_z[face[0]] += gd * l0
        grad_z[face[1]] += gd * l1
        grad_z[face[2]] += gd * l2
        return g0 + gd * z0, g1 + gd * z1, g2 + gd * z2
    distance = 1.0 / (l0 / z0 + l1 / z1 + l2 / z2)
    # towards N: depth and every barycentric shrink as it grows
    common = -(gd + g0 * l0 / z0 + g1 * l1 / z1 + g2 * l2 / z2) * distance * distance
    to_0, to_1, to_2 = (g0 * distance + common) / z0, (g1 * distance + common) / z1, (g2 * distance + common) / z2
    grad_z[face[0]] -= to_0 * l0 / z0
    grad_z[face[1]] -= to_1 * l1 / z1
    grad_z[face[2]] -= to_2 * l2 / z2
    return to_0, to_1, to_2


@njit(**_INNER)
def _move(
    pixels: Array, face: Array, x: int, y: int, weights: Triple, total: float, grad: Triple, grad_pixels: Array
) -> None:
    # from the weights to the corners: area i is the cross product of the two other corners
    a, b, c = _offset(pixels, face[0], x, y), _offset(pixels, face[1], x, y), _offset(pixels, face[2], x, y)
    mean = grad[0] * weights[0] + grad[1] * weights[1] + grad[2] * weights[2]
    ga, gb, gc = (grad[0] - mean) / total, (grad[1] - mean) / total, (grad[2] - mean) / total
    grad_pixels[face[0], 0] += gc * b[1] - gb * c[1]
    grad_pixels[face[0], 1] += gb * c[0] - gc * b[0]
    grad_pixels[face[1], 0] += ga * c[1] - gc * a[1]
    grad_pixels[face[1], 1] += gc * a[0] - ga * c[0]
    grad_pixels[face[2], 0] += gb * a[1] - ga * b[1]
    grad_pixels[face[2], 1] += ga * b[0] - gb * a[0]
