"""Checkpoint files that are whole or not there: written aside, flushed, renamed; the last but one is kept."""

import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lightning_modules.run_folder import LAST, PREVIOUS

_PROBE = 1 << 20  # bytes: quotas are kept in blocks, and a few bytes fit into a full one


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's reader and writer of checkpoint files; a kill at any moment leaves a readable `last.ckpt`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint`; what stood at a path named last.ckpt goes on as previous.ckpt beside it."""
        if storage_options is not None:
            raise TypeError("storage_options: expected none, since checkpoints are local files; leave it out")
        whole = io.BytesIO()
        torch.save(checkpoint, whole)
        write_whole(Path(path), whole.getbuffer())


def check_writable(folder: Path) -> None:
    """Raise, before anything is computed, unless a run can write into `folder`."""
    probe = folder / ".probe"
    write_whole(probe, bytes(_PROBE))
    probe.unlink()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that, whenever the machine dies, `path` is the old file or the new one, never a part."""
    writing = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(writing, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else the name can reach the disk before the content does
        if path.name == LAST and zipfile.is_zipfile(path):  # a cut-off one must not take the place of a whole one
            _keep(path, path.with_name(PREVIOUS))
        os.replace(writing, path)
        _flush_names(path.parent)
    except OSError as error:
        if path.parent.is_dir():
            writing.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"{path}: cannot be written ({error.strerror or error}; it needs {len(content) / 1e6:.1f} MB); free space "
            "or quota there, or give --runs=<folder on another disk>; the checkpoints written before are kept",
        ) from error


def _keep(path: Path, name: Path) -> None:
    """Give the file at `path` a second name; there is no moment at which it has none."""
    aside = name.with_name(f".{name.name}.writing")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:  # file systems without hard links
        shutil.copy2(path, aside)
    os.replace(aside, name)


def _flush_names(folder: Path) -> None:
    """What was renamed stays renamed when the power goes."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
