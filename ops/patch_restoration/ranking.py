"""Pairs of a map and a displacement to search, without an index: all maps are ranked, seen through cells."""

import numpy as np

from ops.patch_restoration.cells import CELL, LANES, sampled, shown
from ops.patch_restoration.dictionary import PatchDictionary
from ops.patch_restoration.numba_ranking import RIM, rank_kernel
from ops.render.threads import over_batch

CANDIDATES = 50  # of each cell
RADIUS = 9  # pixels


def ranked_pairs(
    query: np.ndarray, dictionary: PatchDictionary, candidates: int = CANDIDATES, radius: int = RADIUS
) -> np.ndarray:
    """Pairs (P, 3) int64 map, dy, dx (pixels, whole cells), each once and by rising map.

    For each cell of the query that holds foreground the `candidates` pairs with most equal labels among the middle
    pixels of the 9x9 cells around it; at equal labels those of the first maps.

    Args:
        query: (H, W) uint8 labels.
        dictionary: of maps of the same size.
        candidates: pairs of each cell.
        radius: largest displacement, pixels: crops are centred, what resembles a query lies near the same place.
    """
    cells, asked = sampled(query[None])[0], shown(query[None])[0]
    reach = max(0, min(radius // CELL, *(side - 1 for side in cells.shape)))
    padded = np.pad(cells, RIM)

    def part(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        scores = np.full((*cells.shape, candidates), -1, np.int16)
        pairs = np.full((*cells.shape, candidates), -1, np.int64)
        blocks = dictionary.cells[start:stop]
        rank_kernel(padded, asked, blocks, start * LANES, len(dictionary.maps), reach, scores, pairs)
        return scores[asked], pairs[asked]

    parts = over_batch(part, len(dictionary.cells))
    scores, pairs = (np.concatenate(each, -1) for each in zip(*parts, strict=True))
    # the parts stand in the order of the maps, so that a stable order keeps the first ones first
    best = np.argsort(-scores, axis=-1, kind="stable")[..., :candidates]
    return decoded(np.take_along_axis(pairs, best, -1), reach)


def decoded(pairs: np.ndarray, reach: int) -> np.ndarray:
    """Pairs (P, 3) map, dy, dx in pixels, each once and in order, of the kernel's numbers (any shape; -1 is none)."""
    span = 2 * reach + 1
    pairs = np.unique(pairs)
    pairs = pairs[pairs >= 0]
    shifts = np.stack([pairs // span % span, pairs % span], -1) - reach
    return np.column_stack([pairs // (span * span), CELL * shifts])
