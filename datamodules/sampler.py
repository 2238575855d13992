"""The order of samples: shared out among ranks, continued in mid-epoch, the same for any number of workers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from datamodules.transfer import OneStorage, from_one_storage, in_one_storage


class BatchKey(NamedTuple):
    """What a batch is made from."""

    epoch: int
    indices: np.ndarray  # (B,) int64, within the epoch


class EpochSampler(DistributedSampler):
    """Batches of one rank: all ranks together walk the epoch in one order, a global batch at a time.

    Global batch k holds the `ranks * batch_size` indices from k times that on, and rank r takes the r-th of equal runs
    of them: what one rank alone would see in a batch, R ranks see together. Runs, not every R-th index: mixtures choose
    the source by the index's low bits, and strides would give each rank a source of its own. In the last, shorter batch
    shares differ by at most one; when training, a rest smaller than the number of ranks is dropped, since a rank
    without a batch would leave the others waiting.

    Every walk is the next epoch. A DistributedSampler by class, so that Lightning takes it as it is.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, ranks: int = 1, training: bool = True) -> None:
        for name, value in (("size", size), ("batch_size", batch_size), ("ranks", ranks)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        super().__init__(range(size), num_replicas=ranks, rank=rank, shuffle=False)
        self.size, self.batch_size = size, batch_size
        self.training = training
        self.start = 0  # batches of the next walk that are done already
        self._walked = False

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.num_replicas * self.batch_size)
        least = self.num_replicas if self.training else self.rank + 1
        return whole + (rest >= least)

    def set_epoch(self, epoch: int) -> None:
        """Ignored: Lightning's count moves on where a run stops in mid-epoch, and a resumed run would skip samples."""

    def seek(self, epoch: int, batch: int) -> None:
        """Let the next walk be that of `epoch`, from `batch` on."""
        self.epoch, self.start, self._walked = epoch, batch, False

    def __iter__(self) -> Iterator[BatchKey]:
        self.epoch += self._walked
        self._walked = True
        start, self.start = self.start, 0
        together = self.num_replicas * self.batch_size
        for batch in range(start, len(self)):
            end = min((batch + 1) * together, self.size)
            shares = np.array_split(np.arange(batch * together, end), self.num_replicas)
            yield BatchKey(self.epoch, shares[self.rank])


class ResumableLoader(DataLoader):
    """A DataLoader over `EpochSampler` whose place in the epoch is state; Lightning saves and restores it by itself.

    Args:
        dataset: takes a `BatchKey` and gives a batch.
        sampler: the order.
        batches_done: how many batches of the epoch were trained on. Without it, how many were handed out counts; the
            two differ when a signal saves a checkpoint in the middle of a step.
        pack: what a worker does to a batch before it sends it; not called without workers.
        unpack: what this process does to it then.
        at_end: called when a walk is over, or given up.
        num_workers: processes that make batches; 0 makes them in this one.
        settings: of torch.utils.data.DataLoader.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: EpochSampler,
        batches_done: Callable[[], int] | None = None,
        pack: Callable[[Any], Any] | None = None,
        unpack: Callable[[Any], Any] | None = None,
        at_end: Callable[[], None] | None = None,
        num_workers: int = 0,
        **settings: object,
    ) -> None:
        send = partial(_send, pack or _as_it_is) if num_workers else _as_it_is
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            collate_fn=send,
            num_workers=num_workers,
            generator=torch.Generator(),  # of its own: a loader made anew after a stop must not move the run's
            **settings,
        )
        self.batches_done = batches_done
        self._receive = partial(_receive, unpack or _as_it_is) if num_workers else _as_it_is
        self._at_end = at_end
        self._handed_out = 0

    def __iter__(self) -> Iterator:
        self._handed_out = self.sampler.start
        try:
            for batch in super().__iter__():
                self._handed_out += 1
                yield self._receive(batch)
        finally:  # a trainer that knows the number of batches never asks for one more
            if self._at_end is not None:
                self._at_end()

    def state_dict(self) -> dict[str, int]:
        """Epoch and number of its batches that are done."""
        done = self._handed_out if self.batches_done is None else self.batches_done()
        return {"epoch": self.sampler.epoch, "batches": done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches of `state`; a finished epoch continues with the next."""
        over = state["batches"] >= len(self.sampler)
        self.sampler.seek(state["epoch"] + over, 0 if over else state["batches"])


def _send(pack: Callable[[Any], Any], batch: Any) -> OneStorage:
    return in_one_storage(pack(batch))


def _receive(unpack: Callable[[Any], Any], sent: OneStorage) -> Any:
    return unpack(from_one_storage(sent))


def _as_it_is(batch: Any) -> Any:
    return batch
