"""ICVL (Tang, Chang, Tejani, Kim: Latent Regression Forest, CVPR 2014), as unpacked.

    Training/  labels.txt      Depth/<sequence>/image_%04d.png                    331006 lines
    Testing/   test_seq_1.txt  test_seq_2.txt  Depth/test_seq_1/image_%04d.png    702 and 894 lines

A line is a path below Depth and 48 numbers: 16 points of u, v in pixels and depth in millimetres. Depth PNG: 320 x 240,
16 bits, millimetres; 32001 is nothing. Left hands, as their chirality shows. Of the training sequences 12 are as
recorded (folders named by date); the others are copies of them, turned in the picture.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.label_files import (
    camera_matrix,
    check_before_camera,
    check_finite_labels,
    dataset_folder,
    label_file,
)
from datamodules.picture_files import read_depth16
from datamodules.point_labels import canonical_joints, canonical_weights
from ops.checks import check_choice
from ops.joints import ICVL16_CANONICAL

SIZE = (240, 320)
K = camera_matrix(240.99, 240.96, 160.0, 120.0)  # as the published evaluation has it
TRAIN_LINES, TEST_LINES = 331_006, (702, 894)
_FARTHEST_MM = 30_000  # what is beyond is nothing
_ORIGINAL = 8  # digits at least in the name of a recorded sequence: a date; copies have short names, by their angle
_NUMBERS = 48
_WEIGHTS = canonical_weights(ICVL16_CANONICAL, 16)
_MM = np.float32(0.001)


class ICVL(HandDataset):
    """ICVL in a folder.

    Args:
        folder: holds `Training` and `Testing`.
        original_sequences_only: train on the recorded sequences, not on the turned copies.
    """

    name = "icvl"

    def __init__(self, folder: str | Path, original_sequences_only: bool = False) -> None:
        self._folder = dataset_folder("ICVL", folder, ["Training", "Testing"])
        self._original_only = original_sequences_only

    def frames(self, split: Split) -> "ICVLFrames":
        """Open a split: `train` and `val` of Training, the latter its end; `test` is both sequences of Testing."""
        check_choice("split", split, ("train", "val", "test"))
        return ICVLFrames(self._folder, split, self._original_only)


class ICVLFrames(HandFrames):
    """Records of ICVL: depth and 16 points."""

    dataset = "icvl"
    convention = "icvl"
    provides = frozenset({"depth", "3d", "2d"})

    def __init__(self, folder: Path, split: Split, original_only: bool) -> None:
        self.split = split
        self._folder = folder / ("Testing" if split == "test" else "Training")
        names = ("test_seq_1.txt", "test_seq_2.txt") if split == "test" else ("labels.txt",)
        self._files = [self._folder / name for name in names]
        read = [_read_labels(file) for file in self._files]
        pictures = np.concatenate([part[0] for part in read])
        uvd = np.concatenate([part[1] for part in read])
        line = np.concatenate([np.arange(1, len(part[0]) + 1) for part in read])
        source = np.repeat(np.arange(len(read)), [len(part[0]) for part in read])
        listed = np.arange(len(pictures))
        if split != "test" and original_only:
            listed = np.flatnonzero([len(name.split(b"/")[0]) >= _ORIGINAL for name in pictures.tolist()])
        kept = listed if split == "test" else listed[held_out(len(listed), split)]
        self._pictures, self._uvd = pictures[kept], uvd[kept]
        self._line, self._source = line[kept], source[kept]
        # how many of the published lines are originals is not documented
        self.expected = None if original_only and split != "test" else _expected(split)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._pictures)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its picture."""
        uvd = self._uvd[index].reshape(16, 3)
        file, line = self._files[self._source[index]], int(self._line[index])
        check_finite_labels(file, f"line {line}", points=uvd)
        check_before_camera(file, f"line {line}", uvd)
        z = uvd[:, 2:] * _MM
        points = np.concatenate([(uvd[:, :2] - K[:2, 2]) / (K[0, 0], K[1, 1]) * z, z], 1).astype(np.float32)
        joints, valid = canonical_joints(points, _WEIGHTS)
        return HandFrame(
            key=f"icvl/{self.split}/{self._pictures[index].decode().removesuffix('.png')}",
            side=0,
            K=K.copy(),
            size=SIZE,
            joints_3d=joints,
            joint_valid=valid,
            joints_2d=canonical_joints(uvd[:, :2], _WEIGHTS)[0],
            palm=points[0].copy(),
            points=points,
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its depth picture."""
        raw = read_depth16(self.files(index)[0], SIZE, nothing_from=_FARTHEST_MM)
        return replace(self.labels(index), depth=raw * _MM)

    def files(self, index: int) -> Sequence[Path]:
        """The depth picture."""
        return [Path(f"{self._folder}/Depth/{self._pictures[index].decode()}")]


def _expected(split: Split) -> int:
    return sum(TEST_LINES) if split == "test" else len(held_out(TRAIN_LINES, split))


def _read_labels(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Paths (N,) as bytes and numbers (N, 48) float32 of a label file."""
    names: list[bytes] = []
    numbers: list[np.ndarray] = []
    with open(label_file(file), "rb") as lines:
        for line, text in enumerate(lines, 1):
            name, _, rest = text.strip().partition(b" ")
            if not name:
                continue
            try:
                row = np.array(rest.split(), dtype=np.float32)
            except ValueError as error:
                raise BadFrame(f"{file}, line {line}: expected a path and numbers ({error}); get it anew") from error
            if len(row) != _NUMBERS:
                raise BadFrame(f"{file}, line {line}: expected {_NUMBERS} numbers, got {len(row)}; get the file anew")
            if name.startswith((b"/", b"\\")) or b".." in name or not name.isascii():
                raise BadFrame(
                    f"{file}, line {line}: expected a path below Depth, got {name[:60]!r}; get the file anew"
                )
            names.append(name)
            numbers.append(row)
    if not names:
        raise BadFrame(f"{file}: no line with labels; get the file anew")
    return np.array(names), np.stack(numbers)
