"""NYU Hand Pose (Tompson, Stein, LeCun, Perlin, TOG 2014), as unpacked.

    dataset/train/  joint_data.mat  depth_{k}_{%07d}.png   k = 1, 2, 3 cameras   72757 frames each
    dataset/test/   joint_data.mat  depth_{k}_{%07d}.png                          8252 frames each

Depth PNG: 640 x 480 colour, green is the high byte, blue the low one, millimetres; numbers begin at 1. The annotation
has `joint_xyz` (3 cameras, frames, 36, 3) in millimetres with y up, and `joint_uvd` in pixels and millimetres. Right
hands. Published evaluation uses camera 1 and 14 of the 36 points (`ops.joints.NYU14_OF_36`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.label_files import camera_matrix, check_before_camera, check_finite_labels, dataset_folder, read_mat
from datamodules.picture_files import read_packed_depth
from datamodules.point_labels import canonical_joints, canonical_weights
from ops.checks import check_choice
from ops.joints import NYU36, NYU36_CANONICAL

SIZE = (480, 640)
FRAMES = {"train": 72757, "test": 8252}  # of each camera
# exact in the dataset's own scripts: 640 / (2 tan(fov_x / 2)), 480 / (2 tan(fov_y / 2))
K = camera_matrix(640 / 1.08836710, 480 / 0.817612648, 320.0, 240.0)
SECOND_ACTOR = 2440  # test frames from this one on (from 0) show a smaller hand
CUBE_SIDE, SECOND_CUBE_SIDE = 0.3, 0.25  # metres, as published evaluations crop
# a surface behind the hand that the cameras saw is as far as 2 m; what no camera saw is stored as 0 or beyond this
_FARTHEST_MM = 10_000
_PALM = NYU36.index("PALM_3")
_WEIGHTS = canonical_weights(NYU36_CANONICAL, len(NYU36))
_MM = np.float32(0.001)


class NYU(HandDataset):
    """NYU in a folder.

    Args:
        folder: holds `train` and `test` (the archive's `dataset`).
        train_views: cameras to train on, of 1, 2, 3. Validation and test use camera 1, as published.
    """

    name = "nyu"

    def __init__(self, folder: str | Path, train_views: Sequence[int] = (1,)) -> None:
        for view in train_views:
            check_choice("train_views", view, (1, 2, 3))
        if len(set(train_views)) != len(train_views) or not train_views:
            raise ValueError(f"train_views: expected different cameras of 1, 2, 3, got {list(train_views)}")
        self._folder = dataset_folder("NYU", folder, list(FRAMES))
        self._train_views = tuple(train_views)

    def frames(self, split: Split) -> "NYUFrames":
        """Open a split: `train` and `val` of the training set, the latter its end."""
        check_choice("split", split, ("train", "val", "test"))
        return NYUFrames(self._folder, split, self._train_views if split == "train" else (1,))


class NYUFrames(HandFrames):
    """Records of NYU: depth and 36 points, camera by camera."""

    dataset = "nyu"
    convention = "nyu"
    provides = frozenset({"depth", "3d", "2d"})

    def __init__(self, folder: Path, split: Split, views: Sequence[int]) -> None:
        part = "test" if split == "test" else "train"
        self.split = split
        self._folder = folder / part
        self._file = self._folder / "joint_data.mat"
        shape = (3, None, len(NYU36), 3)
        arrays = read_mat(self._file, {"joint_xyz": shape, "joint_uvd": shape})
        total, labelled = (arrays[name].shape[1] for name in ("joint_xyz", "joint_uvd"))
        if total != labelled or not total:
            got = f"{total} and {labelled}" if total != labelled else "none"
            raise BadFrame(f"{self._file}: expected equally many frames in joint_xyz and joint_uvd, got {got}")
        self._numbers = _kept(total, split)
        self._views = tuple(views)
        chosen = np.ix_([view - 1 for view in views], self._numbers)
        # joint_xyz has y up
        self._points = (arrays["joint_xyz"][chosen] * (1, -1, 1) * 0.001).astype(np.float32)
        self._uv = arrays["joint_uvd"][chosen][..., :2].astype(np.float32)
        self.expected = len(_kept(FRAMES[part], split)) * len(views)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._numbers) * len(self._views)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its picture."""
        view, place = divmod(range(len(self))[index], len(self._numbers))
        number = self._numbers[place]
        points, uv = self._points[view, place], self._uv[view, place]
        record = f"{number + 1} of camera {self._views[view]}"
        check_finite_labels(self._file, record, joint_xyz=points, joint_uvd=uv)
        check_before_camera(self._file, record, points)
        joints, valid = canonical_joints(points, _WEIGHTS)
        joints_2d = canonical_joints(uv, _WEIGHTS)[0]
        joints_2d[0] = (K @ joints[0])[:2] / joints[0, 2]  # the wrist is a mean, which a picture shows elsewhere
        second = self.split == "test" and number >= SECOND_ACTOR
        return HandFrame(
            key=f"nyu/{self.split}/{self._views[view]}_{number + 1:07d}",
            side=1,
            K=K.copy(),
            size=SIZE,
            joints_3d=joints,
            joint_valid=valid,
            joints_2d=joints_2d,
            palm=points[_PALM].copy(),
            points=points.copy(),
            cube_side=SECOND_CUBE_SIDE if second else CUBE_SIDE,
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its depth picture."""
        raw = read_packed_depth(self.files(index)[0], SIZE, low=2, high=1, nothing_from=_FARTHEST_MM)
        return replace(self.labels(index), depth=raw * _MM)

    def files(self, index: int) -> Sequence[Path]:
        """The depth picture."""
        view, place = divmod(range(len(self))[index], len(self._numbers))
        return [self._folder / f"depth_{self._views[view]}_{self._numbers[place] + 1:07d}.png"]


def _kept(total: int, split: Split) -> range:
    return range(total) if split == "test" else held_out(total, split)
