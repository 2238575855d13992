"""Dexter+Object (Sridhar et al., Real-time joint tracking of a hand manipulating an object, ECCV 2016).

    data/{Grasp1,Grasp2,Occlusion,Pinch,Rigid,Rotate}/color/*     640 x 480
                                                     /depth/*     320 x 240, 16 bit, millimetres
                                                     /annotations/<sequence>2D.txt, <sequence>3D.txt

A test set of left hands with five fingertips. Line i of an annotation belongs to the i-th picture by number; fields are
divided by ';': thumb, index, middle, ring, little, then corners of the object. 2D is in pixels of the depth picture, 3D
in millimetres of the depth camera; z = 32001 says that the tip is hidden, and the tip is not valid then.

The axes: both public loaders of this set turn x and y before they project, one by negating them, one by mirroring the
pixels. Hence the default `signs`. A frame of the depth camera carries the 2D labels of the file as `joints_2d`, so
that wrong signs show as a projection error.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split
from datamodules.label_files import camera_matrix, check_before_camera, check_finite_labels, dataset_folder, label_file
from datamodules.picture_files import read_depth16, read_rgb
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS, FINGERS

SEQUENCES = ("Grasp1", "Grasp2", "Occlusion", "Pinch", "Rigid", "Rotate")
COUNTS = (3014, 3145)  # annotated frames by the public loaders, frames in all by Baek et al. (CVPR 2019)
TIPS = tuple(CANONICAL_JOINTS.index(f"{finger}_tip") for finger in FINGERS)
HIDDEN = 32001.0  # z of a tip that is not seen, millimetres
# K and (height, width) of each camera, and depth camera -> colour camera as [R | t], t in metres (`calibration`)
CAMERAS = {
    "color": (camera_matrix(587.45209, 600.67456, 325.0, 249.0), (480, 640)),
    "depth": (camera_matrix(224.502, 230.494, 160.0, 120.0), (240, 320)),
}
TO_COLOR = np.array([[0.9999, 0.0034, 0.0161], [-0.0033, 1.0, -0.0079], [-0.0162, 0.0079, 0.9998]])
TO_COLOR_SHIFT = np.array([0.0190473, -0.0018514, -0.0047501])

Camera = Literal["color", "depth"]


class DexterObject(HandDataset):
    """Dexter+Object in a folder.

    Args:
        folder: `dexter+object`, which holds `data`.
        camera: "color" gives RGB with joints in the colour camera's frame, "depth" the depth pictures.
        signs: of x, y and z in the 3D files against OpenCV's axes.
    """

    name = "dexter_object"

    def __init__(self, folder: str | Path, camera: Camera = "color", signs: tuple[int, int, int] = (-1, -1, 1)) -> None:
        check_choice("camera", camera, CAMERAS)
        if len(signs) != 3 or any(sign not in (-1, 1) for sign in signs):
            raise ValueError(f"signs: expected three of -1 and 1, got {signs}")
        self._folder = dataset_folder("Dexter+Object", folder, ["data"]) / "data"
        self._camera, self._signs = camera, signs

    def frames(self, split: Split) -> "DexterObjectFrames":
        """Open the split `test`, the only one."""
        if split != "test":
            raise ValueError(f"split: Dexter+Object is a test set, got '{split}'; train on another source")
        return DexterObjectFrames(self._folder, self._camera, self._signs)


class DexterObjectFrames(HandFrames):
    """Records of Dexter+Object that show at least one tip; tips are labelled as STB's, on the skin's end."""

    dataset = "dexter_object"
    split: Split = "test"
    convention = "stb"

    def __init__(self, folder: Path, camera: Camera, signs: tuple[int, int, int]) -> None:
        self.provides = frozenset({"rgb" if camera == "color" else "depth", "3d", "2d"})
        self._folder, self._camera = folder, camera
        tips, pixels, files = zip(*(self._read_sequence(sequence) for sequence in SEQUENCES), strict=True)
        tips, pixels, files = np.concatenate(tips), np.concatenate(pixels), np.concatenate(files)
        valid = tips[..., 2] != HIDDEN
        seen = valid.any(1)
        published = len(tips) if len(tips) in COUNTS else COUNTS[0]
        self.expected = published - int((~seen).sum())
        self.note = f"{len(tips)} labelled frames, {(~seen).sum()} of them without a visible tip are left out"
        self._valid, self._files, self._pixels = valid[seen], files[seen], pixels[seen]
        self._tips = (tips[seen] * signs / 1000) * self._valid[..., None]

    def __len__(self) -> int:
        """Number of records."""
        return len(self._tips)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its picture."""
        valid = self._valid[index]
        tips = self._tips[index]
        tips_file, pixels_file = self._label_files(self._files[index].split("/")[0])
        check_finite_labels(tips_file, self._files[index], tips=tips)
        check_finite_labels(pixels_file, self._files[index], pixels=self._pixels[index])
        check_before_camera(tips_file, self._files[index], tips[valid])
        if self._camera == "color":
            tips = (tips @ TO_COLOR.T + TO_COLOR_SHIFT) * valid[:, None]
        K, size = CAMERAS[self._camera]
        return HandFrame(
            key=f"dexter_object/test/{Path(self._files[index]).with_suffix('')}",
            side=0,
            K=K.copy(),
            size=size,
            joints_3d=_at_tips(tips).astype(np.float32),
            joint_valid=_at_tips(valid),
            joints_2d=_at_tips(self._pixels[index] * valid[:, None]).astype(np.float32)
            if self._camera == "depth"
            else None,
            joint_visible=_at_tips(valid),
            points=tips.astype(np.float32),
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its picture."""
        (file,) = self.files(index)
        _, size = CAMERAS[self._camera]
        if self._camera == "color":
            return replace(self.labels(index), rgb=read_rgb(file, size))
        return replace(self.labels(index), depth=read_depth16(file, size) * np.float32(0.001))

    def files(self, index: int) -> Sequence[Path]:
        """The one picture."""
        return [self._folder / self._files[index]]

    def _label_files(self, sequence: str) -> tuple[Path, Path]:
        """The annotations in 3D and in 2D."""
        three, two = (self._folder / sequence / "annotations" / f"{sequence}{dimensions}D.txt" for dimensions in (3, 2))
        return three, two

    def _read_sequence(self, sequence: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tips (N, 5, 3) millimetres, pixels (N, 5, 2), pictures (N,) as paths within the folder."""
        tips_file, pixels_file = self._label_files(sequence)
        tips, pixels = _read_fields(tips_file, 3), _read_fields(pixels_file, 2)
        folder = self._folder / sequence / self._camera
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder of pictures; unpack the dataset there")
        files = sorted((path.name for path in folder.iterdir() if path.suffix), key=_number)
        if len(pixels) != len(tips) or len(files) < len(tips):
            raise BadFrame(
                f"{tips_file}: expected as many lines as in {pixels_file.name} and a picture for each, got "
                f"{len(tips)}, {len(pixels)} and {len(files)} in {folder}; get the sequence anew"
            )
        if len(files) > len(tips):
            warnings.warn(f"{folder}: {len(files)} pictures, of which the first {len(tips)} are labelled", stacklevel=4)
        return tips, pixels, np.array([f"{sequence}/{self._camera}/{name}" for name in files[: len(tips)]])


def _read_fields(file: Path, size: int) -> np.ndarray:
    """The five tips (N, 5, size) of an annotation file; what follows them in a line is not read."""
    rows = []
    for number, line in enumerate(label_file(file).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = [[float(value) for value in field.split(",")] for field in line.split(";")[: len(TIPS)]]
        except ValueError:
            row = []
        if [len(field) for field in row] != [size] * len(TIPS):
            raise BadFrame(
                f"{file}, line {number}: expected five fields of {size} numbers, 'a, b; ...', got {line[:60]!r}; "
                "get the file anew"
            )
        rows.append(row)
    if not rows:
        raise BadFrame(f"{file}: expected lines of labels, got none; get the file anew")
    return np.array(rows)


def _number(name: str) -> tuple[int, str]:
    """Pictures go by their number, whether it is padded or not."""
    digits = re.findall(r"\d+", name)
    return (int(digits[0]) if digits else -1, name)


def _at_tips(values: np.ndarray) -> np.ndarray:
    """Values (5, ...) of the tips among 21 joints (21, ...), 0 elsewhere."""
    joints = np.zeros((len(CANONICAL_JOINTS), *values.shape[1:]), dtype=values.dtype)
    joints[list(TIPS)] = values
    return joints
