"""A coarse view of maps for ranking: the middle pixel of each cell of 3x3.

A patch is then the 9x9 cells around its own, and a displacement a whole number of cells. What ranks where the patches
of a query may be found gives pairs of a dictionary map and a displacement: neighbouring pixels mostly find theirs in
the same pair, and an exact search of a pair costs the same for one pixel as for all.
"""

import numpy as np

from ops.joints import BACKGROUND

CELL = 3  # pixels
SPAN = 9  # cells along a patch of 27 pixels
LANES = 64  # maps side by side: a kernel does the same to all of them


def sampled(maps: np.ndarray) -> np.ndarray:
    """Middle pixels (B, ceil(H / 3), ceil(W / 3)) of the cells of maps (B, H, W); at the rim the last pixel."""
    rows, columns = (np.minimum(np.arange(CELL // 2, side + CELL // 2, CELL), side - 1) for side in maps.shape[1:])
    return np.ascontiguousarray(maps[:, rows][:, :, columns])


def shown(maps: np.ndarray) -> np.ndarray:
    """(B, ceil(H / 3), ceil(W / 3)) bool: cells that hold foreground."""
    padded = np.pad(maps != BACKGROUND, ((0, 0), *((0, -side % CELL) for side in maps.shape[1:])))
    return padded.reshape(len(maps), padded.shape[1] // CELL, CELL, -1, CELL).any((2, 4))


def side_by_side(cells: np.ndarray) -> np.ndarray:
    """Sixty-four maps' cells (M, h, w) together: (ceil(M / 64), h, w, 64), filled up with background."""
    filled = np.pad(cells, ((0, -len(cells) % LANES), (0, 0), (0, 0)))
    return np.ascontiguousarray(filled.reshape(-1, LANES, *cells.shape[1:]).transpose(0, 2, 3, 1))
