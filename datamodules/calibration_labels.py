"""Labels of a dataset as `datamodules.calibrate` wants them: points in metres and what each of them is.

From a folder as a dataset's reader opens it, or from a file of labels alone, as they are passed around: NYU's 36 points
as three tables, ICVL's and MSRA's text, STB's and Ge's arrays, RHD as COCO-like JSON. Left hands come mirrored.
"""

import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules import icvl, nyu, rhd, stb
from datamodules.datasets import dataset_class
from datamodules.frames import BadFrame, Split
from datamodules.label_files import label_file, number_array, read_json, read_mat
from ops.checks import check_choice
from ops.hand_model.conventions import PointSet
from ops.joints import (
    CANONICAL_BONE,
    CANONICAL_JOINTS,
    ICVL16_CANONICAL,
    MODEL_JOINTS,
    MSRA21_CANONICAL,
    NYU14_OF_36,
    NYU36,
    NYU36_CANONICAL,
)

_MM, _CM = 0.001, 0.01
_MIRROR = np.array([-1.0, 1.0, 1.0])
_PALM = ("wrist", "middle_mcp")  # whose mean is near the middle of the palm


class Layout(NamedTuple):
    """A dataset's points."""

    points: PointSet  # with offsets of zero: by which joints and bone each is described
    canonical: Mapping[int, Sequence[int]]  # canonical joint -> points whose mean it is
    subsets: Mapping[str, Sequence[int]] = {}  # named rows of the points


