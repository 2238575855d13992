"""The fast search on a CUDA device: FAISS ranks there, plain torch searches the pairs exactly.

`refine_by_torch` is the twin of the CPU's kernel on any device: the same patches, bit for bit.
"""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.joints import BACKGROUND
from ops.patch_restoration.cells import CELL
from ops.patch_restoration.dictionary import PATCH_SIZE, PatchDictionary
from ops.patch_restoration.faiss_index import PatchIndex, faiss_module
from ops.patch_restoration.search import NONE, SLACK

_REACH = PATCH_SIZE // 2
_PATCH = PATCH_SIZE * PATCH_SIZE
_NO_KEY = torch.iinfo(torch.int64).max
_CHUNK = 4096  # displacements summed together: 74 x 74 numbers each
_AROUND = [(v, u) for v in range(-(CELL // 2), CELL // 2 + 1) for u in range(-(CELL // 2), CELL // 2 + 1)]
_COPIES: WeakKeyDictionary[PatchDictionary, dict[torch.device, Tensor]] = WeakKeyDictionary()
_INDICES: WeakKeyDictionary[PatchIndex, dict[torch.device, tuple[Any, Any]]] = WeakKeyDictionary()


def check_device(device: torch.device) -> None:
    """Raise unless FAISS can search on `device`."""
    if device.type != "cuda":
        raise ValueError(
            f"backend='faiss-gpu': maps lie on {device}, expected a CUDA device; move them with .cuda(), or use "
            "backend='faiss-cpu'"
        )
    if not hasattr(faiss_module(), "StandardGpuResources"):
        raise ImportError(
            "backend='faiss-gpu': the FAISS that is installed has no GPU support; remedy: pip uninstall -y faiss-cpu, "
            "then pip install 'handful[gpu]'"
        )


def maps_on(dictionary: PatchDictionary, device: torch.device) -> Tensor:
    """The dictionary's maps on a device, copied there once."""
    copies = _COPIES.setdefault(dictionary, {})
    if device not in copies:
        copies[device] = torch.from_numpy(dictionary.maps).to(device)
    return copies[device]


def index_on(index: PatchIndex, device: torch.device) -> Any:
    """FAISS's index on a CUDA device, copied there once."""
    copies = _INDICES.setdefault(index, {})
    if device not in copies:
        faiss = faiss_module()
        resources = faiss.StandardGpuResources()  # has to outlive the copy
        copies[device] = resources, faiss.index_cpu_to_gpu(resources, device.index or 0, index.index)
    return copies[device][1]


def refine_by_torch(
    query: Tensor, queried: Tensor, maps: Tensor, pairs: np.ndarray, neighbours: int = 1, slack: int = SLACK
) -> tuple[Tensor, Tensor]:
    """Distances (H, W, N) int32 and numbers (H, W, N) int64: see `ops.patch_restoration.search.refine`.

    Args:
        query: (H, W) uint8 labels.
        queried: (H, W) bool, the pixels to look up.
        maps: (M, H, W) uint8, the dictionary's.
        pairs: (P, 3) int64 map, dy, dx.
        neighbours: N, of each pixel.
        slack: what pairs may lack for the displacements next to them to be summed.
    """
    at = queried.nonzero()
    shifts = torch.from_numpy(pairs).to(query.device)
    best = torch.full((len(at), neighbours), _NO_KEY, device=query.device)
    summed = []
    for chunk in shifts.split(_CHUNK):
        sums, keys = _sums(query, at, maps, chunk)
        summed.append(sums)
        best = _best(best, keys)
    least = torch.where(best[:, -1] == _NO_KEY, 0, _PATCH - (best[:, -1] >> 32))
    near = torch.cat([(sums >= (least - slack).clamp_min(0)).any(1) for sums in summed])
    for v, u in _AROUND:
        if (v, u) != (0, 0):
            for chunk in (shifts[near] + shifts.new_tensor([0, v, u])).split(_CHUNK):
                best = _best(best, _sums(query, at, maps, chunk)[1])
    distances = torch.full((*query.shape, neighbours), _PATCH + 1, dtype=torch.int32, device=query.device)
    numbers = torch.full((*query.shape, neighbours), NONE, device=query.device)
    found = best != _NO_KEY
    distances[at[:, 0], at[:, 1]] = torch.where(found, best >> 32, _PATCH + 1).to(torch.int32)
    numbers[at[:, 0], at[:, 1]] = torch.where(found, best & ((1 << 32) - 1), NONE)
    return distances, numbers


def _best(best: Tensor, keys: Tensor) -> Tensor:
    # best (Q, N) so far and keys (S, Q): the N lowest, in order
    together = torch.cat([best, keys.T], 1)
    return together.topk(best.shape[1], dim=1, largest=False, sorted=True).values


def _sums(query: Tensor, at: Tensor, maps: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    # equal labels (S, Q) of the patches around `at` and those `shifts` (S, 3) away, and keys (S, Q): distance, number
    height, width = query.shape
    rows = torch.arange(-_REACH, height + _REACH, device=query.device) + shifts[:, 1, None]  # (S, H + 26)
    columns = torch.arange(-_REACH, width + _REACH, device=query.device) + shifts[:, 2, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    one = shifts[:, 0, None, None], rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]
    labels = torch.where(inside, maps[one], BACKGROUND)
    equal = (labels == F.pad(query, (_REACH,) * 4, value=BACKGROUND))[:, None].float()
    down = F.avg_pool2d(equal, (PATCH_SIZE, 1), stride=1, divisor_override=1)
    sums = F.avg_pool2d(down, (1, PATCH_SIZE), stride=1, divisor_override=1)[:, 0, at[:, 0], at[:, 1]].long()
    y, x = at[:, 0] + shifts[:, 1, None], at[:, 1] + shifts[:, 2, None]
    numbers = (shifts[:, 0, None] * height + y) * width + x
    patch = labels[:, at[:, 0] + _REACH, at[:, 1] + _REACH] != BACKGROUND
    return torch.where(inside[:, at[:, 0] + _REACH, at[:, 1] + _REACH], sums, -1), torch.where(
        patch, (_PATCH - sums) << 32 | numbers, _NO_KEY
    )
