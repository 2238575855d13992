"""Equation 2: every pixel takes the label that most of the patches found around it have at its place.

Of the 21 labels of patches the 20 parts have a vote: which pixels are foreground is known from depth. At equal votes
the lowest label wins; a pixel that no patch gives a part keeps its label.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from numpy import ndarray as Array
from torch import Tensor

from ops.joints import BACKGROUND, PALM
from ops.patch_restoration.dictionary import LABELS, PATCH_SIZE


def vote(query: Tensor, numbers: Tensor, maps: Tensor, window: int) -> Tensor:
    """Restored map (H, W) uint8 of a map and its nearest patches.

    Args:
        query: (H, W) uint8 labels; background stays.
        numbers: (H, W) int64 patch found for each pixel, -1 none.
        maps: (M, H, W) uint8, the dictionary's, on the same device.
        window: W, odd, at most 27: patches of pixels in the W x W window around a pixel have a vote. 1 takes the label
            in the middle of the pixel's own patch (no integration).
    """
    if query.device.type == "cpu":
        votes = np.zeros((*query.shape, len(LABELS)), np.int32)
        _vote_kernel(numbers.numpy(), maps.numpy(), window // 2, votes)
        counts = torch.from_numpy(votes)
    else:
        counts = count_votes(numbers, maps, window)
    best = counts[..., PALM:].max(-1)
    parts = torch.where(best.values > 0, best.indices.to(torch.uint8) + PALM, query)
    return torch.where(query == BACKGROUND, query, parts)


def count_votes(numbers: Tensor, maps: Tensor, window: int) -> Tensor:
    """Votes (H, W, 21) int32 in plain torch, on any device: the readable twin of the CPU's kernel."""
    height, width = numbers.shape
    reach = window // 2
    y, x = (numbers >= 0).nonzero(as_tuple=True)
    found = numbers[y, x]
    centre_y, centre_x = found // width % height, found % width
    padded = F.pad(maps[found // (height * width)], (reach,) * 4, value=BACKGROUND)
    along = torch.arange(window, device=maps.device)
    # labels (Q, W, W) of each patch's middle, and the pixels of a map padded by `reach` that they are votes for
    patch = torch.arange(len(found), device=maps.device)[:, None, None]
    labels = padded[patch, (centre_y[:, None] + along)[:, :, None], (centre_x[:, None] + along)[:, None]]
    rows, columns = (y[:, None] + along)[:, :, None], (x[:, None] + along)[:, None]
    wide = width + 2 * reach
    places = ((rows * wide + columns) * len(LABELS) + labels).flatten()
    counts = torch.bincount(places, minlength=(height + 2 * reach) * wide * len(LABELS))
    counts = counts.view(height + 2 * reach, wide, len(LABELS))
    return counts[reach : reach + height, reach : reach + width].to(torch.int32)


@njit(cache=True, nogil=True, error_model="numpy")
def _vote_kernel(numbers: Array, maps: Array, reach: int, votes: Array) -> None:
    height, width = numbers.shape
    for y in range(height):
        for x in range(width):
            if numbers[y, x] < 0:
                continue
            number, centre = divmod(numbers[y, x], height * width)
            centre_y, centre_x = divmod(centre, width)
            # pixels (row, column) of the query that lie in it and in the dictionary's map; beyond that is background
            down, along = centre_y - y, centre_x - x
            for row in range(max(0, y - reach, -down), min(height, y + reach + 1, height - down)):
                for column in range(max(0, x - reach, -along), min(width, x + reach + 1, width - along)):
                    votes[row, column, maps[number, row + down, column + along]] += 1


def check_window(window: int) -> None:
    """Raise unless a window is odd and lies within a patch."""
    if not 1 <= window <= PATCH_SIZE or window % 2 == 0:
        raise ValueError(f"window: expected an odd number of 1 to {PATCH_SIZE} pixels, the patch's side, got {window}")
