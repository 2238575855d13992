"""Shards of labelled frames: plain tar files as WebDataset has them, read by offset, each frame with a checksum.

    <folder>/<split>/manifest.json      what is in it: domain, seed, hand model, ...; the shards and their checksums
    <folder>/<split>/shard-00000.tar    00000000.depth.png  00000000.parts.png  [00000000.rgb.jpg]  00000000.labels.npy
    <folder>/<split>/shard-00000.json   bytes, checksum and offsets of a finished shard
    <folder>/<split>/offsets.npy        offsets of all frames, shard after shard, each with its end

Depth is 16-bit in steps of 0.1 mm, finer than any camera's; vertices are 16-bit in steps of 0.01 mm about their mean.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from datamodules.frames import BadFrame

FORMAT = "rendered shards 1"
DEPTH_UNIT, VERTEX_UNIT = 1e-4, 1e-5  # metres
MANIFEST, OFFSETS = "manifest.json", "offsets.npy"
LABELS = "labels.npy"
_BLOCK = 512  # bytes: of tar

Members = Mapping[str, bytes]  # suffix of the member's name to its content


class Shard(NamedTuple):
    """A finished shard."""

    frames: int
    bytes: int
    sha256: str


def label_dtype(vertices: int, shapes: int) -> np.dtype:
    """The labels of one frame as a record of `labels.npy`; metres, camera frame, as pictured.

    Args:
        vertices: V, of the hand model.
        shapes: S, its shape components.
    """
    fields = [
        ("index", "<i8"),  # of the sample in its split
        ("crc32", "<u4"),  # of the frame's pictures and of this record with 0 here
        ("side", "<i4"),  # 0 left, 1 right
        ("K", "<f4", (3, 3)),  # pixels of the picture
        ("crop", "<f4", (2, 3)),  # pixels of the camera's whole picture -> pixels of the picture
        ("original_size", "<i4", (2,)),  # height and width of the whole picture
        ("cube_centre", "<f4", (3,)),
        ("joints_3d", "<f4", (21, 3)),
        ("vertex_mean", "<f4", (3,)),
        ("vertices", "<i2", (vertices, 3)),  # about their mean, in VERTEX_UNIT
        # the parameters of the hand; a left hand's are those of the right hand that it mirrors
        ("pose", "<f4", (15, 3, 3)),
        ("shape", "<f4", (shapes,)),
        ("global_rotation", "<f4", (3, 3)),
    ]
    return np.dtype(fields)


def pack_frame(pictures: Members, labels: np.ndarray) -> dict[str, bytes]:
    """The members of a frame: its pictures, then its labels (), whose checksum is set here."""
    labels["crc32"] = 0
    labels["crc32"] = _checksum(pictures.values(), labels.tobytes())
    return {**pictures, LABELS: _npy_head(labels.dtype) + labels.tobytes()}


def unpack_labels(members: Members, dtype: np.dtype) -> np.ndarray:
    """The record () of a frame whose pictures and labels are as they were written.

    Raises:
        ValueError: they are not.
    """
    *pictures, packed = members.values()
    head = _npy_head(dtype)
    if not packed.startswith(head) or len(packed) != len(head) + dtype.itemsize:
        raise ValueError("labels are not those that its manifest describes")
    labels = np.frombuffer(packed, dtype, offset=len(head))[0].copy()
    stored, labels["crc32"] = int(labels["crc32"]), 0
    if _checksum(pictures, labels.tobytes()) != stored:
        raise ValueError("the checksum does not agree")
    return labels


@lru_cache(maxsize=8)
def _npy_head(dtype: np.dtype) -> bytes:
    whole = BytesIO()
    np.lib.format.write_array(whole, np.zeros((), dtype), version=(1, 0), allow_pickle=False)
    return whole.getvalue()[: -dtype.itemsize]


def _checksum(pictures: Iterable[bytes], labels: bytes) -> int:
    found = 0
    for part in (*pictures, labels):
        found = crc32(part, found)
    return found


# -- shards


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"shard-{number:05d}.tar"


def frame_name(index: int) -> str:
    """Name of a sample in its shard."""
    return f"{index:08d}"


def write_shard(path: Path, frames: Iterator[tuple[int, Members]]) -> Shard:
    """Write a shard aside and rename it, then the note that it is finished; whatever ends this, no part stays.

    Args:
        path: of the tar file.
        frames: numbers of the samples and their members.
    """
    aside = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.writing")
    try:
        with open(aside, "w+b") as file:
            offsets = _write_tar(file, frames)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            shard = Shard(len(offsets) - 1, aside.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
        os.replace(aside, path)
        write_text_whole(path.with_suffix(".json"), json.dumps(shard._asdict() | {"offsets": offsets}))
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path}: cannot be written ({error.strerror or error}); free space or quota there, then run the same "
            "command again: it goes on with the shards that are missing",
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return shard


def _write_tar(file: Any, frames: Iterator[tuple[int, Members]]) -> list[int]:
    """Offsets of the frames, and where the last one ends."""
    offsets = []
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index, members in frames:
            offsets.append(tar.offset)
            for suffix, content in members.items():
                head = tarfile.TarInfo(f"{frame_name(index)}.{suffix}")
                head.size, head.mtime = len(content), 0  # no date: a shard that is redone is the same to the byte
                tar.addfile(head, BytesIO(content))
        offsets.append(tar.offset)
    return offsets


def write_text_whole(path: Path, text: str) -> None:
    """Write a file aside and rename it."""
    write_bytes_whole(path, text.encode())


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file aside and rename it."""
    aside = path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.writing")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_members(path: Path, start: int, end: int, index: int, suffixes: Iterable[str]) -> dict[str, bytes]:
    """The members of one frame, read in one piece.

    Args:
        path: of the shard.
        start: offset of the frame.
        end: where it ends.
        index: the sample's number in its split.
        suffixes: of the members that it must have, in their order.

    Raises:
        ValueError: the bytes there are not this frame.
        OSError: the file cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        raw = os.pread(file.fileno(), end - start, start)
    members, place = {}, 0
    for suffix in suffixes:
        name = raw[place : place + 100].rstrip(b"\0")
        if name != f"{frame_name(index)}.{suffix}".encode():
            raise ValueError(f"expected {frame_name(index)}.{suffix} at byte {start + place}, got {name[:40]!r}")
        size = int(raw[place + 124 : place + 135], 8)
        place += _BLOCK
        members[suffix] = raw[place : place + size]
        place += -(-size // _BLOCK) * _BLOCK
    if place != len(raw):
        raise ValueError(f"expected {end - start} bytes at byte {start}, got members of {place}")
    return members


def finished_shard(path: Path) -> Shard | None:
    """What is noted of a finished shard; None where it is not there, or was not finished.

    Raises:
        BadFrame: the file is not as long as it was written.
    """
    note = path.with_suffix(".json")
    if not (path.is_file() and note.is_file()):
        return None
    try:
        content = json.loads(note.read_text())
        shard = Shard(*(content[name] for name in Shard._fields))
    except (ValueError, KeyError, TypeError):  # the note itself is damaged: nothing is known of the shard
        return None
    if path.stat().st_size != shard.bytes:
        raise BadFrame(
            f"{path}: damaged: {path.stat().st_size} bytes, it was written with {shard.bytes}; delete it, then run the "
            "command again that wrote it"
        )
    return shard


def is_intact(path: Path, shard: Shard) -> bool:
    """Whether a shard's content is what was written; reads it all."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


def shard_offsets(path: Path) -> list[int]:
    """Offsets of the frames of a finished shard, and where the last one ends."""
    return json.loads(path.with_suffix(".json").read_text())["offsets"]
