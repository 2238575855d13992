"""The public function: check, look up, vote."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.checks import check_choice, check_shape
from ops.joints import BACKGROUND
from ops.patch_restoration.dictionary import PatchDictionary, check_label_maps
from ops.patch_restoration.search import Neighbours, nearest
from ops.patch_restoration.vote import check_window, vote

Backend = Literal["auto", "reference"]
BACKENDS = ("auto", "reference")
WINDOW = 17  # pixels, of Neverova et al.


class Restored(NamedTuple):
    """What the dictionary makes of B maps, on the device of the input."""

    maps: Tensor  # (B, H, W) uint8 restored labels
    numbers: Tensor  # (B, H, W, N) int64 numbers of each pixel's nearest patches, nearest first; -1 not looked up
    distances: Tensor  # (B, H, W, N) int32 their Hamming distances, of 729 labels; 730 not looked up


def restore(
    maps: Tensor,
    dictionary: PatchDictionary,
    *,
    window: int = WINDOW,
    backend: Backend = "auto",
    neighbours: int = 1,
    query_stride: int = 1,
) -> Restored:
    """Replace each foreground pixel's label by a vote of the dictionary's patches nearest to those around it.

    Equations 1 and 2 of Neverova et al., CVIU 2017; without gradient. Background stays background.

    Args:
        maps: (B, H, W) uint8, labels 0 background, 1 palm, 2-20 finger parts; no map may be empty.
        dictionary: of maps of the same size and scale.
        window: W of equation 2, odd, at most 27; 1 takes the label in the middle of the nearest patch (no integration).
        backend: "reference" searches all patches, exactly. "auto" is "reference".
        neighbours: N, nearest patches to give back; the nearest alone votes.
        query_stride: look up the patch of every so-manieth foreground pixel in x and in y; the others take part in the
            vote only as receivers.
    """
    check_choice("backend", backend, BACKENDS)
    check_window(window)
    pictures = _checked(maps, dictionary)
    for name, value in (("neighbours", neighbours), ("query_stride", query_stride)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if neighbours > dictionary.patches:
        raise ValueError(f"neighbours: expected at most {dictionary.patches}, the patches there are, got {neighbours}")
    found = [
        nearest(picture, queried_pixels(picture, query_stride), dictionary.maps, neighbours=neighbours)
        for picture in pictures
    ]
    return _voted(maps, found, dictionary, window)


def queried_pixels(picture: np.ndarray, stride: int) -> np.ndarray:
    """(H, W) bool: every stride-th foreground pixel in x and in y; all of them if the grid misses the foreground."""
    foreground = picture != BACKGROUND
    grid = np.zeros_like(foreground)
    grid[::stride, ::stride] = foreground[::stride, ::stride]
    return grid if grid.any() else foreground


def _checked(maps: Tensor, dictionary: PatchDictionary) -> np.ndarray:
    check_shape("maps", maps, ("B", *dictionary.size))
    if maps.dtype != torch.uint8:
        raise TypeError(f"maps: expected uint8 labels, got {maps.dtype}; convert with .to(torch.uint8)")
    pictures = maps.cpu().contiguous().numpy()
    check_label_maps("maps", pictures)
    return pictures


def _voted(maps: Tensor, found: list[Neighbours], dictionary: PatchDictionary, window: int) -> Restored:
    labels = torch.from_numpy(dictionary.maps)
    numbers = torch.from_numpy(np.stack([each.numbers for each in found]))
    distances = torch.from_numpy(np.stack([each.distances for each in found]))
    restored = [vote(one, own, labels, window) for one, own in zip(maps.cpu(), numbers[..., 0], strict=True)]
    return Restored(*(each.to(maps.device) for each in (torch.stack(restored), numbers, distances)))
