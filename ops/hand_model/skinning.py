"""Blend shapes and linear blend skinning (Romero et al. 2017, eq. 1-4): reference and fast CPU path.

Letters: B batch, V vertices, P blend features (S shape components + 135 pose entries). Vertices are kept planar,
(B, 3, V): coordinate by coordinate, every step is then a matrix product or runs along contiguous memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import linear

# Samples per block of the fast path: the temporaries of a block (24 V floats a sample) stay in cache and are used
# again, while those of a whole batch cost more in page faults than in arithmetic.
_BLOCK = 32


class SkinningConstants(NamedTuple):
    """The arrays of a hand model that blending and skinning read."""

    template: Tensor  # (3 V,) rest vertices, planar, metres
    directions: Tensor  # (3 V, P) metres per unit of feature; this way round the gradient's product is contiguous
    weights: Tensor  # (16, V) skinning weights, columns sum to 1
    tips: Tensor  # (5,) int64 vertices at the fingertips


def blend_and_skin(features: Tensor, transforms: Tensor, constants: SkinningConstants) -> tuple[Tensor, Tensor]:
    """Vertices of posed hands: the readable reference.

    Args:
        features: (B, P) shape parameters, then the entries of R - I of joints 1-15.
        transforms: (B, 12, 16) rows of the 3x4 transform of each bone from rest to posed space, metres.
        constants: arrays of the hand model; they get no gradients, features and transforms do.

    Returns:
        Vertices (B, V, 3) and fingertips (B, 5, 3), metres.
    """
    rest = linear(features, constants.directions, constants.template).unflatten(1, (3, -1))
    blended = torch.matmul(transforms, constants.weights).unflatten(1, (3, 4))  # (B, 3, 4, V): a transform per vertex
    planar = (blended[:, :, :3] * rest[:, None]).sum(2) + blended[:, :, 3]  # (B, 3, V)
    vertices = planar.transpose(1, 2).contiguous()
    return vertices, vertices.index_select(1, constants.tips)


def blend_and_skin_cpu(features: Tensor, transforms: Tensor, constants: SkinningConstants) -> tuple[Tensor, Tensor]:
    """`blend_and_skin` in blocks with a hand-written backward; differentiable once. Keeps only the rest vertices."""
    return _BlendAndSkin.apply(features, transforms, constants)


class _BlendAndSkin(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features: Tensor, transforms: Tensor, constants: SkinningConstants
    ) -> tuple[Tensor, Tensor]:
        batch, vertex_count = len(features), constants.weights.shape[1]
        transforms = transforms.contiguous()
        rest = linear(features, constants.directions, constants.template).view(batch, 3, vertex_count)
        vertices = rest.new_empty(batch, vertex_count, 3)
        blended_block = rest.new_empty(min(_BLOCK, batch), 3, 4, vertex_count)
        planar_block = rest.new_empty(min(_BLOCK, batch), 3, vertex_count)
        for start in range(0, batch, _BLOCK):
            x = rest[start : start + _BLOCK]
            blended, planar = blended_block[: len(x)], planar_block[: len(x)]
            _blend_transforms(transforms[start : start + _BLOCK], constants.weights, blended)
            torch.addcmul(blended[:, :, 3], blended[:, :, 0], x[:, :1], out=planar)
            planar.addcmul_(blended[:, :, 1], x[:, 1:2]).addcmul_(blended[:, :, 2], x[:, 2:])
            vertices[start : start + _BLOCK].copy_(planar.transpose(1, 2))
        ctx.save_for_backward(rest, transforms)
        ctx.constants = constants
        return vertices, vertices.index_select(1, constants.tips)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_vertices: Tensor, d_tips: Tensor) -> tuple[Tensor, Tensor, None]:
        rest, transforms = ctx.saved_tensors
        constants = ctx.constants
        batch, _, vertex_count = rest.shape
        d_features = rest.new_empty(batch, constants.directions.shape[1])
        d_transforms = torch.empty_like(transforms)
        blended_block = rest.new_empty(min(_BLOCK, batch), 3, 4, vertex_count)
        d_planar_block, d_rest_block = rest.new_empty(2, min(_BLOCK, batch), 3, vertex_count)
        for start in range(0, batch, _BLOCK):
            rows = slice(start, start + _BLOCK)
            x = rest[rows]
            blended, g, d_x = blended_block[: len(x)], d_planar_block[: len(x)], d_rest_block[: len(x)]
            g.copy_(d_vertices[rows].transpose(1, 2)).index_add_(2, constants.tips, d_tips[rows].transpose(1, 2))
            _blend_transforms(transforms[rows], constants.weights, blended)
            torch.mul(blended[:, 0, :3], g[:, :1], out=d_x)
            d_x.addcmul_(blended[:, 1, :3], g[:, 1:2]).addcmul_(blended[:, 2, :3], g[:, 2:])
            torch.mm(d_x.flatten(1), constants.directions, out=d_features[rows])
            d_blended = blended  # the block's transforms are no longer needed: their gradient takes their place
            torch.mul(g[:, :, None], x[:, None], out=d_blended[:, :, :3])
            d_blended[:, :, 3] = g
            torch.mm(d_blended.flatten(0, 2), constants.weights.t(), out=d_transforms[rows].flatten(0, 1))
        return d_features, d_transforms, None


def _blend_transforms(transforms: Tensor, weights: Tensor, out: Tensor) -> None:
    """(n, 12, 16) @ (16, V) into (n, 3, 4, V): one 3x4 transform per vertex."""
    torch.mm(transforms.flatten(0, 1), weights, out=out.flatten(0, 2))
