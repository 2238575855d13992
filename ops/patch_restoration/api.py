"""The public function: check, look up, vote."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.checks import check_choice, check_not_negative, check_shape
from ops.patch_restoration import crf
from ops.patch_restoration.backends import Options, chosen_backend, search_with
from ops.patch_restoration.device_search import maps_on
from ops.patch_restoration.dictionary import PatchDictionary, check_label_maps
from ops.patch_restoration.faiss_index import PROBES
from ops.patch_restoration.vote import check_window, vote

Backend = Literal["auto", "reference", "pruned", "faiss-cpu", "faiss-gpu"]
Integration = Literal["vote", "potts", "overlap"]
BACKENDS = ("auto", "reference", "pruned", "faiss-cpu", "faiss-gpu")
INTEGRATIONS = ("vote", "potts", "overlap")
WINDOW = 17  # pixels, of Neverova et al.


class Restored(NamedTuple):
    """What the dictionary makes of B maps, on the device of the input."""

    maps: Tensor  # (B, H, W) uint8 restored labels
    numbers: Tensor  # (B, H, W, N) int64 numbers of each pixel's nearest patches, nearest first; -1 of the background
    distances: Tensor  # (B, H, W, N) int32 their Hamming distances, of 729 labels; 730 of the background


def restore(
    maps: Tensor,
    dictionary: PatchDictionary,
    *,
    window: int = WINDOW,
    backend: Backend = "auto",
    integration: Integration = "vote",
    alpha: float | None = None,
    neighbours: int | None = None,
    candidates: int | None = None,
    probes: int = PROBES,
) -> Restored:
    """Replace each foreground pixel's label by a vote of the dictionary's patches nearest to those around it.

    Equations 1 and 2 of Neverova et al., CVIU 2017; without gradient. Background stays background.

    Args:
        maps: (B, H, W) uint8, labels 0 background, 1 palm, 2-20 finger parts; no map may be empty.
        dictionary: of maps of the same size and scale.
        window: W of equation 2, odd, at most 27; 1 takes the label in the middle of the nearest patch (no integration).
        backend: how patches are found.
            "reference": all are searched, exactly.
            "pruned": all maps and displacements up to 9 pixels are ranked, seen through a ninth of their pixels; the
            best pairs are searched exactly. Needs no index.
            "faiss-cpu": a FAISS index of patches ranks the pairs. It is read from the file beside the dictionary's, or
            built on first use, in memory (a minute or two for 36 million patches).
            "faiss-gpu": index and exact search on the maps' CUDA device.
            "auto": "reference" for up to 200,000 patches; above, "faiss-gpu" if maps lie on a CUDA device and FAISS has
            GPU support, else "faiss-cpu" where the dictionary has an index, in its file or from an earlier call, else
            "pruned".
        integration: how overlapping patches become labels. "vote" is equation 2, "potts" and "overlap" minimise a
            random field of N patches a pixel (section 5.1, see `ops.patch_restoration.crf`), on the CPU.
        alpha: weight of the random field's pairwise term; None is 3 for "potts", 0.1 for "overlap".
        neighbours: N, nearest patches to give back; the nearest alone votes. None is 10 for random fields, else 1.
        candidates: pairs of a map and a displacement to search for each 3x3 pixels; None is the backend's default.
        probes: of FAISS: lists of its index to look through.
    """
    check_choice("backend", backend, BACKENDS)
    check_choice("integration", integration, INTEGRATIONS)
    check_window(window)
    pictures = _checked(maps, dictionary)
    field = integration in crf.ALPHA
    if neighbours is None:
        neighbours = min(crf.NEIGHBOURS, dictionary.patches) if field else 1
    _check_numbers(dictionary, neighbours=neighbours, candidates=candidates, probes=probes)
    check_not_negative(alpha=alpha or 0)
    if backend == "auto":
        backend = chosen_backend(maps.device, dictionary)
    search = search_with(backend, maps.device, dictionary, Options(neighbours, candidates, probes))
    found = [search(picture) for picture in pictures]
    distances, numbers = (torch.stack(each) for each in zip(*found, strict=True))
    if field:
        restored = _minimised(numbers, distances, dictionary, integration, alpha)
    else:
        restored = _voted(maps, numbers, dictionary, window)
    return Restored(*(each.to(maps.device) for each in (restored, numbers, distances)))


def _checked(maps: Tensor, dictionary: PatchDictionary) -> np.ndarray:
    check_shape("maps", maps, ("B", *dictionary.size))
    if maps.dtype != torch.uint8:
        raise TypeError(f"maps: expected uint8 labels, got {maps.dtype}; convert with .to(torch.uint8)")
    pictures = maps.cpu().contiguous().numpy()
    check_label_maps("maps", pictures)
    return pictures


def _check_numbers(dictionary: PatchDictionary, neighbours: int, **numbers: int | None) -> None:
    for name, value in {"neighbours": neighbours, **numbers}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if neighbours > dictionary.patches:
        raise ValueError(f"neighbours: expected at most {dictionary.patches}, the patches there are, got {neighbours}")


def _voted(maps: Tensor, numbers: Tensor, dictionary: PatchDictionary, window: int) -> Tensor:
    labels = maps_on(dictionary, numbers.device)
    nearest = numbers[..., 0]
    return torch.stack(
        [vote(one, own, labels, window) for one, own in zip(maps.to(nearest.device), nearest, strict=True)]
    )


def _minimised(
    numbers: Tensor, distances: Tensor, dictionary: PatchDictionary, integration: str, alpha: float | None
) -> Tensor:
    alpha = crf.ALPHA[integration] if alpha is None else alpha
    pairs = zip(numbers.cpu().numpy(), distances.cpu().numpy(), strict=True)
    found = [crf.integrate(own, far, dictionary.maps, integration, alpha) for own, far in pairs]
    return torch.from_numpy(np.stack(found))
