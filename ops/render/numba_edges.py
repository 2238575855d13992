"""Numba kernels of the antialiasing (CPU): find where outline edges pass between pixels, blend there, and backwards.

A crossing is a row of two tables: `crossings` (N, 6) int32 holds picture, the edge's end of smaller and of larger line,
pixel p on the edge's own side and its neighbour q (each y * W + x), and 1 for a steep edge (crosses rows) or 0 (crosses
columns); `places` (N, 3) float64 holds s, the place t between the ends, and the edge's slope.
"""

import numpy as np
from numba import njit
from numpy import ndarray as Array

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_PER_PICTURE = 1024  # crossings of a hand at 224 px; the tables grow where there are more
DEAD = -1  # in place of steep: clamped away, so without gradient


@njit(**_OPTIONS)
def _first_pixel(coordinate: float, limit: int) -> int:
    return int(min(max(np.ceil(coordinate), 0.0), float(limit)))


@njit(**_OPTIONS)
def _side(pixels: Array, z: Array, near: float, a: int, b: int, o: int) -> float:
    # on which side of edge a-b vertex o lies: twice the signed area; 0 if there is no such face
    if o < 0 or z[o] < near:
        return 0.0
    ax, ay = float(pixels[a, 0]), float(pixels[a, 1])
    return (pixels[b, 0] - ax) * (pixels[o, 1] - ay) - (pixels[b, 1] - ay) * (pixels[o, 0] - ax)


@njit(**_OPTIONS)
def _edge_level(z0: float, z1: float, t: float, perspective: bool) -> float:
    return -1.0 / ((1.0 - t) / z0 + t / z1) if perspective else -((1.0 - t) * z0 + t * z1)


@njit(**_OPTIONS)
def crossing_kernel(
    start: int,
    stop: int,
    pixels: Array,
    z: Array,
    near: float,
    edges: Array,
    level: Array,
    coverage_only: bool,
    perspective: bool,
    tolerance: float,
) -> tuple[Array, Array]:
    """Crossings and places of pictures start..stop-1.

    level (B, H, W) is the height of what each pixel shows, towards the camera: -depth in metres, -inf for nothing. With
    coverage_only it is the hard mask, 1 and 0, and all edges are level with the mesh.
    """
    height, width = level.shape[1:]
    crossings = np.empty((_PER_PICTURE * (stop - start), 6), np.int32)
    places = np.empty((_PER_PICTURE * (stop - start), 3))
    slots = np.full((2, height * width), -1, np.int32)  # the crossing found between two pixels, by the first of them
    count = 0
    for picture in range(start, stop):
        first_of_picture = count
        xy, depth, shown = pixels[picture], z[picture], level[picture].reshape(-1)
        for e in range(len(edges)):
            a, b = edges[e, 0], edges[e, 1]
            if depth[a] < near or depth[b] < near:
                continue
            side = _side(xy, depth, near, a, b, edges[e, 2])
            other = _side(xy, depth, near, a, b, edges[e, 3])
            if side * other < 0.0 or side + other == 0.0:
                continue
            dx, dy = float(xy[b, 0]) - xy[a, 0], float(xy[b, 1]) - xy[a, 1]
            steep = abs(dy) >= abs(dx)
            rising = (-(side + other) * dy if steep else (side + other) * dx) > 0.0  # the face lies at larger v
            along = 1 if steep else 0  # the coordinate that is constant on a line
            if xy[b, along] < xy[a, along]:
                a, b = b, a
            u0, v0 = float(xy[a, along]), float(xy[a, 1 - along])
            u1, v1 = float(xy[b, along]), float(xy[b, 1 - along])
            lines, last = (height, width - 1) if steep else (width, height - 1)
            line_stride, stride = (width, 1) if steep else (1, width)
            slope = (v1 - v0) / (u1 - u0)
            for line in range(_first_pixel(u0, lines), _first_pixel(u1, lines)):
                v = v0 + (line - u0) * slope
                border = np.ceil(v)
                if border < 1.0 or border > last:
                    continue  # one of the two pixels is not in the picture
                upper = line * line_stride + int(border) * stride
                p, q = (upper, upper - stride) if rising else (upper - stride, upper)
                t = (line - u0) / (u1 - u0)
                at_edge = 1.0 if coverage_only else _edge_level(depth[a], depth[b], t, perspective)
                if not (shown[q] < at_edge and shown[q] < shown[p] and abs(shown[p] - at_edge) <= tolerance):
                    continue
                s = border - v if rising else v - (border - 1.0)
                slot = slots[along, upper]
                if slot >= 0 and s <= places[slot, 0]:
                    continue  # another edge lies farther out
                if slot < 0:
                    if count == len(crossings):
                        crossings = np.concatenate((crossings, np.empty_like(crossings)))
                        places = np.concatenate((places, np.empty_like(places)))
                    slot = count
                    slots[along, upper] = slot
                    count += 1
                crossings[slot, 0], crossings[slot, 1], crossings[slot, 2] = picture, a, b
                crossings[slot, 3], crossings[slot, 4], crossings[slot, 5] = p, q, along
                places[slot, 0], places[slot, 1], places[slot, 2] = s, t, slope
        for slot in range(first_of_picture, count):
            slots[crossings[slot, 5], max(crossings[slot, 3], crossings[slot, 4])] = -1
    return crossings[:count].copy(), places[:count].copy()


