"""Triton z-buffer: which face each pixel shows, without nvdiffrast. Imported inside calls only.

A program scan-converts one triangle of one picture and writes where it covers pixels by an atomic maximum over 64-bit
keys: nearness in the upper half, the complement of the face index in the lower one. So the result is the same in any
order of the programs: the nearest surface wins, at equal depth the lower index. The arithmetic is that of the numba
kernels, float64 and without fused multiply-add, so that triangles that share an edge agree on every pixel.
"""
# ruff: noqa: ANN001, ANN201, ANN202  Triton gives the annotations of a kernel its own meaning

import torch
import triton
import triton.language as tl
from torch import Tensor

from ops.render.topology import Topology

_EMPTY = torch.iinfo(torch.int64).min
_LOW = 0x7FFFFFFF  # the lower half of a key is _LOW - face
_ROWS, _COLUMNS = 4, 8  # pixels that one warp looks at together: hand triangles are about so large


def rasterize_ids(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, perspective: bool
) -> Tensor:
    """The face (B, H, W) int32 that each pixel shows, -1 none: see the package's docstring. No gradient."""
    return _faces_of(_keys(pixels, z, topology, size, near, perspective))


def cover(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Hard mask (B, H, W) uint8: 1 where any face covers the pixel's centre."""
    mask = torch.zeros(len(z), *size, dtype=torch.uint8, device=z.device)
    _launch(pixels, z, topology, mask, near, perspective=False, mask_only=True)
    return mask


def show_labels(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, part_of_face: Tensor
) -> tuple[Tensor, Tensor]:
    """Depth (B, H, W) float32, metres, and part labels (B, H, W) uint8 of a pinhole picture, both 0 where nothing is.

    Args:
        pixels: (B, V, 2) projected vertices, pixels.
        z: (B, V) metres.
        topology: of the faces (F, 3).
        size: (H, W).
        near: metres; a face with a nearer vertex is left out.
        part_of_face: (F,) uint8.
    """
    keys = _keys(pixels, z, topology, size, near, perspective=True)
    depth = torch.empty(keys.shape, dtype=torch.float32, device=keys.device)
    parts = torch.empty(keys.shape, dtype=torch.uint8, device=keys.device)
    count, block = keys.numel(), 1024
    if count:
        with torch.cuda.device_of(keys):
            _label_kernel[(triton.cdiv(count, block),)](
                keys,
                part_of_face.contiguous(),
                depth,
                parts,
                count,
                EMPTY=_EMPTY,
                LOW=_LOW,
                BLOCK=block,
                enable_fp_fusion=False,
            )
    return depth, parts


def _keys(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, perspective: bool
) -> Tensor:
    keys = torch.full((len(z), *size), _EMPTY, dtype=torch.int64, device=z.device)
    _launch(pixels, z, topology, keys, near, perspective, mask_only=False)
    return keys


def _faces_of(keys: Tensor) -> Tensor:
    return torch.where(keys == _EMPTY, -1, _LOW - (keys & 0xFFFFFFFF)).int()


def _launch(
    pixels: Tensor, z: Tensor, topology: Topology, out: Tensor, near: float, perspective: bool, mask_only: bool
) -> None:
    batch, vertices = z.shape
    faces = len(topology.faces)
    if batch * faces == 0 or out.numel() == 0:
        return
    with torch.cuda.device_of(z):
        _raster_kernel[(batch * faces,)](
            pixels.detach().contiguous(),
            z.detach().contiguous(),
            topology.faces,
            out,
            vertices,
            faces,
            out.shape[1],
            out.shape[2],
            near,
            PERSPECTIVE=perspective,
            MASK_ONLY=mask_only,
            LOW=_LOW,
            ROWS=_ROWS,
            COLUMNS=_COLUMNS,
            num_warps=1,
            enable_fp_fusion=False,
        )


@triton.jit
def first_pixel(coordinate, limit):
    """The first integer >= coordinate, clamped to 0..limit before the cast, which is undefined for huge numbers."""
    return tl.minimum(tl.maximum(tl.ceil(coordinate), 0.0), limit).to(tl.int32)


@triton.jit
def load_vertex(pixels, z, vertex):
    """x, y, z of a vertex, float64."""
    x, y = tl.load(pixels + 2 * vertex), tl.load(pixels + 2 * vertex + 1)
    return x.to(tl.float64), y.to(tl.float64), tl.load(z + vertex).to(tl.float64)


@triton.jit
def _swap_if(swap, xa, ya, xb, yb):
    return tl.where(swap, xb, xa), tl.where(swap, yb, ya), tl.where(swap, xa, xb), tl.where(swap, ya, yb)


@triton.jit
def _crossing(x0, y0, x1, y1, y):
    # always from the upper end 0 to the lower end 1; a level edge gives no finite number and is not used
    return x0 + (y - y0) * ((x1 - x0) / (y1 - y0))


@triton.jit
def _key(nearness, face, LOW: tl.constexpr):
    # the bits of a float order like integers once those of negative numbers are reversed
    bits = nearness.to(tl.float32).to(tl.int32, bitcast=True)
    bits = tl.where(bits < 0, bits ^ LOW, bits)
    return (bits.to(tl.int64) << 32) | (LOW - face).to(tl.int64)


@triton.jit(do_not_specialize=["vertex_count", "face_count", "height", "width"])
def _raster_kernel(
    pixels,
    z,
    faces,
    out,
    vertex_count,
    face_count,
    height,
    width,
    near,
    PERSPECTIVE: tl.constexpr,
    MASK_ONLY: tl.constexpr,
    LOW: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0)
    picture = (program // face_count).to(tl.int64)
    face = program % face_count
    first_vertex = picture * vertex_count
    xa, ya, za = load_vertex(pixels, z, first_vertex + tl.load(faces + 3 * face))
    xb, yb, zb = load_vertex(pixels, z, first_vertex + tl.load(faces + 3 * face + 1))
    xc, yc, zc = load_vertex(pixels, z, first_vertex + tl.load(faces + 3 * face + 2))
    if tl.minimum(za, tl.minimum(zb, zc)) >= near:
        # nearness is affine on the screen
        if PERSPECTIVE:
            na, nb, nc = 1.0 / za, 1.0 / zb, 1.0 / zc
        else:
            na, nb, nc = -za, -zb, -zc
        dxb, dyb, dnb = xb - xa, yb - ya, nb - na
        dxc, dyc, dnc = xc - xa, yc - ya, nc - na
        inverse = 1.0 / (dxb * dyc - dxc * dyb)
        along_x, along_y = (dnb * dyc - dnc * dyb) * inverse, (dnc * dxb - dnb * dxc) * inverse
        origin = na - along_x * xa - along_y * ya
        least = tl.minimum(na, tl.minimum(nb, nc))
        most = tl.maximum(na, tl.maximum(nb, nc))

        x0, y0, x1, y1 = _swap_if(yb < ya, xa, ya, xb, yb)
        x1, y1, x2, y2 = _swap_if(yc < y1, x1, y1, xc, yc)
        x0, y0, x1, y1 = _swap_if(y1 < y0, x0, y0, x1, y1)
        top, bottom = first_pixel(y0, height), first_pixel(y2, height)
        # a pixel wider than the corners: a crossing may be rounded outwards
        left = first_pixel(tl.minimum(x0, tl.minimum(x1, x2)) - 1.0, width)
        right = first_pixel(tl.maximum(x0, tl.maximum(x1, x2)) + 1.0, width)
        for row in range(top, bottom, ROWS):
            y = row + tl.arange(0, ROWS)
            y_real = y.to(tl.float64)
            long = _crossing(x0, y0, x2, y2, y_real)
            upper, lower = _crossing(x0, y0, x1, y1, y_real), _crossing(x1, y1, x2, y2, y_real)
            other = tl.where(y_real < y1, upper, lower)
            first, stop = first_pixel(tl.minimum(long, other), width), first_pixel(tl.maximum(long, other), width)
            for column in range(left, right, COLUMNS):
                x = (column + tl.arange(0, COLUMNS))[None, :]
                inside = (y < bottom)[:, None] & (x >= first[:, None]) & (x < stop[:, None])
                place = out + (picture * height + y[:, None]) * width + x
                if MASK_ONLY:
                    tl.store(place, tl.full([ROWS, COLUMNS], 1, tl.uint8), mask=inside)
                else:
                    nearness = (origin + along_y * y_real)[:, None] + along_x * x.to(tl.float64)
                    nearness = tl.minimum(tl.maximum(nearness, least), most)
                    tl.atomic_max(place, _key(nearness, face, LOW), mask=inside, sem="relaxed")


@triton.jit
def _label_kernel(keys, part_of_face, depth, parts, count, EMPTY: tl.constexpr, LOW: tl.constexpr, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + place, mask=place < count, other=EMPTY)
    shown = key != EMPTY
    face = LOW - (key & 0xFFFFFFFF)
    nearness = (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    part = tl.load(part_of_face + face, mask=shown, other=0)
    tl.store(depth + place, tl.where(shown, 1.0 / nearness, 0.0), mask=place < count)
    tl.store(parts + place, part, mask=place < count)
