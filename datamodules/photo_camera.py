"""What a camera makes of what is before it: exposure, white balance, blur, noise, few pixels, JPEG."""

from functools import lru_cache

import cv2
import numpy as np
from numba import njit

Rng = np.random.Generator

_EXPOSURE, _BALANCE, _GAMMA = 0.25, 0.06, 0.15  # standard deviations of logarithms
_MOVED, _UNSHARP, _COARSE, _COMPRESSED = 0.25, 0.3, 0.3, 0.7  # shares of pictures
_TRAIL = 0.05  # longest trail of a moving hand, of the picture's side
_SOFTEST = 0.008  # largest standard deviation of a lens out of focus, of the side
_COARSEST = 0.35  # share of the pixels along a side that are left
_QUALITY = (25, 95)  # of JPEG
_TABLE = 1_000_003  # a prime: no picture meets the same numbers in the same rows
_NOISIEST = 9.0  # standard deviation of 255


def photograph(rng: Rng, scene: np.ndarray) -> np.ndarray:
    """A picture (S, S, 3) uint8 of what is seen, as many bytes."""
    size = len(scene)
    picture = cv2.LUT(scene, _response(rng))
    if rng.random() < _MOVED:
        picture = cv2.filter2D(picture, -1, _trail(rng, size), borderType=cv2.BORDER_REPLICATE)
    if rng.random() < _UNSHARP:
        picture = cv2.GaussianBlur(picture, (0, 0), max(0.3, rng.uniform(0, _SOFTEST) * size))
    if rng.random() < _COARSE:
        few = max(8, int(size * rng.uniform(_COARSEST, 1)))
        picture = cv2.resize(cv2.resize(picture, (few, few), interpolation=cv2.INTER_AREA), (size, size))
    _add_noise(picture.reshape(-1), _noise_table(), int(rng.integers(_TABLE)), rng.uniform(0, 1) ** 2 * _NOISIEST)
    if rng.random() < _COMPRESSED:
        quality = int(rng.integers(*_QUALITY))
        _, stored = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED)
    return picture


def _response(rng: Rng) -> np.ndarray:
    """What the camera stores (1, 256, 3) uint8 for each value."""
    gain = np.exp(rng.normal(0, _EXPOSURE) + rng.normal(0, _BALANCE, 3))
    gamma = np.exp(rng.normal(0, _GAMMA))
    value = np.clip(np.arange(256)[:, None] / 255 * gain, 0, 1) ** gamma
    return (255 * value)[None].round().astype(np.uint8)


def _trail(rng: Rng, size: int) -> np.ndarray:
    """A kernel: a line through its middle, of sum 1."""
    half = max(1, int(rng.uniform(0, _TRAIL) * size / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.rint(half * np.array([np.cos(angle), np.sin(angle)])).astype(int)
    cv2.line(kernel, (half - reach[0], half - reach[1]), (half + reach[0], half + reach[1]), 1.0)
    return kernel / kernel.sum()


@lru_cache(maxsize=1)
def _noise_table() -> np.ndarray:
    """Standard normal numbers (N,) float32: drawing new ones for every picture takes longer than all the rest."""
    return np.random.Generator(np.random.SFC64(0)).standard_normal(_TABLE, dtype=np.float32)


@njit(cache=True, nogil=True)
def _add_noise(picture, table, start, spread):  # noqa: ANN001, ANN202 - numba infers
    # in place, from a place in the table on, round and round; more of it in bright pixels, as light has
    place = start
    for i in range(len(picture)):
        value = np.float32(picture[i])
        value += np.float32(spread) * table[place] * (np.float32(0.5) + value / np.float32(255))
        picture[i] = np.uint8(min(max(value + np.float32(0.5), np.float32(0)), np.float32(255)))
        place = place + 1 if place + 1 < len(table) else 0
