"""Numba kernel that ranks all maps of a dictionary at all displacements, seen through cells."""

import numpy as np
from numba import njit
from numpy import ndarray as Array

from ops.patch_restoration.cells import LANES, SPAN
from ops.patch_restoration.numba_search import INNER, slide

RIM = SPAN // 2


@njit(**INNER)
def _rank(scores: Array, pairs: Array, score: int, pair: int) -> None:
    # keeps scores (K,) falling; of equal ones the first to come stands first
    place = len(scores) - 1
    while place > 0 and score > scores[place - 1]:
        scores[place], pairs[place] = scores[place - 1], pairs[place - 1]
        place -= 1
    scores[place], pairs[place] = score, pair


@njit(**INNER)
def _shifted(
    query: Array,
    asked: Array,
    block: Array,
    shift: tuple[int, int],
    extent: tuple[int, int, int, int],
    first: tuple[int, int, int],
    columns: Array,
    total: Array,
    found: tuple[Array, Array],
) -> None:
    # scores a block's maps at one displacement; first: pair of the first map, from a map's to the next, number of maps
    top, bottom, left, right = extent
    scores, pairs = found
    columns = columns[: right - left + SPAN - 1]
    columns[:] = 0
    for row in range(top, top + SPAN - 1):
        slide(query, block, shift, row, left, columns, True)
    for y in range(top, bottom):
        slide(query, block, shift, y + SPAN - 1, left, columns, True)
        total[:] = 0
        for c in range(SPAN - 1):
            for k in range(LANES):
                total[k] += columns[c, k]
        for x in range(left, right):
            entering, leaving, most = columns[x - left + SPAN - 1], columns[x - left], np.uint8(0)
            for k in range(LANES):
                total[k] += entering[k]
                most = max(most, total[k])
            if asked[y, x] and most > scores[y, x, -1]:
                for k in range(first[2]):
                    if total[k] > scores[y, x, -1]:
                        _rank(scores[y, x], pairs[y, x], np.int64(total[k]), first[0] + k * first[1])
            for k in range(LANES):
                total[k] -= leaving[k]
        slide(query, block, shift, y, left, columns, False)


@njit(cache=True, nogil=True, error_model="numpy")
def rank_kernel(
    query: Array, asked: Array, samples: Array, start: int, maps: int, radius: int, scores: Array, pairs: Array
) -> None:
    """Best pairs of a map and a displacement for each cell, by equal samples in the 9x9 cells around it.

    Args:
        query: (h + 8, w + 8) uint8, the query's samples with background around them.
        asked: (h, w) bool, cells to rank for.
        samples: (B, h, w, LANES) uint8, the dictionary's, sixty-four maps side by side.
        start: number of the first map in samples.
        maps: number of maps in the dictionary: lanes beyond it are empty.
        radius: largest displacement in y and in x, cells, below h and w.
        scores: (h, w, K) int16, written: equal samples of the K best pairs, best first; starts as -1. Of equal pairs
            the lowest number stands first if samples and displacements come in their order.
        pairs: (h, w, K) int64, written: `(map * D + dy + radius) * D + dx + radius`, D = 2 radius + 1 displacements.
    """
    height, width = asked.shape
    block = np.zeros((height + 2 * RIM, width + 2 * RIM, LANES), np.uint8)
    columns = np.empty((width + 2 * RIM, LANES), np.uint8)
    total = np.empty(LANES, np.uint8)
    span = 2 * radius + 1
    inside = np.nonzero(asked)
    rows, along = (inside[0].min(), inside[0].max() + 1), (inside[1].min(), inside[1].max() + 1)
    for b in range(len(samples)):
        block[RIM : RIM + height, RIM : RIM + width] = samples[b]
        number = start + b * LANES
        for dy in range(-radius, radius + 1):
            top, bottom = max(rows[0], -dy), min(rows[1], height - dy)
            for dx in range(-radius, radius + 1):
                extent = (top, bottom, max(along[0], -dx), min(along[1], width - dx))
                if top < bottom and extent[2] < extent[3]:
                    pair = (number * span + dy + radius) * span + dx + radius
                    first = (pair, span * span, min(LANES, maps - number))
                    _shifted(query, asked, block, (dy, dx), extent, first, columns, total, (scores, pairs))
