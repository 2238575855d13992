"""Barycentrics and depth of the faces seen, in Triton, forward and backward: the twin of `reference.interpolate`.

One lane per pixel, float64 inside. The backward adds to the corners atomically: its last digits depend on the order of
the programs. Imported inside calls only.
"""
# ruff: noqa: ANN001, ANN202  Triton gives the annotations of a kernel its own meaning

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ops.render.topology import SLIVER, Topology
from ops.render.triton_raster import load_vertex

_BLOCK = 128


def interpolate(pixels: Tensor, z: Tensor, topology: Topology, ids: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics (B, H, W, 3) and depth (B, H, W), metres; 0 where ids is -1. Gradients towards pixels and z."""
    return _Interpolate.apply(pixels, z, topology.faces, ids, perspective)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pixels: Tensor, z: Tensor, faces: Tensor, ids: Tensor, perspective: bool
    ) -> tuple[Tensor, Tensor]:
        pixels, z, ids = pixels.contiguous(), z.contiguous(), ids.contiguous()
        barycentrics = pixels.new_zeros(*ids.shape, 3)
        depth = z.new_zeros(ids.shape)
        _launch(_interpolate_kernel, pixels, z, faces, ids, perspective, barycentrics, depth)
        ctx.save_for_backward(pixels, z, faces, ids)
        ctx.perspective = perspective
        return barycentrics, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_barycentrics: Tensor, to_depth: Tensor) -> tuple[Tensor | None, ...]:
        pixels, z, faces, ids = ctx.saved_tensors
        to_pixels, to_z = torch.zeros_like(pixels), torch.zeros_like(z)
        given = to_barycentrics.contiguous(), to_depth.contiguous()
        _launch(_interpolate_gradient_kernel, pixels, z, faces, ids, ctx.perspective, *given, to_pixels, to_z)
        return to_pixels, to_z, None, None, None


def _launch(
    kernel: Any, pixels: Tensor, z: Tensor, faces: Tensor, ids: Tensor, perspective: bool, *others: Tensor
) -> None:
    batch, height, width = ids.shape
    if ids.numel() == 0 or len(faces) == 0:
        return
    blocks = triton.cdiv(height * width, _BLOCK)
    with torch.cuda.device_of(ids):
        kernel[(batch * blocks,)](
            pixels,
            z,
            faces,
            ids,
            *others,
            blocks,
            z.shape[1],
            height,
            width,
            PERSPECTIVE=perspective,
            SLIVER=SLIVER,
            BLOCK=_BLOCK,
            enable_fp_fusion=False,
        )


@triton.jit
def _corners(pixels, z, faces, ids, blocks, vertex_count, height, width, BLOCK: tl.constexpr):
    # place in the batch, whether a face is seen, its corners' rows, and the corners relative to the pixel
    program = tl.program_id(0)
    batch = (program // blocks).to(tl.int64)
    place = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = place < height * width
    pixel = batch * height * width + place
    face = tl.load(ids + pixel, mask=inside, other=-1)
    seen = face >= 0
    face = tl.where(seen, face, 0)
    x, y = (place % width).to(tl.float64), (place // width).to(tl.float64)
    a = batch * vertex_count + tl.load(faces + 3 * face)
    b = batch * vertex_count + tl.load(faces + 3 * face + 1)
    c = batch * vertex_count + tl.load(faces + 3 * face + 2)
    xa, ya, za = load_vertex(pixels, z, a)
    xb, yb, zb = load_vertex(pixels, z, b)
    xc, yc, zc = load_vertex(pixels, z, c)
    return pixel, seen, a, b, c, xa - x, ya - y, za, xb - x, yb - y, zb, xc - x, yc - y, zc


@triton.jit
def _areas(xa, ya, xb, yb, xc, yc, SLIVER: tl.constexpr):
    # shares of the three corners on the screen, their sum as an area, and whether it is too small to divide by
    area_a, area_b, area_c = xb * yc - yb * xc, xc * ya - yc * xa, xa * yb - ya * xb
    total = area_a + area_b + area_c
    sliver = tl.abs(total) < SLIVER
    total = tl.where(sliver, 1.0, total)
    third = 1.0 / 3.0
    wa = tl.where(sliver, third, area_a / total)
    wb = tl.where(sliver, third, area_b / total)
    wc = tl.where(sliver, third, area_c / total)
    return wa, wb, wc, total, sliver


@triton.jit(do_not_specialize=["blocks", "vertex_count", "height", "width"])
def _interpolate_kernel(
    pixels,
    z,
    faces,
    ids,
    barycentrics,
    depth,
    blocks,
    vertex_count,
    height,
    width,
    PERSPECTIVE: tl.constexpr,
    SLIVER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pixel, seen, _a, _b, _c, xa, ya, za, xb, yb, zb, xc, yc, zc = _corners(
        pixels, z, faces, ids, blocks, vertex_count, height, width, BLOCK
    )
    wa, wb, wc, _total, _sliver = _areas(xa, ya, xb, yb, xc, yc, SLIVER)
    if PERSPECTIVE:
        wa, wb, wc = wa / za, wb / zb, wc / zc
        distance = 1.0 / (wa + wb + wc)
        wa, wb, wc = wa * distance, wb * distance, wc * distance
    else:
        distance = wa * za + wb * zb + wc * zc
    kind = barycentrics.dtype.element_ty
    tl.store(barycentrics + 3 * pixel, wa.to(kind), mask=seen)
    tl.store(barycentrics + 3 * pixel + 1, wb.to(kind), mask=seen)
    tl.store(barycentrics + 3 * pixel + 2, wc.to(kind), mask=seen)
    tl.store(depth + pixel, distance.to(depth.dtype.element_ty), mask=seen)


@triton.jit
def _add(out, place, value, mask):
    tl.atomic_add(out + place, value.to(out.dtype.element_ty), mask=mask, sem="relaxed")


@triton.jit(do_not_specialize=["blocks", "vertex_count", "height", "width"])
def _interpolate_gradient_kernel(
    pixels,
    z,
    faces,
    ids,
    to_barycentrics,
    to_depth,
    to_pixels,
    to_z,
    blocks,
    vertex_count,
    height,
    width,
    PERSPECTIVE: tl.constexpr,
    SLIVER: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pixel, seen, a, b, c, xa, ya, za, xb, yb, zb, xc, yc, zc = _corners(
        pixels, z, faces, ids, blocks, vertex_count, height, width, BLOCK
    )
    wa, wb, wc, total, sliver = _areas(xa, ya, xb, yb, xc, yc, SLIVER)
    ga = tl.load(to_barycentrics + 3 * pixel, mask=seen, other=0.0).to(tl.float64)
    gb = tl.load(to_barycentrics + 3 * pixel + 1, mask=seen, other=0.0).to(tl.float64)
    gc = tl.load(to_barycentrics + 3 * pixel + 2, mask=seen, other=0.0).to(tl.float64)
    gd = tl.load(to_depth + pixel, mask=seen, other=0.0).to(tl.float64)
    # towards the shares w and the corners' z
    if PERSPECTIVE:
        # u = w / z, distance = 1 / sum u, barycentrics = u distance
        ua, ub, uc = wa / za, wb / zb, wc / zc
        distance = 1.0 / (ua + ub + uc)
        common = (ga * ua + gb * ub + gc * uc + gd) * distance
        ha, hb, hc = (ga - common) * distance / za, (gb - common) * distance / zb, (gc - common) * distance / zc
        gza, gzb, gzc = -ha * ua, -hb * ub, -hc * uc
    else:
        ha, hb, hc = ga + gd * za, gb + gd * zb, gc + gd * zc
        gza, gzb, gzc = gd * wa, gd * wb, gd * wc
    # towards the areas: w = area / total; a sliver's shares do not move
    common = ha * wa + hb * wb + hc * wc
    ra = tl.where(sliver, 0.0, (ha - common) / total)
    rb = tl.where(sliver, 0.0, (hb - common) / total)
    rc = tl.where(sliver, 0.0, (hc - common) / total)
    _add(to_z, a, gza, seen)
    _add(to_z, b, gzb, seen)
    _add(to_z, c, gzc, seen)
    _add(to_pixels, 2 * a, rc * yb - rb * yc, seen)
    _add(to_pixels, 2 * a + 1, rb * xc - rc * xb, seen)
    _add(to_pixels, 2 * b, ra * yc - rc * ya, seen)
    _add(to_pixels, 2 * b + 1, rc * xa - ra * xc, seen)
    _add(to_pixels, 2 * c, rb * ya - ra * yb, seen)
    _add(to_pixels, 2 * c + 1, ra * xb - rb * xa, seen)
