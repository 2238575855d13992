"""The readable twin of the fused noise loop in `datamodules.sensor_noise`, in plain torch; also what a GPU runs.

Pictures are (B, H, W); hashes are uint32 kept in int64.
"""

import torch
from torch import Tensor

_KEY_STEP, _PURPOSE_STEP, _ROW_STEP, _COLUMN_STEP = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F
_M1, _M2, _WORD = 0x7FEB352D, 0x846CA68B, 0xFFFFFFFF
SHIFT_X, SHIFT_Y, EDGE, HOLE, RANGE = 1, 2, 3, 4, 5
DEPTH_EDGE = 0.01


def add_noise(depth: Tensor, parts: Tensor, noise: Tensor, keys: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy copies of depth (B, 1, H, W) and parts (B, H, W); arguments as in `sensor_noise.add_sensor_noise`."""
    picture = depth[:, 0]
    batch, height, width = picture.shape
    numbers = [column[:, None, None] for column in noise.unbind(-1)]
    lateral, reach, edge_loss, hole_share, hole_size, floor, growth, correlation, step, unit = numbers
    key, scale = keys[:, None, None], scale[:, None, None]
    y = torch.arange(height, device=depth.device)[None, :, None].expand(batch, height, width)
    x = torch.arange(width, device=depth.device)[None, None, :].expand(batch, height, width)

    # the ray that a pixel really sees
    source_y = y + torch.round(lateral * scale * gauss(hash_of(key, SHIFT_Y, y, x))).long()
    source_x = x + torch.round(lateral * scale * gauss(hash_of(key, SHIFT_X, y, x))).long()
    source = (source_y.clamp(0, height - 1) * width + source_x.clamp(0, width - 1)).flatten(1)
    here = y * width + x
    z = picture.flatten(1).gather(1, source).view_as(picture)
    same_surface = ((picture - z).abs() < DEPTH_EDGE) & (z > 0)
    source = torch.where(same_surface.flatten(1), here.flatten(1), source)  # the shift shows at edges alone
    z = picture.flatten(1).gather(1, source).view_as(picture)
    label = parts.flatten(1).gather(1, source).view_as(parts)

    # holes and lost edges
    hole = (hole_size * scale).clamp_min(1)
    lost = unit_of(hash_of(key, HOLE, (y / hole).long(), (x / hole).long())) < hole_share
    pixels = torch.ceil(reach * scale - 0.5).long()
    near_edge = edges(picture, pixels).flatten(1).gather(1, source).view_as(lost)
    lost = lost | (near_edge & (unit_of(hash_of(key, EDGE, y, x)) < edge_loss))

    # range noise, quantisation
    z = z + (floor + growth * z * z) * smooth_gauss(key, y, x, correlation * scale)
    z = quantise(z, step, unit)
    kept = (label > 0) & ~lost
    noisy = torch.where(kept, z, torch.zeros_like(z)), torch.where(kept, label, torch.zeros_like(label))
    none = (noise == 0).all(-1)[:, None, None]
    return torch.where(none, picture, noisy[0])[:, None], torch.where(none, parts, noisy[1])


def hash_of(key: Tensor, purpose: int, y: Tensor, x: Tensor) -> Tensor:
    """uint32 (B, H, W) in int64: the 32-bit mixer "lowbias32" of Wellons' hash-prospector."""
    # int64 products wrap; their low 32 bits are right all the same
    h = (key * _KEY_STEP + purpose * _PURPOSE_STEP + y * _ROW_STEP + x * _COLUMN_STEP) & _WORD
    h = ((h ^ (h >> 16)) * _M1) & _WORD
    h = ((h ^ (h >> 15)) * _M2) & _WORD
    return h ^ (h >> 16)


def unit_of(h: Tensor) -> Tensor:
    """Uniform in [0, 1)."""
    return (h >> 8).float() * 2.0**-24


def gauss(h: Tensor) -> Tensor:
    """Nearly normal: the sum of four bytes, standardised (variance 4 (256^2 - 1) / 12)."""
    total = (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
    return (total - 510).float() * 0.006765949


def edges(depth: Tensor, reach: Tensor) -> Tensor:
    """Whether, within `reach` pixels up, down, left or right, there is nothing or a surface that lies farther back."""
    near = torch.zeros_like(depth, dtype=torch.bool)
    for distance in range(1, int(reach.max()) + 1):
        for axis, sign in ((1, 1), (1, -1), (2, 1), (2, -1)):
            other = torch.roll(depth, sign * distance, axis)
            inside = torch.ones_like(near)
            rim = slice(0, distance) if sign > 0 else slice(-distance, None)
            inside[(slice(None), rim, slice(None)) if axis == 1 else (slice(None), slice(None), rim)] = False
            edge = inside & ((other == 0) | (other - depth > DEPTH_EDGE))
            near = near | (edge & (distance <= reach))
    return near


def smooth_gauss(key: Tensor, y: Tensor, x: Tensor, cell: Tensor) -> Tensor:
    """Standard normal that varies over `cell` pixels: hashed values on a grid, blended at constant variance."""
    size = cell.clamp_min(1)
    fy, fx = y / size, x / size
    iy, ix = fy.long(), fx.long()
    fy, fx = fy - iy, fx - ix
    top = (1 - fx) * gauss(hash_of(key, RANGE, iy, ix)) + fx * gauss(hash_of(key, RANGE, iy, ix + 1))
    low = (1 - fx) * gauss(hash_of(key, RANGE, iy + 1, ix)) + fx * gauss(hash_of(key, RANGE, iy + 1, ix + 1))
    variance = ((1 - fx) ** 2 + fx**2) * ((1 - fy) ** 2 + fy**2)
    smooth = ((1 - fy) * top + fy * low) / variance.sqrt()
    return torch.where(cell > 1, smooth, gauss(hash_of(key, RANGE, y, x)))


def quantise(z: Tensor, step: Tensor, unit: Tensor) -> Tensor:
    """Depth from a disparity in whole steps, then stored in whole units; a step of 0 leaves it alone."""
    level = torch.round(1 / (z * step).clamp_min(1e-12)).clamp_min(1)
    z = torch.where(step > 0, 1 / (step.clamp_min(1e-12) * level), z)
    return torch.where(unit > 0, torch.round(z / unit.clamp_min(1e-12)) * unit, z)
