"""Numba kernels that scan-convert triangles (CPU). Each works on pictures start..stop-1 and releases the GIL.

Coverage is computed in float64 on every backend, an edge always from its upper to its lower end: two triangles that
share an edge then agree on every pixel. Depth is compared as nearness, which is affine on the screen: 1 / z under
perspective, -z otherwise. Shared helpers stay in this file: numba's cache only watches the file of the kernel itself.
"""

import numpy as np
from numba import njit
from numpy import ndarray as Array

CULLED = -np.inf  # the nearness of a culled vertex, and of an empty pixel
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}
_INNER = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # of what only kernels call
Edge = tuple[float, float, float]
Plane = tuple[float, float, float]
Box = tuple[int, int, int, int]  # top, bottom, left, right: rows top..bottom-1, columns left..right-1


@njit(**_INNER)
def _first_pixel(coordinate: float, limit: int) -> int:
    # the first integer >= coordinate, clamped to 0..limit before the cast, which is undefined for huge numbers
    return int(min(max(np.ceil(coordinate), 0.0), float(limit)))


@njit(**_INNER)
def _edge(x0: float, y0: float, x1: float, y1: float) -> Edge:
    # upper end and slope of an edge from its upper end 0 to its lower end 1; not used where the edge is level
    return x0, y0, (x1 - x0) / (y1 - y0)


@njit(**_INNER)
def _crossing(edge: Edge, y: float) -> float:
    # x where row y crosses the edge; from its end, for an edge may be nearly level and its slope huge
    return edge[0] + (y - edge[1]) * edge[2]


@njit(**_INNER)
def _outline(screen: Array, a: int, b: int, c: int) -> tuple[tuple[float, float, float], Edge, Edge, Edge]:
    # rows top, middle, bottom of a triangle and its three edges: long, upper, lower
    if screen[b, 1] < screen[a, 1]:
        a, b = b, a
    if screen[c, 1] < screen[b, 1]:
        b, c = c, b
    if screen[b, 1] < screen[a, 1]:
        a, b = b, a
    xa, ya, xb, yb, xc, yc = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
    return (ya, yb, yc), _edge(xa, ya, xc, yc), _edge(xa, ya, xb, yb), _edge(xb, yb, xc, yc)


@njit(**_INNER)
def _span(y: float, middle: float, long: Edge, upper: Edge, lower: Edge, width: int) -> tuple[int, int]:
    # the pixels first..stop-1 of row y
    x = _crossing(long, y)
    other = _crossing(upper, y) if y < middle else _crossing(lower, y)
    return _first_pixel(min(x, other), width), _first_pixel(max(x, other), width)


@njit(**_INNER)
def _plane(screen: Array, a: int, b: int, c: int) -> tuple[Plane, float, float]:
    # nearness = first + second x + third y on the triangle, and its range, to which slivers must be clamped
    xa, ya, na = screen[a, 0], screen[a, 1], screen[a, 2]
    xb, yb, nb = screen[b, 0] - xa, screen[b, 1] - ya, screen[b, 2] - na
    xc, yc, nc = screen[c, 0] - xa, screen[c, 1] - ya, screen[c, 2] - na
    inverse = 1.0 / (xb * yc - xc * yb)
    along_x, along_y = (nb * yc - nc * yb) * inverse, (nc * xb - nb * xc) * inverse
    return (na - along_x * xa - along_y * ya, along_x, along_y), na + min(nb, nc, 0.0), na + max(nb, nc, 0.0)


@njit(**_INNER)
def _culled(screen: Array, a: int, b: int, c: int) -> bool:
    return screen[a, 2] == CULLED or screen[b, 2] == CULLED or screen[c, 2] == CULLED


@njit(**_INNER)
def _from_behind(screen: Array, a: int, b: int, c: int) -> bool:
    # corners counter-clockwise from outside run clockwise in x, y with y down when seen from behind
    across = (screen[b, 0] - screen[a, 0]) * (screen[c, 1] - screen[a, 1])
    return across >= (screen[c, 0] - screen[a, 0]) * (screen[b, 1] - screen[a, 1])


