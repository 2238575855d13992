"""Errors for want of memory or disk say what to change; a full disk leaves the run able to go on."""

import errno
import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules import checkpoint_io
from lightning_modules.callbacks.out_of_room import remedy
from lightning_modules.checkpoint_io import check_writable, write_whole
from tests.toys import ToyMethod

GPU, MEMORY, SHARED, DISK = "the GPU's memory", "the machine's memory", "shared memory", "a disk or quota"


def raised(act) -> BaseException:
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# the first two are this machine's own errors, the others what torch is known to say
ERRORS = {
    "torch": (lambda: raised(lambda: torch.empty(2**60)), MEMORY),
    "numpy": (lambda: raised(lambda: np.ones((2**30, 2**20))), MEMORY),
    "killed worker": (lambda: RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), MEMORY),
    "fork": (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), MEMORY),
    "cuda": (lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), GPU),
    "cublas": (lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), GPU),
    "shared": (
        lambda: RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"),
        SHARED,
    ),
    "disk": (lambda: raised(full), DISK),
    "quota": (lambda: OSError(errno.EDQUOT, "Disk quota exceeded"), DISK),
    "in a worker": (
        lambda: OSError("Caught OSError in DataLoader worker process 0.\n[Errno 28] No space left on device"),
        DISK,
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_for_want_of_room_says_what_to_change(case, tmp_path):
    make, what = ERRORS[case]
    said = remedy(make(), tmp_path, batch_size=64, num_workers=3)
    assert said.startswith(f"{what}")
    words = {
        GPU: ("data.batch_size (it is 64", "bf16-mixed"),
        MEMORY: ("data.num_workers (it is 3", "data.batch_size (it is 64", "--mem"),
        SHARED: ("data.num_workers (it is 3", "--shm-size"),
        DISK: (f"{tmp_path} has ", " MB free", "--runs=", "goes on from its last checkpoint"),
    }
    assert all(word in said for word in words[what])


def test_other_errors_get_no_advice(tmp_path):
    assert remedy(ValueError("expected 3, got 4"), tmp_path) is None
    assert remedy(OSError(errno.ENOENT, "no such file"), tmp_path) is None


def test_a_run_out_of_memory_ends_with_the_advice(train, monkeypatch):
    def exhaust(*_: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(ToyMethod, "training_step", exhaust)
    with pytest.raises(RuntimeError) as stop:
        train("fit", run_id="a")
    assert (
        "lower data.num_workers" in stop.value.__notes__[0] and "data.batch_size (it is 2;" in stop.value.__notes__[0]
    )


# -- a disk that is really full


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte and a half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can only be made by root, where mounting is allowed")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_refused_at_the_start_and_leaves_the_checkpoint_that_was_there(small_disk):
    last = small_disk / "run" / "checkpoints" / "last.ckpt"
    check_writable(small_disk / "run")
    write_whole(last, bytes(600_000))
    with pytest.raises(
        OSError, match=r"last.ckpt: cannot be written \(No space left.*it needs 1.2 MB.*are kept"
    ) as stop:
        write_whole(last, bytes(1_200_000))
    assert stop.value.errno == errno.ENOSPC and last.read_bytes() == bytes(600_000)
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
    with pytest.raises(OSError, match=r"probe: cannot be written \(No space left"):
        check_writable(small_disk / "run")


@pytest.mark.parametrize("at", ["write", "fsync", "link", "replace"])
def test_a_kill_in_the_middle_of_writing_leaves_a_whole_last_checkpoint(tmp_path, monkeypatch, at):
    last = tmp_path / "last.ckpt"
    torch.save({"step": 1}, last)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed_while_writing() -> None:
        monkeypatch.setattr(*((checkpoint_io, "open", half_written, False) if at == "write" else (os, at, die)))
        write_whole(last, b"of step 2" * 1000)

    def half_written(path: Path, mode: str) -> None:
        with open(path, mode) as file:
            file.write(b"of step 2" * 500)
        die()

    process = multiprocessing.get_context("fork").Process(target=killed_while_writing)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(last, weights_only=True) == {"step": 1}
    assert ".last.ckpt.writing" in {path.name for path in tmp_path.iterdir()}, "the kill came before the write began"
    torch.save({"step": 3}, tmp_path / "next")
    write_whole(last, (tmp_path / "next").read_bytes())
    assert torch.load(last, weights_only=True) == {"step": 3}
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True) == {"step": 1}
