"""Blend shapes and skinning in one Triton kernel, and their gradient: the CUDA twin of `ops.hand_model.skinning`.

Forward: a program owns a tile of samples x vertices; it blends the tile's rest vertices from the features, blends its
bone transforms and applies them while both are in registers. Backward: one kernel gives the gradient of the rest
vertices and, slice of vertices by slice, that of the transforms (summed afterwards in a fixed order: results repeat);
the features' gradient is then one matrix product. Products run in full float32.

Letters: B batch, V vertices, P blend features, c and r coordinates.
"""
# ruff: noqa: ANN001, ANN202  Triton gives the annotations of a kernel its own meaning

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ops.hand_model.skinning import SkinningConstants

# Tile of samples x vertices and step over the features: the largest whose values stay in registers on sm_90.
_BLOCK_B, _BLOCK_V, _BLOCK_P = 16, 64, 32
_FORWARD_WARPS, _BACKWARD_WARPS = 4, 8
_BONES = tl.constexpr(16)


def blend_and_skin_triton(features: Tensor, transforms: Tensor, constants: SkinningConstants) -> tuple[Tensor, Tensor]:
    """`ops.hand_model.skinning.blend_and_skin` for float32 on CUDA; differentiable once.

    Args:
        features: (B, P) float32.
        transforms: (B, 12, 16) float32.
        constants: arrays of the hand model.

    Returns:
        Vertices (B, V, 3) and fingertips (B, 5, 3), metres.

    Raises:
        ValueError: tensors that do not lie on a CUDA device (Triton's interpreter, TRITON_INTERPRET=1, takes any).
        TypeError: not float32.
    """
    if features.device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise ValueError(
            f"backend='triton': expected CUDA tensors, got {features.device.type}; move the layer and its inputs with "
            ".to('cuda') or choose backend='auto'"
        )
    if features.dtype != torch.float32:
        raise TypeError(f"backend='triton': expected float32, got {features.dtype}; choose backend='torch'")
    return _BlendAndSkin.apply(features, transforms, constants)


class _BlendAndSkin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features: Tensor, transforms: Tensor, constants: SkinningConstants
    ) -> tuple[Tensor, Tensor]:
        features, transforms = features.contiguous(), transforms.contiguous()
        batch, vertex_count = features.shape[0], constants.weights.shape[1]
        vertices = features.new_empty(batch, vertex_count, 3)
        keep_rest = any(ctx.needs_input_grad[:2])
        rest = features.new_empty((batch, 3, vertex_count) if keep_rest else (0,))
        _forward_kernel[_grid(batch, vertex_count)](
            features,
            constants.directions,
            constants.template,
            transforms,
            constants.weights,
            vertices,
            rest,
            batch,
            vertex_count,
            features.shape[1],
            keep_rest,
            _BLOCK_B,
            _BLOCK_V,
            _BLOCK_P,
            num_warps=_FORWARD_WARPS,
        )
        ctx.save_for_backward(rest, transforms)
        ctx.constants = constants
        return vertices, vertices.index_select(1, constants.tips)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_vertices: Tensor, d_tips: Tensor) -> tuple[Tensor, Tensor, None]:
        rest, transforms = ctx.saved_tensors
        constants = ctx.constants
        batch, _, vertex_count = rest.shape
        grid = _grid(batch, vertex_count)
        d_rest = torch.empty_like(rest)
        slices = transforms.new_empty(grid[1], *transforms.shape)
        _backward_kernel[grid](
            d_vertices.contiguous(),
            d_tips.contiguous(),
            constants.tips,
            rest,
            transforms,
            constants.weights,
            d_rest,
            slices,
            batch,
            vertex_count,
            _BLOCK_B,
            _BLOCK_V,
            num_warps=_BACKWARD_WARPS,
        )
        return d_rest.flatten(1) @ constants.directions, slices.sum(0), None


def _grid(batch: int, vertex_count: int) -> tuple[int, int]:
    return triton.cdiv(batch, _BLOCK_B), triton.cdiv(vertex_count, _BLOCK_V)


