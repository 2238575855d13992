"""Which source a sample comes from, and which of the source's samples it is: in closed form, by index.

A mixture is a pure function of (seed, epoch, index), so it has no state of its own: any rank and any worker finds its
samples alone, and a run that is resumed in mid-epoch only needs to know where it was.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np

from datamodules.streams import Keys, keys_of, mix
from ops.checks import check_choice

Weight = float | dict[int, float]  # a share, or the shares that hold from the named epochs on
Weights = dict[str, Weight] | Literal["by size"]
Per = Literal["batch", "epoch"]
_PERIOD = 4096  # batches after which the shares' rounding repeats: one sample in so many batches is the error left
_ROUNDS = 6  # of the permutation
_TOLERANCE = 1e-6  # of the sum of weights


class Sized(Protocol):
    """What shares need to know of a source."""

    name: str

    def size(self, epoch: int) -> int | None:
        """Records in `epoch`; None: without end."""


class Arrangement(ABC):
    """Assigns the indices of an epoch to sources."""

    @abstractmethod
    def locate(self, epoch: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source number (B,) of each index (B,), and how many samples of that source precede it in the epoch."""

    @abstractmethod
    def counts(self, epoch: int) -> np.ndarray:
        """(S,) samples of each source in the epoch."""


class InTurn(Arrangement):
    """One source after another, `sizes` samples each: evaluation."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = np.array(sizes)

    def locate(self, epoch: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Arrangement`."""
        ends = np.cumsum(self.sizes)
        source = np.searchsorted(ends, indices, side="right")
        return source, indices - (ends - self.sizes)[source]

    def counts(self, epoch: int) -> np.ndarray:
        """See `Arrangement`."""
        return self.sizes


