"""The public function: check, look up, vote."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.checks import check_choice, check_shape
from ops.joints import BACKGROUND
from ops.patch_restoration.dictionary import PatchDictionary, check_label_maps
from ops.patch_restoration.ranking import CANDIDATES, RADIUS, ranked_pairs
from ops.patch_restoration.search import Neighbours, nearest, refine
from ops.patch_restoration.vote import check_window, vote

Backend = Literal["auto", "reference", "pruned"]
BACKENDS = ("auto", "reference", "pruned")
WINDOW = 17  # pixels, of Neverova et al.
_SMALL = 200_000  # patches that an exhaustive search goes through in half a second


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
    candidates: int | None = None,
    radius: int = RADIUS,
) -> Restored:
    """Replace each foreground pixel's label by a vote of the dictionary's patches nearest to those around it.

    Equations 1 and 2 of Neverova et al., CVIU 2017; without gradient. Background stays background.

    Args:
        maps: (B, H, W) uint8, labels 0 background, 1 palm, 2-20 finger parts; no map may be empty.
        dictionary: of maps of the same size and scale.
        window: W of equation 2, odd, at most 27; 1 takes the label in the middle of the nearest patch (no integration).
        backend: "reference" searches all patches, exactly. "pruned" ranks all maps and displacements, each seen through
            a ninth of its pixels, and searches the best ones exactly. "auto" is "reference" for up to 200,000 patches
            and "pruned" above.
        neighbours: N, nearest patches to give back; the nearest alone votes.
        query_stride: look up the patch of every so-manieth foreground pixel in x and in y; the others take part in the
            vote only as receivers. Patches overlap, so that 1 costs hardly more than 2.
        candidates: pairs of a map and a displacement to search for each 3x3 pixels; None is the backend's default.
        radius: of "pruned": largest displacement of a patch from its pixel, in x and in y.
    """
    check_choice("backend", backend, BACKENDS)
    check_window(window)
    pictures = _checked(maps, dictionary)
    for name, value in (("neighbours", neighbours), ("query_stride", query_stride), ("candidates", candidates)):
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if radius < 0:
        raise ValueError(f"radius: expected at least 0 pixels, got {radius}")
    if neighbours > dictionary.patches:
        raise ValueError(f"neighbours: expected at most {dictionary.patches}, the patches there are, got {neighbours}")
    if backend == "auto":
        backend = "reference" if dictionary.patches <= _SMALL else "pruned"
    if backend == "reference":
        search = partial(nearest, maps=dictionary.maps, neighbours=neighbours)
    else:
        search = _pruned(dictionary, neighbours, candidates or CANDIDATES, radius)
    found = [search(picture, queried_pixels(picture, query_stride)) for picture in pictures]
    return _voted(maps, found, dictionary, window)


def queried_pixels(picture: np.ndarray, stride: int) -> np.ndarray:
    """(H, W) bool: every stride-th foreground pixel in x and in y; all of them if the grid misses the foreground."""
    foreground = picture != BACKGROUND
    grid = np.zeros_like(foreground)
    grid[::stride, ::stride] = foreground[::stride, ::stride]
    return grid if grid.any() else foreground


def _pruned(dictionary: PatchDictionary, neighbours: int, candidates: int, radius: int) -> Callable[..., Neighbours]:
    def search(picture: np.ndarray, queried: np.ndarray) -> Neighbours:
        pairs = ranked_pairs(picture, dictionary, candidates, radius)
        return refine(picture, queried, dictionary.maps, pairs, neighbours)

    return search


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
