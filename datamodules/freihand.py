"""FreiHAND (Zimmermann et al., ICCV 2019), FreiHAND_pub_v2 as unpacked.

    training/rgb/%08d.jpg    130240 pictures of 224 x 224: 32560 poses, each in front of four backgrounds
    training/mask/%08d.jpg   32560 masks, which hold for all four
    training_{K,xyz,verts}.json
    evaluation/rgb/%08d.jpg  3960 pictures; evaluation_{K,xyz,verts}.json were published later

One right hand per picture, metres, canonical joint order, vertices of MANO.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.json_rows import JsonRows
from datamodules.label_files import (
    check_before_camera,
    check_camera,
    check_finite_labels,
    dataset_folder,
    number_array,
    read_json,
)
from datamodules.picture_files import read_grey, read_rgb
from ops.checks import check_choice

SIZE = (224, 224)
POSES, EVALUATION = 32560, 3960
# Backgrounds: green screen, then harmonised, coloured by sampling, coloured automatically; picture = pose + POSES * row
VERSIONS = ("gs", "hom", "sample", "auto")
VERTICES = 778
_ON = 128  # a JPEG's mask is not quite black and white

Version = Literal["gs", "hom", "sample", "auto"]


class FreiHAND(HandDataset):
    """FreiHAND in a folder.

    Args:
        folder: holds `training_xyz.json` or `evaluation_xyz.json`, and the pictures' folders beside it.
        versions: backgrounds to use in training.
        vertices: give MANO's vertices. They are 1.5 GB of text: a pass over it when a split is opened, and as long to
            read for each record as its picture takes.
    """

    name = "freihand"

    def __init__(self, folder: str | Path, versions: Sequence[Version] = VERSIONS, vertices: bool = False) -> None:
        if not versions:
            raise ValueError(f"versions: expected at least one of {', '.join(VERSIONS)}, got none")
        for version in versions:
            check_choice("versions", version, VERSIONS)
        self._folder = dataset_folder("FreiHAND", folder, ["training_xyz.json", "evaluation_xyz.json"])
        self._versions, self._vertices = tuple(versions), vertices

    def frames(self, split: Split) -> "FreiHANDFrames":
        """Open a split: `train` and `val` share no pose; `test` is evaluation."""
        check_choice("split", split, ("train", "val", "test"))
        return FreiHANDFrames(self._folder, split, self._versions, self._vertices)


class FreiHANDFrames(HandFrames):
    """Records of FreiHAND: colour, 3D joints, in training masks; version by version, pose by pose."""

    dataset = "freihand"
    convention = "freihand"

    def __init__(self, folder: Path, split: Split, versions: tuple[Version, ...], vertices: bool) -> None:
        self.split = split
        self._part = "evaluation" if split == "test" else "training"
        self._folder = folder
        self._offsets = [0] if split == "test" else [VERSIONS.index(version) for version in versions]
        flags = {"rgb", "3d", "2d"} | ({"mesh"} if vertices else set()) | ({"mask"} if split != "test" else set())
        self.provides = frozenset(flags)
        self._file = folder / f"{self._part}_xyz.json"
        self._xyz = number_array(self._file, "all records", read_json(self._file), (None, 21, 3), np.float32)
        K_file = folder / f"{self._part}_K.json"
        self._K = number_array(K_file, "all records", read_json(K_file), (None, 3, 3))
        self._vertices = self._open_vertices() if vertices else None
        self._check_counts(len(self._xyz), {K_file: len(self._K)})
        self._poses = self._kept(len(self._xyz))
        self.expected = len(self._kept(EVALUATION if split == "test" else POSES)) * len(self._offsets)

    def __len__(self) -> int:
        """Number of records: pictures."""
        return len(self._poses) * len(self._offsets)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its pictures."""
        pose, picture = self._record(index)
        check_camera(self._file.with_name(f"{self._part}_K.json"), pose, self._K[pose])
        joints = self._xyz[pose].copy()
        check_finite_labels(self._file, pose, xyz=joints)
        check_before_camera(self._file, pose, joints)
        vertices = None
        if self._vertices is not None:
            vertices = self._vertices[pose].astype(np.float32)
            check_finite_labels(self._file.with_name(f"{self._part}_verts.json"), pose, verts=vertices)
        return HandFrame(
            key=f"freihand/{self.split}/{picture:08d}",
            side=1,
            K=self._K[pose].copy(),
            size=SIZE,
            joints_3d=joints,
            points=joints.copy(),
            vertices=vertices,
            hand_model="" if vertices is None else "mano",
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its pictures."""
        rgb, *mask = self.files(index)
        return replace(
            self.labels(index),
            rgb=read_rgb(rgb, SIZE),
            mask=read_grey(mask[0], SIZE) >= _ON if mask else None,
        )

    def files(self, index: int) -> Sequence[Path]:
        """Colour and, in training, mask."""
        pose, picture = self._record(index)
        files = [Path(f"{self._folder}/{self._part}/rgb/{picture:08d}.jpg")]
        return files if self.split == "test" else [*files, Path(f"{self._folder}/{self._part}/mask/{pose:08d}.jpg")]

    def _record(self, index: int) -> tuple[int, int]:
        """Number of the pose and of the picture."""
        index = range(len(self))[index]
        version, pose = divmod(index, len(self._poses))
        pose = self._poses[pose]
        return pose, pose + len(self._xyz) * self._offsets[version]

    def _kept(self, total: int) -> range:
        return range(total) if self.split == "test" else held_out(total, self.split)

    def _open_vertices(self) -> JsonRows:
        path = self._file.with_name(f"{self._part}_verts.json")
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; download it with the dataset, or do without vertices")
        rows = JsonRows(path, (VERTICES, 3))
        self._check_counts(len(self._xyz), {path: len(rows)})
        return rows

    def _check_counts(self, expected: int, counts: dict[Path, int]) -> None:
        if not expected:
            raise BadFrame(f"{self._file}: expected labelled records, got none; get the file anew")
        for path, count in counts.items():
            if count != expected:
                raise BadFrame(
                    f"{path}: expected {expected} records as in {self._file.name}, got {count}; get both anew"
                )
