"""HO-3D (Hampali et al., HOnnotate, CVPR 2020), versions 2 and 3, as unpacked.

    train/<sequence>/{rgb,depth,meta}/%04d.{png or jpg, png, pkl}    evaluation/<sequence>/... alike
    train.txt, evaluation.txt                                        lines <sequence>/<frame>

Right hands that hold an object, 640 x 480; colour is PNG in version 2 and JPEG in version 3. A record's labels are a
pickle of their own in `meta`, in metres and OpenGL's axes (y up, z backwards). Of the evaluation pictures the wrist
alone is labelled.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.label_files import (
    check_before_camera,
    check_camera,
    check_finite_labels,
    dataset_folder,
    label_file,
    number_array,
)
from datamodules.picture_files import read_packed_depth, read_rgb
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS, MODEL_TO_CANONICAL
from ops.safe_pickle import RefusedPickle, load_pickle

SIZE = (480, 640)
RECORDS = {"v2": {"train": 66034, "evaluation": 11524}, "v3": {"train": 83325, "evaluation": 20137}}
SUFFIX = {"v2": "png", "v3": "jpg"}
DEPTH_UNIT = 0.00012498664727900177  # metres per step of the depth pictures (the authors' code)
OPENGL_TO_OPENCV = np.array([1.0, -1.0, -1.0])
# canonical[i] = ho3d[TO_CANONICAL[i]]; HO-3D's order is MANO's 16 joints, then the tips thumb to little
TO_CANONICAL = MODEL_TO_CANONICAL
MAX_META_BYTES = 1 << 20  # a record is a few kilobytes
_RECORD = re.compile(r"(?P<sequence>[\w-]+)/(?P<frame>\d+)")

Version = Literal["v2", "v3"]


class HO3D(HandDataset):
    """HO-3D in a folder.

    Args:
        folder: holds `train.txt` with `train`, or `evaluation.txt` with `evaluation`.
        version: "v2" or "v3"; None tells it by the kind of the first picture.
    """

    name = "ho3d"

    def __init__(self, folder: str | Path, version: Version | None = None) -> None:
        check_choice("version", version, (*SUFFIX, None))
        self._folder = dataset_folder("HO-3D", folder, ["train.txt", "evaluation.txt"])
        self._version = version

    def frames(self, split: Split) -> "HO3DFrames":
        """Open a split: `train` and `val` of train, `test` is evaluation, in its file's order."""
        check_choice("split", split, ("train", "val", "test"))
        return HO3DFrames(self._folder, split, self._version)


class HO3DFrames(HandFrames):
    """Records of HO-3D: colour, depth, 3D joints; in `test` the wrist alone is valid."""

    dataset = "ho3d"
    convention = "mano"
    provides = frozenset({"rgb", "depth", "3d", "2d"})

    def __init__(self, folder: Path, split: Split, version: Version | None) -> None:
        self.split = split
        part = "evaluation" if split == "test" else "train"
        self._folder = folder / part
        records = _read_list(folder / f"{part}.txt")
        if split != "test":  # sorted, so that the end held out for validation is a video's end
            records = [sorted(records)[i] for i in held_out(len(records), split)]
        self._records = np.array(records)
        version = version or _find_version(self._folder, records[0])
        self._suffix = SUFFIX[version]
        total = RECORDS[version][part]
        self.expected = total if split == "test" else len(held_out(total, split))

    def __len__(self) -> int:
        """Number of records."""
        return len(self._records)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its pictures: one small file is read."""
        file = self._file(index, "meta", "pkl")
        meta = _read_meta(file)
        K = number_array(file, "camMat", meta.get("camMat"), (3, 3))
        check_camera(file, "camMat", K)
        points, valid = self._joints(file, meta.get("handJoints3D"))
        check_finite_labels(file, "handJoints3D", joints=points)
        check_before_camera(file, "handJoints3D", points)
        joints = np.zeros((len(CANONICAL_JOINTS), 3), dtype=np.float32)
        joints[valid] = points[[TO_CANONICAL[joint] for joint in np.flatnonzero(valid)]]
        return HandFrame(
            key=f"ho3d/{self.split}/{self._records[index]}",
            side=1,
            K=K,
            size=SIZE,
            joints_3d=joints,
            joint_valid=valid,
            points=points,
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its pictures."""
        rgb, depth = self.files(index)
        metres = read_packed_depth(depth, SIZE, low=0, high=1) * np.float32(DEPTH_UNIT)
        return replace(self.labels(index), rgb=read_rgb(rgb, SIZE), depth=metres)

    def files(self, index: int) -> Sequence[Path]:
        """Colour and depth."""
        return [self._file(index, "rgb", self._suffix), self._file(index, "depth", "png")]

    def _file(self, index: int, kind: str, suffix: str) -> Path:
        sequence, frame = self._records[index].split("/")
        return self._folder / sequence / kind / f"{frame}.{suffix}"

    def _joints(self, file: Path, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        """Points (21, 3) or (1, 3) in the dataset's order and OpenCV's axes, and which canonical joints they are."""
        valid = np.ones(len(CANONICAL_JOINTS), dtype=bool)
        if self.split == "test" and np.shape(labels) == (3,):
            valid[1:] = False
            labels = [labels]
        points = number_array(file, "handJoints3D", labels, (valid.sum(), 3))
        return (points * OPENGL_TO_OPENCV).astype(np.float32), valid


def _read_list(file: Path) -> list[str]:
    """Records `sequence/frame` of a list."""
    lines = label_file(file).read_text(encoding="utf-8", errors="replace").splitlines()
    records = [line.strip() for line in lines if line.strip()]
    if not records:
        raise BadFrame(f"{file}: expected lines 'sequence/frame', got none; get the file anew")
    for number, record in enumerate(records, start=1):
        if not _RECORD.fullmatch(record):
            raise BadFrame(f"{file}, line {number}: expected 'sequence/frame', got {record!r:.60}; get the file anew")
    return records


def _read_meta(file: Path) -> dict:
    """Labels of one record. A file that is lost or damaged is a bad frame; one that wants to run code is refused."""
    try:
        meta = load_pickle(label_file(file), max_bytes=MAX_META_BYTES)
    except RefusedPickle:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise BadFrame(str(error)) from error
    if not isinstance(meta, dict):
        raise BadFrame(f"{file}: expected a dict of labels, got a {type(meta).__name__}; get the file anew")
    return meta


def _find_version(folder: Path, record: str) -> Version:
    """The version by the kind of a record's colour picture."""
    sequence, frame = record.split("/")
    stem = folder / sequence / "rgb" / frame
    found = [version for version, suffix in SUFFIX.items() if stem.with_suffix(f".{suffix}").exists()]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{stem}: expected one picture, .png (version 2) or .jpg (version 3), found {len(found)}; "
            "unpack the pictures, or name the version"
        )
    return found[0]
