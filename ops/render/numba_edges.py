"""Numba kernels of the antialiasing (CPU): find where outline edges pass between pixels, blend there, and backwards.

A crossing is a row of two tables: `crossings` (N, 6) int32 holds picture, the edge's end of smaller and of larger line,
pixel p on the edge's own side and its neighbour q (each y * W + x), and 1 for a steep edge (crosses rows) or 0 (crosses
columns); `places` (N, 3) float64 holds s, the place t between the ends, and the edge's slope.
"""

import numpy as np
from numba import njit
from numpy import ndarray as Array

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_INNER = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # of what only kernels call
_PER_PICTURE = 1024  # twice the crossings of a hand at 224 px; the tables grow where there are more
# in place of a crossing's direction: clamped away, so without gradient; of an edge that only hides what lies behind it
DEAD, HIDES = -1, -2
Tables = tuple[Array, Array, Array]  # faces, edges, sides of a `Topology`


@njit(**_INNER)
def _first_pixel(coordinate: float, limit: int) -> int:
    # the first integer >= coordinate, clamped to 0..limit before the cast, which is undefined for huge numbers
    return int(min(max(np.ceil(coordinate), 0.0), float(limit)))


@njit(**_INNER)
def _outline(pixels: Array, z: Array, near: float, topology: Tables, signs: Array, outline: Array) -> int:
    # writes to outline (E, 2) the edges whose faces lie on one side and how many layers begin there; returns their
    # number. Layers are positive to the right of a, seen from b. A culled face or one without area has sign 0
    faces, edges, sides = topology
    signs[0] = 0
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = float(pixels[a, 0]), float(pixels[a, 1])
        area = (pixels[b, 0] - ax) * (pixels[c, 1] - ay) - (pixels[b, 1] - ay) * (pixels[c, 0] - ax)
        live = z[a] >= near and z[b] >= near and z[c] >= near
        signs[f + 1] = (int(area > 0.0) - int(area < 0.0)) * live
    count = 0
    for e in range(len(edges)):
        one, other = sides[e, 0], sides[e, 1]
        layers = (signs[one] if one > 0 else -signs[-one]) + (signs[other] if other > 0 else -signs[-other])
        outline[count, 0], outline[count, 1] = e, layers
        count += int(layers != 0)
    return count


@njit(**_INNER)
def _fill(pixels: Array, edges: Array, outline: Array, steps: Array, mask: Array) -> None:
    # hard mask (H, W) from the outline alone: along a row, the number of layers changes where outline edges cross it.
    # Equal to scan-converting every face, for edges inside the mesh add and take away a layer at the same pixel
    height, width = mask.shape
    top, bottom = height, 0
    for n in range(len(outline)):
        a, b, layers = edges[outline[n, 0], 0], edges[outline[n, 0], 1], -outline[n, 1]
        if pixels[b, 1] < pixels[a, 1]:
            a, b, layers = b, a, -layers
        x, y = float(pixels[a, 0]), float(pixels[a, 1])
        slope = (pixels[b, 0] - x) / (pixels[b, 1] - y)
        first, stop = _first_pixel(y, height), _first_pixel(float(pixels[b, 1]), height)
        top, bottom = min(top, first), max(bottom, stop)
        for line in range(first, stop):
            steps[line, _first_pixel(x + (line - y) * slope, width)] += layers
    mask[:] = 0
    for y in range(top, bottom):
        layers = 0
        for x in range(width):
            layers += steps[y, x]
            mask[y, x] = layers > 0
        steps[y] = 0


@njit(**_INNER)
def _edge_level(z0: float, z1: float, t: float, perspective: bool) -> float:
    return -1.0 / ((1.0 - t) / z0 + t / z1) if perspective else -((1.0 - t) * z0 + t * z1)


@njit(**_INNER)
def _doubled(table: Array) -> Array:
    larger = np.empty((2 * table.shape[0], table.shape[1]), table.dtype)
    for n in range(table.shape[0]):
        for i in range(table.shape[1]):
            larger[n, i] = table[n, i]
    return larger


