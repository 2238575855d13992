"""Rendered Hand pose Dataset (Zimmermann and Brox, ICCV 2017), RHD_published_v2 as unpacked.

    training/    color/%05d.png  depth/%05d.png  mask/%05d.png  anno_training.pickle      41258 records
    evaluation/  the same                                       anno_evaluation.pickle     2728 records

Pictures of 320 x 320 with both hands of a person, of which one record labels one. The annotation is a dict id ->
{'xyz': (42, 3) metres, 'uv_vis': (42, 3), 'K': (3, 3)}; rows 0-20 are the left hand, 21-41 the right one.

The mask's 16 classes per hand end where a bone ends; ours divide the last bone of a finger in two. They are used to
tell the hand from the rest, and not given as `parts`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

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
from datamodules.picture_files import read_grey, read_packed_depth, read_rgb
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS
from ops.safe_pickle import load_pickle

SIZE = (320, 320)
RECORDS = {"training": 41258, "evaluation": 2728}
# canonical[i] = rhd[TO_CANONICAL[i]]; RHD's order is wrist, then thumb to little, each tip first (its own README)
TO_CANONICAL = (0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17)
LEFT_CLASSES, RIGHT_CLASSES = (2, 17), (18, 33)  # of the mask; 0 background, 1 person
DEPTH_RANGE = 5.0  # metres at 65535, which the background has
_NOTHING, _STEP = 0xFFFF, np.float32(DEPTH_RANGE / 0xFFFF)
_WRIST, _MIDDLE_MCP = CANONICAL_JOINTS.index("wrist"), CANONICAL_JOINTS.index("middle_mcp")

SideRule = Literal["mask", "visible"]


class RHD(HandDataset):
    """RHD in a folder.

    Args:
        folder: holds `training` or `evaluation` or both.
        side_rule: which hand of the two a record stands for, as the annotation does not say. "mask": the one with more
            pixels, as the authors' code has it (the mask is opened even for the labels alone); "visible": the one with
            more visible joints. Ties of the mask go by the joints, ties of the joints to the right hand.
    """

    name = "rhd"

    def __init__(self, folder: str | Path, side_rule: SideRule = "mask") -> None:
        check_choice("side_rule", side_rule, ("mask", "visible"))
        self._folder = dataset_folder("RHD", folder, list(RECORDS))
        self._side_rule = side_rule

    def frames(self, split: Split) -> "RHDFrames":
        """Open a split: `train` and `val` of training, `test` is evaluation."""
        check_choice("split", split, ("train", "val", "test"))
        return RHDFrames(self._folder, split, self._side_rule)


class RHDFrames(HandFrames):
    """Records of RHD: colour, depth, mask, 3D and 2D joints."""

    dataset = "rhd"
    convention = "rhd"
    provides = frozenset({"rgb", "depth", "mask", "3d", "2d"})

    def __init__(self, folder: Path, split: Split, side_rule: SideRule) -> None:
        part = "evaluation" if split == "test" else "training"
        self.split = split
        self.expected = len(_kept(RECORDS[part], split))
        self._folder = folder / part
        self._file = self._folder / f"anno_{part}.pickle"
        self._side_rule = side_rule
        annotation = _read_annotation(self._file)
        keep = _kept(len(annotation), split)
        self._ids = np.array(sorted(annotation), dtype=np.int64)[keep]
        records = [annotation[i] for i in self._ids.tolist()]
        self._xyz = self._stack(records, "xyz", (42, 3), np.float32)
        self._uv_visible = self._stack(records, "uv_vis", (42, 3), np.float32)
        self._K = self._stack(records, "K", (3, 3), np.float64)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._ids)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its pictures; by the rule "mask", the mask is opened to tell the side."""
        return self._labels(index, self._mask(index) if self._side_rule == "mask" else None)

    def frame(self, index: int) -> HandFrame:
        """A record with its pictures."""
        color, depth, _ = self.files(index)
        mask = self._mask(index)
        labels = self._labels(index, mask if self._side_rule == "mask" else None)
        low, high = RIGHT_CLASSES if labels.side else LEFT_CLASSES
        return replace(
            labels,
            rgb=read_rgb(color, SIZE),
            depth=read_packed_depth(depth, SIZE, low=1, high=0, nothing_from=_NOTHING) * _STEP,
            mask=(mask >= low) & (mask <= high),
        )

    def files(self, index: int) -> Sequence[Path]:
        """Colour, depth and mask."""
        return [self._folder / kind / f"{self._ids[index]:05d}.png" for kind in ("color", "depth", "mask")]

    def _stack(self, records: list[dict], key: str, shape: tuple[int, int], dtype: type) -> np.ndarray:
        return np.stack(
            [
                number_array(self._file, f"record {i}, '{key}'", record.get(key), shape, dtype)
                for i, record in zip(self._ids, records, strict=True)
            ]
        )

    def _mask(self, index: int) -> np.ndarray:
        file = self.files(index)[2]
        mask = read_grey(file, SIZE)
        if mask.max() > RIGHT_CLASSES[1]:
            raise BadFrame(f"{file}: expected classes 0 to {RIGHT_CLASSES[1]}, got {mask.max()}; get the mask anew")
        return mask

    def _labels(self, index: int, mask: np.ndarray | None) -> HandFrame:
        record = int(self._ids[index])
        uv_visible = self._uv_visible[index].reshape(2, 21, 3)
        check_camera(self._file, record, self._K[index])
        check_finite_labels(self._file, record, xyz=self._xyz[index], uv_vis=self._uv_visible[index])
        if not np.isin(uv_visible[..., 2], (0, 1)).all():
            raise BadFrame(f"{self._file}, record {record}: uv_vis: expected visibilities 0 or 1; get the file anew")
        side = _side(mask, uv_visible[..., 2].sum(1))
        points, uv = self._xyz[index].reshape(2, 21, 3)[side], uv_visible[side]
        check_before_camera(self._file, record, points)
        joints = points[list(TO_CANONICAL)]
        return HandFrame(
            key=f"rhd/{self.split}/{record:05d}",
            side=side,
            K=self._K[index].copy(),
            size=SIZE,
            joints_3d=joints,
            joints_2d=uv[list(TO_CANONICAL), :2],
            joint_visible=uv[list(TO_CANONICAL), 2] == 1,
            palm=0.5 * (joints[_WRIST] + joints[_MIDDLE_MCP]),
            points=points.copy(),
        )


def _kept(total: int, split: Split) -> range:
    return range(total) if split == "test" else held_out(total, split)


def _read_annotation(file: Path) -> dict[int, dict]:
    annotation = load_pickle(label_file(file))
    if not isinstance(annotation, dict) or not annotation:
        raise BadFrame(f"{file}: expected a dict of records, got {annotation!r:.40}; get the file anew")
    for key, record in annotation.items():
        if type(key) is not int or not isinstance(record, dict):
            raise BadFrame(
                f"{file}: expected picture numbers with a dict each, got {key!r:.20}: {type(record).__name__}; "
                "is this RHD_published_v2?"
            )
    return annotation


def _side(mask: np.ndarray | None, visible: np.ndarray) -> int:
    """0 left, 1 right. `visible`: number of visible joints of the left and the right hand."""
    if mask is not None:
        left, right = (np.count_nonzero((mask >= low) & (mask <= high)) for low, high in (LEFT_CLASSES, RIGHT_CLASSES))
        if left != right:
            return int(right > left)
    return int(visible[1] >= visible[0])
