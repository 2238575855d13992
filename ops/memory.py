"""Memory that comes again: the system zeroes fresh pages of a large array, slower than a kernel fills them."""

import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

_KINDS = 16  # shapes and types that are remembered


class Memory:
    """Arrays whose memory is used again once nobody holds them.

    Args:
        limit: how many arrays of one shape and type are kept though nobody holds them.
    """

    def __init__(self, limit: int = 4) -> None:
        self._limit = limit
        self._free: dict[tuple[tuple[int, ...], np.dtype], deque[np.ndarray]] = {}

    def array(self, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """As np.empty, whose large arrays come in huge pages.

        Hand it out whole, e.g. by torch.from_numpy: a view that numpy makes of it does not keep it.
        """
        kind = tuple(shape), np.dtype(dtype)
        free = self._free.setdefault(kind, deque(maxlen=self._limit))
        if len(self._free) > _KINDS:
            self._free.pop(next(iter(self._free)), None)
        try:
            block = free.pop()  # the last to come back may be in the cache yet
        except IndexError:
            block = np.empty(*kind)
        handed_out = block.view()
        weakref.finalize(handed_out, free.append, block).atexit = False
        return handed_out

    def empty(self, shape: tuple[int, ...], dtype: type = np.float32) -> Tensor:
        """As torch.empty; its memory comes again when neither it nor a view of it is held."""
        return torch.from_numpy(self.array(shape, dtype))


MEMORY = Memory()  # of this process
