"""Blend shapes and linear blend skinning (Romero et al. 2017, eq. 1-4), all samples at once.

Letters: B batch, V vertices, P blend features (S shape components + 135 pose entries). Vertices are kept planar,
(B, 3, V): coordinate by coordinate, every step is then a matrix product or runs along contiguous memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SkinningConstants(NamedTuple):
    """The arrays of a hand model that blending and skinning read."""

    template: Tensor  # (3 V,) rest vertices, planar, metres
    directions: Tensor  # (P, 3 V) metres per unit of feature
    weights: Tensor  # (16, V) skinning weights, columns sum to 1
    tips: Tensor  # (5,) int64 vertices at the fingertips


def blend_and_skin(features: Tensor, transforms: Tensor, constants: SkinningConstants) -> tuple[Tensor, Tensor]:
    """Vertices of posed hands: the readable reference. All inputs get gradients.

    Args:
        features: (B, P) shape parameters, then the entries of R - I of joints 1-15.
        transforms: (B, 12, 16) rows of the 3x4 transform of each bone from rest to posed space, metres.
        constants: arrays of the hand model.

    Returns:
        vertices (B, V, 3) and fingertips (B, 5, 3), metres.
    """
    batch = features.shape[0]
    rest = torch.addmm(constants.template, features, constants.directions).view(batch, 3, -1)
    blended = torch.matmul(transforms, constants.weights).view(batch, 3, 4, -1)  # one 3x4 transform per vertex
    planar = (blended[:, :, :3] * rest[:, None]).sum(2) + blended[:, :, 3]
    vertices = planar.transpose(1, 2).contiguous()
    return vertices, vertices.index_select(1, constants.tips)
