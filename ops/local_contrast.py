"""Local contrast normalisation of depth (Jarrett et al.: What is the Best Multi-Stage Architecture for Object
Recognition?, ICCV 2009), over the pixels of the foreground alone: nobody knows how far behind a hand nothing is.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ops.checks import check_floating, check_shape

BACKGROUND = 3.0  # what background reads as: three deviations behind the hand, so that its outline stays visible
_SIGMA = 0.25  # of the Gaussian window, as a share of its side
_FLATTEST = 1e-4  # metres: no deviation below this is amplified


class LocalContrast(NamedTuple):
    """A normalised picture, and what was subtracted from it."""

    picture: Tensor  # (B, 1, H, W) no unit; BACKGROUND where there is no foreground
    mean: Tensor  # (B, 1, H, W) in the unit of the depth; the picture's mean where no foreground is near


def local_contrast(depth: Tensor, foreground: Tensor, kernel: int = 9) -> LocalContrast:
    """Subtract the local mean and divide by the local deviation, or by its mean over the picture where that is larger.

    No gradients: this prepares pictures.

    Args:
        depth: (B, 1, H, W) metres from any origin; read on the foreground alone.
        foreground: (B, 1, H, W) bool. A picture without any reads as background and has a mean of 0.
        kernel: side of the Gaussian window, pixels, odd.
    """
    check_shape("depth", depth, ("B", 1, "H", "W"))
    check_floating("depth", depth)
    check_shape("foreground", foreground, tuple(depth.shape))
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd number of pixels, got {kernel}")
    with torch.no_grad():
        inside = foreground.to(depth.dtype)
        window = _gaussian(kernel, depth)
        weight = _blur(inside, window)
        # far from the foreground the window's weights are too small to divide by
        near = weight > 1e-6
        depth = torch.where(foreground, depth, 0)
        mean = torch.where(near, _blur(depth, window) / weight.clamp_min(1e-6), _picture_mean(depth, inside))
        centred = (depth - mean) * inside
        deviation = (_blur(centred.square(), window) / weight.clamp_min(1e-6)).sqrt()
        scale = torch.maximum(deviation, _picture_mean(deviation * inside, inside)).clamp_min(_FLATTEST)
        return LocalContrast(torch.where(foreground, centred / scale, BACKGROUND), mean)


def _gaussian(kernel: int, like: Tensor) -> Tensor:
    """(kernel,) weights that sum to 1."""
    offset = torch.arange(kernel, dtype=like.dtype, device=like.device) - kernel // 2
    weights = (-0.5 * (offset / (_SIGMA * kernel)).square()).exp()
    return weights / weights.sum()


def _blur(picture: Tensor, window: Tensor) -> Tensor:
    """(B, 1, H, W) weighted sums; beyond the border lies nothing."""
    half = len(window) // 2
    rows = F.conv2d(picture, window[None, None, :, None], padding=(half, 0))
    return F.conv2d(rows, window[None, None, None, :], padding=(0, half))


def _picture_mean(values: Tensor, inside: Tensor) -> Tensor:
    """(B, 1, 1, 1) means over the foreground of values that are 0 elsewhere; 0 where there is none."""
    return values.sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp_min(1)
