"""Changes of pixels alone: colours, blur, noise, other backgrounds, lost rectangles, noisy depth.

What is drawn for every pixel is a hash of the sample's key and the pixel. kornia is imported inside the calls: it costs
half a second that only augmentation pays.
"""

import math

import torch
from torch import Tensor

from datamodules.appearance import backgrounds
from datamodules.batch import HandBatch
from datamodules.sensor_noise_torch import gauss, hash_of, unit_of

_RGB_NOISE, _DEPTH_NOISE, _HOLES = 201, 202, 203  # purposes of the hashes, apart from those of the sensor noise
_HOLE = 4  # pixels, side of the blocks that lose their depth
_ERASED = (0.02, 0.2)  # share of the picture
_ASPECT = 3.0  # longest side over the other


def other_background(rgb: Tensor, mask: Tensor, rows: Tensor, key: Tensor) -> Tensor:
    """Colours (B, 3, H, H) with clutter where the mask (B, 1, H, H) is 0, in rows (B,) bool."""
    clutter = backgrounds(key, rgb.shape[-1]).to(rgb.dtype) / 255
    return torch.where(rows[:, None, None, None] & (mask <= 0), clutter, rgb)


def shift_colours(
    rgb: Tensor,
    brightness: Tensor | None = None,
    contrast: Tensor | None = None,
    saturation: Tensor | None = None,
    hue: Tensor | None = None,
) -> Tensor:
    """Colours (B, 3, H, W) in [0, 1] by amounts (B,): added, two factors, and a share of the colour circle."""
    from kornia import enhance

    if brightness is not None:
        rgb = enhance.adjust_brightness(rgb, brightness)
    if contrast is not None:
        rgb = enhance.adjust_contrast_with_mean_subtraction(rgb, contrast)
    if saturation is not None:
        rgb = enhance.adjust_saturation(rgb, saturation)
    if hue is not None:
        rgb = enhance.adjust_hue(rgb, 2 * math.pi * hue)
    return rgb


def blur_colours(rgb: Tensor, sigma: Tensor, most: float) -> Tensor:
    """Colours (B, 3, H, W) under Gaussians of sigma (B,) pixels, none above `most`."""
    from kornia.filters import gaussian_blur2d

    width = 2 * math.ceil(3 * most) + 1
    return gaussian_blur2d(rgb, width, sigma[:, None].expand(-1, 2).clamp_min(1e-3))


def noisy_colours(rgb: Tensor, sigma: Tensor, key: Tensor) -> Tensor:
    """Colours (B, 3, H, W) with normal noise of sigma (B,), within [0, 1]."""
    y, x = _pixels(rgb)
    channel = torch.arange(3, device=rgb.device)[:, None, None] * rgb.shape[-2]
    noise = gauss(hash_of(key[:, None, None, None], _RGB_NOISE, y + channel, x)).to(rgb.dtype)
    return (rgb + sigma[:, None, None, None] * noise).clamp(0, 1)


def noisy_depth(depth: Tensor, sigma: Tensor, key: Tensor) -> Tensor:
    """Depth (B, 1, H, W) with normal noise of sigma (B,), metres; missing stays missing."""
    y, x = _pixels(depth)
    noise = gauss(hash_of(key[:, None, None, None], _DEPTH_NOISE, y, x)).to(depth.dtype)
    return torch.where(depth > 0, depth + sigma[:, None, None, None] * noise, depth)


def lose_depth(depth: Tensor, share: Tensor, key: Tensor) -> Tensor:
    """Depth (B, 1, H, W) without a share (B,) of its pixels, in blocks."""
    y, x = _pixels(depth)
    block = unit_of(hash_of(key[:, None, None, None], _HOLES, y // _HOLE, x // _HOLE))
    return torch.where(block < share[:, None, None, None], 0.0, depth)


def erase(batch: HandBatch, rows: Tensor, place: Tensor, colour: Tensor) -> HandBatch:
    """The batch with a rectangle lost in rows (B,) bool: one colour, no depth. Labels stay: hidden is not absent.

    Args:
        batch: any batch of the contract.
        rows: which samples.
        place: (B, 4) in [0, 1]: centre across and down, area, aspect.
        colour: (B, 3) in [0, 1].
    """
    erased = HandBatch(**batch)
    for name in ("rgb", "depth"):
        if name in batch:
            picture = batch[name]
            inside = _rectangle(picture, place) & rows[:, None, None, None]
            fill = colour[:, :, None, None] * batch["has_rgb"][:, None, None, None] if name == "rgb" else 0.0
            erased[name] = torch.where(inside, fill, picture)
    return erased


def _rectangle(picture: Tensor, place: Tensor) -> Tensor:
    """(B, 1, H, W) bool."""
    low, high = _ERASED
    area = low + (high - low) * place[:, 2]
    aspect = _ASPECT ** (2 * place[:, 3] - 1)
    half_width, half_height = torch.sqrt(area * aspect) / 2, torch.sqrt(area / aspect) / 2
    y, x = _pixels(picture)
    across = ((x + 0.5) / picture.shape[-1] - place[:, 0, None, None]).abs() < half_width[:, None, None]
    down = ((y + 0.5) / picture.shape[-2] - place[:, 1, None, None]).abs() < half_height[:, None, None]
    return (across & down)[:, None]


def _pixels(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (H, 1) and columns (1, W)."""
    height, width = picture.shape[-2:]
    return torch.arange(height, device=picture.device)[:, None], torch.arange(width, device=picture.device)[None]
