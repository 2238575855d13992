"""Exact search among all patches of a dictionary, or at chosen displacements in some of its maps, over threads."""

from typing import NamedTuple

import numpy as np

from ops.patch_restoration.cells import CELL, LANES
from ops.patch_restoration.dictionary import PATCH_SIZE
from ops.patch_restoration.numba_refine import UNASKED, refine_kernel
from ops.patch_restoration.numba_search import REACH, search_kernel
from ops.render.threads import over_batch

EVERYWHERE = 1 << 20  # a radius beyond any map
NONE = -1  # number of a patch that was not found
SLACK = 20  # equal labels that a pair may lack, of the best so far, for the displacements next to it to be summed
_NO_KEY = np.iinfo(np.int64).max
_PATCH = PATCH_SIZE * PATCH_SIZE


class Neighbours(NamedTuple):
    """The N nearest patches of each pixel, nearest first; at equal distance the lowest number first."""

    distances: np.ndarray  # (H, W, N) int32 different labels of 729; 730 where there is no such patch
    numbers: np.ndarray  # (H, W, N) int64 (map * H + y) * W + x in the dictionary; NONE where there is none


def nearest(
    query: np.ndarray, queried: np.ndarray, maps: np.ndarray, radius: int = EVERYWHERE, neighbours: int = 1
) -> Neighbours:
    """Equation 1, exactly, among the patches whose centre lies within `radius` of the pixel.

    Args:
        query: (H, W) uint8 labels.
        queried: (H, W) bool, the pixels to look up.
        maps: (M, H, W) uint8, the dictionary's.
        radius: largest displacement in x and in y.
        neighbours: N, of each pixel.
    """
    padded = np.pad(query, REACH)

    def part(start: int, stop: int) -> np.ndarray:
        found = _nothing(query.shape, neighbours)
        search_kernel(padded, queried, maps, start * LANES, min(stop * LANES, len(maps)), radius, *found)
        return _keys(*found)

    return _merged(over_batch(part, -(-len(maps) // LANES)), neighbours)


def refine(
    query: np.ndarray,
    queried: np.ndarray,
    maps: np.ndarray,
    pairs: np.ndarray,
    neighbours: int = 1,
    slack: int = SLACK,
) -> Neighbours:
    """Equation 1 among the patches at the displacements of pairs, and at those next to them, in the pairs' maps.

    All pairs are searched exactly; the displacements up to a pixel beside one only if some pixel's patch there falls
    short of its best by no more than `slack` labels.

    Args:
        query: (H, W) uint8 labels.
        queried: (H, W) bool, the pixels to look up.
        maps: (M, H, W) uint8, the dictionary's.
        pairs: (P, 3) int64 map, dy, dx, each once and displacements at least 3 pixels apart, by rising map.
        neighbours: N, of each pixel.
        slack: equal labels, of 729, that displacements next to each other are taken to differ by; 729 omits nothing.
    """
    padded = np.pad(query, REACH)
    rows, columns = (np.flatnonzero(queried.any(axis)) for axis in (1, 0))
    extent = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1

    def part(start: int, stop: int, limits: np.ndarray, wanted: np.ndarray, around: int) -> np.ndarray:
        found = _nothing(query.shape, neighbours)
        refine_kernel(padded, extent, limits.copy(), wanted, maps, pairs[start:stop], around, *found)
        return _keys(*found)

    # what the pairs themselves hold is the least that is asked of those next to them, whichever thread searches them
    limits = np.where(queried, 0, UNASKED).astype(np.uint16)
    keys = over_batch(lambda start, stop: part(start, stop, limits, limits, 0), len(pairs))
    least = _PATCH - np.minimum(_merged(keys, neighbours).distances[..., -1], _PATCH)
    limits = np.where(queried, least, UNASKED).astype(np.uint16)
    wanted = np.where(queried, np.maximum(least - slack, 0), UNASKED).astype(np.uint16)
    keys += over_batch(lambda start, stop: part(start, stop, limits, wanted, CELL // 2), len(pairs))
    return _merged(keys, neighbours)


def _nothing(shape: tuple[int, int], neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((*shape, neighbours), -1, np.int32), np.full((*shape, neighbours), NONE, np.int64)


def _keys(matches: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    # one number to sort by: distance, then number
    return np.where(numbers == NONE, _NO_KEY, (_PATCH - matches).astype(np.int64) << 32 | numbers)


def _merged(keys: list[np.ndarray], neighbours: int) -> Neighbours:
    # the first N of what several threads found
    best = np.sort(np.concatenate(keys, -1), -1)[..., :neighbours]
    found = best != _NO_KEY
    distances = np.where(found, best >> 32, _PATCH + 1).astype(np.int32)
    return Neighbours(distances, np.where(found, best & ((1 << 32) - 1), NONE))
