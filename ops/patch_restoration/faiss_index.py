"""A FAISS index of a dictionary's patches, seen through cells, that ranks pairs of a map and a displacement.

Entries are the patches around cells with foreground: an inverted file of the 64 principal components of their 9x9
samples' one-hot codes, a byte each. What it ranks is searched exactly afterwards. A file is safetensors: the index is
bytes in it, which FAISS reads only if their hash is the header's, and the header names the dictionary by its checksum.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.linalg import eigh

from ops.checks import refuse_two_faiss
from ops.patch_restoration.cells import CELL, SPAN, sampled, shown
from ops.patch_restoration.dictionary import LABELS, PatchDictionary

CANDIDATES = 100  # of each cell
PROBES = 8  # lists looked through
DIMENSIONS = 64
_CODES = SPAN * SPAN * len(LABELS)
_LISTS, _PER_LIST = 4096, 256  # at most so many lists; at least so many entries in each
_TRAINED = 64  # entries of each list that its centre is computed from
_SAMPLE, _CHUNK = 20_000, 200_000
_FORMAT = "handful patch index 1"
_BUILD = "build one with python -m datamodules.patch_dictionary DICTIONARY --index"


def faiss_module() -> ModuleType:
    """The module, or ImportError with the remedy."""
    _refuse_two_once()
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "FAISS is not installed; remedy: pip install 'handful[cpu]' (with a CUDA device 'handful[gpu]'), or "
            "backend='pruned', which needs no index"
        ) from error
    return faiss


# reading what is installed takes longer than a search
_refuse_two_once = cache(refuse_two_faiss)


@dataclass(frozen=True, eq=False)
class PatchIndex:
    """An index and the dictionary it was made of, known by its checksum.

    Attributes:
        checksum: `PatchDictionary.checksum`.
        entries: (E,) int32 cells, `(map * h + i) * w + j`, that the index numbers 0 to E - 1 stand for.
        projection: (9 * 9 * 21, 64) float32, rows to sum for the labels of a patch's samples.
        offset: (64,) float32 minus the mean entry's projection.
        index: of FAISS, on the CPU.
    """

    checksum: str
    entries: np.ndarray
    projection: np.ndarray
    offset: np.ndarray
    index: Any

    @classmethod
    def build(cls, dictionary: PatchDictionary, seed: int = 0) -> Self:
        """Index a dictionary: about a minute on two cores for 36 million patches."""
        faiss = faiss_module()
        faiss.omp_set_num_threads(torch.get_num_threads())
        rng = np.random.default_rng(seed)
        cells = _padded(sampled(dictionary.maps))
        entries = np.flatnonzero(shown(dictionary.maps)).astype(np.int32)
        lists = min(_LISTS, max(1, len(entries) // _PER_LIST))
        projection, offset = _principal(cells, rng.permutation(entries)[:_SAMPLE])
        index = faiss.index_factory(DIMENSIONS, f"IVF{lists},SQ8")
        index.cp.niter, index.cp.max_points_per_centroid = 6, _TRAINED
        index.train(_project(_samples_at(cells, rng.permutation(entries)[: lists * _TRAINED]), projection, offset))
        for start in range(0, len(entries), _CHUNK):
            index.add(_project(_samples_at(cells, entries[start : start + _CHUNK]), projection, offset))
        return cls(dictionary.checksum, entries, projection, offset, index)

    def pairs(
        self, query: np.ndarray, candidates: int = CANDIDATES, probes: int = PROBES, index: Any = None
    ) -> np.ndarray:
        """Pairs (P, 3) int64 map, dy, dx (pixels, whole cells), each once and by rising map.

        Args:
            query: (H, W) uint8 labels.
            candidates: entries to take for each cell of the query that holds foreground.
            probes: lists to look through for each.
            index: where to search, a copy of this one on another device; None is this one.
        """
        faiss = faiss_module()
        faiss.omp_set_num_threads(torch.get_num_threads())
        asked = shown(query[None])
        at = np.flatnonzero(asked)
        codes = _project(_samples_at(_padded(sampled(query[None])), at), self.projection, self.offset)
        index = self.index if index is None else index
        index.nprobe = min(probes, self.index.nlist)
        found = index.search(codes, min(candidates, index.ntotal))[1]
        height, width = asked.shape[1:]
        rows = np.repeat(at, found.shape[1])[found.ravel() >= 0]
        cells = self.entries[found[found >= 0]].astype(np.int64)
        down, along = cells // width % height - rows // width, cells % width - rows % width
        # as one number, which is much faster to sort than rows of three
        number = (cells // (height * width) * (2 * height) + down + height) * (2 * width) + along + width
        number = np.unique(number)
        down, along = number // (2 * width) % (2 * height) - height, number % (2 * width) - width
        return np.column_stack([number // (4 * height * width), CELL * down, CELL * along])

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        path = Path(path)
        content = faiss_module().serialize_index(self.index)
        arrays = {"entries": self.entries, "projection": self.projection, "offset": self.offset, "index": content}
        header = {"format": _FORMAT, "dictionary": self.checksum, "hash": _hash(arrays)}
        partial = path.with_name(path.name + ".part")
        save_file(arrays, partial, metadata=header)
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path, dictionary: PatchDictionary) -> Self:
        """Read the index of a dictionary.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, no index, or another dictionary's.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such patch index; {_BUILD}")
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise ValueError(f"{path}: cannot be read as a patch index ({error}); {_BUILD}") from error
        if header.get("format") != _FORMAT or set(arrays) != {"entries", "projection", "offset", "index"}:
            raise ValueError(f"{path}: is no patch index (format {header.get('format')!r}, tensors {sorted(arrays)})")
        if header.get("dictionary") != dictionary.checksum:
            raise ValueError(
                f"{path}: index of another dictionary (checksum {header.get('dictionary')}, expected "
                f"{dictionary.checksum}); {_BUILD}"
            )
        if header.get("hash") != _hash(arrays):
            raise ValueError(f"{path}: the content does not fit its header, the file is damaged; {_BUILD}")
        index = faiss_module().deserialize_index(arrays.pop("index"))
        return cls(dictionary.checksum, index=index, **arrays)


