"""What a mixture draws from: rendered domains and datasets of frames, one split of each, by place in the epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

import numpy as np
import torch

from datamodules.batch import HandBatch
from datamodules.cropping import CropRule, check_croppable, crop_frames
from datamodules.domains import DOMAINS, Domain, Split
from datamodules.frames import BadFrame, Flag, HandFrame, HandFrames, HandSource
from datamodules.hand_sampler import HandSampler
from datamodules.rendering import Modality
from datamodules.shares import permuted
from datamodules.streams import keys_of
from ops.checks import check_choice, check_positive
from ops.hand_model import HandModel

Hidable = Literal["parts", "mask", "mesh", "3d", "2d"]
HIDABLE: dict[Hidable, str] = {
    "parts": "parts",
    "mask": "mask",
    "mesh": "vertices",
    "3d": "joints_3d",
    "2d": "joints_2d",
}


class RenderedSource(HandSource):
    """A rendered domain among the sources of a mixture.

    Args:
        domain: clean, sensor or photo.
        left_share: share of left hands, which arrive mirrored, as right hands.
        share: of the sequences of a finite training set, whole ones; a larger share holds a smaller one.
        frames: of an endless training set, the same in every epoch and for every seed; None: new ones without end.
    """

    def __init__(
        self, domain: str = "clean", left_share: float = 0.0, share: float = 1.0, frames: int | None = None
    ) -> None:
        check_choice("domain", domain, DOMAINS)
        if not 0 <= left_share <= 1:
            raise ValueError(f"left_share: expected a share in [0, 1], got {left_share}")
        if not 0 < share <= 1:
            raise ValueError(f"share: expected a share in (0, 1], got {share}")
        if share < 1 and DOMAINS[domain].train.frames is None:
            raise ValueError(f"share: the training set of '{domain}' has no end to take a share of; leave it out")
        self.name, self.domain, self.left_share, self.share = domain, DOMAINS[domain], left_share, share
        self.frames = frames
        if frames is not None:
            self.domain = _ending(self.domain, frames)

    def sampler(self, model: HandModel) -> HandSampler:
        """What draws its hands."""
        return HandSampler(self.domain, model, self.left_share)


def _ending(domain: Domain, frames: int) -> Domain:
    """The domain with a training set of so many frames, an endless one before; validation and test stay as they are."""
    check_positive(frames=frames)
    if domain.train.frames is not None:
        raise ValueError(f"frames: '{domain.name}' has {domain.train.frames} training frames already; take a share")
    return replace(domain, train=replace(domain.train, frames=frames))


class ParameterBatch(dict):
    """Hands that are drawn and not yet rendered: `parameters`, `domain`, `key`.

    Where a batch holds samples of readers, too: `slots`, the places of the drawn ones in it, `read`, the batch of the
    others, and `read_slots`, their places.
    """


class RenderedRecords:
    """One split of a rendered domain. Its order within an epoch is the sampler's own.

    Args:
        name: of the source.
        sampler: of its domain.
        seed: of the training samples.
        split: train, val or test.
        modalities: pictures that will be rendered.
        share: of the sequences of a finite training set.
    """

    def __init__(
        self,
        name: str,
        sampler: HandSampler,
        seed: int,
        split: Split,
        modalities: Sequence[Modality] = (),
        share: float = 1.0,
    ) -> None:
        self.name = name
        self._sampler, self._seed, self._split = sampler, seed, split
        self._kept = _kept_frames(sampler.domain, share) if split == "train" and share < 1 else None
        self.provides: frozenset[Flag] = frozenset({"mask", "mesh", "3d", "2d", *modalities})

    def size(self, epoch: int) -> int | None:
        """Frames of the split; None: without end."""
        return self._sampler.domain.split(self._split).frames if self._kept is None else int(self._kept.sum())

    def draw(self, epoch: int, places: np.ndarray) -> ParameterBatch:
        """Samples `places` (B,) of the epoch."""
        which = (self._seed, self._split, epoch, places if self._kept is None else self._among_all(epoch, places))
        return ParameterBatch(
            parameters=self._sampler.sample(*which),
            domain=[self.name] * len(places),
            key=self._sampler.record_names(*which),
        )

    def _among_all(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """Places (B,) of an epoch of all frames, of places among those kept: their order stays, pass by pass."""
        total = len(self._kept)
        passes, places = np.divmod(places, int(self._kept.sum()))
        found = np.empty_like(places)
        for number in np.unique(passes):
            whole = np.arange(number * total, (number + 1) * total)
            kept = whole[self._kept[self._sampler.frames(self._seed, self._split, epoch, whole)]]
            found[passes == number] = kept[places[passes == number]]
        return found


def _kept_frames(domain: Domain, share: float) -> np.ndarray:
    """(frames,) bool of a finite training set: at least one sequence, in an order that no share changes."""
    sequences = -(-domain.train.frames // domain.train.sequence)
    order = np.argsort(keys_of(f"{domain.label}/train", "share", np.arange(sequences)))
    kept = np.isin(np.arange(sequences), order[: max(1, round(share * sequences))])
    return kept[np.arange(domain.train.frames) // domain.train.sequence]


class BadSamples:
    """Counts the records that could not be used in an epoch, up to a limit.

    Args:
        limit: bad records of an epoch that are replaced by the next good ones; one more is an error.
    """

    def __init__(self, limit: int = 0) -> None:
        if limit < 0:
            raise ValueError(f"max_bad_samples: expected at least 0, got {limit}")
        self.limit = limit
        self.epoch = 0
        self.found: dict[str, str] = {}  # record -> what is wrong with it
        self.news: dict[str, str] = {}  # of these, what a worker has not yet told

    def add(self, epoch: int, found: Mapping[str, str]) -> None:
        """Note bad records.

        Raises:
            BadFrame: they are more than the limit.
        """
        if epoch != self.epoch:
            self.epoch, self.found, self.news = epoch, {}, {}
        self.news |= {record: message for record, message in found.items() if record not in self.found}
        self.found |= found
        if len(self.found) > self.limit:
            message = next(reversed(found.values()))
            if self.limit:
                message += f" (bad record number {len(self.found)} of epoch {epoch}; max_bad_samples is {self.limit})"
            raise BadFrame(message)


class FrameRecords:
    """One split of a dataset.

    In training its records are walked in shuffled passes, each whole, from epoch to epoch; a set that grows starts a
    new pass when it has grown. In evaluation they come in their own order.

    Args:
        name: of the source.
        frames: the split.
        rule: how frames are cut.
        image_size: side of the crops, pixels.
        seed: of order and jitter in training; None is evaluation.
        take: records of an evaluation, evenly spaced; None takes all.
        hide: labels that are left out.
        bad: where bad records are counted; evaluation allows none.

    Attributes:
        lean: give rgb as uint8, which is what a worker should send.
    """

    lean = False

    def __init__(
        self,
        name: str,
        frames: HandFrames,
        rule: CropRule,
        image_size: int,
        seed: int | None = None,
        take: int | None = None,
        hide: Sequence[Hidable] = (),
        bad: BadSamples | None = None,
    ) -> None:
        self.name, self.frames = name, frames
        self.provides = frozenset(frames.provides) - set(hide)
        self._rule, self._image_size, self._seed, self._hide = rule, image_size, seed, tuple(hide)
        self._bad = bad or BadSamples()
        self._take = take

    def size(self, epoch: int) -> int:
        """Records that can be drawn in `epoch`."""
        return self._take or self.frames.size(epoch)

    def batch(self, epoch: int, places: np.ndarray, since: int, before: int) -> HandBatch:
        """Samples `places` (B,) of the epoch.

        Args:
            epoch: number of the epoch.
            places: how many samples of this source precede each in the epoch.
            since: the first epoch in which the source had its present size.
            before: samples drawn from then on until this epoch began.
        """
        keys = None if self._seed is None else keys_of("crop", self.name, self._seed, epoch, places)
        frames = [self._good(epoch, int(record)) for record in self._records(epoch, places, since, before)]
        batch = crop_frames(frames, self._rule, self._image_size, keys, self.lean)
        batch["domain"] = [self.name] * len(frames)
        batch["convention"] = [self.frames.convention] * len(frames)
        for label in self._hide:
            batch.pop(HIDABLE[label], None)
            batch[f"has_{label}"] = torch.zeros(len(frames), dtype=torch.bool)
        if "mesh" in self._hide:
            batch["hand_model"] = [""] * len(frames)
        return batch

    @property
    def evaluated(self) -> np.ndarray:
        """Numbers of the records of an evaluation, in its order."""
        return self._records(0, np.arange(self.size(0)), 0, 0)

    def _records(self, epoch: int, places: np.ndarray, since: int, before: int) -> np.ndarray:
        """Record numbers (B,)."""
        total = self.size(epoch)
        if self._seed is None:
            return places * len(self.frames) // total
        passes, places = np.divmod(before + places, total)
        records = np.empty_like(places)
        for number in np.unique(passes):
            rows = passes == number
            records[rows] = permuted(places[rows], total, keys_of("order", self.name, self._seed, since, number))
        return records

    def _good(self, epoch: int, record: int) -> HandFrame:
        """The record, or the next that can be used."""
        total = self.frames.size(epoch)
        for candidate in chain(range(record, total), range(record)):
            try:
                frame = self.frames.frame(candidate)
                check_croppable(frame, self._rule)
                return frame
            except BadFrame as error:
                self._bad.add(epoch, {f"{self.name} {candidate}": str(error)})
        raise BadFrame(f"source '{self.name}': not one of its {total} records can be used")
