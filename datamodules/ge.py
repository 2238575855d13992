"""The real-world test set of Ge et al. (3D Hand Shape and Pose Estimation from a Single RGB Image, CVPR 2019).

As published: `images/%05d.jpg`, crops of 256 x 256 of one left hand each; `params.mat` with image_path, bbox (x, y, w,
h) of each crop in its original picture and cam_param (fx, fy, cx, cy) of that; `pose_gt.mat` with pose_gt (N, 21, 3)
centimetres, canonical order. A subset may hold the same in one `annotations.npz`: image, bbox_xywh,
camera_fx_fy_cx_cy, joints_cm.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split
from datamodules.label_files import (
    camera_matrix,
    check_before_camera,
    check_camera,
    check_finite_labels,
    dataset_folder,
    label_file,
    number_array,
    read_mat,
)
from datamodules.picture_files import read_rgb

SIZE = (256, 256)
PICTURES = 583


class Ge(HandDataset):
    """The set in a folder that holds `images` and `params.mat` with `pose_gt.mat`, or `annotations.npz`."""

    name = "ge"

    def __init__(self, folder: str | Path) -> None:
        self._folder = dataset_folder("Ge et al.", folder, ["params.mat", "annotations.npz"])

    def frames(self, split: Split) -> "GeFrames":
        """Open the split `test`, the only one."""
        if split != "test":
            raise ValueError(f"split: Ge's real-world set is a test set, got '{split}'; train on another source")
        return GeFrames(self._folder)


class GeFrames(HandFrames):
    """Records of the set: colour crops with 3D joints."""

    dataset = "ge"
    split: Split = "test"
    convention = "ge"
    provides = frozenset({"rgb", "3d", "2d"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        published = (folder / "params.mat").exists()
        self.expected = PICTURES if published else None
        self._file = folder / ("pose_gt.mat" if published else "annotations.npz")
        names, boxes, cameras, joints = (_read_published if published else _read_npz)(folder)
        if not len(names):
            raise BadFrame(f"{self._file}: expected labelled pictures, got none; get the file anew")
        if len({len(names), len(boxes), len(cameras), len(joints)}) > 1:
            raise BadFrame(
                f"{self._file}: expected as many joints as pictures, got {len(names)} pictures, {len(boxes)} boxes, "
                f"{len(cameras)} cameras, {len(joints)} sets of joints; get the files anew"
            )
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not name:
                raise BadFrame(f"{self._file}: expected pictures in {folder}, got '{name}'; get the file anew")
        self._names, self._boxes, self._cameras, self._joints = names, boxes, cameras, joints

    def __len__(self) -> int:
        """Number of records."""
        return len(self._names)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its picture."""
        name, joints = str(self._names[index]), self._joints[index] / np.float32(100)
        check_finite_labels(self._file, name, joints=joints)
        check_before_camera(self._file, name, joints)
        return HandFrame(
            key=f"ge/test/{PurePosixPath(name).stem}",
            side=0,
            K=self._crop_camera(index),
            size=SIZE,
            joints_3d=joints,
            points=joints.copy(),
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its picture."""
        return replace(self.labels(index), rgb=read_rgb(self.files(index)[0], SIZE))

    def files(self, index: int) -> Sequence[Path]:
        """The one picture."""
        return [Path(f"{self._folder}/{self._names[index]}")]

    def _crop_camera(self, index: int) -> np.ndarray:
        """K of the crop: (uv - corner of the box) * 256 / width of the box, as the authors' code draws."""
        x, y, width, height = self._boxes[index]
        name = self._names[index]
        if not (np.isfinite(self._boxes[index]).all() and width > 0 and width == height):
            raise BadFrame(
                f"{self._file}, {name}: bbox: expected a square, got {self._boxes[index]}; get the file anew"
            )
        fx, fy, cx, cy = self._cameras[index]
        scale = SIZE[1] / width
        K = camera_matrix(fx * scale, fy * scale, (cx - x) * scale, (cy - y) * scale)
        check_camera(self._file, name, K)
        return K


def _read_published(folder: Path) -> tuple[np.ndarray, ...]:
    """Names (N,), boxes (N, 4), cameras (N, 4), joints (N, 21, 3) of the two .mat files."""
    params = read_mat(folder / "params.mat", {"image_path": (None,), "bbox": (None, 4), "cam_param": (None, 4)})
    joints = read_mat(folder / "pose_gt.mat", {"pose_gt": (None, 21, 3)})["pose_gt"]
    names = np.char.rstrip(params["image_path"])  # MATLAB pads the shorter names
    return names, params["bbox"].astype(np.float64), params["cam_param"].astype(np.float64), joints.astype(np.float32)


def _read_npz(folder: Path) -> tuple[np.ndarray, ...]:
    """The same of `annotations.npz`."""
    file = label_file(folder / "annotations.npz")
    keys = ("image", "bbox_xywh", "camera_fx_fy_cx_cy", "joints_cm")
    try:
        with np.load(file, allow_pickle=False) as contents:
            names, *arrays = (contents[key] for key in keys)
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise BadFrame(f"{file}: expected an .npz with {', '.join(keys)} ({error}); get the file anew") from error
    if names.dtype.kind != "U" or names.ndim != 1:
        raise BadFrame(f"{file}: image: expected file names, got {names.dtype} {names.shape}; get the file anew")
    shapes, dtypes = ((None, 4), (None, 4), (None, 21, 3)), (np.float64, np.float64, np.float32)
    checked = [
        number_array(file, key, array, shape, dtype)
        for key, array, shape, dtype in zip(keys[1:], arrays, shapes, dtypes, strict=True)
    ]
    return np.char.add("images/", names), *checked
