"""Equation 1 by comparing every patch with every other: the oracle that tests compare with, in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ops.joints import BACKGROUND
from ops.patch_restoration.dictionary import PATCH_SIZE

_REACH = PATCH_SIZE // 2


def patches_at(maps: Tensor, places: Tensor) -> Tensor:
    """Windows (N, 27 * 27) uint8 of maps (B, H, W) uint8 around places (N, 3): map, y, x; outside is background."""
    padded = F.pad(maps, (_REACH,) * 4, value=BACKGROUND)
    along = torch.arange(PATCH_SIZE, device=maps.device)
    rows = places[:, 1, None, None] + along[:, None]
    columns = places[:, 2, None, None] + along
    return padded[places[:, 0, None, None], rows, columns].flatten(1)


def nearest_by_brute_force(query: Tensor, queried: Tensor, maps: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Distances and patch numbers, each (Q, neighbours) int64, of the patches nearest in Hamming distance.

    Args:
        query: (H, W) uint8 labels.
        queried: (H, W) bool, Q true: pixels whose patches are looked up, in row-major order.
        maps: (M, H, W) uint8, the dictionary.
        neighbours: how many, at most the dictionary's patches; nearest first, at equal distance the lowest number.
    """
    places = maps.nonzero()
    entries = patches_at(maps, places)  # (P, 729)
    numbers = (places[:, 0] * maps.shape[1] + places[:, 1]) * maps.shape[2] + places[:, 2]
    at = F.pad(queried.nonzero(), (1, 0))
    distances = torch.stack([(entries != patch).sum(-1) for patch in patches_at(query[None], at)])  # (Q, P)
    order = distances.argsort(dim=1, stable=True)[:, :neighbours]  # the patches stand by rising number
    return distances.gather(1, order), numbers[order]