_KNOWN: WeakKeyDictionary[PatchDictionary, PatchIndex] = WeakKeyDictionary()


def index_path(dictionary: Path) -> Path:
    """Where the index of a dictionary's file stands: beside it."""
    return dictionary.with_name(dictionary.stem + ".index.safetensors")


def index_of(dictionary: PatchDictionary) -> PatchIndex:
    """The index of a dictionary: known already, or in a file beside its own, or built now, in memory."""
    if dictionary not in _KNOWN:
        path = None if dictionary.file is None else index_path(dictionary.file)
        stored = path is not None and path.is_file()
        _KNOWN[dictionary] = PatchIndex.load(path, dictionary) if stored else PatchIndex.build(dictionary)
    return _KNOWN[dictionary]


def index_at_hand(dictionary: PatchDictionary) -> bool:
    """Whether `index_of` need not build one, which takes minutes."""
    return dictionary in _KNOWN or (dictionary.file is not None and index_path(dictionary.file).is_file())


def _hash(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _padded(cells: np.ndarray) -> np.ndarray:
    return np.pad(cells, ((0, 0), *((SPAN // 2, SPAN // 2),) * 2))


def _samples_at(padded: np.ndarray, entries: np.ndarray) -> np.ndarray:
    # (E, 81) int64 rows of the projection for the labels around cells of maps (M, h + 8, w + 8)
    high, wide = padded.shape[1:]
    height, width = high - SPAN + 1, wide - SPAN + 1
    entries = entries.astype(np.int64)
    corner = (entries // (height * width) * high + entries // width % height) * wide + entries % width
    around = (np.arange(SPAN)[:, None] * wide + np.arange(SPAN)).ravel()
    return padded.reshape(-1)[corner[:, None] + around] + np.arange(SPAN * SPAN) * len(LABELS)


def _principal(padded: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # the leading axes of one-hot codes, largest variance first
    codes = np.zeros((len(entries), _CODES), np.float32)
    np.put_along_axis(codes, _samples_at(padded, entries), 1, 1)
    mean = codes.mean(0)
    codes -= mean
    leading = (_CODES - DIMENSIONS, _CODES - 1)
    axes = np.ascontiguousarray(eigh(codes.T @ codes, subset_by_index=leading)[1][:, ::-1], np.float32)
    return axes, -(mean @ axes)


def _project(samples: np.ndarray, projection: np.ndarray, offset: np.ndarray) -> np.ndarray:
    # the sum of a code's rows is its product with the projection
    rows = F.embedding_bag(torch.from_numpy(samples), torch.from_numpy(projection), mode="sum")
    return rows.numpy() + offset