class Shares(Arrangement):
    """Sources by weight.

    Args:
        sources: to mix.
        weights: per source its share of the samples, or `{epoch: share}`, each holding until the next; the shares of
            every epoch must sum to 1. "by size" weighs sources by their records, as if they were one set.
        per: "batch" keeps the shares in every batch, rounded up or down to whole samples; "epoch" keeps them in the
            epoch and shuffles.
        batch_size: samples per batch and rank.
        epoch_size: samples per epoch of all ranks; None takes all records once.
        seed: of the shuffling.
    """

    def __init__(
        self,
        sources: Sequence[Sized],
        weights: Weights,
        per: Per,
        batch_size: int,
        epoch_size: int | None,
        seed: int,
    ) -> None:
        check_choice("per", per, ("batch", "epoch"))
        self.sources = list(sources)
        self.names = [source.name for source in sources]
        self.per, self.batch_size, self.seed = per, batch_size, seed
        self.weights = weights
        if weights != "by size":
            check_weights(weights, self.names)
        for epoch in self._changes():
            self.weights_of(epoch)
        self.epoch_size = int(self._sizes(0, "epoch_size: null").sum()) if epoch_size is None else epoch_size

    def weights_of(self, epoch: int) -> np.ndarray:
        """(S,) shares in `epoch`.

        Raises:
            ValueError: a source is to give samples and has none.
        """
        if self.weights == "by size":
            sizes = self._sizes(epoch, "weights 'by size'")
            shares = sizes / max(sizes.sum(), 1)
        else:
            shares = np.array([share_at(self.weights[name], epoch) for name in self.names])
        for source, share in zip(self.sources, shares, strict=True):
            if source.size(epoch) == 0 and (share > 0 or (self.weights == "by size" and epoch == 0)):
                raise ValueError(
                    f"source '{source.name}': empty in epoch {epoch}, though its weight is {share:g}; "
                    "check its folder and split, or leave it out of the mixture"
                )
        return shares

    def locate(self, epoch: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Arrangement`."""
        return self._shares(epoch).locate(np.asarray(indices))

    def counts(self, epoch: int) -> np.ndarray:
        """See `Arrangement`."""
        return self._shares(epoch).counts(self.epoch_size)

    def _shares(self, epoch: int) -> "_BatchShares | _EpochShares":
        weights = tuple(self.weights_of(epoch))
        if self.per == "batch":
            return _BatchShares.of(weights, self.batch_size)
        return _EpochShares(weights, self.epoch_size, keys_of("shares", self.seed, epoch))

    def _changes(self) -> list[int]:
        """Epochs from which new weights hold."""
        schedules = [] if self.weights == "by size" else [w for w in self.weights.values() if isinstance(w, Mapping)]
        return sorted({0, *(epoch for schedule in schedules for epoch in schedule)})

    def _sizes(self, epoch: int, asked: str) -> np.ndarray:
        sizes = [source.size(epoch) for source in self.sources]
        if None in sizes:
            raise ValueError(
                f"{asked} asks for sources with an end, but '{self.names[sizes.index(None)]}' has none; give a number"
            )
        return np.array(sizes)


def check_weights(weights: Mapping[str, Weight], names: Sequence[str]) -> None:
    """Raise unless each of `names` has a positive share or a schedule, and the shares of every epoch sum to 1."""
    if set(weights) != set(names) or not weights:
        raise ValueError(f"weights: expected one per source, {', '.join(names) or 'and some source'}, got {weights}")
    for name, weight in weights.items():
        schedule = weight if isinstance(weight, Mapping) else {0: weight}
        if isinstance(weight, Mapping) and 0 not in weight:
            raise ValueError(f"weights: '{name}' must say its share from epoch 0 on, got {weight}")
        if not all(0 <= share <= 1 for share in schedule.values()):  # not NaN either
            raise ValueError(f"weights: expected shares between 0 and 1, got {weight} for '{name}'")
        if not any(share > 0 for share in schedule.values()):
            raise ValueError(f"weights: '{name}' is never used (its weight is {weight}); leave it out")
    changes = {epoch for weight in weights.values() if isinstance(weight, Mapping) for epoch in weight}
    for epoch in sorted({0, *changes}):
        total = sum(share_at(weight, epoch) for weight in weights.values())
        if abs(total - 1) > _TOLERANCE:
            raise ValueError(
                f"weights: expected a sum of 1, got {total:.6g} in epoch {epoch} from {dict(weights)}; "
                "a schedule needs a counterpart in the other sources"
            )


def share_at(weight: Weight, epoch: int) -> float:
    """A weight in one epoch."""
    if not isinstance(weight, Mapping):
        return weight
    return weight[max(start for start in weight if start <= epoch)]


class _BatchShares:
    """Systematic sampling: batch by batch, a comb of `batch_size` teeth is laid over the shares, at varying offsets.

    Every batch thus holds floor or ceiling of share * batch_size of each source. The offsets are van der Corput's
    sequence, so that few batches together keep the shares far more closely.
    """

    def __init__(self, weights: tuple[float, ...], batch_size: int) -> None:
        edges = np.cumsum(weights) / np.sum(weights) * batch_size
        # the offsets keep off 0 and 1, so that an edge at a whole number is not at the mercy of rounding
        offsets = _radical_inverse(np.arange(_PERIOD)) + 0.5 / _PERIOD
        self.batch_size = batch_size
        self._ends = np.ceil(edges - offsets[:, None]).astype(np.int64)  # (P, S) first tooth beyond a source
        counts = np.diff(self._ends, axis=1, prepend=0)
        self._before = np.concatenate([np.zeros_like(counts[:1]), counts.cumsum(0)])  # (P + 1, S)
        # neighbouring samples get teeth far apart: a part of a batch shows all sources, too
        self._tooth = np.argsort(np.argsort(_radical_inverse(np.arange(batch_size))))

    @staticmethod
    @lru_cache(maxsize=4)
    def of(weights: tuple[float, ...], batch_size: int) -> "_BatchShares":
        return _BatchShares(weights, batch_size)

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch, place = np.divmod(indices, self.batch_size)
        batches, which = np.unique(batch, return_inverse=True)
        sources = self._sources(batches)  # (N, batch_size)
        mine = sources[..., None] == np.arange(self._ends.shape[1])
        ranks = np.take_along_axis(mine.cumsum(1), sources[..., None], 2)[..., 0] - 1  # within the batch
        source = sources[which, place]
        return source, self._taken(batches)[which, source] + ranks[which, place]

    def counts(self, size: int) -> np.ndarray:
        whole, rest = np.divmod(np.array([size]), self.batch_size)
        return self._taken(whole)[0] + np.bincount(self._sources(whole)[0, : rest[0]], minlength=self._ends.shape[1])

    def _sources(self, batches: np.ndarray) -> np.ndarray:
        return (self._tooth[:, None] >= self._ends[batches % _PERIOD][:, None]).sum(-1)

    def _taken(self, batches: np.ndarray) -> np.ndarray:
        """(N, S) samples of each source before these batches (N,)."""
        periods, within = np.divmod(batches, _PERIOD)
        return periods[:, None] * self._before[-1] + self._before[within]


class _EpochShares:
    """Whole numbers of samples per source, then a shuffled order."""

    def __init__(self, weights: tuple[float, ...], size: int, key: Keys) -> None:
        exact = np.array(weights) / np.sum(weights) * size
        self._counts = np.floor(exact + 1e-9).astype(np.int64)  # 0.3 * 10 is 3, whatever the rounding says
        left = size - self._counts.sum()
        self._counts[np.argsort(self._counts - exact, kind="stable")[:left]] += 1
        self._size, self._key = size, key

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return InTurn(self._counts).locate(0, permuted(indices, self._size, self._key))

    def counts(self, size: int) -> np.ndarray:
        return self._counts


def permuted(indices: np.ndarray, total: int, key: Keys) -> np.ndarray:
    """Places (B,) of indices (B,) in a shuffled order of 0..total - 1, without storing the order.

    A Feistel network on the smallest even number of bits, walked until it lands below `total` (Black and Rogaway:
    Ciphers with Arbitrary Finite Domains, CT-RSA 2002).

    Args:
        indices: 0..total - 1.
        total: length of the order.
        key: (1,) which order.
    """
    half = np.uint64(max((total - 1).bit_length() + 1, 2) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    rounds = keys_of(key, np.arange(_ROUNDS))
    places = np.asarray(indices).astype(np.uint64)
    walking = np.arange(len(places))
    while len(walking):
        left, right = places[walking] >> half, places[walking] & mask
        for turn in rounds:
            left, right = right, left ^ (mix(right ^ turn) & mask)
        places[walking] = left << half | right
        walking = walking[places[walking] >= total]
    return places.astype(np.int64)


def _radical_inverse(index: np.ndarray) -> np.ndarray:
    """Van der Corput's sequence (B,): the bits of the index mirrored at the binary point."""
    bits = (index[:, None] >> np.arange(32)) & 1
    return bits @ 0.5 ** np.arange(1, 33)