@njit(**_INNER)
def _scan(screen: Array, faces: Array, closed: bool, nearest: Array, ids: Array) -> None:
    # z-buffer of one picture: screen (V, 3) x, y, nearness; updates nearest (H, W) float32 and ids (H, W) int32 where
    # a face lies nearer than nearest; of a closed mesh faces seen from behind are left out
    height, width = ids.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if _culled(screen, a, b, c) or (closed and _from_behind(screen, a, b, c)):
            continue
        rows, long, upper, lower = _outline(screen, a, b, c)
        top, bottom = _first_pixel(rows[0], height), _first_pixel(rows[2], height)
        if top >= bottom:
            continue
        plane, least, most = _plane(screen, a, b, c)
        for y in range(top, bottom):
            first, stop = _span(float(y), rows[1], long, upper, lower, width)
            base = plane[0] + plane[2] * y
            for x in range(first, stop):
                value = base + plane[1] * x
                value = value if value > least else least  # also for a NaN: a triangle without area
                value = np.float32(value if value < most else most)
                if value > nearest[y, x]:
                    nearest[y, x] = value
                    ids[y, x] = f


@njit(**_INNER)
def _load_screen(pixels: Array, z: Array, near: float, perspective: bool, screen: Array) -> None:
    # (V, 2) pixels and (V,) z -> (V, 3) x, y, nearness
    for v in range(len(z)):
        screen[v, 0], screen[v, 1] = pixels[v, 0], pixels[v, 1]
        if z[v] < near:
            screen[v, 2] = CULLED
        else:
            screen[v, 2] = 1.0 / z[v] if perspective else -float(z[v])


@njit(**_INNER)
def _project(vertices: Array, K: Array, near: float, screen: Array) -> None:
    # (V, 3) metres -> (V, 3) x, y in pixels, nearness 1 / z
    for v in range(len(vertices)):
        x, y, z = float(vertices[v, 0]), float(vertices[v, 1]), float(vertices[v, 2])
        if z >= near:
            nearness = 1.0 / z
            screen[v, 0] = (K[0, 0] * x + K[0, 1] * y + K[0, 2] * z) * nearness
            screen[v, 1] = (K[1, 0] * x + K[1, 1] * y + K[1, 2] * z) * nearness
            screen[v, 2] = nearness
        else:
            screen[v, 2] = CULLED


@njit(**_OPTIONS)
def id_kernel(
    start: int, stop: int, pixels: Array, z: Array, faces: Array, near: float, perspective: bool, ids: Array
) -> None:
    """Writes ids (B, H, W) int32: the face seen, -1 none."""
    screen, nearest = np.empty((z.shape[1], 3)), np.empty(ids.shape[1:], np.float32)
    for b in range(start, stop):
        _load_screen(pixels[b], z[b], near, perspective, screen)
        nearest[:] = CULLED
        ids[b] = -1
        _scan(screen, faces, False, nearest, ids[b])


@njit(**_OPTIONS)
def label_kernel(
    start: int,
    stop: int,
    vertices: Array,
    faces: Array,
    K: Array,
    face_parts: Array,
    near: float,
    closed: bool,
    depth: Array,
    parts: Array,
) -> None:
    """Writes depth (B, H, W) float32 metres and parts (B, H, W) uint8 of pinhole pictures."""
    screen, ids = np.empty((vertices.shape[1], 3)), np.empty(depth.shape[1:], np.int32)
    for b in range(start, stop):
        _project(vertices[b], K[b], near, screen)
        _label(screen, faces, closed, face_parts, ids, depth[b], parts[b])


@njit(**_OPTIONS)
def colour_kernel(
    start: int,
    stop: int,
    vertices: Array,
    faces: Array,
    K: Array,
    face_parts: Array,
    near: float,
    closed: bool,
    depth: Array,
    parts: Array,
    colours: Array,
    uv: Array,
    uv_faces: Array,
    textures: Array,
    rgb: Array,
) -> None:
    """As `label_kernel`; and paints rgb (B, 3, H, W) uint8 over what is in it.

    colours (B, V, 3) float32 in [0, 1] are interpolated; where textures (T, h, w, 3) uint8 has pictures, picture b is
    multiplied by texture b % T, looked up at uv (N, 2) of uv_faces (F, 3).
    """
    screen, ids = np.empty((vertices.shape[1], 3)), np.empty(depth.shape[1:], np.int32)
    for b in range(start, stop):
        _project(vertices[b], K[b], near, screen)
        box = _label(screen, faces, closed, face_parts, ids, depth[b], parts[b])
        light = colours[b]
        for y in range(box[0], box[1]):
            for x in range(box[2], box[3]):
                if depth[b, y, x] == 0:
                    continue
                face = ids[y, x]
                i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
                wi, wj, wk = _barycentrics(screen, i, j, k, x, y)
                red, green, blue = 255.0, 255.0, 255.0
                if len(textures):
                    ti, tj, tk = uv_faces[face, 0], uv_faces[face, 1], uv_faces[face, 2]
                    u = wi * uv[ti, 0] + wj * uv[tj, 0] + wk * uv[tk, 0]
                    v = wi * uv[ti, 1] + wj * uv[tj, 1] + wk * uv[tk, 1]
                    red, green, blue = _texel(textures[b % len(textures)], u, v)
                rgb[b, 0, y, x] = _byte(red * (wi * light[i, 0] + wj * light[j, 0] + wk * light[k, 0]))
                rgb[b, 1, y, x] = _byte(green * (wi * light[i, 1] + wj * light[j, 1] + wk * light[k, 1]))
                rgb[b, 2, y, x] = _byte(blue * (wi * light[i, 2] + wj * light[j, 2] + wk * light[k, 2]))


