"""What a worker sends of a rendered batch: the hand's pixels alone, for fresh shared memory costs more than they do.

A page of shared memory takes as long to come by as rendering a tenth of a hand, and five sixths of a picture are empty.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from datamodules.batch import HandBatch
from ops.joints import UNLABELLED
from ops.memory import MEMORY
from ops.render.threads import over_batch

_COMPACT = "compact"  # under this name a batch carries `Compact` in place of depth and parts
_ALIGNMENT = 64  # bytes
_OPTIONS = {"cache": True, "nogil": True}


class Compact(NamedTuple):
    """Depth and parts of B pictures, N of whose pixels show a hand."""

    bits: Tensor  # (B, H, ceil(W / 8)) uint8, the lowest bit is the leftmost pixel: 1 where a hand is
    starts: Tensor  # (B + 1,) int64, where the pixels of a picture start
    depth: Tensor  # (N,) float32, pixels in reading order
    parts: Tensor | None  # (N,) uint8; None where the batch has no parts
    width: int


class Place(NamedTuple):
    """Where a tensor lies in a storage."""

    start: int  # its first byte
    dtype: torch.dtype
    shape: torch.Size


class OneStorage(NamedTuple):
    """Anything with tensors in it, whose tensors lie in one storage: handing one over takes half a millisecond."""

    batch: Any  # with a `Place` for each tensor
    bytes: Tensor  # (N,) uint8


def in_one_storage(batch: Any) -> OneStorage:
    """Copies the tensors, which must be on the CPU, of dictionaries, lists and (named) tuples in one another."""
    tensors: list[Tensor] = []
    places: list[Place] = []
    end = 0

    def placed(tensor: Tensor) -> Place:
        nonlocal end
        tensors.append(tensor)
        places.append(Place(end, tensor.dtype, tensor.shape))
        end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        return places[-1]

    with_places = _replaced(batch, Tensor, placed)
    bytes_ = torch.empty(end, dtype=torch.uint8)
    for tensor, place in zip(tensors, places, strict=True):
        _at(bytes_, place).copy_(tensor)
    return OneStorage(with_places, bytes_)


def from_one_storage(sent: OneStorage) -> Any:
    """What `in_one_storage` was given; its tensors share their storage."""
    return _replaced(sent.batch, Place, partial(_at, sent.bytes))


def _replaced(data: Any, kind: type, replacement: Callable[[Any], Any]) -> Any:
    """`data` with all that is of a kind replaced, in dictionaries, lists and (named) tuples in one another."""
    if isinstance(data, kind):
        return replacement(data)
    if isinstance(data, dict):
        return type(data)({key: _replaced(value, kind, replacement) for key, value in data.items()})
    if isinstance(data, list | tuple) and data and not isinstance(data[0], str):  # lists of names are the longest
        values = [_replaced(value, kind, replacement) for value in data]
        return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)
    return data


def _at(bytes_: Tensor, place: Place) -> Tensor:
    end = place.start + place.shape.numel() * place.dtype.itemsize
    return bytes_[place.start : end].view(place.dtype).view(place.shape)


def compact(batch: HandBatch) -> HandBatch:
    """The batch with `Compact` in place of `depth` and `parts`, which must be on the CPU; others as they are."""
    if "depth" not in batch:
        return batch
    packed = dict(batch)
    depth = packed.pop("depth")[:, 0].contiguous()
    labelled = "parts" in packed
    parts = packed.pop("parts").contiguous() if labelled else torch.zeros(depth.shape, dtype=torch.uint8)
    count, height, width = depth.shape
    bits = torch.empty(count, height, -(-width // 8), dtype=torch.uint8)
    starts = torch.zeros(count + 1, dtype=torch.int64)
    pictures = depth.numpy(), parts.numpy(), _elsewhere(packed)
    over_batch(lambda start, stop: _mark(start, stop, *pictures, bits.numpy(), starts.numpy()), count)
    starts = starts.cumsum(0)
    values = torch.empty(int(starts[-1])), torch.empty(int(starts[-1]), dtype=torch.uint8)
    arrays = *pictures[:2], bits.numpy(), starts.numpy(), *(value.numpy() for value in values)
    over_batch(lambda start, stop: _gather(start, stop, *arrays), count)
    packed[_COMPACT] = Compact(bits, starts, values[0], values[1] if labelled else None, width)
    return HandBatch(**packed)


def restore(batch: HandBatch) -> HandBatch:
    """What `compact` was given, and the mask: 1 where there is depth and the batch has a mask."""
    if _COMPACT not in batch:
        return batch
    restored = dict(batch)
    bits, starts, depths, parts, width = restored.pop(_COMPACT)
    count, height = bits.shape[:2]
    depth, mask = (MEMORY.array((count, height, width)) for _ in range(2))
    labels = MEMORY.array((count if parts is not None else 0, height, width), np.uint8)
    values = depths.numpy(), np.empty(0, np.uint8) if parts is None else parts.numpy()
    arrays = bits.numpy(), starts.numpy(), *values, batch["has_mask"].numpy(), _elsewhere(batch), depth, mask, labels
    over_batch(lambda start, stop: _scatter(start, stop, *arrays), count)
    restored["depth"], restored["mask"] = torch.from_numpy(depth)[:, None], torch.from_numpy(mask)[:, None]
    if parts is not None:
        restored["parts"] = torch.from_numpy(labels)
    return HandBatch(**restored)


def unit_floats(rgb: Tensor) -> Tensor:
    """uint8 pictures (B, ...) on the CPU as float32 in [0, 1]."""
    bytes_ = rgb.contiguous().numpy()
    floats = MEMORY.array(bytes_.shape)
    over_batch(lambda start, stop: _divide(bytes_[start:stop].reshape(-1), floats[start:stop].reshape(-1)), len(rgb))
    return torch.from_numpy(floats)


def _elsewhere(batch: HandBatch) -> np.ndarray:
    """(B,) uint8: the label where no hand is."""
    return np.where(batch["has_parts"].numpy(), 0, UNLABELLED).astype(np.uint8)


@njit(**_OPTIONS)
def _mark(start, stop, depth, parts, elsewhere, bits, counts):  # noqa: ANN001, ANN202 - numba infers
    width = depth.shape[2]
    for b in range(start, stop):
        count = 0
        for y in range(depth.shape[1]):
            for byte in range(bits.shape[2]):
                word = 0
                for bit in range(min(8, width - 8 * byte)):
                    x = 8 * byte + bit
                    shown = int(depth[b, y, x] != 0) | int(parts[b, y, x] != elsewhere[b])
                    word |= shown << bit
                    count += shown
                bits[b, y, byte] = word
        counts[b + 1] = count


@njit(**_OPTIONS)
def _gather(start, stop, depth, parts, bits, starts, depths, labels):  # noqa: ANN001, ANN202 - numba infers
    for b in range(start, stop):
        n = starts[b]
        for y in range(bits.shape[1]):
            for byte in range(bits.shape[2]):
                word, x = bits[b, y, byte], 8 * byte
                while word:
                    if word & 1:
                        depths[n], labels[n] = depth[b, y, x], parts[b, y, x]
                        n += 1
                    word, x = word >> 1, x + 1


@njit(**_OPTIONS)
def _scatter(start, stop, bits, starts, depths, labels, masked, elsewhere, depth, mask, parts):  # noqa: ANN001, ANN202
    for b in range(start, stop):
        depth[b] = 0
        mask[b] = 0
        if len(parts):
            parts[b] = elsewhere[b]
        n = starts[b]
        for y in range(bits.shape[1]):
            for byte in range(bits.shape[2]):
                word, x = bits[b, y, byte], 8 * byte
                while word:
                    if word & 1:
                        depth[b, y, x] = depths[n]
                        mask[b, y, x] = masked[b] and depths[n] > 0
                        if len(parts):
                            parts[b, y, x] = labels[n]
                        n += 1
                    word, x = word >> 1, x + 1


@njit(**_OPTIONS)
def _divide(bytes_, floats):  # noqa: ANN001, ANN202 - numba infers
    for i in range(len(bytes_)):
        floats[i] = np.float32(bytes_[i]) * np.float32(1 / 255)
