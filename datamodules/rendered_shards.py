"""Sets that `python -m datamodules.rendered write` wrote, read as any dataset: depth, parts, colours, joints, mesh.

Pictures are as they were rendered, cut around the detected hand, so they are resized at most. A frame is one read at
its offset in a tar file; nothing is unpacked or held, and offsets are memory-mapped, whatever the set's size.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.domains import SPLITS
from datamodules.frames import BadFrame, Flag, HandDataset, HandFrame, HandFrames, Split
from datamodules.label_files import dataset_folder
from datamodules.rendered_write import write_command
from datamodules.shard_files import (
    FORMAT,
    LABELS,
    MANIFEST,
    OFFSETS,
    finished_shard,
    label_dtype,
    read_members,
    shard_name,
    unpack_labels,
)
from ops.checks import check_choice
from ops.hand_model import open_hand
from ops.hand_model.conventions import joint_convention


class RenderedShards(HandDataset):
    """A set of rendered hands in a folder.

    Args:
        folder: holds a folder for each split that was written.
    """

    name = "rendered"

    def __init__(self, folder: str | Path) -> None:
        self._folder = dataset_folder("rendered hands", folder, SPLITS)

    def frames(self, split: Split) -> "RenderedShardFrames":
        """Open a split."""
        check_choice("split", split, SPLITS)
        return RenderedShardFrames(self._folder, split)


class RenderedShardFrames(HandFrames):
    """Records of one split."""

    def __init__(self, folder: Path, split: Split) -> None:
        self.split, self._folder = split, folder / split
        facts = self._facts = _read_manifest(folder, split)
        self.dataset = facts["domain"].partition("/")[0]
        self.convention, self.expected = facts["convention"], facts["count"]
        self._dtype = label_dtype(facts["vertices"], facts["shapes"])
        self._pictures = ["depth.png", "parts.png"] + ([f"rgb.{facts['rgb']}"] if facts["rgb"] != "none" else [])
        flags: set[Flag] = {"depth", "parts", "mask", "mesh", "3d", "2d"}
        self.provides = frozenset(flags | ({"rgb"} if facts["rgb"] != "none" else set()))
        self._remedy = (
            f"run python -m datamodules.rendered verify {folder}, which names every damaged shard; delete them, then "
            f"run {write_command(folder, facts)}"
        )
        self._check_shards()

    def _check_shards(self) -> None:
        offsets = self._folder / OFFSETS
        expected = self._facts["count"] + len(self._facts["shards"])
        try:
            found = len(_offsets(offsets))
        except (OSError, ValueError) as error:
            raise BadFrame(f"{offsets}: cannot be read ({error}); {self._remedy}") from error
        if found != expected:
            raise BadFrame(f"{offsets}: expected {expected} offsets, got {found}; {self._remedy}")
        for shard in self._facts["shards"]:
            path = self._folder / shard["name"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                got = f"{path.stat().st_size} bytes" if path.is_file() else "none"
                raise BadFrame(f"{path}: expected a file of {shard['bytes']} bytes, got {got}; {self._remedy}")

    def __len__(self) -> int:
        """Number of records."""
        return self._facts["count"]

    def labels(self, index: int) -> HandFrame:
        """All of a record but its pictures."""
        return self._read(index)[0]

    def frame(self, index: int) -> HandFrame:
        """A record with its pictures."""
        labels, members = self._read(index)
        depth, parts = self._decoded(index, members["depth.png"]), self._decoded(index, members["parts.png"])
        colours = {}
        if "rgb" in self.provides:
            colours["rgb"] = cv2.cvtColor(self._decoded(index, members[self._pictures[2]]), cv2.COLOR_BGR2RGB)
        metres = depth * np.float32(self._facts["depth_unit"])
        return replace(labels, depth=metres, parts=parts, mask=parts > 0, **colours)

    def files(self, index: int) -> Sequence[Path]:
        """The shard of a record."""
        return [self._folder / shard_name(index // self._facts["shard_size"])]

    def _read(self, index: int) -> tuple[HandFrame, dict[str, bytes]]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self._folder}: expected a record of 0 to {len(self) - 1}, got {index}")
        (path,), place = self.files(index), index + index // self._facts["shard_size"]
        start, end = _offsets(self._folder / OFFSETS)[place : place + 2].tolist()
        try:
            members = read_members(path, start, end, index, [*self._pictures, LABELS])
            record = unpack_labels(members, self._dtype)
        except (OSError, ValueError) as error:
            raise BadFrame(f"{path}: record {index} is damaged ({error}); {self._remedy}") from error
        return self._frame(record), members

    def _frame(self, record: np.ndarray) -> HandFrame:
        facts = self._facts
        return HandFrame(
            key=f"{self.dataset}/{self.split}/{facts['seed']}-{int(record['index']):08d}",
            side=int(record["side"]),
            K=record["K"].astype(np.float64),
            size=(facts["image_size"], facts["image_size"]),
            joints_3d=record["joints_3d"],
            vertices=record["vertex_mean"] + record["vertices"] * np.float32(facts["vertex_unit"]),
            hand_model=facts["hand_model"],
            cube_centre=record["cube_centre"],
            cut=facts["cut"],
        )

    def _decoded(self, index: int, raw: bytes) -> np.ndarray:
        picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise BadFrame(f"{self.files(index)[0]}: a picture of record {index} cannot be decoded; {self._remedy}")
        return picture


@lru_cache(maxsize=16)
def _offsets(path: Path) -> np.ndarray:
    """Offsets in the shards of a split, on the disk until they are used; workers open them themselves."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_manifest(folder: Path, split: Split) -> dict[str, Any]:
    path = folder / split / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; write the split: python -m datamodules.rendered write {folder} --split {split} ..."
        )
    try:
        facts = json.loads(path.read_text())
        known = facts["format"] == FORMAT
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise BadFrame(
            f"{path}: not the manifest of a set of rendered hands ({error!r}); write the set again"
        ) from error
    if not known:
        raise BadFrame(f"{path}: expected format '{FORMAT}', got {facts['format']!r}; write the set again")
    if "shards" not in facts:
        total = -(-facts["count"] // facts["shard_size"])
        missing = [n for n in range(total) if finished_shard(folder / split / shard_name(n)) is None]
        raise FileNotFoundError(
            f"{path.parent}: {len(missing)} of {total} shards are missing, {shard_name(missing[0]) if missing else ''} "
            f"first; run {write_command(folder, facts)}, which goes on with them"
        )
    here = {"hand_model": open_hand().id, "convention_id": joint_convention(facts["convention"]).id}
    for name, value in here.items():
        if facts[name] != value:
            raise ValueError(f"{path}: made with {name} '{facts[name]}', here it is '{value}'; write the set again")
    return facts
