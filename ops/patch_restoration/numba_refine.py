"""Numba kernels that search pairs of a dictionary map and a displacement exactly, all pixels of the query at once."""

import numpy as np
from numba import njit
from numpy import ndarray as Array

from ops.joints import BACKGROUND
from ops.patch_restoration.dictionary import PATCH_SIZE
from ops.patch_restoration.numba_search import INNER, REACH, insert

UNASKED = 1 << 14  # more equal labels than a patch has


@njit(**INNER)
def _add_row(labels: Array, others: Array, column: Array) -> None:
    for c in range(len(labels)):
        column[c] += np.uint16(labels[c] == others[c])


@njit(**INNER)
def _take_row(labels: Array, others: Array, column: Array) -> None:
    for c in range(len(labels)):
        column[c] -= np.uint16(labels[c] == others[c])


@njit(**INNER)
def _add_up(one: Array, step: int, both: Array) -> None:
    for c in range(len(one) - step):
        both[c] = one[c] + one[c + step]


@njit(**INNER)
def _add_window(eights: Array, pairs: Array, column: Array, values: Array) -> None:
    # 27 = 8 + 8 + 8 + 2 + 1
    for c in range(len(values)):
        values[c] = eights[c] + eights[c + 8] + eights[c + 16] + pairs[c + 24] + column[c + 26]


@njit(**INNER)
def _reached(values: Array, limits: Array) -> bool:
    some = False
    for c in range(len(values)):
        some |= values[c] >= limits[c]
    return some


@njit(**INNER)
def _record(values: Array, limits: Array, centre: Array, first: int, matches: Array, numbers: Array) -> None:
    for c in range(len(values)):
        if values[c] >= limits[c] and centre[c] != BACKGROUND:
            insert(matches[c], numbers[c], np.int64(values[c]), first + c)
            limits[c] = max(np.int64(limits[c]), matches[c, -1])


@njit(**INNER)
def _sum(
    query: Array,
    one: Array,
    first: int,
    shift: tuple[int, int],
    extent: tuple[int, int, int, int],
    limits: Array,
    record: bool,
    found: tuple[Array, Array],
    sums: Array,
) -> bool:
    # Sums the equal labels of all patches of the query with those `shift` away in one map (padded, first pixel has
    # number `first`), records what reaches the limits or says at the first whether there is any.
    height, width = limits.shape
    matches, numbers = found
    top, bottom = max(extent[0], -shift[0]), min(extent[1], height - shift[0])
    left, right = max(extent[2], -shift[1]), min(extent[3], width - shift[1])
    if top >= bottom or left >= right:
        return False
    wide = right - left + PATCH_SIZE - 1
    column, pairs, fours, eights, values = sums[0, :wide], sums[1], sums[2], sums[3], sums[4, : right - left]
    column[:] = 0
    other = left + shift[1]
    for row in range(top, top + 2 * REACH):
        _add_row(query[row, left : left + wide], one[row + shift[0], other : other + wide], column)
    for y in range(top, bottom):
        row = y + 2 * REACH
        _add_row(query[row, left : left + wide], one[row + shift[0], other : other + wide], column)
        _add_up(column, 1, pairs)
        _add_up(pairs[: wide - 1], 2, fours)
        _add_up(fours[: wide - 3], 4, eights)
        _add_window(eights, pairs, column, values)
        limit = limits[y, left:right]
        if _reached(values, limit):
            if not record:
                return True
            centre = one[y + REACH + shift[0], left + REACH + shift[1] : right + REACH + shift[1]]
            number = first + (y + shift[0]) * width + left + shift[1]
            _record(values, limit, centre, number, matches[y, left:right], numbers[y, left:right])
        _take_row(query[y, left : left + wide], one[y + shift[0], other : other + wide], column)
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def refine_kernel(
    query: Array,
    extent: tuple[int, int, int, int],
    limits: Array,
    wanted: Array,
    maps: Array,
    pairs: Array,
    around: int,
    matches: Array,
    numbers: Array,
) -> None:
    """Nearest patches at some displacements in some maps.

    Args:
        query: (H + 26, W + 26) uint8, the map with background around it.
        extent: top, bottom, left, right of the pixels to look up.
        limits: (H, W) uint16, changed: equal labels that a patch must have to be of interest, UNASKED at pixels that
            are not looked up.
        wanted: (H, W) uint16: equal labels that some patch must have at the displacement itself for those around it to
            be summed.
        maps: (M, H, W) uint8.
        pairs: (P, 3) int64 map, dy, dx; fastest if pairs of one map stand together.
        around: 0 sums the displacements themselves; else the others that are at most so many pixels away.
        matches: (H, W, N) int32, written: equal labels of the N best patches, best first; starts as -1.
        numbers: (H, W, N) int64, written: their numbers; at equal matches the lowest; starts as -1.
    """
    height, width = limits.shape
    one = np.zeros(query.shape, np.uint8)
    sums = np.empty((5, query.shape[1]), np.uint16)
    at, found = -1, (matches, numbers)
    for p in range(len(pairs)):
        number, dy, dx = pairs[p]
        if number != at:
            at = number
            one[REACH : REACH + height, REACH : REACH + width] = maps[at]
        first = at * height * width
        if around == 0:
            _sum(query, one, first, (dy, dx), extent, limits, True, found, sums)
        elif _sum(query, one, first, (dy, dx), extent, wanted, False, found, sums):
            for v in range(-around, around + 1):
                for u in range(-around, around + 1):
                    if (v, u) != (0, 0):
                        _sum(query, one, first, (dy + v, dx + u), extent, limits, True, found, sums)
