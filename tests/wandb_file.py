"""Reads the file that W&B writes offline and `wandb sync` sends: a log of protocol buffers in LevelDB's framing."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)  # ident, magic, version
BLOCK = 32768
HEADER = struct.Struct("<IHB")  # checksum, length, type
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Record]:
    """All records of a .wandb file."""
    data = path.read_bytes()
    assert data[: len(MAGIC)] == MAGIC, f"{path}: not a file of W&B's, or of another version"
    place, message = len(MAGIC), b""
    while place + HEADER.size <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:  # too little for a header: the block's end is padding
            place += left
            continue
        _, length, kind = HEADER.unpack_from(data, place)
        place += HEADER.size
        message += data[place : place + length]
        place += length
        if place > len(data):  # still being written
            return
        if kind in (FULL, LAST):
            yield Record.FromString(message)
            message = b""


def wait_for_end(path: Path, patience: float = 120) -> None:
    """Until the run's last record is there: W&B's own process writes it, behind wandb.finish()."""
    end = time.monotonic() + patience
    while not any(record.WhichOneof("record_type") == "exit" for record in records(path)):
        assert time.monotonic() < end, f"{path}: no end of the run"
        time.sleep(0.2)


def history(path: Path) -> list[dict]:
    """Logged rows, metric to value."""
    rows = (record.history.item for record in records(path) if record.WhichOneof("record_type") == "history")
    return [_plain(items) for items in rows]


def config(path: Path) -> dict:
    """The run's configuration as it stands at the end."""
    found: dict = {}
    for record in records(path):
        which = record.WhichOneof("record_type")
        if which in ("config", "run"):
            found |= _plain((record.config if which == "config" else record.run.config).update)
    return found


def run(path: Path) -> Record:
    """The record that names the run."""
    return next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")


def artifacts(path: Path) -> dict[str, list[str]]:
    """Names of artifacts, and the files in them."""
    requests = [record.request.log_artifact.artifact for record in records(path) if record.HasField("request")]
    found = [record.artifact for record in records(path) if record.WhichOneof("record_type") == "artifact"] + requests
    return {each.name: [entry.path for entry in each.manifest.contents] for each in found if each.name}


def _plain(items) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
