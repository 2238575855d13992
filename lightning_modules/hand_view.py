"""What networks for small depth pictures see: the middle of the crop, without background, contrast normalised."""

from typing import NamedTuple

import torch
from torch import Tensor

from ops.joints import BACKGROUND, PALM
from ops.local_contrast import local_contrast

SIDE = 48  # S, pixels that the networks see
CONTRAST_KERNEL = 9  # pixels


class HandView(NamedTuple):
    """What the networks see of B pictures."""

    picture: Tensor  # (B, 1, S, S) local-contrast-normalised depth
    foreground: Tensor  # (B, 1, S, S) bool
    subtracted: Tensor  # (B, 1, S, S) metres, camera frame: the depth that normalisation subtracted
    K: Tensor  # (B, 3, 3) of these pixels
    half_cube: Tensor  # (B,) metres


def look(depth: Tensor, K: Tensor, cube_centre: Tensor, cube_side: Tensor) -> HandView:
    """The middle 48 x 48 pixels of cropped pictures, background removed, contrast normalised.

    Args:
        depth: (B, 1, H, H) metres, 0 = missing, H at least 48.
        K: (B, 3, 3) of these pictures.
        cube_centre: (B, 3) metres, camera frame; what lies outside the cube is background.
        cube_side: (B,) metres.
    """
    edge = margin(depth)
    depth = middle(depth)
    centre, half = cube_centre[:, 2, None, None, None], 0.5 * cube_side
    relative = depth - centre
    foreground = (depth > 0) & (relative.abs() <= half[:, None, None, None])
    contrast = local_contrast(relative, foreground, CONTRAST_KERNEL)
    K = K.clone()
    K[:, :2, 2] -= edge
    return HandView(contrast.picture, foreground, contrast.mean + centre, K, half)


def middle(picture: Tensor) -> Tensor:
    """The middle 48 x 48 pixels (B, ..., S, S) of pictures (B, ..., H, H)."""
    edge = margin(picture)
    return picture[..., edge : edge + SIDE, edge : edge + SIDE]


def margin(picture: Tensor) -> int:
    """Pixels left and above the middle 48 x 48 of pictures (B, ..., H, H)."""
    height, width = picture.shape[-2:]
    if height != width or width < SIDE:
        raise ValueError(
            f"pictures: expected squares of at least {SIDE} pixels, got {height} x {width}; raise data.image_size"
        )
    return (width - SIDE) // 2


def label_maps(scores: Tensor, foreground: Tensor) -> Tensor:
    """(B, S, S) uint8 labels of the likeliest parts of scores (B, 20, s, s), on the foreground (B, 1, S, S) alone."""
    labels = (scores.argmax(1) + PALM).to(torch.uint8)
    repeat = foreground.shape[-1] // labels.shape[-1]
    labels = labels.repeat_interleave(repeat, 1).repeat_interleave(repeat, 2)
    return torch.where(foreground[:, 0], labels, BACKGROUND)
