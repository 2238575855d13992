"""What to change when memory or disk runs out: a note below the error's own words, in the run's own numbers."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_DISK = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}
_GPU = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_SHARED = ("insufficient shared memory", "Unexpected bus error", "killed by signal: Bus error")
_MEMORY = ("DefaultCPUAllocator", "killed by signal: Killed", "Cannot allocate memory", "Unable to allocate")


class OutOfRoom(Callback):
    """Adds to an error for want of memory or disk what to change."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note the remedy; the error goes on as it is."""
        data = trainer.datamodule
        sizes = {name: getattr(data, name, None) for name in ("batch_size", "num_workers")}
        note = remedy(exception, Path(trainer.default_root_dir), **sizes)
        if note:
            exception.add_note(note)


def remedy(
    error: BaseException, folder: Path, batch_size: int | None = None, num_workers: int | None = None
) -> str | None:
    """What to change; None where the error is not for want of room.

    Args:
        error: as it was raised, also through a worker, which keeps the words alone.
        folder: of the run.
        batch_size: of the run's data.
        num_workers: of the run's data.
    """
    causes = list(_causes(error))
    text = "\n".join(map(str, causes))
    batch = f"lower data.batch_size (it is {batch_size}; a run that changes it begins anew, under another RUN_ID)"
    workers = f"data.num_workers (it is {num_workers}; each worker holds batches of its own)"
    if any(isinstance(each, torch.OutOfMemoryError) for each in causes) or _says(text, _GPU):
        return (
            f"the GPU's memory is full: {batch}, or set trainer.precision=bf16-mixed; nvidia-smi shows who else uses it"
        )
    if any(each.errno in _DISK for each in causes if isinstance(each, OSError)) or _says(text, _DISK.values()):
        return _disk(folder)
    if _says(text, _SHARED):
        return f"shared memory, by which workers send, is full: lower {workers}; a container takes --shm-size"
    if any(isinstance(each, MemoryError) for each in causes) or _says(text, _MEMORY):
        return f"the machine's memory is full: lower {workers}, or {batch}; SLURM gives more by --sbatch=--mem=<size>"
    return None


def _disk(folder: Path) -> str:
    places = dict.fromkeys((folder, Path(tempfile.gettempdir())))
    free = ", ".join(
        f"{place} has {shutil.disk_usage(place).free / 1e6:.0f} MB free" for place in places if place.exists()
    )
    return (
        f"a disk or quota is full ({free}): free some there, or move the run folder and give --runs=<folder on another "
        "disk>; the same RUN_ID goes on from its last checkpoint, which is whole"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _says(text: str, words: object) -> bool:
    return any(word in text for word in words)
