"""What RGB pictures need beyond geometry: skin, light and a background, all procedural, all drawn from keys."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional

from datamodules.sensor_noise import hash_kernel, unit_kernel
from datamodules.sensor_noise_torch import hash_of, unit_of
from datamodules.streams import Draws, Keys, keys_of
from ops.hand_model import HandModel
from ops.hand_model.skin import MONK_TONES, skin_albedo
from ops.render import Light
from ops.render.threads import over_batch

MOTTLINGS = 3  # patterns per skin tone
_GRIDS = (3, 9, 30)  # cells across the picture of a background's layers, coarse to fine
_STRENGTHS = (0.55, 0.3, 0.15)
_BACKGROUND = 101  # purpose of the hashes; those of the sensor noise are small


class Appearance(NamedTuple):
    """How B hands are coloured and lit."""

    skin: Tensor  # (B,) int64 rows of `skin_table`
    light: Tensor  # (B, 3) towards the light, camera frame
    brightness: Tensor  # (B, 2) ambient, directional
    key: Tensor  # (B,) int64 in 0..2^32 - 1, of the background

    @property
    def lamp(self) -> Light:
        """The light as the renderer takes it."""
        return Light(self.light, self.brightness[:, :1].expand(-1, 3), self.brightness[:, 1:].expand(-1, 3))


def draw_appearance(keys: Keys, identities: Keys) -> Appearance:
    """Light and background by sample (B,), skin by identity (B,); light falls from the camera's half of the sphere."""
    draws = Draws(keys_of("appearance", keys))
    direction = draws.normal((3,)) * [1.0, 1.0, 0.6] - [0.0, 0.5, 1.0]  # the camera looks along +z, up is -y
    ambient = draws.uniform(0.25, 0.6, (1,))
    brightness = np.concatenate([ambient, draws.uniform(0.35, 0.8, (1,))], 1)
    skin = Draws(keys_of("skin", identities)).choice((1.0,) * len(MONK_TONES) * MOTTLINGS)
    return Appearance(
        skin=torch.from_numpy(skin),
        light=torch.from_numpy(direction.astype(np.float32)),
        brightness=torch.from_numpy(brightness.astype(np.float32)),
        key=torch.from_numpy((keys_of("background", keys) >> np.uint64(32)).astype(np.int64)),
    )


@lru_cache(maxsize=2)
def skin_table(model: HandModel) -> Tensor:
    """Colours (10 tones x 3 mottlings, V, 3) in [0, 1]."""
    return torch.stack([skin_albedo(model, tone, seed) for tone in range(len(MONK_TONES)) for seed in range(MOTTLINGS)])


def backgrounds(keys: Tensor, size: int) -> Tensor:
    """Blurred coloured clutter (B, 3, size, size) uint8: layers of random grids, coarse ones strong, fine ones weak."""
    if keys.device.type == "cpu":
        clutter = torch.empty(len(keys), 3, size, size, dtype=torch.uint8)
        arrays = keys.numpy(), clutter.numpy()
        over_batch(lambda start, stop: _clutter_kernel(start, stop, *arrays), len(keys))
        return clutter
    finest = _GRIDS[-1]
    total = torch.zeros(len(keys), 3, finest, finest, device=keys.device)
    for layer, (cells, strength) in enumerate(zip(_GRIDS, _STRENGTHS, strict=True)):
        y, x = torch.meshgrid(*[torch.arange(cells, device=keys.device)] * 2, indexing="ij")
        channel = torch.arange(3, device=keys.device)[:, None, None] + 3 * layer
        grid = unit_of(hash_of(keys[:, None, None, None], _BACKGROUND, y + 64 * channel, x))
        total += strength * _stretched(grid, finest)
    return (255 * _stretched(total, size)).to(torch.uint8)


def _stretched(pictures: Tensor, size: int) -> Tensor:
    """Square pictures (B, C, n, n) to (B, C, size, size), bilinear; two small products are faster than resampling."""
    count = pictures.shape[-1]
    # the bilinear weights are what interpolation makes of the unit pictures
    unit = torch.eye(count, device=pictures.device)[:, None]
    weights = functional.interpolate(unit, size, mode="linear", align_corners=False)[:, 0]  # (n, size)
    return weights.T @ (pictures @ weights)


@njit(cache=True, nogil=True, fastmath=True)
def _clutter_kernel(start: int, stop: int, keys: np.ndarray, clutter: np.ndarray) -> None:
    """Clutter of pictures start..stop-1 as `backgrounds` says, in one pass."""
    finest, size = _GRIDS[-1], clutter.shape[-1]
    grid, wide = np.empty((finest, finest), np.float32), np.empty((finest, max(finest, size)), np.float32)
    total, fine = np.empty((finest, finest), np.float32), np.empty((finest, finest), np.float32)
    picture = np.empty((size, size), np.float32)
    for b in range(start, stop):
        for channel in range(3):
            total[:] = 0
            for layer in range(len(_GRIDS)):
                cells = _GRIDS[layer]
                for y in range(cells):
                    for x in range(cells):
                        row = y + 64 * (channel + 3 * layer)
                        grid[y, x] = unit_kernel(hash_kernel(keys[b], _BACKGROUND, row, x))
                _stretch(grid, cells, wide, fine)
                total += np.float32(_STRENGTHS[layer]) * fine
            _stretch(total, finest, wide, picture)
            for y in range(size):
                for x in range(size):
                    clutter[b, channel, y, x] = np.uint8(np.float32(255) * picture[y, x])


@njit(cache=True, nogil=True, fastmath=True)
def _stretch(grid: np.ndarray, count: int, wide: np.ndarray, out: np.ndarray) -> None:
    """`_stretched` of the corner (count, count) of a grid into out (size, size); wide is room for rows."""
    size = len(out)
    left, weight = np.empty(size, np.int64), np.empty(size, np.float32)
    for i in range(size):
        place = max((i + 0.5) * count / size - 0.5, 0.0)
        left[i] = min(int(place), count - 2)
        weight[i] = min(place - left[i], 1.0)
    for y in range(count):
        for x in range(size):
            a, b = grid[y, left[x]], grid[y, left[x] + 1]
            wide[y, x] = a + weight[x] * (b - a)
    for y in range(size):
        upper, lower, share = wide[left[y]], wide[left[y] + 1], weight[y]
        for x in range(size):
            out[y, x] = upper[x] + share * (lower[x] - upper[x])
