"""Work in threads beside the main one: results in order, and no more of them ahead than asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Done = TypeVar("Done")

# what is the input's fault, and no reason to stop
BAD_INPUT = (ValueError, FileNotFoundError, FileExistsError, PermissionError)


def in_order(
    work: Callable[[Given], Done], items: Iterable[Given | Exception], threads: int, ahead: int
) -> Iterator[Done | Exception]:
    """`work` of every item, by several threads, in the items' order; errors that are an input's fault are given.

    Args:
        work: of one item.
        items: an error among them is handed on in its place.
        threads: that work.
        ahead: items begun and not yet taken, which bounds the memory.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Done | Exception]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_tried, work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # never a join: who stops taking may leave this to the garbage collector, which comes along anywhere, also in a
        # thread that is just starting and holds the lock that a join needs
        pool.shutdown(wait=False, cancel_futures=True)


def _tried(work: Callable[[Given], Done], item: Given | Exception) -> Done | Exception:
    if isinstance(item, Exception):
        return item
    try:
        return work(item)
    except BAD_INPUT as error:
        return error
