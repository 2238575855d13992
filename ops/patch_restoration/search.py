"""Exact search among chosen maps of a dictionary, over threads."""

from typing import NamedTuple

import numpy as np

from ops.patch_restoration.dictionary import PATCH_SIZE
from ops.patch_restoration.numba_search import LANES, REACH, search_kernel
from ops.render.threads import over_batch

EVERYWHERE = 1 << 20  # a radius beyond any map
NONE = -1  # number of a patch that was not found


class Neighbours(NamedTuple):
    """The N nearest patches of each pixel, nearest first; at equal distance the lowest number first."""

    distances: np.ndarray  # (H, W, N) int32 different labels of 729; 730 where there is no such patch
    numbers: np.ndarray  # (H, W, N) int64 (map * H + y) * W + x in the dictionary; NONE where there is none


def nearest(
    query: np.ndarray,
    queried: np.ndarray,
    maps: np.ndarray,
    chosen: np.ndarray | None = None,
    radius: int = EVERYWHERE,
    neighbours: int = 1,
) -> Neighbours:
    """Equation 1, exactly, among the patches of the chosen maps whose centre lies within `radius` of the pixel.

    Args:
        query: (H, W) uint8 labels.
        queried: (H, W) bool, the pixels to look up.
        maps: (M, H, W) uint8, the dictionary's.
        chosen: (C,) numbers of maps; None takes all.
        radius: largest displacement in x and in y.
        neighbours: N, of each pixel.
    """
    chosen = np.arange(len(maps)) if chosen is None else np.sort(chosen).astype(np.int64)
    padded = np.pad(query, REACH)

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        matches = np.full((*query.shape, neighbours), -1, np.int32)
        numbers = np.full((*query.shape, neighbours), NONE, np.int64)
        some = chosen[start * LANES : stop * LANES]
        search_kernel(padded, queried, maps, some, radius, matches, numbers)
        return matches, numbers

    parts = over_batch(part, -(-len(chosen) // LANES))
    matches, numbers = (np.concatenate(each, -1) for each in zip(*parts, strict=True))
    # the parts stand by rising number, so that a stable order keeps the lowest number first
    order = np.argsort(-matches, axis=-1, kind="stable")[..., :neighbours]
    matches, numbers = np.take_along_axis(matches, order, -1), np.take_along_axis(numbers, order, -1)
    return Neighbours(PATCH_SIZE * PATCH_SIZE - matches, numbers)
