"""How fast the readers are, against a bare loop that only decodes the same files, and whether their memory stays flat.

    python -m benchmarks.readers [names ...] [--count 256] [--rounds 5] [--save]

Every dataset is written in its published layout with pictures of the published sizes, on the local disk; all are read
once before, so that they lie in memory.

- `<name>`: samples a second of the training split as training gets them: shuffled, read, checked, cropped to 128 x 128,
  batched and sent by 2 workers.
- `<name>_bare`: the same by 2 processes that decode the records' pictures with the same library and do nothing else.
- `<name>_over_bare`: one over the other, the median of rounds that take turns; the goal is 0.8.
- `<name>_frames_over_bare`: the same for `HandFrames.frame` alone, which reads and checks, in those 2 processes: what
  is left to 1 is the strict reading, and between the two ratios lie the crop and the way to the training process.
- `<name>_over_bare_cpu`: the same ratio in processor time, which other programs on the machine disturb less.
- `<name>_memory_growth_mb`: how much the proportional memory of 8 workers together grew over the second half of 400
  batches; before, each of them meets its first ones. `worker_memory_growth_mb` is the largest.
"""

import argparse
import importlib
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from rich.progress import track
from rich.table import Table

from benchmarks.report import emit
from datamodules.datasets import DATASETS, dataset_class
from datamodules.frames import HandDataset, HandFrames
from datamodules.hand_data import HandData

WORKERS, MEMORY_WORKERS = 2, 8
BATCH, IMAGE_SIZE = 32, 128
SAMPLES = 1280  # of a round
MEMORY_SAMPLES = 12_800
WARM_UP = 4 * WORKERS  # batches: compiled code is loaded, prefetched batches run out
ICVL_LINES = 331_006  # as published: what a worker's memory must not grow by; they name the same pictures over and over
GOAL = 0.8
WRITTEN = [name for name in DATASETS if name != "rendered"]  # sets of our own on disk: benchmarks.shards
TEST_ONLY = [name for name, entry in DATASETS.items() if entry.splits == ("test",)]


class Speed(NamedTuple):
    """Of one round."""

    rate: float  # samples a second
    cpu: float  # processor seconds per sample, of the processes that read


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(WRITTEN)}; default: all")
    parser.add_argument("--count", type=int, default=256, help="records written per dataset")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="readers-") as root:
        for name in track(arguments.names or WRITTEN, description="readers"):
            dataset = write(name, Path(root) / name, arguments.count)
            figures |= speeds(name, dataset, arguments.rounds)
            figures[f"{name}_memory_growth_mb"] = memory_growth(name, dataset)
    growths = [value for figure, value in figures.items() if figure.endswith("_memory_growth_mb")]
    figures["worker_memory_growth_mb"] = max(growths)
    emit("readers", {name: round(value, 3) for name, value in figures.items()}, _table(figures), arguments.save)


def write(name: str, folder: Path, count: int) -> HandDataset:
    """A dataset of about `count` generated records in its published layout; ICVL's labels in their full length."""
    folder.mkdir()
    writer = getattr(importlib.import_module(f"benchmarks.generated.{name}"), f"write_{name}")
    writer(folder, train=0, test=count) if name in TEST_ONLY else writer(folder, train=count, test=2)
    if name == "icvl":
        labels = folder / "Training" / "labels.txt"
        lines = labels.read_text().splitlines(keepends=True)
        labels.write_text("".join(lines[i % len(lines)] for i in range(ICVL_LINES)))
    return dataset_class(name)(folder)


def speeds(name: str, dataset: HandDataset, rounds: int) -> dict[str, float]:
    """Samples a second of the reader and of the bare loop, taking turns."""
    frames = dataset.frames(_split(name))
    records = range(min(len(frames), SAMPLES))
    pictures = [[str(path) for path in frames.files(i)] for i in records]
    context = multiprocessing.get_context("fork")
    with context.Pool(WORKERS, initializer=_prepare, initargs=(frames, pictures)) as pool:
        _pool_round(pool, _decode, len(pictures))  # fills the cache of the disk
        triples = [
            (
                _reader_round(name, dataset),
                _pool_round(pool, _decode, len(pictures)),
                _pool_round(pool, _read, len(pictures)),
            )
            for _ in range(rounds)
        ]
    return {
        name: statistics.median(reader.rate for reader, _, _ in triples),
        f"{name}_bare": statistics.median(bare.rate for _, bare, _ in triples),
        f"{name}_over_bare": statistics.median(reader.rate / bare.rate for reader, bare, _ in triples),
        f"{name}_over_bare_cpu": statistics.median(bare.cpu / reader.cpu for reader, bare, _ in triples),
        f"{name}_frames_over_bare": statistics.median(read.rate / bare.rate for _, bare, read in triples),
    }


