"""Spread a batch over threads. Numba kernels release the GIL, so plain threads serve and no OpenMP pool is involved."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

T = TypeVar("T")
# pictures differ in cost: several chunks per thread keep all threads busy to the end
CHUNKS_PER_THREAD = 4


def over_batch(task: Callable[[int, int], T], batch: int) -> list[T]:
    """Run `task(start, stop)` on consecutive parts of range(batch), in order.

    Uses `torch.get_num_threads()` threads: what `torch.set_num_threads` says, and 1 in the workers of a DataLoader.
    A picture is always computed by one thread, so results do not depend on the number of threads.
    """
    threads = min(torch.get_num_threads(), batch)
    if threads <= 1:
        return [task(0, batch)] if batch else []
    chunks = min(batch, threads * CHUNKS_PER_THREAD)
    bounds = [batch * i // chunks for i in range(chunks + 1)]
    return list(_pool(os.getpid(), threads).map(task, bounds[:-1], bounds[1:]))


# the process id is a key because the threads of a pool do not survive a fork
@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="render")
