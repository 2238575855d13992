"""Stereo Hand Pose Tracking Benchmark (Zhang et al., A hand pose tracking benchmark from stereo matching, ICIP 2017).

    images/B{1..6}{Counting,Random}/{BB_left,BB_right,SK_color,SK_depth}_%d.png    0 to 1499, 640 x 480
    labels/B{1..6}{Counting,Random}_{BB,SK}.mat                                    handPara (3, 21, 1500) millimetres

One left hand per picture. Picture i belongs to slice i. Joint 0 is the centre of the palm, not the wrist. The BB labels
are in the frame of the left camera of the stereo pair, the SK labels in the frame of the depth camera.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.depth_masks import as_seen_by, mask_from_depth
from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames, Split, held_out
from datamodules.label_files import camera_matrix, check_before_camera, check_finite_labels, dataset_folder, read_mat
from datamodules.picture_files import read_packed_depth, read_rgb
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS

SIZE = (480, 640)
FRAMES = 1500  # of each sequence
TEST_SEQUENCES = ("B1Counting", "B1Random")
TRAIN_SEQUENCES = tuple(f"B{actor}{kind}" for actor in range(2, 7) for kind in ("Counting", "Random"))
# canonical[i] = stb[TO_CANONICAL[i]]; STB's order is palm, then little to thumb, base to tip (its README)
TO_CANONICAL = (0, 17, 18, 19, 20, 13, 14, 15, 16, 9, 10, 11, 12, 5, 6, 7, 8, 1, 2, 3, 4)
BASELINE = 0.120054  # metres between the two BB cameras
_BB = camera_matrix(822.79041, 822.79041, 318.47345, 250.31296)
CAMERAS = {
    "BB_left": _BB,
    "BB_right": _BB,
    "SK_color": camera_matrix(607.92271, 607.88192, 314.78337, 236.42484),
    "SK_depth": camera_matrix(475.62768, 474.77709, 336.41179, 238.77962),
}
# x_depth = R x_color + t (the dataset's README): rotation vector, metres
COLOR_TO_DEPTH = Rotation.from_rotvec((0.00531, -0.01196, 0.00301)).as_matrix()
COLOR_TO_DEPTH_SHIFT = np.array([-0.0240381, -0.0004563, -0.0012326])
_MCP = {finger: CANONICAL_JOINTS.index(f"{finger}_mcp") for finger in ("index", "middle", "ring", "little")}
# wrist = knuckle + factor * (palm - knuckle), the knuckle being the mean of these
WRIST_RULES = {"ring": (("ring",), 2.0), "middle": (("middle",), 2.2), "mean": (tuple(_MCP), 2.25)}

Camera = Literal["BB_left", "BB_right", "SK_color", "SK_depth"]
WristRule = Literal["ring", "middle", "mean"]


class STB(HandDataset):
    """STB in a folder.

    Args:
        folder: holds `images` and `labels`.
        cameras: pictures to use. "SK_depth" gives depth, the others give RGB; all in one split are of one kind.
        wrist_rule: the wrist, which STB does not label, by a line from a knuckle through the palm: "ring" (hand3d; Ge
            et al. 2019), "middle" or "mean" of four (both from Minimal-Hand-pytorch). The convention `stb` is that of
            "ring"; the others are `stb-wrist-middle` and `stb-wrist-mean`, which must be calibrated before use.
        sequences: those to use; None: all of the split, B1 for `test`, B2 to B6 for `train` and `val`.
        mask_from_depth: masks of the SK cameras' pictures from SK_depth and the labels (`datamodules.depth_masks`); the
            dataset itself has none.
    """

    name = "stb"

    def __init__(
        self,
        folder: str | Path,
        cameras: Sequence[Camera] = ("BB_left", "BB_right"),
        wrist_rule: WristRule = "ring",
        sequences: Sequence[str] | None = None,
        mask_from_depth: bool = False,
    ) -> None:
        check_choice("wrist_rule", wrist_rule, WRIST_RULES)
        if not cameras:
            raise ValueError(f"cameras: expected at least one of {', '.join(CAMERAS)}, got none")
        for camera in cameras:
            check_choice("cameras", camera, CAMERAS)
        if "SK_depth" in cameras and len(cameras) > 1:
            raise ValueError(
                f"cameras: expected depth or RGB, got {', '.join(cameras)}; open SK_depth as a source of its own"
            )
        for sequence in sequences or ():
            check_choice("sequences", sequence, TEST_SEQUENCES + TRAIN_SEQUENCES)
        self._folder = dataset_folder("STB", folder, ["labels"])
        self._cameras, self._wrist_rule, self._sequences = tuple(cameras), wrist_rule, sequences
        if mask_from_depth and (without := [camera for camera in cameras if not camera.startswith("SK")]):
            raise ValueError(
                f"mask_from_depth: no depth was taken with {', '.join(without)}; set cameras to SK_color or SK_depth"
            )
        self._masks = mask_from_depth

    def frames(self, split: Split) -> "STBFrames":
        """Open a split; `test` is B1, the rest is for training, `val` the end of it."""
        check_choice("split", split, ("train", "val", "test"))
        known = TEST_SEQUENCES if split == "test" else TRAIN_SEQUENCES
        chosen = [sequence for sequence in known if self._sequences is None or sequence in self._sequences]
        if not chosen:
            raise ValueError(f"sequences: expected some of {', '.join(known)} for '{split}', got {self._sequences}")
        return STBFrames(self._folder, split, chosen, self._cameras, self._wrist_rule, self._masks)


class STBFrames(HandFrames):
    """Records of STB: sequence by sequence, frame by frame, the cameras of one frame side by side."""

    dataset = "stb"

    def __init__(
        self,
        folder: Path,
        split: Split,
        sequences: Sequence[str],
        cameras: tuple[Camera, ...],
        wrist_rule: WristRule,
        masks: bool,
    ) -> None:
        self.split = split
        self.convention = "stb" if wrist_rule == "ring" else f"stb-wrist-{wrist_rule}"
        own = {"depth" if "SK_depth" in cameras else "rgb"} | ({"mask"} if masks else set())
        self.provides = frozenset({*own, "3d", "2d"})
        self.expected = len(_kept(len(sequences) * FRAMES * len(cameras), split))
        self._folder, self._cameras, self._wrist_rule = folder, cameras, wrist_rule
        self._sequences = tuple(sequences)
        self._points = {kind: self._read_labels(kind) for kind in sorted({camera[:2] for camera in cameras})}
        lengths = [[len(points) for points in sequences] for sequences in self._points.values()]
        if any(other != lengths[0] for other in lengths):
            raise BadFrame(f"{folder / 'labels'}: BB and SK labels of unequal length: {lengths}; get them anew")
        self._ends = np.cumsum(lengths[0]) * len(cameras)
        self._kept = _kept(int(self._ends[-1]), split)

    def __len__(self) -> int:
        """Number of records: pictures, not pairs."""
        return len(self._kept)

    def labels(self, index: int) -> HandFrame:
        """All of a record but its picture."""
        sequence, frame, camera = self._record(index)
        points = self._points[camera[:2]][sequence][frame]
        name = self._sequences[sequence]
        check_finite_labels(self._label_file(name, camera[:2]), f"slice {frame}", handPara=points)
        check_before_camera(self._label_file(name, camera[:2]), f"slice {frame}", points)
        points = _in_camera(points.astype(np.float64) / 1000, camera).astype(np.float32)
        joints = points[list(TO_CANONICAL)]
        joints[0] = wrist_from_palm(points[0], joints, self._wrist_rule)
        return HandFrame(
            key=f"stb/{self.split}/{name}/{camera}_{frame}",
            side=0,
            K=CAMERAS[camera].copy(),
            size=SIZE,
            joints_3d=joints,
            palm=points[0].copy(),
            points=points,
        )

    def frame(self, index: int) -> HandFrame:
        """A record with its picture."""
        files, labels = self.files(index), self.labels(index)
        if "rgb" in self.provides:
            labels = replace(labels, rgb=read_rgb(files[0], SIZE))
            if "mask" not in self.provides:
                return labels
        depth = read_packed_depth(files[-1], SIZE, low=0, high=1) * np.float32(0.001)
        if "depth" in self.provides:
            labels = replace(labels, depth=depth)
        return replace(labels, mask=self._mask(labels, depth)) if "mask" in self.provides else labels

    def files(self, index: int) -> Sequence[Path]:
        """The picture, and beside a colour picture the depth picture that its mask is made of."""
        sequence, frame, camera = self._record(index)
        cameras = [camera] + (["SK_depth"] if "mask" in self.provides and camera != "SK_depth" else [])
        return [self._folder / "images" / self._sequences[sequence] / f"{each}_{frame}.png" for each in cameras]

    def _mask(self, labels: HandFrame, depth: np.ndarray) -> np.ndarray:
        """(H, W) bool of the record's picture; `depth` is the depth camera's."""
        K = CAMERAS["SK_depth"]
        if labels.rgb is None:
            return mask_from_depth(depth, K, labels.joints_3d)
        mask = mask_from_depth(depth, K, labels.joints_3d @ COLOR_TO_DEPTH.T + COLOR_TO_DEPTH_SHIFT)
        back = COLOR_TO_DEPTH.T, -COLOR_TO_DEPTH.T @ COLOR_TO_DEPTH_SHIFT
        return as_seen_by(mask, depth, K, *back, labels.K, SIZE)

    def _record(self, index: int) -> tuple[int, int, Camera]:
        """Number of the sequence, of the frame in it, and the camera."""
        index = self._kept[index]
        sequence = int(np.searchsorted(self._ends, index, side="right"))
        frame, camera = divmod(index - (int(self._ends[sequence - 1]) if sequence else 0), len(self._cameras))
        return sequence, frame, self._cameras[camera]

    def _label_file(self, sequence: str, kind: str) -> Path:
        return self._folder / "labels" / f"{sequence}_{kind}.mat"

    def _read_labels(self, kind: str) -> list[np.ndarray]:
        """(frames, 21, 3) millimetres of each sequence."""
        labels = []
        for file in (self._label_file(sequence, kind) for sequence in self._sequences):
            labels.append(read_mat(file, {"handPara": (3, 21, None)})["handPara"].transpose(2, 1, 0).copy())
            if not len(labels[-1]):
                raise BadFrame(f"{file}: expected labelled frames, got none; get the file anew")
        return labels


def wrist_from_palm(palm: np.ndarray, joints: np.ndarray, rule: WristRule = "ring") -> np.ndarray:
    """The wrist (3,) of canonical joints (21, 3), whose row 0 is not read, and a palm centre (3,)."""
    fingers, factor = WRIST_RULES[rule]
    knuckle = joints[[_MCP[finger] for finger in fingers]].mean(0)
    return knuckle + factor * (palm - knuckle)


def _in_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Labels (21, 3), metres, in the frame of `camera`."""
    if camera == "BB_right":
        return points - (BASELINE, 0.0, 0.0)
    if camera == "SK_color":
        return (points - COLOR_TO_DEPTH_SHIFT) @ COLOR_TO_DEPTH  # R^T (x - t), as rows
    return points


def _kept(total: int, split: Split) -> range:
    return range(total) if split == "test" else held_out(total, split)
