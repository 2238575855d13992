"""Batches of a mixture: frames of datasets cropped, rendered hands drawn and rendered, in one batch of the contract."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import HandBatch
from datamodules.hand_sampler import join
from datamodules.rendering import HandRenderer
from datamodules.sampler import BatchKey
from datamodules.shares import Arrangement
from datamodules.sources import HIDABLE, FrameRecords, Hidable, ParameterBatch, RenderedRecords
from ops.joints import UNLABELLED

Piece = tuple[Tensor, HandBatch]  # places (B',) in the whole batch, samples


class Mixture(Dataset):
    """Batches by `BatchKey`.

    Args:
        sources: rendered domains and datasets.
        arrangement: which index belongs to which source.
        renderer: makes the pictures of rendered sources; None leaves that to the device.
        hide: per rendered source, the labels a method must not see.
    """

    def __init__(
        self,
        sources: Sequence[RenderedRecords | FrameRecords],
        arrangement: Arrangement,
        renderer: HandRenderer | None = None,
        hide: Mapping[str, Sequence[Hidable]] | None = None,
    ) -> None:
        self.sources = list(sources)
        self.arrangement = arrangement
        self.renderer, self.hide = renderer, hide or {}
        self._starts: tuple[int, list[tuple[int, int]]] | None = None

    def __getitem__(self, key: BatchKey) -> HandBatch | ParameterBatch:
        numbers, places = self.arrangement.locate(key.epoch, key.indices)
        starts = self._starts_of(key.epoch)
        drawn: list[tuple[np.ndarray, ParameterBatch]] = []
        read: list[Piece] = []
        for number in np.unique(numbers):
            (slots,) = np.nonzero(numbers == number)
            source = self.sources[number]
            if isinstance(source, RenderedRecords):
                drawn.append((slots, source.draw(key.epoch, places[slots])))
            else:
                read.append((torch.from_numpy(slots), source.batch(key.epoch, places[slots], *starts[number])))
        if not drawn:
            return merge(read)
        batch = _join(drawn, read)
        return batch if self.renderer is None else finish_batch(batch, self.renderer, self.hide)

    def _starts_of(self, epoch: int) -> list[tuple[int, int]]:
        """Per source, the first epoch in which it had its present size, and its samples from then until `epoch`."""
        if self._starts is None or self._starts[0] != epoch:
            since = [self._since(source, epoch) for source in self.sources]
            before = np.zeros(len(self.sources), np.int64)
            for earlier in range(min(since), epoch):
                before += self.arrangement.counts(earlier) * (np.array(since) <= earlier)
            self._starts = epoch, list(zip(since, before.tolist(), strict=True))
        return self._starts[1]

    @staticmethod
    def _since(source: RenderedRecords | FrameRecords, epoch: int) -> int:
        since = epoch
        while since and source.size(since - 1) == source.size(epoch):
            since -= 1
        return since


def finish_batch(
    batch: ParameterBatch, renderer: HandRenderer, hide: Mapping[str, Sequence[Hidable]] | None = None
) -> HandBatch:
    """Render the parameters of a batch where they lie, hide what a source does not show, and put the rest beside it."""
    finished = renderer(batch["parameters"])
    finished.update(domain=batch["domain"], key=batch["key"])
    for domain, labels in (hide or {}).items():
        rows = torch.tensor([name == domain for name in batch["domain"]], device=finished["K"].device)
        for label in labels:
            finished[f"has_{label}"] = finished[f"has_{label}"] & ~rows
            if HIDABLE[label] in finished:
                finished[HIDABLE[label]][rows] = UNLABELLED if label == "parts" else 0
    if "read" not in batch:
        return finished
    if not finished["has_mesh"].any():
        del finished["vertices"]  # another source may have a mesh of its own
    return merge([(batch["slots"], finished), (batch["read_slots"], batch["read"])])


def merge(pieces: Sequence[Piece]) -> HandBatch:
    """One batch of several; a field that a piece lacks is blank there, and its flag says so.

    Args:
        pieces: whose places together are 0..B - 1.

    Raises:
        ValueError: two pieces have meshes of different hand models.
    """
    if len(pieces) == 1:
        return pieces[0][1]
    total = sum(len(slots) for slots, _ in pieces)
    _check_meshes([batch for _, batch in pieces])
    merged = HandBatch()
    for field in dict.fromkeys(field for _, batch in pieces for field in batch):
        there = [(slots, batch[field]) for slots, batch in pieces if field in batch]
        first = there[0][1]
        if isinstance(first, list):
            merged[field] = [""] * total
            for slots, words in there:
                for slot, word in zip(slots.tolist(), words, strict=True):
                    merged[field][slot] = word
        else:
            blank = UNLABELLED if field == "parts" else 0
            merged[field] = first.new_full((total, *first.shape[1:]), blank)
            for slots, values in there:
                merged[field][slots] = values
    return merged


def _join(drawn: Sequence[tuple[np.ndarray, ParameterBatch]], read: Sequence[Piece]) -> ParameterBatch:
    """The parameters of all rendered sources in the order of their slots, and what was read beside them."""
    slots = np.concatenate([slots for slots, _ in drawn])
    order = np.argsort(slots)
    parts = [part for _, part in drawn]
    names, keys = ([text for part in parts for text in part[word]] for word in ("domain", "key"))
    batch = ParameterBatch(
        parameters=join([part["parameters"] for part in parts], order),
        domain=[names[i] for i in order],
        key=[keys[i] for i in order],
    )
    if read:
        read_slots = torch.cat([slots for slots, _ in read])
        # places among what was read, for now
        inner = torch.argsort(torch.argsort(read_slots)).split([len(slots) for slots, _ in read])
        together = merge([(places, piece) for places, (_, piece) in zip(inner, read, strict=True)])
        batch |= {"slots": torch.from_numpy(slots[order]), "read": together, "read_slots": read_slots.sort().values}
    return batch


def _check_meshes(batches: Sequence[HandBatch]) -> None:
    meshes: dict[tuple[int, str], tuple[str, str]] = {}
    for batch in batches:
        if "vertices" in batch:
            row = next((i for i, model in enumerate(batch["hand_model"]) if model), 0)
            name, model, count = batch["domain"][row], batch["hand_model"][row], batch["vertices"].shape[1]
            meshes[count, model] = name, f"'{name}' ({count} vertices of hand model '{model}')"
    if len(meshes) > 1:
        raise ValueError(mesh_conflict([who for _, who in meshes.values()], [*meshes.values()][-1][0]))


def mesh_conflict(who: Sequence[str], name: str) -> str:
    """What to say where meshes do not go together."""
    return f"hand models: {' and '.join(who)} cannot share a batch; hide one: hide: {{{name}: [mesh]}}"