@njit(**_INNER)
def _find(
    picture: int,
    pixels: Array,
    z: Array,
    edges: Array,
    outline: Array,
    level: Array,
    coverage_only: bool,
    perspective: bool,
    tolerance: float,
    slots: Array,
    found: tuple[Array, Array, int],
) -> tuple[Array, Array, int]:
    # appends the crossings of one picture to the tables found, whose third is the number of rows in use
    crossings, places, begin = found
    count = begin
    height, width = level.shape
    shown = level.reshape(-1)
    for n in range(len(outline)):
        one, other = edges[outline[n, 0], 0], edges[outline[n, 0], 1]
        dx, dy = float(pixels[other, 0]) - pixels[one, 0], float(pixels[other, 1]) - pixels[one, 1]
        native = 1 if abs(dy) >= abs(dx) else 0
        for along in range(2):  # the coordinate that is constant on a line: 1 along rows, 0 along columns
            a, b, rising = one, other, (outline[n, 1] < 0) == (along == 1)  # the face lies at larger v
            if pixels[b, along] < pixels[a, along]:
                a, b, rising = b, a, not rising
            u0, v0 = float(pixels[a, along]), float(pixels[a, 1 - along])
            run = float(pixels[b, along]) - u0
            slope = (float(pixels[b, 1 - along]) - v0) / run
            lines, last = (height, width - 1) if along == 1 else (width, height - 1)
            line_stride, stride = (width, 1) if along == 1 else (1, width)
            for line in range(_first_pixel(u0, lines), _first_pixel(float(pixels[b, along]), lines)):
                v = v0 + (line - u0) * slope
                border = np.ceil(v)
                if border < 1.0 or border > last:
                    continue  # one of the two pixels is not in the picture
                upper = line * line_stride + int(border) * stride
                p, q = (upper, upper - stride) if rising else (upper - stride, upper)
                if shown[q] >= shown[p]:
                    continue
                t = (line - u0) / run
                at_edge = 1.0 if coverage_only else _edge_level(z[a], z[b], t, perspective)
                if shown[q] >= at_edge or abs(shown[p] - at_edge) > tolerance:
                    continue
                s = border - v if rising else v - (border - 1.0)
                slot = slots[along, upper]
                if slot >= 0 and s <= places[slot, 0]:
                    continue  # another edge lies farther out
                if slot < 0:
                    if count == len(crossings):
                        crossings = _doubled(crossings)
                        places = _doubled(places)
                    slot = count
                    slots[along, upper] = slot
                    count += 1
                crossings[slot, 0], crossings[slot, 1], crossings[slot, 2] = picture, a, b
                crossings[slot, 3], crossings[slot, 4] = p, q
                crossings[slot, 5] = along if along == native else HIDES
                places[slot, 0], places[slot, 1], places[slot, 2] = s, t, slope
    kept = begin
    for slot in range(begin, count):
        upper = max(crossings[slot, 3], crossings[slot, 4])
        slots[0, upper] = slots[1, upper] = -1
        if crossings[slot, 5] != HIDES:
            for i in range(6):
                crossings[kept, i] = crossings[slot, i]
            for i in range(3):
                places[kept, i] = places[slot, i]
            kept += 1
    return crossings, places, kept


@njit(**_INNER)
def _blend_mask(crossings: Array, places: Array, begin: int, stop: int, mask: Array) -> None:
    # turns the hard mask (H * W) into coverage, in place, and marks as dead the crossings that the clamp cuts off
    for n in range(begin, stop):
        s = places[n, 0]
        mask[crossings[n, 3 if s < 0.5 else 4]] += s - 0.5
    for n in range(begin, stop):
        value = mask[crossings[n, 3 if places[n, 0] < 0.5 else 4]]
        if value < 0 or value > 1:
            crossings[n, 5] = DEAD
    for n in range(begin, stop):
        target = crossings[n, 3 if places[n, 0] < 0.5 else 4]
        mask[target] = min(max(mask[target], 0), 1)


@njit(**_OPTIONS)
def coverage_kernel(
    start: int, stop: int, pixels: Array, z: Array, near: float, topology: Tables, coverage: Array
) -> tuple[Array, Array]:
    """Writes coverage (B, H, W) of pictures start..stop-1; returns their crossings and places."""
    faces, edges, _ = topology
    height, width = coverage.shape[1:]
    signs, outline = np.empty(len(faces) + 1, np.int8), np.empty((len(edges) + 1, 2), np.int32)
    steps = np.zeros((height, width + 1), np.int32)
    slots = np.full((2, height * width), -1, np.int32)  # the crossing found between two pixels, by the second of them
    rows = _PER_PICTURE * (stop - start)
    crossings, places, count = np.empty((rows, 6), np.int32), np.empty((rows, 3)), 0
    for b in range(start, stop):
        outer = outline[: _outline(pixels[b], z[b], near, topology, signs, outline)]
        _fill(pixels[b], edges, outer, steps, coverage[b])
        begin, found = count, (crossings, places, count)
        crossings, places, count = _find(
            b, pixels[b], z[b], edges, outer, coverage[b], True, False, np.inf, slots, found
        )
        _blend_mask(crossings, places, begin, count, coverage[b].reshape(-1))
    return crossings[:count].copy(), places[:count].copy()


@njit(**_OPTIONS)
def fold_kernel(
    start: int,
    stop: int,
    pixels: Array,
    z: Array,
    near: float,
    topology: Tables,
    level: Array,
    perspective: bool,
    tolerance: float,
) -> tuple[Array, Array]:
    """Crossings and places of pictures start..stop-1, at outlines and folds.

    level (B, H, W) is the height of what each pixel shows, towards the camera: -depth in metres, -inf for nothing.
    """
    faces, edges, _ = topology
    signs, outline = np.empty(len(faces) + 1, np.int8), np.empty((len(edges) + 1, 2), np.int32)
    slots = np.full((2, level.shape[1] * level.shape[2]), -1, np.int32)
    rows = _PER_PICTURE * (stop - start)
    crossings, places, count = np.empty((rows, 6), np.int32), np.empty((rows, 3)), 0
    for b in range(start, stop):
        outer = outline[: _outline(pixels[b], z[b], near, topology, signs, outline)]
        found = crossings, places, count
        crossings, places, count = _find(
            b, pixels[b], z[b], edges, outer, level[b], False, perspective, tolerance, slots, found
        )
    return crossings[:count].copy(), places[:count].copy()


@njit(**_OPTIONS)
def blend_image_kernel(crossings: Array, places: Array, image: Array, blended: Array) -> None:
    """Adds to blended (B, C, H * W), a copy of the image."""
    for n in range(len(crossings)):
        picture, p, q, s = crossings[n, 0], crossings[n, 3], crossings[n, 4], places[n, 0]
        for c in range(image.shape[1]):
            blended[picture, c, p if s < 0.5 else q] += (s - 0.5) * (image[picture, c, p] - image[picture, c, q])


@njit(**_INNER)
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
