"""Numba kernel of the exact search: for one displacement all distances are box sums of one picture of equal labels.

Sixty-four dictionary maps are laid side by side, pixel by pixel, so that each step is the same for all of them: the
sums of the window's columns slide down the map, the sum of 27 columns slides along a row.
"""

import numpy as np
from numba import njit
from numpy import ndarray as Array

from ops.patch_restoration.cells import LANES
from ops.patch_restoration.dictionary import PATCH_SIZE

REACH = PATCH_SIZE // 2
_RIM = PATCH_SIZE - 1
INNER = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # of what only kernels call


@njit(**INNER)
def _lay(maps: Array, block: Array) -> None:
    # writes maps (up to LANES, H, W) into the inside of block (H + 26, W + 26, LANES)
    for k in range(len(maps)):
        one = maps[k]
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                block[y + REACH, x + REACH, k] = one[y, x]


@njit(**INNER)
def insert(matches: Array, numbers: Array, value: int, number: int) -> None:
    """Keep matches (N,) falling and, where equal, numbers (N,) rising."""
    place = len(matches) - 1
    if value < matches[place] or (value == matches[place] and number >= numbers[place]):
        return
    while place > 0 and (value > matches[place - 1] or (value == matches[place - 1] and number < numbers[place - 1])):
        matches[place], numbers[place] = matches[place - 1], numbers[place - 1]
        place -= 1
    matches[place], numbers[place] = value, number


@njit(**INNER)
def _extent(queried: Array) -> Array:
    # (H, 2) first and one past the last pixel to look up in each row, (0, 0) where there is none
    extent = np.zeros((len(queried), 2), np.int64)
    for y in range(len(queried)):
        for x in range(queried.shape[1]):
            if queried[y, x]:
                if extent[y, 1] == 0:
                    extent[y, 0] = x
                extent[y, 1] = x + 1
    return extent


@njit(**INNER)
def slide(query: Array, block: Array, shift: tuple[int, int], row: int, left: int, columns: Array, add: bool) -> None:
    """Add a row of equal labels to the columns' sums, or take it away."""
    for c in range(len(columns)):
        label, other, column = query[row, left + c], block[row + shift[0], left + c + shift[1]], columns[c]
        if add:
            for k in range(LANES):
                column[k] += np.uint8(other[k] == label)
        else:
            for k in range(LANES):
                column[k] -= np.uint8(other[k] == label)


@njit(**INNER)
def _shifted(
    query: Array,
    queried: Array,
    extent: Array,
    block: Array,
    maps: tuple[int, int],
    shift: tuple[int, int],
    columns: Array,
    total: Array,
    found: tuple[Array, Array],
) -> None:
    # looks at all queried pixels with the patches `shift` away in the maps of a block, number of the first and how many
    matches, numbers = found
    first, count = maps
    height, width = extent.shape[0], query.shape[1] - _RIM
    top, bottom = max(0, -shift[0]), min(height, height - shift[0])
    while top < bottom and extent[top, 0] >= extent[top, 1]:
        top += 1
    while bottom > top and extent[bottom - 1, 0] >= extent[bottom - 1, 1]:
        bottom -= 1
    left, right = width, 0
    for y in range(top, bottom):
        if extent[y, 0] < extent[y, 1]:
            left, right = min(left, extent[y, 0]), max(right, extent[y, 1])
    left, right = max(left, -shift[1]), min(right, width - shift[1])
    if left >= right or top >= bottom:
        return
    columns = columns[: right - left + _RIM]
    columns[:] = 0
    for row in range(top, top + _RIM):
        slide(query, block, shift, row, left, columns, True)
    for y in range(top, bottom):
        slide(query, block, shift, y + _RIM, left, columns, True)
        begin, end = max(left, extent[y, 0]), min(right, extent[y, 1])
        if begin < end:
            total[:] = 0
            for c in range(begin - left, begin - left + _RIM):
                column = columns[c]
                for k in range(LANES):
                    total[k] += column[k]
            for x in range(begin, end):
                entering, leaving, most = columns[x - left + _RIM], columns[x - left], np.uint16(0)
                for k in range(LANES):
                    total[k] += entering[k]
                    most = max(most, total[k])
                if queried[y, x] and most >= matches[y, x, -1]:
                    centre = block[y + REACH + shift[0], x + REACH + shift[1]]
                    for k in range(count):
                        if total[k] >= matches[y, x, -1] and centre[k] != 0:
                            number = ((first + k) * height + y + shift[0]) * width + x + shift[1]
                            insert(matches[y, x], numbers[y, x], np.int64(total[k]), number)
                for k in range(LANES):
                    total[k] -= leaving[k]
        slide(query, block, shift, y, left, columns, False)


@njit(cache=True, nogil=True, error_model="numpy")
def search_kernel(
    query: Array, queried: Array, maps: Array, start: int, stop: int, radius: int, matches: Array, numbers: Array
) -> None:
    """Nearest patches among the maps from `start` on and before `stop`, for the pixels of one map.

    Args:
        query: (H + 26, W + 26) uint8, the map with background around it.
        queried: (H, W) bool, the pixels to look up.
        maps: (M, H, W) uint8.
        start: number of the first map to search.
        stop: one past that of the last.
        radius: largest displacement of a patch from the pixel, in x and in y.
        matches: (H, W, N) int32, written: equal labels of the N best patches, best first; starts as -1.
        numbers: (H, W, N) int64, written: their numbers; at equal matches the lowest; starts as -1.
    """
    height, width = queried.shape
    extent = _extent(queried)
    block = np.zeros((height + _RIM, width + _RIM, LANES), np.uint8)
    columns = np.empty((width + _RIM, LANES), np.uint8)
    total = np.empty(LANES, np.uint16)
    down, along = min(radius, height - 1), min(radius, width - 1)
    for first in range(start, stop, LANES):
        count = min(LANES, stop - first)
        _lay(maps[first : first + count], block)
        for dy in range(-down, down + 1):
            for dx in range(-along, along + 1):
                _shifted(query, queried, extent, block, (first, count), (dy, dx), columns, total, (matches, numbers))