class Labels(NamedTuple):
    """Labelled hands, all of them right or mirrored."""

    points: np.ndarray  # (B, P, 3) metres
    valid: np.ndarray  # (B, P) bool
    source: str  # what they are, for the record

    def canonical(self, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
        """Joints (B, 21, 3) metres, and (B, 21) bool."""
        joints = np.zeros((len(self.points), 21, 3))
        valid = np.zeros((len(self.points), 21), dtype=bool)
        for joint, rows in layout.canonical.items():
            joints[:, joint] = self.points[:, list(rows)].mean(1)
            valid[:, joint] = self.valid[:, list(rows)].all(1)
        return joints * valid[..., None], valid


def layout_of(convention: str) -> Layout:
    """The points of a convention's labels; the 21 joints unless the dataset has points of its own."""
    layouts = {"nyu": _nyu_layout, "icvl": _icvl_layout, "msra": _msra_layout}
    return layouts[convention]() if convention in layouts else _canonical_layout(convention)


def read_labels(dataset: str, path: Path, split: Split = "test") -> tuple[str, Labels]:
    """Labels of `dataset`, and the name of their convention.

    Args:
        dataset: one of `FILES` for a file of labels, or of `datamodules.datasets.DATASETS` for a folder.
        path: file or folder.
        split: of a folder.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: unknown dataset, or contents that do not fit.
    """
    if path.is_dir():
        return _from_reader(dataset, path, split)
    check_choice("dataset (of a file of labels)", dataset, FILES)
    points = FILES[dataset](label_file(path))
    valid = np.isfinite(points).all(-1)
    return dataset, Labels(np.where(valid[..., None], points, 0), valid, path.name)


def _from_reader(dataset: str, folder: Path, split: Split) -> tuple[str, Labels]:
    frames = dataset_class(dataset)(folder).frames(split)
    own = len(layout_of(frames.convention).canonical) and layout_of(frames.convention).points.points != CANONICAL_JOINTS
    points, valid = [], []
    for index in range(len(frames)):
        frame = frames.labels(index)
        labels = frame.points if own else frame.joints_3d
        known = np.ones(len(labels), dtype=bool) if own or frame.joint_valid is None else frame.joint_valid
        points.append(labels.astype(np.float64) * (_MIRROR if frame.side == 0 else 1))
        valid.append(known)
    source = f"{frames.dataset}, {split} split"
    return frames.convention, Labels(np.stack(points), np.stack(valid), source)


def _nyu(path: Path) -> np.ndarray:
    """`joint_1_u.csv`, or .xz, beside its _v and _d: pixels and millimetres, 36 columns each."""
    if "_u." not in path.name:
        raise BadFrame(f"{path}: expected the file of u, such as joint_1_u.csv, beside those of v and d")
    tables = [_table(label_file(path.with_name(path.name.replace("_u.", f"_{axis}."))), 36, ",") for axis in "uvd"]
    if len({len(table) for table in tables}) > 1:
        raise BadFrame(f"{path}: the tables of u, v and d have {[len(t) for t in tables]} lines; get them anew")
    return _unprojected(np.stack(tables, -1), nyu.K)


def _icvl(path: Path) -> np.ndarray:
    """Lines of 48 numbers u, v, d, a picture's name before them or not. Left hands."""
    return _unprojected(_table(path, 48).reshape(-1, 16, 3), icvl.K) * _MIRROR


def _msra(path: Path) -> np.ndarray:
    """`joint.txt`: the count, then lines of 63 numbers, millimetres, y up, z negative."""
    return _table(path, 63, skip=1).reshape(-1, 21, 3) * (_MM, -_MM, -_MM)


def _stb(path: Path) -> np.ndarray:
    """handPara of a .mat. The wrist is the palm's, by the rule of the convention `stb`. Left hands."""
    points = read_mat(path, {"handPara": (3, 21, None)})["handPara"].transpose(2, 1, 0) * _MM
    joints = points[:, list(stb.TO_CANONICAL)]
    joints[:, 0] = [stb.wrist_from_palm(palm, rest) for palm, rest in zip(points[:, 0], joints.copy(), strict=True)]
    return joints * _MIRROR


def _ge(path: Path) -> np.ndarray:
    """`joints_cm` of an .npz. Left hands."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            joints = arrays["joints_cm"]
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise BadFrame(f"{path}: expected an .npz with joints_cm ({error}); get the file anew") from error
    return number_array(path, "joints_cm", joints, (None, 21, 3)) * _CM * _MIRROR


def _rhd(path: Path) -> np.ndarray:
    """COCO-like JSON: joint_cam in millimetres and hand_type of each annotation."""
    content = read_json(path)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list) or not annotations:
        raise BadFrame(f"{path}: expected a JSON object with a list of annotations")
    hands = []
    for number, annotation in enumerate(annotations):
        joints = number_array(path, f"annotation {number}, joint_cam", annotation.get("joint_cam"), (21, 3))
        check_choice(f"{path}, annotation {number}, hand_type", annotation.get("hand_type"), ("left", "right"))
        hands.append(joints[list(rhd.TO_CANONICAL)] * _MM * (_MIRROR if annotation["hand_type"] == "left" else 1))
    return np.stack(hands)


FILES: dict[str, Callable[[Path], np.ndarray]] = {
    "nyu": _nyu,
    "icvl": _icvl,
    "msra": _msra,
    "stb": _stb,
    "ge": _ge,
    "rhd": _rhd,
}


def _table(path: Path, columns: int, separator: str | None = None, skip: int = 0) -> np.ndarray:
    """(lines, columns) numbers of a text file, plain or .xz; a name at the start of a line is left out."""
    try:
        with lzma.open(path, "rt") if path.suffix == ".xz" else open(path) as file:
            lines = [line.split(separator) for line in file.read().splitlines()[skip:] if line.strip()]
        rows = [[float(word) for word in line[-columns:]] for line in lines if len(line) in (columns, columns + 1)]
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise BadFrame(f"{path}: expected {columns} numbers a line ({error}); get the file anew") from error
    if not rows or len(rows) != len(lines):
        raise BadFrame(
            f"{path}: expected {columns} numbers a line, {len(lines) - len(rows)} of {len(lines)} have others"
        )
    return np.array(rows)


def _unprojected(uvd: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Metres (B, P, 3) of pixels and millimetres (B, P, 3); NaN where there is no depth."""
    depth = np.where(uvd[..., 2:] > 0, uvd[..., 2:] * _MM, np.nan)
    rays = (uvd[..., :2] - K[:2, 2]) / K[(0, 1), (0, 1)]
    return np.concatenate([rays * depth, depth], -1)


def _canonical_layout(name: str) -> Layout:
    points = PointSet(name, CANONICAL_JOINTS, np.eye(21), np.array(CANONICAL_BONE), np.zeros((21, 3)))
    return Layout(points, {joint: (joint,) for joint in range(21)})


def _points(name: str, rows: Sequence[tuple[str, Sequence[str], int]]) -> PointSet:
    """Of rows (name, canonical joints, model bone)."""
    weights = np.zeros((len(rows), 21))
    for weight, (_, joints, _) in zip(weights, rows, strict=True):
        weight[[CANONICAL_JOINTS.index(joint) for joint in joints]] = 1 / len(joints)
    names, _, bones = zip(*rows, strict=True)
    return PointSet(name, names, weights, np.array(bones), np.zeros((len(rows), 3)))


def _nyu_layout() -> Layout:
    """A bone's two ends move with the bone: its B end is the joint it turns about, its A end the next one."""
    joint_of = {rows[0]: joint for joint, rows in NYU36_CANONICAL.items() if joint}
    rows: list[tuple[str, Sequence[str], int]] = []
    for place, name in enumerate(NYU36):
        if name.startswith("PALM"):
            rows.append((name, ("wrist",) if name in ("PALM_1", "PALM_2") else _PALM, 0))
            continue
        turning = CANONICAL_JOINTS[joint_of[place if name.endswith("B") else place + 1]]
        end = CANONICAL_JOINTS.index(turning) + (0 if name.endswith("B") else 1)
        rows.append((name, (CANONICAL_JOINTS[end],), MODEL_JOINTS.index(turning)))
    return Layout(_points("nyu-36", rows), NYU36_CANONICAL, {"nyu-14": NYU14_OF_36})


def _icvl_layout() -> Layout:
    fingers = ("thumb", "index", "middle", "ring", "little")
    names = ["palm", *(f"{finger}_{part}" for finger in fingers for part in ("root", "mid", "tip"))]
    joint_of = {rows[0]: joint for joint, rows in ICVL16_CANONICAL.items()}
    rows: list[tuple[str, Sequence[str], int]] = [("palm", _PALM, 0)]
    rows += [(names[i], (CANONICAL_JOINTS[joint_of[i]],), CANONICAL_BONE[joint_of[i]]) for i in range(1, 16)]
    return Layout(_points("icvl-16", rows), ICVL16_CANONICAL)


def _msra_layout() -> Layout:
    joint_of = {rows[0]: joint for joint, rows in MSRA21_CANONICAL.items()}
    rows = [
        (CANONICAL_JOINTS[joint_of[i]], (CANONICAL_JOINTS[joint_of[i]],), CANONICAL_BONE[joint_of[i]])
        for i in range(21)
    ]
    return Layout(_points("msra-21", rows), MSRA21_CANONICAL)