@njit(**_OPTIONS)
def blend_mask_kernel(crossings: Array, places: Array, mask: Array) -> None:
    """Turns the hard mask (B, H * W) into coverage, in place; marks as dead the crossings that the clamp cuts off."""
    for n in range(len(crossings)):
        s = places[n, 0]
        mask[crossings[n, 0], crossings[n, 3 if s < 0.5 else 4]] += s - 0.5
    for n in range(len(crossings)):
        value = mask[crossings[n, 0], crossings[n, 3 if places[n, 0] < 0.5 else 4]]
        if value < 0 or value > 1:
            crossings[n, 5] = DEAD
    for n in range(len(crossings)):
        picture, target = crossings[n, 0], crossings[n, 3 if places[n, 0] < 0.5 else 4]
        mask[picture, target] = min(max(mask[picture, target], 0), 1)


@njit(**_OPTIONS)
def blend_image_kernel(crossings: Array, places: Array, image: Array, blended: Array) -> None:
    """Adds to blended (B, C, H * W), a copy of the image."""
    for n in range(len(crossings)):
        picture, p, q, s = crossings[n, 0], crossings[n, 3], crossings[n, 4], places[n, 0]
        for c in range(image.shape[1]):
            blended[picture, c, p if s < 0.5 else q] += (s - 0.5) * (image[picture, c, p] - image[picture, c, q])


@njit(**_OPTIONS)
def _move(crossings: Array, places: Array, n: int, towards_q: float, grad_pixels: Array) -> None:
    # adds the gradient of crossing n towards its edge's ends; towards_q is the gradient of s
    a, b, along = crossings[n, 1], crossings[n, 2], crossings[n, 5]
    t, slope = places[n, 1], places[n, 2]
    across = towards_q if crossings[n, 4] > crossings[n, 3] else -towards_q  # of v
    grad = grad_pixels[crossings[n, 0]]
    grad[a, 1 - along] += across * (1.0 - t)
    grad[b, 1 - along] += across * t
    grad[a, along] -= across * (1.0 - t) * slope
    grad[b, along] -= across * t * slope


@njit(**_OPTIONS)
def blend_mask_backward(crossings: Array, places: Array, grad_mask: Array, grad_pixels: Array) -> None:
    """Adds to grad_pixels (B, V, 2) what grad_mask (B, H * W) asks for."""
    for n in range(len(crossings)):
        if crossings[n, 5] != DEAD:
            target = crossings[n, 3 if places[n, 0] < 0.5 else 4]
            _move(crossings, places, n, grad_mask[crossings[n, 0], target], grad_pixels)


@njit(**_OPTIONS)
def blend_image_backward(
    crossings: Array, places: Array, image: Array, grad_blended: Array, grad_image: Array, grad_pixels: Array
) -> None:
    """Adds to grad_pixels (B, V, 2) and to grad_image (B, C, H * W), which holds a copy of grad_blended."""
    for n in range(len(crossings)):
        picture, p, q, s = crossings[n, 0], crossings[n, 3], crossings[n, 4], places[n, 0]
        towards_q = 0.0
        for c in range(image.shape[1]):
            grad = float(grad_blended[picture, c, p if s < 0.5 else q])
            towards_q += grad * (image[picture, c, p] - image[picture, c, q])
            grad_image[picture, c, p] += grad * (s - 0.5)
            grad_image[picture, c, q] -= grad * (s - 0.5)
        _move(crossings, places, n, towards_q, grad_pixels)