@triton.jit
def _forward_kernel(
    features,  # (B, P)
    directions,  # (3 V, P)
    template,  # (3 V,)
    transforms,  # (B, 12, 16)
    weights,  # (16, V)
    vertices,  # (B, V, 3) out
    rest,  # (B, 3, V) out, if KEEP_REST
    batch,
    vertex_count,
    feature_count,
    KEEP_REST: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    v = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (b < batch)[:, None] & (v < vertex_count)[None, :]
    shape = (features, directions, template, b, v, batch, vertex_count, feature_count)
    x = _blend(*shape, 0, BLOCK_B, BLOCK_V, BLOCK_P)
    y = _blend(*shape, 1, BLOCK_B, BLOCK_V, BLOCK_P)
    z = _blend(*shape, 2, BLOCK_B, BLOCK_V, BLOCK_P)
    if KEEP_REST:
        place = rest + b[:, None] * (3 * vertex_count) + v[None, :]
        tl.store(place, x, mask=inside)
        tl.store(place + vertex_count, y, mask=inside)
        tl.store(place + 2 * vertex_count, z, mask=inside)
    w = _load_weights(weights, v, vertex_count)
    for r in tl.static_range(3):
        posed = _entry(transforms, w, b, batch, 4 * r) * x + _entry(transforms, w, b, batch, 4 * r + 1) * y
        posed += _entry(transforms, w, b, batch, 4 * r + 2) * z + _entry(transforms, w, b, batch, 4 * r + 3)
        tl.store(vertices + (b[:, None] * vertex_count + v[None, :]) * 3 + r, posed, mask=inside)


@triton.jit
def _backward_kernel(
    d_vertices,  # (B, V, 3)
    d_tips,  # (B, 5, 3)
    tips,  # (5,)
    rest,  # (B, 3, V)
    transforms,  # (B, 12, 16)
    weights,  # (16, V)
    d_rest,  # (B, 3, V) out
    slices,  # (slices of V, B, 12, 16) out
    batch,
    vertex_count,
    BLOCK_B: tl.constexpr,
    BLOCK_V: tl.constexpr,
) -> None:
    b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    v = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (b < batch)[:, None] & (v < vertex_count)[None, :]
    w = _load_weights(weights, v, vertex_count)
    planar = b[:, None] * (3 * vertex_count) + v[None, :]
    gx = _vertex_gradient(d_vertices, d_tips, tips, b, v, batch, vertex_count, 0)
    gy = _vertex_gradient(d_vertices, d_tips, tips, b, v, batch, vertex_count, 1)
    gz = _vertex_gradient(d_vertices, d_tips, tips, b, v, batch, vertex_count, 2)
    bone = tl.arange(0, _BONES)
    out = slices + ((tl.program_id(1) * batch + b[:, None]) * 12) * _BONES + bone[None, :]
    in_batch = (b < batch)[:, None]
    for c in tl.static_range(3):
        d_c = _entry(transforms, w, b, batch, c) * gx + _entry(transforms, w, b, batch, 4 + c) * gy
        d_c += _entry(transforms, w, b, batch, 8 + c) * gz
        tl.store(d_rest + planar + c * vertex_count, d_c, mask=inside)
        x_c = tl.load(rest + planar + c * vertex_count, mask=inside, other=0.0)
        tl.store(out + c * _BONES, _bone_sum(gx * x_c, w), mask=in_batch)
        tl.store(out + (4 + c) * _BONES, _bone_sum(gy * x_c, w), mask=in_batch)
        tl.store(out + (8 + c) * _BONES, _bone_sum(gz * x_c, w), mask=in_batch)
    tl.store(out + 3 * _BONES, _bone_sum(gx, w), mask=in_batch)
    tl.store(out + 7 * _BONES, _bone_sum(gy, w), mask=in_batch)
    tl.store(out + 11 * _BONES, _bone_sum(gz, w), mask=in_batch)


@triton.jit
def _blend(
    features,
    directions,
    template,
    b,
    v,
    batch,
    vertex_count,
    feature_count,
    c: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Coordinate c of the tile's rest vertices, (BLOCK_B, BLOCK_V)."""
    row = c * vertex_count + v
    in_v = (v < vertex_count)[None, :]
    start = tl.load(template + row, mask=v < vertex_count, other=0.0)
    total = tl.zeros((BLOCK_B, BLOCK_V), tl.float32) + start[None, :]
    for first in range(0, feature_count, BLOCK_P):
        p = first + tl.arange(0, BLOCK_P)
        in_p = p < feature_count
        f = tl.load(
            features + b[:, None] * feature_count + p[None, :], mask=(b < batch)[:, None] & in_p[None, :], other=0.0
        )
        d = tl.load(directions + row[None, :] * feature_count + p[:, None], mask=in_p[:, None] & in_v, other=0.0)
        total += tl.dot(f, d, input_precision="ieee")
    return total


@triton.jit
def _load_weights(weights, v, vertex_count):
    """(16, BLOCK_V) skinning weights, 0 outside."""
    bone = tl.arange(0, _BONES)
    place = weights + bone[:, None] * vertex_count + v[None, :]
    return tl.load(place, mask=(v < vertex_count)[None, :], other=0.0)


@triton.jit
def _entry(transforms, w, b, batch, row: tl.constexpr):
    """One of the 12 entries of every vertex's blended transform, (BLOCK_B, BLOCK_V)."""
    bone = tl.arange(0, _BONES)
    place = transforms + (b[:, None] * 12 + row) * _BONES + bone[None, :]
    return tl.dot(tl.load(place, mask=(b < batch)[:, None], other=0.0), w, input_precision="ieee")


@triton.jit
def _vertex_gradient(d_vertices, d_tips, tips, b, v, batch, vertex_count, r: tl.constexpr):
    """Coordinate r of the vertices' gradient, (BLOCK_B, BLOCK_V), the fingertips' share added; 0 outside."""
    inside = (b < batch)[:, None] & (v < vertex_count)[None, :]
    g = tl.load(d_vertices + (b[:, None] * vertex_count + v[None, :]) * 3 + r, mask=inside, other=0.0)
    for t in tl.static_range(5):
        d_tip = tl.load(d_tips + (b * 5 + t) * 3 + r, mask=b < batch, other=0.0)
        g += tl.where((v == tl.load(tips + t))[None, :], d_tip[:, None], 0.0)
    return g


@triton.jit
def _bone_sum(per_vertex, w):
    """Sum over the tile's vertices, weighted for each bone: (BLOCK_B, 16)."""
    return tl.dot(per_vertex, tl.trans(w), input_precision="ieee")