@njit(**_INNER)
def _label(screen: Array, faces: Array, closed: bool, face_parts: Array, ids: Array, depth: Array, parts: Array) -> Box:
    # one picture; ids is left as it was where nothing is. The box holds all that is
    depth[:] = 0  # nearness 1 / z of nothing, then metres
    parts[:] = 0
    _scan(screen, faces, closed, depth, ids)
    box = _box(screen, ids.shape[0], ids.shape[1])
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            if depth[y, x] > 0:
                depth[y, x] = 1 / depth[y, x]
                parts[y, x] = face_parts[ids[y, x]]
    return box


@njit(**_INNER)
def _box(screen: Array, height: int, width: int) -> Box:
    # the part of the picture in which vertices lie, a pixel more for what rounding may do
    low_x, low_y, high_x, high_y = np.inf, np.inf, -np.inf, -np.inf
    for v in range(len(screen)):
        if screen[v, 2] != CULLED:
            low_x, high_x = min(low_x, screen[v, 0]), max(high_x, screen[v, 0])
            low_y, high_y = min(low_y, screen[v, 1]), max(high_y, screen[v, 1])
    top, left = _first_pixel(low_y - 1.0, height), _first_pixel(low_x - 1.0, width)
    return top, _first_pixel(high_y + 1.0, height), left, _first_pixel(high_x + 1.0, width)


@njit(**_INNER)
def _barycentrics(screen: Array, a: int, b: int, c: int, x: int, y: int) -> tuple[float, float, float]:
    # perspective-correct barycentrics at a pixel: areas times nearness, clamped to the triangle for slivers' sake
    xa, ya, xb, yb = screen[a, 0] - x, screen[a, 1] - y, screen[b, 0] - x, screen[b, 1] - y
    xc, yc = screen[c, 0] - x, screen[c, 1] - y
    wa, wb, wc = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
    sign = 1.0 if wa + wb + wc > 0 else -1.0
    wa, wb, wc = max(sign * wa, 0.0), max(sign * wb, 0.0), max(sign * wc, 0.0)
    wa, wb, wc = wa * screen[a, 2], wb * screen[b, 2], wc * screen[c, 2]
    total = wa + wb + wc
    if total == 0.0:
        return 1.0, 0.0, 0.0
    share = 1.0 / total
    return wa * share, wb * share, wc * share


@njit(**_INNER)
def _texel(texture: Array, u: float, v: float) -> tuple[float, float, float]:
    # bilinear, v upwards, u = 0 and 1 are the texture's outer borders
    height, width = texture.shape[:2]
    x = min(max(u * width - 0.5, 0.0), width - 1.0)
    y = min(max((1.0 - v) * height - 0.5, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = x - left, y - top
    w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    red = w00 * texture[top, left, 0] + w01 * texture[top, right, 0]
    red += w10 * texture[bottom, left, 0] + w11 * texture[bottom, right, 0]
    green = w00 * texture[top, left, 1] + w01 * texture[top, right, 1]
    green += w10 * texture[bottom, left, 1] + w11 * texture[bottom, right, 1]
    blue = w00 * texture[top, left, 2] + w01 * texture[top, right, 2]
    blue += w10 * texture[bottom, left, 2] + w11 * texture[bottom, right, 2]
    return red, green, blue


@njit(**_INNER)
def _byte(value: float) -> int:
    return np.uint8(min(max(value, 0.0), 255.0) + 0.5)