def _split(name: str) -> str:
    return "test" if name in TEST_ONLY else "train"


def _batches(name: str, dataset: HandDataset, samples: int, workers: int):  # noqa: ANN202 - torch's iterator
    """Training batches of a reader; test sets are walked in the same way."""
    if name in TEST_ONLY:
        dataset = _AsTraining(dataset)
    data = HandData({name: dataset}, batch_size=BATCH, epoch_size=samples, image_size=IMAGE_SIZE, num_workers=workers)
    return iter(data.train_dataloader())


class _AsTraining(HandDataset):
    """A test set that is walked as a training set is, shuffled and again and again."""

    def __init__(self, dataset: HandDataset) -> None:
        self.name = dataset.name
        self._dataset = dataset

    def frames(self, split: str) -> HandFrames:
        """The test split, whatever is asked for."""
        return self._dataset.frames("test")


def _reader_round(name: str, dataset: HandDataset) -> Speed:
    others = _children()
    batches = _batches(name, dataset, SAMPLES + WARM_UP * BATCH, WORKERS)
    for _ in range(WARM_UP):
        next(batches)
    workers = _children() - others
    start, cpu = time.perf_counter(), sum(map(_processor_seconds, workers))
    for _ in range(SAMPLES // BATCH):
        next(batches)
    seconds, cpu = time.perf_counter() - start, sum(map(_processor_seconds, workers)) - cpu
    return Speed(SAMPLES / seconds, cpu / SAMPLES)


_shared: dict[str, Any] = {}  # what the processes of the pool work on, inherited when they fork


def _prepare(frames: HandFrames, pictures: Sequence[Sequence[str]]) -> None:
    cv2.setNumThreads(1)
    _shared.update(frames=frames, pictures=pictures)


def _pool_round(pool: Pool, work: Callable[[Sequence[int]], float], records: int) -> Speed:
    order = np.random.default_rng(0).integers(records, size=SAMPLES)
    start = time.perf_counter()
    cpu = pool.map(work, [order[worker::WORKERS].tolist() for worker in range(WORKERS)], chunksize=1)
    return Speed(SAMPLES / (time.perf_counter() - start), sum(cpu) / SAMPLES)


def _read(records: Sequence[int]) -> float:
    """Read records and drop them; processor seconds that it took."""
    start = time.process_time()
    for record in records:
        _shared["frames"].frame(record)
    return time.process_time() - start


def _decode(records: Sequence[int]) -> float:
    """Decode the pictures of records and drop them; processor seconds that it took."""
    start = time.process_time()
    for path in (path for record in records for path in _shared["pictures"][record]):
        if path.endswith(".bin"):
            np.fromfile(path, np.float32)
        else:
            assert cv2.imread(path, cv2.IMREAD_UNCHANGED) is not None
    return time.process_time() - start


def memory_growth(name: str, dataset: HandDataset) -> float:
    """Megabytes that 8 workers together grew by between the middle and the end of an epoch."""
    others = _children()
    batches = _batches(name, dataset, MEMORY_SAMPLES, MEMORY_WORKERS)
    total = MEMORY_SAMPLES // BATCH
    early = 0.0
    for number in range(total):
        next(batches)
        if number == total // 2:
            early = sum(map(_megabytes, _children() - others))
    return sum(map(_megabytes, _children() - others)) - early


def _table(figures: dict[str, float]) -> Table:
    columns = ("reader", "samples/s", "bare", "over bare", "in CPU time", "goal", "frames over bare", "growth, MB")
    table = Table(*columns, title="Readers")
    for name in DATASETS:
        if name in figures:
            ratio = figures[f"{name}_over_bare"]
            row = [f"{figures[name]:.0f}", f"{figures[f'{name}_bare']:.0f}", f"{ratio:.2f}"]
            row += [f"{figures[f'{name}_over_bare_cpu']:.2f}", f"{GOAL} {'✓' if ratio >= GOAL else '✗'}"]
            row.append(f"{figures[f'{name}_frames_over_bare']:.2f}")
            table.add_row(name, *row, f"{figures[f'{name}_memory_growth_mb']:.1f}")
    return table


def _processor_seconds(pid: int) -> float:
    """User and system time of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int) -> float:
    """Proportional memory of a process (Linux): pages that several processes share are divided among them."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def _children() -> set[int]:
    return {process.pid for process in multiprocessing.active_children()}


if __name__ == "__main__":
    main()
