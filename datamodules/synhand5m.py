"""SynHand5M (Malik et al., DeepHPS, 3DV 2018): synthetic depth with joints and a mesh of 1193 vertices.

Its layout on disk is not public, so that the reader takes a description of it, a YAML file: patterns, keys, units, axis
signs and counts. `datamodules/synhand5m.yaml` is the default and explains every line.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.label_files import camera_matrix, check_before_camera, check_finite_labels, dataset_folder, label_file
from datamodules.picture_files import read_depth16, read_grey, read_packed_depth
from datamodules.point_labels import canonical_joints, canonical_weights
from datamodules.synhand5m_layout import DEFAULT_LAYOUT, INDEX, PACKINGS, read_layout
from ops.checks import check_choice

HAND_MODEL = "synhand5m"


class SynHand5M(HandDataset):
    """SynHand5M in a folder.

    Args:
        folder: holds the folders of the splits.
        layout: the description of how it lies on disk.
        vertices: give the mesh, too. It is another hand model than any method here predicts.
    """

    name = "synhand5m"

    def __init__(self, folder: str | Path, layout: str | Path = DEFAULT_LAYOUT, vertices: bool = False) -> None:
        self._layout = read_layout(Path(layout))
        if not vertices:
            self._layout["vertices"] = None
        self._folder = dataset_folder(
            "SynHand5M", folder, [split["folder"] for split in self._layout["splits"].values()]
        )

    def frames(self, split: Split) -> "SynHand5MFrames":
        """Open a split: `train` and `val` of the training set, the latter its end."""
        check_choice("split", split, ("train", "val", "test"))
        return SynHand5MFrames(self._folder, split, self._layout)


class SynHand5MFrames(HandFrames):
    """Records of SynHand5M: depth, joints, and mask and mesh where the layout has them."""

    dataset = "synhand5m"

    def __init__(self, folder: Path, split: Split, layout: Mapping[str, Any]) -> None:
        self.split = split
        part = layout["splits"]["test" if split == "test" else "train"]
        self._layout = layout
        self._folder = folder / part["folder"]
        self.convention = layout["convention"]
        flags = (
            {"depth", "3d", "2d"}
            | ({"mask"} if layout["mask"] else set())
            | ({"mesh"} if layout["vertices"] else set())
        )
        self.provides = frozenset(flags)
        # a picture or its labels may be lost: what either has is a record, and the loss an error of that record
        patterns = [layout[name]["pattern"] for name in ("depth", "joints")]
        numbers = np.unique(
            np.concatenate([_numbers(self._folder, pattern) for pattern in patterns if INDEX.search(pattern)])
        )
        self._tables = {
            name: self._table(layout[name], len(numbers))
            for name in ("joints", "vertices")
            if layout[name] and not INDEX.search(layout[name]["pattern"])
        }
        self._place = np.array(_kept(len(numbers), split))
        self._numbers = numbers[self._place]
        self.expected = None if part["frames"] is None else len(_kept(part["frames"], split))
        sources = {joint: (row,) for joint, row in enumerate(layout["order"]) if row is not None}
        self._weights = canonical_weights(sources, layout["joints"]["count"])
        self._K = camera_matrix(**{key: float(value) for key, value in layout["camera"].items()})

    def __len__(self) -> int:
        """Number of records."""
        return len(self._numbers)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its pictures."""
        layout = self._layout
        points = self._points("joints", index)
        joints, valid = canonical_joints(points, self._weights)
        return HandFrame(
            key=f"synhand5m/{self.split}/{self._numbers[index]:07d}",
            side=int(layout["side"] == "right"),
            K=self._K.copy(),
            size=tuple(layout["size"]),
            joints_3d=joints,
            joint_valid=valid,
            palm=None if layout["palm"] is None else points[layout["palm"]].copy(),
            points=points,
            vertices=self._points("vertices", index) if layout["vertices"] else None,
            hand_model=HAND_MODEL if layout["vertices"] else "",
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its pictures."""
        depth, *mask = self.files(index)
        size = tuple(self._layout["size"])
        return replace(
            self.labels(index),
            depth=self._depth(depth, size),
            mask=read_grey(mask[0], size) > 0 if mask else None,
        )

    def files(self, index: int) -> Sequence[Path]:
        """The depth picture, and the mask."""
        sections = [self._layout["depth"], self._layout["mask"]]
        return [self._path(section["pattern"], index) for section in sections if section]

    def _path(self, pattern: str, index: int) -> Path:
        return self._folder / pattern.format(index=int(self._numbers[index]))

    def _depth(self, file: Path, size: tuple[int, int]) -> np.ndarray:
        section = self._layout["depth"]
        channels = PACKINGS[section["packing"]]
        raw = read_packed_depth(file, size, *channels) if channels else read_depth16(file, size)
        for number in section["missing"]:
            raw *= raw != number
        if not raw.any():
            raise BadFrame(f"{file}: no depth at all, every pixel is one of {section['missing']}; leave the record out")
        return raw * np.float32(section["unit"])

    def _points(self, name: str, index: int) -> np.ndarray:
        """Joints or vertices (P, 3) of a record, metres."""
        section = self._layout[name]
        if name in self._tables:
            file, rows = self._folder / section["pattern"], self._tables[name][self._place[index]]
        else:
            file = self._path(section["pattern"], index)
            if not file.is_file():  # of one record, which a run may leave out
                raise BadFrame(f"{file}: no such label file; unpack the labels there, or allow bad samples")
            rows = _shaped(file, _read_numbers(file, section["key"]), (section["count"], 3))
        points = (rows * section["axes"] * section["unit"]).astype(np.float32)
        check_finite_labels(file, int(self._numbers[index]), **{name: points})
        check_before_camera(file, int(self._numbers[index]), points)
        return points

    def _table(self, section: Mapping[str, Any], records: int) -> np.ndarray:
        """Joints or vertices (N, P, 3) of all records, as stored."""
        file = self._folder / section["pattern"]
        return _shaped(file, _read_numbers(file, section["key"]), (records, section["count"], 3))


def _numbers(folder: Path, pattern: str) -> np.ndarray:
    """The numbers (N,) of the files of a pattern that are there."""
    pieces = INDEX.split(pattern)
    shape = re.compile(r"(\d+)".join(map(re.escape, pieces)))
    names = glob.iglob("*".join(map(glob.escape, pieces)), root_dir=folder)
    found = ((name, int(match[1])) for name in names if (match := shape.fullmatch(name)))
    numbers = sorted(number for name, number in found if name == pattern.format(index=number))
    if not numbers:
        raise FileNotFoundError(
            f"{folder}: no file is called {pattern}; unpack them there, or give a layout whose patterns fit"
        )
    return np.array(numbers, dtype=np.int64)


def _kept(total: int, split: Split) -> range:
    return range(total) if split == "test" else held_out(total, split)


def _read_numbers(file: Path, key: str | None) -> np.ndarray:
    """The numbers of a label file, whatever its kind; those of .npy stay on the disk until they are used."""
    label_file(file)
    try:
        if file.suffix == ".obj":
            return np.array([line.split()[1:4] for line in file.open() if line.startswith("v ")], np.float64)
        if file.suffix == ".npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as content:
                return content[key]
        if file.suffix == ".mat":
            return scipy.io.loadmat(file, variable_names=[key])[key]
        return np.loadtxt(file, dtype=np.float64, ndmin=2)
    except Exception as error:  # numpy, scipy and zip files each raise their own
        raise BadFrame(
            f"{file}: damaged, or not as the layout says (key {key}): {type(error).__name__} {error}; "
            "get it anew or mend the layout"
        ) from error


def _shaped(file: Path, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`numbers` in `shape`; the points of a frame may stand in one row."""
    rows = numbers.shape[-1] if numbers.ndim else 0
    if numbers.dtype.kind not in "fiu" or numbers.size != np.prod(shape) or rows not in (3, 3 * shape[-2]):
        raise BadFrame(
            f"{file}: expected numbers of shape {shape}, got {numbers.dtype} {numbers.shape}; "
            "get it anew or mend the layout"
        )
    return numbers.reshape(shape)
