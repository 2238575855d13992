"""Files in the layout of ICVL, with rendered open hands."""

from pathlib import Path

import numpy as np

from benchmarks.generated.hands import pose_hands, project, render_depth, save_picture
from benchmarks.generated.points import icvl16
from benchmarks.generated.surroundings import before_person
from datamodules.icvl import SIZE, K

NOTHING_MM = 32001
TRAIN_SEQUENCES = ("201403121135", "201405151126", "22-5", "90")  # two as recorded, two turned copies
TEST_SEQUENCES = ("test_seq_1", "test_seq_2")


def write_icvl(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0) -> None:
    """Write `Training` and `Testing` with so many frames each, shared out among their sequences."""
    lines = _write_sequences(Path(folder) / "Training", TRAIN_SEQUENCES, train, 2 * seed)
    if train:
        _write_labels(Path(folder) / "Training" / "labels.txt", lines)
    lines = _write_sequences(Path(folder) / "Testing", TEST_SEQUENCES, test, 2 * seed + 1)
    for sequence in TEST_SEQUENCES if test else ():
        own = [line for line in lines if line.startswith(sequence)]
        _write_labels(Path(folder) / "Testing" / f"{sequence}.txt", own)


def _write_sequences(folder: Path, sequences: tuple[str, ...], count: int, seed: int) -> list[str]:
    hands = pose_hands([0] * count, seed, distance=(0.25, 0.4), spread=0.03)
    raws = before_person(render_depth(hands, K, SIZE)[0], NOTHING_MM, seed)
    lines = []
    for i, (raw, points) in enumerate(zip(raws, icvl16(hands.joints), strict=True)):
        name = f"{sequences[i % len(sequences)]}/image_{i // len(sequences):04d}.png"
        save_picture(folder / "Depth" / name, raw)
        uvd = np.concatenate([project(points, K), 1000 * points[:, 2:]], 1)
        lines.append(" ".join([name, *(f"{number:.4f}" for number in uvd.ravel())]))
    return lines


def _write_labels(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
