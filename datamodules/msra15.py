"""MSRA15 (Sun, Wei, Liang, Tang, Sun: Cascaded Hand Pose Regression, CVPR 2015), cvpr15_MSRAHandGestureDB as unpacked.

    P0 .. P8/<gesture>/  %06d_depth.bin  joint.txt     nine people, 17 gestures each, about 500 frames a gesture

depth.bin: six int32 (width, height, left, top, right, bottom; right and bottom exclusive), then the float32 depths of
that box in millimetres, row by row; outside it is nothing. joint.txt: the number of frames, then 63 numbers a line,
millimetres, y up and z towards the viewer negative. Right hands. Published figures leave one person out, nine times.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.label_files import camera_matrix, check_before_camera, check_finite_labels, dataset_folder, label_file
from datamodules.picture_files import read_whole
from datamodules.point_labels import canonical_joints, canonical_weights
from ops.checks import check_choice
from ops.joints import MSRA21_CANONICAL

SIZE = (240, 320)
K = camera_matrix(241.42, 241.42, 160.0, 120.0)
PEOPLE = tuple(f"P{number}" for number in range(9))
GESTURES = tuple(["1", "2", "3", "4", "5", "6", "7", "8", "9", "I", "IP", "L", "MP", "RP", "T", "TIP", "Y"])
FRAMES = dict(zip(PEOPLE, (8499, 8492, 8412, 8488, 8500, 8497, 8497, 8498, 8492), strict=True))
# metres, by hand size, as published evaluations crop
CUBE_SIDES = dict(zip(PEOPLE, (0.2, 0.2, 0.2, 0.18, 0.18, 0.18, 0.17, 0.16, 0.15), strict=True))
# labels that do not fit their picture, as DeepPrior++ lists them (Oberweger and Lepetit, ICCVW 2017)
FAULTY: dict[tuple[str, str], tuple[int, ...]] = {
    ("P2", "TIP"): (172, 173, 174),
    ("P2", "MP"): (173, 174, 175, *range(345, 355), 356, 359, 360),
    ("P3", "T"): (120, 489),
    ("P8", "4"): (168,),
}
_HEADER = 6 * 4
_WEIGHTS = canonical_weights(MSRA21_CANONICAL, 21)
_MM = np.float32(0.001)


class MSRA15(HandDataset):
    """MSRA15 in a folder.

    Args:
        folder: holds P0 to P8.
        test_subject: the person to test on; all others are trained on.
        skip_faulty: leave out the frames of `FAULTY` when training. Published tests count them.
    """

    name = "msra15"

    def __init__(self, folder: str | Path, test_subject: int = 0, skip_faulty: bool = True) -> None:
        check_choice("test_subject", test_subject, range(len(PEOPLE)))
        self._folder = dataset_folder("MSRA15", folder, PEOPLE)
        self._test_subject, self._skip_faulty = PEOPLE[test_subject], skip_faulty

    def frames(self, split: Split) -> "MSRA15Frames":
        """Open a split: `test` is one person, `train` and `val` are the others, the latter the end of them."""
        check_choice("split", split, ("train", "val", "test"))
        training = [person for person in PEOPLE if person != self._test_subject]
        people = [self._test_subject] if split == "test" else training
        return MSRA15Frames(self._folder, split, people, self._skip_faulty and split != "test")


class MSRA15Frames(HandFrames):
    """Records of MSRA15: depth in a box and 21 joints."""

    dataset = "msra15"
    convention = "msra"
    provides = frozenset({"depth", "3d", "2d"})

    def __init__(self, folder: Path, split: Split, people: Sequence[str], skip_faulty: bool) -> None:
        self.split = split
        self._folders = [folder / person / gesture for person in people for gesture in GESTURES]
        joints = [_read_joints(place / "joint.txt") for place in self._folders]
        place = np.repeat(np.arange(len(joints)), [len(part) for part in joints])
        number = np.concatenate([np.arange(len(part)) for part in joints])
        faulty = [i for i, n in enumerate(number) if int(n) in FAULTY.get(self._folders[place[i]].parts[-2:], ())]
        listed = np.setdiff1d(np.arange(len(place)), faulty if skip_faulty else [])
        kept = listed if split == "test" else listed[held_out(len(listed), split)]
        self._place, self._number = place[kept].astype(np.int16), number[kept].astype(np.int16)
        # y up, z towards the viewer
        self._points = (np.concatenate(joints)[kept] * (1, -1, -1) * 0.001).astype(np.float32)
        left_out = sum(len(FAULTY[key]) for key in FAULTY if key[0] in people) if skip_faulty else 0
        published = sum(FRAMES[person] for person in people) - left_out
        self.expected = published if split == "test" else len(held_out(published, split))

    def __len__(self) -> int:
        """Number of records."""
        return len(self._place)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its picture."""
        folder, number, points = self._folders[self._place[index]], int(self._number[index]), self._points[index]
        check_finite_labels(folder / "joint.txt", number, joints=points)
        check_before_camera(folder / "joint.txt", number, points)
        joints, valid = canonical_joints(points, _WEIGHTS)
        return HandFrame(
            key=f"msra15/{self.split}/{folder.parts[-2]}/{folder.parts[-1]}/{number:06d}",
            side=1,
            K=K.copy(),
            size=SIZE,
            joints_3d=joints,
            joint_valid=valid,
            points=points.copy(),
            cube_side=CUBE_SIDES[folder.parts[-2]],
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its depth picture."""
        return replace(self.labels(index), depth=_read_bin(self.files(index)[0]))

    def files(self, index: int) -> Sequence[Path]:
        """The depth file."""
        return [self._folders[self._place[index]] / f"{self._number[index]:06d}_depth.bin"]


def _read_joints(file: Path) -> np.ndarray:
    """(N, 21, 3) millimetres, as stored."""
    lines = label_file(file).read_text(errors="replace").split("\n")
    rows = [line.split() for line in lines[1:] if line.strip()]
    if not lines[0].strip().isdecimal() or int(lines[0]) != len(rows):
        raise BadFrame(
            f"{file}: expected the number of frames, then a line for each, got '{lines[0][:20]}' and {len(rows)}"
        )
    for line, row in enumerate(rows, 2):
        if len(row) != 63:
            raise BadFrame(f"{file}, line {line}: expected 63 numbers, got {len(row)}; get the file anew")
    try:
        return np.array(rows, dtype=np.float64).reshape(-1, 21, 3)
    except ValueError as error:
        raise BadFrame(f"{file}: expected numbers ({error}); get the file anew") from error


def _read_bin(file: Path) -> np.ndarray:
    """Depth (H, W) metres."""
    raw = read_whole(file)
    header = np.frombuffer(raw[:_HEADER], "<i4") if len(raw) >= _HEADER else np.zeros(6, "<i4")
    width, height, left, top, right, bottom = header.tolist()
    if (height, width) != SIZE or not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise BadFrame(
            f"{file}: expected width 320, height 240 and a box inside them, got {header.tolist()}; copy it again"
        )
    box = bottom - top, right - left
    expected = _HEADER + 4 * box[0] * box[1]
    if len(raw) != expected:
        raise BadFrame(
            f"{file}: expected {expected} bytes for its box of {box[1]} x {box[0]}, got {len(raw)}; copy it again"
        )
    values = np.frombuffer(raw, "<f4", offset=_HEADER).reshape(box)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise BadFrame(f"{file}: expected depths in millimetres, got NaN, negative or none at all; copy it again")
    depth = np.zeros(SIZE, np.float32)
    depth[top:bottom, left:right] = values * _MM
    return depth
