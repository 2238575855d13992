"""Random numbers that depend on a name alone: counter-based, vectorised, the same on any worker, rank or day.

A key is a 64-bit hash of what the numbers are for, e.g. (seed, split, epoch, index). Number k of a key is the
SplitMix64 generator started at that key and asked for its k-th output (Steele, Lea, Flood: Fast Splittable
Pseudorandom Number Generators, OOPSLA 2014), so that no number needs the ones before it.
"""

import math
from collections.abc import Callable
from zlib import crc32

import numpy as np
from numba import njit
from scipy.special import ndtri

Keys = np.ndarray  # (B,) uint64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: a bijection of uint64 in which every input bit moves half of the output bits."""
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


def keys_of(*parts: str | int | np.ndarray) -> Keys:
    """Keys of what the numbers are for.

    Args:
        parts: words, integers, or (B,) arrays of integers or keys; their order matters.

    Returns:
        (B,) uint64, B = 1 where every part is single.
    """
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        if isinstance(part, str):
            part = crc32(part.encode())
        part = np.atleast_1d(np.asarray(part))
        if part.dtype.kind not in "iu":
            raise TypeError(f"keys_of: parts must be words or integers, got {part.dtype}")
        key = mix(key * np.uint64(3) + mix(part.astype(np.uint64) + _GOLDEN))
    return key


class Draws:
    """A stream of random numbers for each of B keys; every call takes the next numbers of all streams."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._taken = 0

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> np.ndarray:
        """(B, *shape) uniform in the open interval (low, high)."""
        numbers = np.empty((len(self.keys), math.prod(shape)))
        _uniform(self.keys, self._taken, low, high, numbers)
        self._taken += numbers.shape[1]
        return numbers.reshape(-1, *shape)

    def normal(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        """(B, *shape) standard normal."""
        return ndtri(self.uniform(shape=shape))

    def only(self, rows: np.ndarray, draw: Callable[["Draws"], np.ndarray]) -> np.ndarray:
        """What `draw` makes of the streams `rows` (B,) bool; the others pass over the numbers that it takes."""
        part = Draws(self.keys[rows])
        part._taken = self._taken
        drawn = draw(part)
        self._taken = part._taken
        return drawn

    def choice(self, weights: tuple[float, ...]) -> np.ndarray:
        """(B,) indices drawn with these weights, which need not sum to 1."""
        edges = np.cumsum(weights)
        drawn = np.searchsorted(edges, self.uniform() * edges[-1], side="right")
        return np.minimum(drawn, len(weights) - 1)


@njit(cache=True, nogil=True)
def _uniform(keys: Keys, taken: int, low: float, high: float, numbers: np.ndarray) -> None:
    """Writes (B, N) uniform in the open interval (low, high): what `mix` makes of outputs taken + 1, taken + 2..."""
    for b in range(len(keys)):
        for n in range(numbers.shape[1]):
            x = keys[b] + np.uint64(taken + n + 1) * _GOLDEN
            x = (x ^ (x >> np.uint64(30))) * _M1
            x = (x ^ (x >> np.uint64(27))) * _M2
            x = (x ^ (x >> np.uint64(31))) >> np.uint64(11)
            numbers[b, n] = low + (high - low) * ((np.float64(x) + 0.5) * 2.0**-53)
