"""Edge-driven antialiasing in Triton, forward and backward: the twin of `reference._blend`. Imported inside calls only.

1. `_edge_kernel`: a lane walks one edge of one picture along rows or columns. If the edge is part of the outline, it
   notes at each pair of pixels that it passes how far out it does so and which edge it is, by an atomic maximum over
   one 64-bit key: the place s as a fixed-point number, the complement of the edge's index, and a bit that says whether
   the crossing counts or only hides others. The outermost wins, the first of equals, in any order of the lanes.
2. `_blend_kernel`: each pixel collects what the pairs with its four neighbours give to it.
3. Backward: towards the image the transpose of 2, by the same kernel; `_edge_gradient_kernel` adds what each
   noted crossing owes to the two ends of its edge, atomically: its last digits depend on the order of the programs.
"""
# ruff: noqa: ANN001, ANN202  Triton gives the annotations of a kernel its own meaning

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ops.render.topology import Topology
from ops.render.triton_raster import first_pixel

_EDGE_BITS = 24
_MOST_EDGES = 1 << _EDGE_BITS
_ONE = float(1 << 37)  # s = 1 in fixed point; with the edge's bits and one more below it, the key stays positive
_LANES, _BLOCK = 32, 256  # edges of a program, pixels of a program


def blend(
    image: Tensor,
    level: Tensor,
    vertex_level: Tensor,
    pixels: Tensor,
    topology: Topology,
    perspective: bool,
    tolerance: float,
) -> Tensor:
    """Adds (s - 1/2) (image[p] - image[q]) to p where s < 1/2, else to q. Gradients towards image and pixels.

    Args:
        image: (B, C, H, W).
        level: (B, H, W) height of the surface towards the camera, metres, -inf where there is none.
        vertex_level: (B, V) the same of the vertices, -inf where culled.
        pixels: (B, V, 2) projected vertices.
        topology: its edges (E, 4) are walked.
        perspective: how levels are interpolated along an edge.
        tolerance: metres between an edge and the surface beside it that counts as its own.
    """
    if len(topology.edges) > _MOST_EDGES:
        raise ValueError(f"faces: expected a mesh of at most {_MOST_EDGES} edges, got {len(topology.edges)}")
    return _Blend.apply(image, pixels, level, vertex_level, topology.edges, perspective, tolerance)


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        pixels: Tensor,
        level: Tensor,
        vertex_level: Tensor,
        edges: Tensor,
        perspective: bool,
        tolerance: float,
    ) -> Tensor:
        image, pixels, level = image.contiguous(), pixels.contiguous(), level.contiguous()
        keys = _crossings(pixels, level, vertex_level.contiguous(), edges, perspective, tolerance)
        ctx.save_for_backward(image, pixels, level, edges, keys)
        return _collect(image, level, keys, transpose=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, pixels, level, edges, keys = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_image = _collect(gradient, level, keys, transpose=True) if ctx.needs_input_grad[0] else None
        to_pixels = _edge_gradient(gradient, image, pixels, level, edges, keys) if ctx.needs_input_grad[1] else None
        return to_image, to_pixels, None, None, None, None, None


def _crossings(
    pixels: Tensor, level: Tensor, vertex_level: Tensor, edges: Tensor, perspective: bool, tolerance: float
) -> Tensor:
    """(B, 2, H, W) int64 keys of the crossings between a pixel and its right (0) or lower (1) neighbour, -1 none."""
    batch, height, width = level.shape
    keys = torch.full((batch, 2, height, width), -1, dtype=torch.int64, device=level.device)
    if batch * len(edges) and keys.numel():
        blocks = triton.cdiv(len(edges), _LANES)
        with torch.cuda.device_of(pixels):
            _edge_kernel[(batch * blocks, 2)](
                pixels,
                vertex_level,
                edges,
                level,
                keys,
                blocks,
                pixels.shape[1],
                len(edges),
                height,
                width,
                tolerance,
                PERSPECTIVE=perspective,
                EDGE_BITS=_EDGE_BITS,
                ONE=_ONE,
                LANES=_LANES,
                num_warps=1,
                enable_fp_fusion=False,
            )
    return keys


def _collect(source: Tensor, level: Tensor, keys: Tensor, transpose: bool) -> Tensor:
    """The blend of `source` (B, C, H, W), or the transpose of that linear map."""
    out = torch.empty_like(source)
    batch, height, width = level.shape
    if source.numel():
        blocks = triton.cdiv(height * width, _BLOCK)
        with torch.cuda.device_of(level):
            _blend_kernel[(batch * blocks,)](
                source,
                level,
                keys,
                out,
                blocks,
                source.shape[1],
                height,
                width,
                TRANSPOSE=transpose,
                EDGE_BITS=_EDGE_BITS,
                ONE=_ONE,
                BLOCK=_BLOCK,
                enable_fp_fusion=False,
            )
    return out


def _edge_gradient(
    gradient: Tensor, image: Tensor, pixels: Tensor, level: Tensor, edges: Tensor, keys: Tensor
) -> Tensor:
    """(B, V, 2) gradient towards the projected vertices."""
    out = torch.zeros_like(pixels)
    batch, height, width = level.shape
    if image.numel() and pixels.numel() and len(edges):
        blocks = triton.cdiv(height * width, _BLOCK)
        with torch.cuda.device_of(pixels):
            _edge_gradient_kernel[(batch * blocks, 2)](
                gradient,
                image,
                pixels,
                edges,
                level,
                keys,
                out,
                blocks,
                pixels.shape[1],
                image.shape[1],
                height,
                width,
                EDGE_BITS=_EDGE_BITS,
                ONE=_ONE,
                BLOCK=_BLOCK,
                enable_fp_fusion=False,
            )
    return out


@triton.jit
def _side(pixels, vertex_level, first_vertex, opposite, xa, ya, dx, dy):
    # doubled area of the face on this side of the edge; 0 where there is none or it is culled
    exists = opposite >= 0
    vertex = first_vertex + tl.where(exists, opposite, 0)
    x, y = tl.load(pixels + 2 * vertex).to(tl.float64), tl.load(pixels + 2 * vertex + 1).to(tl.float64)
    exists = exists & (tl.load(vertex_level + vertex) > float("-inf"))
    return tl.where(exists, dx * (y - ya) - dy * (x - xa), 0.0)


@triton.jit(do_not_specialize=["blocks", "vertex_count", "edge_count", "height", "width"])
def _edge_kernel(
    pixels,
    vertex_level,
    edges,
    level,
    keys,
    blocks,
    vertex_count,
    edge_count,
    height,
    width,
    tolerance,
    PERSPECTIVE: tl.constexpr,
    EDGE_BITS: tl.constexpr,
    ONE: tl.constexpr,
    LANES: tl.constexpr,
):
    program = tl.program_id(0)
    down = tl.program_id(1)  # 0: along rows, between right and left neighbours; 1: along columns
    picture = (program // blocks).to(tl.int64)
    edge = (program % blocks) * LANES + tl.arange(0, LANES)
    exists = edge < edge_count
    row = edges + 4 * tl.where(exists, edge, 0)
    first_vertex = picture * vertex_count
    a, b = first_vertex + tl.load(row), first_vertex + tl.load(row + 1)
    xa, ya = tl.load(pixels + 2 * a).to(tl.float64), tl.load(pixels + 2 * a + 1).to(tl.float64)
    xb, yb = tl.load(pixels + 2 * b).to(tl.float64), tl.load(pixels + 2 * b + 1).to(tl.float64)
    level_a, level_b = tl.load(vertex_level + a).to(tl.float64), tl.load(vertex_level + b).to(tl.float64)
    dx, dy = xb - xa, yb - ya
    side_c = _side(pixels, vertex_level, first_vertex, tl.load(row + 2), xa, ya, dx, dy)
    side_d = _side(pixels, vertex_level, first_vertex, tl.load(row + 3), xa, ya, dx, dy)
    # all faces on one side; a face seen edge-on has side 0 and decides nothing
    side = side_c + side_d
    live = tl.minimum(level_a, level_b) > float("-inf")
    outline = exists & live & (side_c * side_d >= 0.0) & (side != 0.0)

    # v grows along the line; the lines are rows, where v is x, or columns, where v is y
    larger = tl.where(down == 0, -side * dy, side * dx) > 0.0  # the surface lies at larger v
    counts = (tl.abs(dy) >= tl.abs(dx)) == (down == 0)  # steep edges count on rows, the others on columns
    va, la = tl.where(down == 0, xa, ya), tl.where(down == 0, ya, xa)
    vb, lb = tl.where(down == 0, xb, yb), tl.where(down == 0, yb, xb)
    swap = la > lb
    v0, l0, level_0 = tl.where(swap, vb, va), tl.where(swap, lb, la), tl.where(swap, level_b, level_a)
    v1, l1, level_1 = tl.where(swap, va, vb), tl.where(swap, la, lb), tl.where(swap, level_a, level_b)
    lines, places = tl.where(down == 0, height, width), tl.where(down == 0, width, height)
    line_stride, place_stride = tl.where(down == 0, width, 1), tl.where(down == 0, 1, width)
    first = first_pixel(l0, lines)
    count = tl.where(outline, first_pixel(l1, lines) - first, 0)
    slope = (v1 - v0) / (l1 - l0)  # infinite for an edge along the lines, which crosses none
    surface = level + picture * height * width
    noted = keys + (2 * picture + down) * height * width
    name = 2 * ((1 << EDGE_BITS) - 1 - edge) + counts.to(tl.int32)
    for step in range(tl.max(count, axis=0)):
        line = first + step
        from_end = line.to(tl.float64) - l0
        v = v0 + from_end * slope
        t = from_end / (l1 - l0)
        if PERSPECTIVE:
            edge_level = 1.0 / ((1.0 - t) / level_0 + t / level_1)
        else:
            edge_level = (1.0 - t) * level_0 + t * level_1
        above = tl.ceil(v)
        kept = (step < count) & (above >= 1.0) & (above < places)  # both pixels lie in the picture
        high = tl.where(kept, above, 1.0).to(tl.int32)
        high_place = line * line_stride + high * place_stride
        low_place = high_place - place_stride
        at_high = tl.load(surface + high_place, mask=kept, other=float("-inf")).to(tl.float64)
        at_low = tl.load(surface + low_place, mask=kept, other=float("-inf")).to(tl.float64)
        at_p, at_q = tl.where(larger, at_high, at_low), tl.where(larger, at_low, at_high)
        s = tl.where(larger, above - v, v - (above - 1.0))
        shown = (at_p > float("-inf")) & (tl.abs(at_p - edge_level) <= tolerance)
        kept = kept & shown & (edge_level > at_q) & (at_p > at_q)
        place = tl.where(kept, s * ONE, 0.0).to(tl.int64)
        key = (place << (EDGE_BITS + 1)) | name.to(tl.int64)
        tl.atomic_max(noted + low_place, key, mask=kept, sem="relaxed")


@triton.jit
def _weight(keys, level, here, there, pair, valid, EDGE_BITS: tl.constexpr, ONE: tl.constexpr):
    # what the pair of pixels `here` and `there` moves: the blend adds weight (I[here] - I[there]) to one of the two,
    # and whether that is `here`
    key = tl.load(keys + pair, mask=valid, other=-1)
    noted = (key >= 0) & ((key & 1) == 1)
    share = tl.where(noted, (key >> (EDGE_BITS + 1)).to(tl.float64) / ONE - 0.5, 0.0)
    # p, the pixel that shows the edge's own surface, is the nearer one
    here_is_p = tl.load(level + here, mask=noted, other=0.0) > tl.load(level + there, mask=noted, other=0.0)
    return tl.where(here_is_p, share, -share).to(tl.float32), (share < 0.0) == here_is_p


@triton.jit
def _weights(keys, level, place, height, width, inside, EDGE_BITS: tl.constexpr, ONE: tl.constexpr):
    # of a pixel with its right, left, lower and upper neighbour
    column, row = place % width, place // width
    down = keys + height * width
    right, to_right = _weight(keys, level, place, place + 1, place, inside & (column < width - 1), EDGE_BITS, ONE)
    left, to_left = _weight(keys, level, place, place - 1, place - 1, inside & (column > 0), EDGE_BITS, ONE)
    lower, to_lower = _weight(down, level, place, place + width, place, inside & (row < height - 1), EDGE_BITS, ONE)
    upper, to_upper = _weight(down, level, place, place - width, place - width, inside & (row > 0), EDGE_BITS, ONE)
    return right, to_right, left, to_left, lower, to_lower, upper, to_upper


@triton.jit
def _change(picture, here, there, weight, to_here, TRANSPOSE: tl.constexpr):
    # what the pair with `there` adds to the pixel `here`: of the blend, or of its gradient towards the image
    if TRANSPOSE:
        mask = (weight != 0.0) & ~to_here
        return weight * tl.where(to_here, here, tl.load(picture + there, mask=mask, other=0.0))
    mask = (weight != 0.0) & to_here
    return tl.where(mask, weight * (here - tl.load(picture + there, mask=mask, other=0.0)), 0.0)


@triton.jit(do_not_specialize=["blocks", "channels", "height", "width"])
def _blend_kernel(
    source,
    level,
    keys,
    out,
    blocks,
    channels,
    height,
    width,
    TRANSPOSE: tl.constexpr,
    EDGE_BITS: tl.constexpr,
    ONE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    batch = (program // blocks).to(tl.int64)
    place = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = place < height * width
    across, heights = keys + 2 * batch * height * width, level + batch * height * width
    right, to_right, left, to_left, lower, to_lower, upper, to_upper = _weights(
        across, heights, place, height, width, inside, EDGE_BITS, ONE
    )
    for channel in range(channels):
        start = (batch * channels + channel) * height * width
        picture = source + start
        here = tl.load(picture + place, mask=inside, other=0.0)
        total = here + _change(picture, here, place + 1, right, to_right, TRANSPOSE)
        total += _change(picture, here, place - 1, left, to_left, TRANSPOSE)
        total += _change(picture, here, place + width, lower, to_lower, TRANSPOSE)
        total += _change(picture, here, place - width, upper, to_upper, TRANSPOSE)
        tl.store(out + start + place, total, mask=inside)


@triton.jit(do_not_specialize=["blocks", "vertex_count", "channels", "height", "width"])
def _edge_gradient_kernel(
    gradient,
    image,
    pixels,
    edges,
    level,
    keys,
    out,
    blocks,
    vertex_count,
    channels,
    height,
    width,
    EDGE_BITS: tl.constexpr,
    ONE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    down = tl.program_id(1)  # 0: pairs with the right neighbour, crossed by steep edges; 1: with the lower one
    batch = (program // blocks).to(tl.int64)
    low = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = low < height * width
    key = tl.load(keys + (2 * batch + down) * height * width + low, mask=inside, other=-1)
    noted = (key >= 0) & ((key & 1) == 1)
    high = low + tl.where(down == 0, 1, width)
    surface = level + batch * height * width
    low_is_p = tl.load(surface + low, mask=noted, other=0.0) > tl.load(surface + high, mask=noted, other=0.0)
    s_is_small = (key >> (EDGE_BITS + 1)).to(tl.float64) / ONE < 0.5
    p, q = tl.where(low_is_p, low, high), tl.where(low_is_p, high, low)
    receiver = tl.where(s_is_small, p, q)
    slope = tl.zeros([BLOCK], dtype=tl.float32)  # of the loss along s
    for channel in range(channels):
        start = (batch * channels + channel) * height * width
        difference = tl.load(image + start + p, mask=noted, other=0.0) - tl.load(
            image + start + q, mask=noted, other=0.0
        )
        slope += (difference * tl.load(gradient + start + receiver, mask=noted, other=0.0)).to(tl.float32)
    # s grows with the crossing v where p lies below it, and falls where p lies above
    slope = tl.where(low_is_p, slope, -slope)

    edge = ((1 << EDGE_BITS) - 1 - ((key >> 1) & ((1 << EDGE_BITS) - 1))).to(tl.int32)
    edge = tl.where(noted, edge, 0)
    a = batch * vertex_count + tl.load(edges + 4 * edge, mask=noted, other=0)
    b = batch * vertex_count + tl.load(edges + 4 * edge + 1, mask=noted, other=0)
    # a coordinate along v, and one across the lines: x and y for steep edges, y and x for the others
    va = tl.load(pixels + 2 * a + down, mask=noted, other=0.0).to(tl.float64)
    la = tl.load(pixels + 2 * a + 1 - down, mask=noted, other=0.0).to(tl.float64)
    vb = tl.load(pixels + 2 * b + down, mask=noted, other=0.0).to(tl.float64)
    lb = tl.load(pixels + 2 * b + 1 - down, mask=noted, other=1.0).to(tl.float64)
    line = tl.where(down == 0, low // width, low % width).to(tl.float64)
    rise = (vb - va) / (lb - la)
    t = (line - la) / (lb - la)
    to_a, to_b = slope * (1.0 - t), slope * t
    tl.atomic_add(out + 2 * a + down, to_a.to(out.dtype.element_ty), mask=noted, sem="relaxed")
    tl.atomic_add(out + 2 * b + down, to_b.to(out.dtype.element_ty), mask=noted, sem="relaxed")
    tl.atomic_add(out + 2 * a + 1 - down, (-rise * to_a).to(out.dtype.element_ty), mask=noted, sem="relaxed")
    tl.atomic_add(out + 2 * b + 1 - down, (-rise * to_b).to(out.dtype.element_ty), mask=noted, sem="relaxed")
