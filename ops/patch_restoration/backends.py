"""The ways to find nearest patches, each a function of one map."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.joints import BACKGROUND
from ops.patch_restoration import faiss_index, ranking
from ops.patch_restoration.device_search import check_device, index_on, maps_on, refine_by_torch
from ops.patch_restoration.dictionary import PatchDictionary
from ops.patch_restoration.search import Neighbours, nearest, refine

SMALL = 200_000  # patches that an exhaustive search goes through in half a second
# of one map (H, W) uint8: distances and numbers (H, W, N), of its foreground
Search = Callable[[np.ndarray], tuple[Tensor, Tensor]]


class Options(NamedTuple):
    """Of a search; see `ops.patch_restoration.restore`."""

    neighbours: int
    candidates: int | None
    probes: int


def chosen_backend(device: torch.device, dictionary: PatchDictionary) -> str:
    """What "auto" stands for."""
    if dictionary.patches <= SMALL:
        return "reference"
    try:
        check_device(device)
    except (ImportError, ValueError):
        # faster than pruning, but not by the minutes that an index takes to build
        return "faiss-cpu" if find_spec("faiss") and faiss_index.index_at_hand(dictionary) else "pruned"
    return "faiss-gpu"


def search_with(backend: str, device: torch.device, dictionary: PatchDictionary, options: Options) -> Search:
    """The search of a named backend.

    Raises:
        ImportError, ValueError: it cannot run here, with the remedy.
    """
    maps, neighbours = dictionary.maps, options.neighbours
    if backend == "reference":
        return lambda picture: _tensors(nearest(picture, picture != BACKGROUND, maps, neighbours=neighbours))
    if backend == "faiss-gpu":
        return _on_device(device, dictionary, options)
    if backend == "pruned":
        candidates = options.candidates or ranking.CANDIDATES
        find = partial(ranking.ranked_pairs, dictionary=dictionary, candidates=candidates)
    else:
        candidates = options.candidates or faiss_index.CANDIDATES
        find = partial(faiss_index.index_of(dictionary).pairs, candidates=candidates, probes=options.probes)
    return lambda picture: _tensors(refine(picture, picture != BACKGROUND, maps, find(picture), neighbours))


def _on_device(device: torch.device, dictionary: PatchDictionary, options: Options) -> Search:
    check_device(device)
    index, maps = faiss_index.index_of(dictionary), maps_on(dictionary, device)
    candidates = options.candidates or faiss_index.CANDIDATES
    find = partial(index.pairs, candidates=candidates, probes=options.probes, index=index_on(index, device))

    def search(picture: np.ndarray) -> tuple[Tensor, Tensor]:
        query = torch.from_numpy(picture).to(device)
        return refine_by_torch(query, query != BACKGROUND, maps, find(picture), options.neighbours)

    return search


def _tensors(found: Neighbours) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(found.distances), torch.from_numpy(found.numbers)
