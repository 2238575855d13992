"""A labelled frame to a row of the batch contract: cut out, resized, its camera and joints moved with it.

Depth pictures are cut by a cube around the hand, as rendered frames and `predict.py` are; colour pictures that have no
depth beside them by a square around the joints. Pictures of one frame are cut alike: one camera belongs to all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import HandBatch
from datamodules.frames import BadFrame, HandFrame
from datamodules.resampling import nearest, resample_depth, resample_rgb
from datamodules.streams import Draws, Keys, keys_of
from datamodules.transfer import unit_floats
from datamodules.transforms import as_right_hands
from ops.camera import crop_affine, cube_crop, transform_intrinsics
from ops.checks import check_choice, check_not_negative
from ops.joints import CANONICAL_JOINTS, UNLABELLED

JOINTS = len(CANONICAL_JOINTS)
ROOT = CANONICAL_JOINTS.index("middle_mcp")


@dataclass(frozen=True)
class CropRule:
    """Where frames are cut. A cube's centre is the mean of the valid joints; a square's that of the joints' box.

    Args:
        around: "cube" needs joints in 3D, "square" joints in 2D; "auto" takes the cube where a frame has depth.
        centre_jitter: standard deviation per axis of a cube's centre in training, metres, cut at two of them; that of
            the rendered domains' detector.
        square: side of the square over the larger side of the box around the 2D joints.
        centre: of the square: of the joints' "box", or the "root", the middle finger's knuckle, where it is labelled.
        shift: largest shift of the square in training, as a share of its side, along u and v.
        zoom: largest change of the square's side in training: a factor within [1 / (1 + zoom), 1 + zoom].

    Rendered hands are off the middle of cube and square by their detector's error, and know neither shift nor zoom:
    `datamodules.augmentation` moves them.
    """

    around: Literal["auto", "cube", "square"] = "auto"
    centre_jitter: float = 0.008
    square: float = 1.5
    centre: Literal["box", "root"] = "box"
    shift: float = 0.05
    zoom: float = 0.1

    def __post_init__(self) -> None:
        for name in ("around", "centre"):
            check_choice(name, getattr(self, name), get_args(CropRule.__annotations__[name]))
        check_not_negative(centre_jitter=self.centre_jitter, shift=self.shift, zoom=self.zoom)
        if not self.square >= 1:
            raise ValueError(f"square: expected at least 1, which just holds the joints, got {self.square}")

    def takes_cube(self, frame: HandFrame) -> bool:
        """Whether a frame is cut by a cube."""
        return self.around == "cube" or (self.around == "auto" and frame.depth is not None)

    @property
    def name(self) -> str:
        """What frames that this rule has cut say of it (`HandFrame.cut`); of "auto", the name of its squares."""
        return "cube" if self.around == "cube" else f"square {self.square:g} {self.centre}"


def crop_frames(
    frames: Sequence[HandFrame], rule: CropRule, size: int, keys: Keys | None = None, lean: bool = False
) -> HandBatch:
    """Frames of one source as a batch without `domain` and `convention`; left hands come mirrored.

    Args:
        frames: with the same pictures and labels each.
        rule: where they are cut.
        size: side of the crops, pixels.
        keys: (B,) of the jitter in training; None takes the plain centres.
        lean: leave rgb as uint8, which is what a worker should send.
    """
    labels = _Labels(frames)
    batch = labels.batch()
    K = torch.from_numpy(labels.K.astype(np.float32))
    batch["cube_centre"], batch["cube_side"] = _cubes(labels, rule, keys)
    crop, _ = cube_crop(batch["cube_centre"], batch["cube_side"], K, size)
    cubes = torch.tensor([rule.takes_cube(frame) and not frame.cut for frame in frames])
    if not cubes.all():
        squares = crop_affine(*_squares(labels, rule, keys), size)
        crop = torch.where(cubes[:, None, None], crop, squares)
    batch["crop"], batch["K"] = crop, transform_intrinsics(K, crop)
    if "joints_2d" in batch:
        batch["joints_2d"] = batch["joints_2d"] @ crop[..., :2].mT + crop[:, None, :, 2]
    batch = as_right_hands(batch, size)
    if "joints_2d" in batch:
        batch["joints_2d"] *= (batch["has_2d"][:, None] & batch["joint_valid"])[..., None]
    batch.update(_pictures(frames, batch, size))  # by the mirrored maps
    if "rgb" in batch and not lean:
        batch["rgb"] = unit_floats(batch["rgb"])
    return batch


def check_croppable(frame: HandFrame, rule: CropRule) -> None:
    """Raise BadFrame unless the frame's joints say where to cut; ValueError if it is cut already, and otherwise."""
    asked = "cube" if rule.takes_cube(frame) else rule.name
    if frame.cut and frame.cut != asked:
        raise ValueError(
            f"{frame.key}: its picture was cut by '{frame.cut}', asked for is '{asked}'; set data.crop to what its set "
            "was written with, or write a set with that"
        )
    valid = _valid(frame)
    if rule.takes_cube(frame) or frame.depth is not None:  # depth is cut off before and behind the cube
        together = 0.0 if frame.joints_3d is None else float(frame.joints_3d[:, 2] @ valid)
        if not together > 0:
            raise BadFrame(
                f"{frame.key}: a cube is cut around the joints in 3D, but the mean of {valid.sum()} valid joints "
                f"lies at z = {together / max(1, valid.sum()):g} m; expected joints before the camera, in metres"
            )
    if not rule.takes_cube(frame) and not _lie_apart(frame, valid):
        raise BadFrame(
            f"{frame.key}: the size of a crop comes from joints that lie apart, but the {valid.sum()} labelled ones do "
            "not; check joints_2d and joint_valid"
        )


def _lie_apart(frame: HandFrame, valid: np.ndarray) -> bool:
    """Whether the valid joints span a square in the picture; without joints, the whole picture is taken."""
    pixels = frame.joints_2d
    if pixels is None and frame.joints_3d is None:
        return True
    if pixels is None:
        rays = frame.joints_3d @ frame.K.T
        pixels = rays[:, :2] / np.where(valid, rays[:, 2], 1)[:, None]
    pixels = pixels[valid]
    return len(pixels) > 0 and (pixels.max(0) - pixels.min(0)).max() > 0


class _Labels:
    """What B frames say beside their pictures, in arrays."""

    def __init__(self, frames: Sequence[HandFrame]) -> None:
        self.frames = frames
        self.K = np.stack([frame.K for frame in frames])  # (B, 3, 3) of the whole pictures
        self.valid = np.stack([_valid(frame) for frame in frames])  # (B, 21)
        self.has_3d, self.joints_3d = _stacked([frame.joints_3d for frame in frames])
        self.has_2d, self.joints_2d = self._pixels()
        self.detected = np.array([frame.cube_centre is not None for frame in frames])  # (B,)
        self.cut = np.array([frame.cut != "" for frame in frames])  # (B,)

    def _pixels(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(B,) bool and (B, 21, 2) pixels of the whole picture: as labelled, or projected and 0 where not valid."""
        labelled, pixels = _stacked([frame.joints_2d for frame in self.frames])
        if labelled.all() or not self.has_3d.any():
            return labelled, pixels
        rays = self.joints_3d.astype(np.float64) @ self.K.transpose(0, 2, 1)
        there = self.valid & self.has_3d[:, None]
        projected = rays[..., :2] / np.where(there, rays[..., 2], 1)[..., None] * there[..., None]
        if labelled.any():
            projected[labelled] = pixels[labelled]
        return labelled | self.has_3d, projected

    def batch(self) -> HandBatch:
        """The labels as a batch has them; joints_2d are still pixels of the whole picture."""
        frames = self.frames
        batch = HandBatch(
            joint_valid=torch.from_numpy(self.valid),
            original_size=torch.tensor([frame.size for frame in frames]),
            side=torch.tensor([frame.side for frame in frames]),
            mirrored=torch.zeros(len(frames), dtype=torch.bool),
            hand_model=["" if frame.vertices is None else frame.hand_model for frame in frames],
            key=[frame.key for frame in frames],
        )
        has_mesh, vertices = _stacked([frame.vertices for frame in frames])
        palm = _stacked([frame.palm for frame in frames])[1]
        fields = {"joints_3d": self.joints_3d, "joints_2d": self.joints_2d, "vertices": vertices, "palm": palm}
        for field, values in fields.items():
            if values is not None:
                batch[field] = torch.from_numpy(values.astype(np.float32))
        for flag, there in (("3d", self.has_3d), ("2d", self.has_2d), ("mesh", has_mesh)):
            batch[f"has_{flag}"] = torch.from_numpy(there)
        return batch

    def centres(self) -> np.ndarray:
        """Detected centres (B, 3), or means of the valid joints, metres; 0 where no joint is labelled in 3D."""
        centres = np.zeros((len(self.frames), 3))
        if self.joints_3d is not None:
            counted = self.valid & self.has_3d[:, None]
            sums = (self.joints_3d * counted[..., None]).sum(1, dtype=np.float64)
            centres = sums / np.maximum(counted.sum(1), 1)[:, None]
        if self.detected.any():
            centres[self.detected] = [frame.cube_centre for frame in self.frames if frame.cube_centre is not None]
        return centres

    def squares(self, rule: CropRule) -> np.ndarray:
        """Centres u, v and sides (B, 3), pixels, around the valid 2D joints; whole pictures without, or cut already."""
        height, width = np.array([frame.size for frame in self.frames]).T
        squares = np.stack([(width - 1) / 2, (height - 1) / 2, np.maximum(height, width)], 1)
        if self.joints_2d is not None:
            labelled = self.valid[..., None]
            low = np.where(labelled, self.joints_2d, np.inf).min(1)
            high = np.where(labelled, self.joints_2d, -np.inf).max(1)
            boxes = np.concatenate([(low + high) / 2, rule.square * (high - low).max(1, keepdims=True)], 1)
            if rule.centre == "root":
                rooted = self.valid[:, ROOT]
                boxes[rooted, :2] = self.joints_2d[rooted, ROOT]
            rows = self.has_2d & ~self.cut
            squares[rows] = boxes[rows]
        return squares


def _stacked(values: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Which are there (B,), and all as one array (B, ...), 0 where not; None if none is."""
    there = np.array([value is not None for value in values])
    if not there.any():
        return there, None
    blank = np.zeros_like(values[there.argmax()])
    return there, np.stack([blank if value is None else value for value in values])


def _valid(frame: HandFrame) -> np.ndarray:
    """(21,) bool: labelled, in 3D where there is 3D."""
    if frame.joint_valid is not None:
        return frame.joint_valid
    return np.full(JOINTS, frame.joints_3d is not None or frame.joints_2d is not None)


def _cubes(labels: _Labels, rule: CropRule, keys: Keys | None) -> tuple[Tensor, Tensor]:
    """Centres (B, 3) and sides (B,), metres; a centre is 0 where no joint is labelled in 3D."""
    centres = labels.centres()
    if keys is not None:
        jitter = rule.centre_jitter * np.clip(Draws(keys_of("cube", keys)).normal((3,)), -2, 2)
        centres += jitter * (labels.has_3d & labels.valid.any(1) & ~labels.detected)[:, None]
    sides = np.array([frame.cube_side for frame in labels.frames])
    return torch.from_numpy(centres.astype(np.float32)), torch.from_numpy(sides.astype(np.float32))


def _squares(labels: _Labels, rule: CropRule, keys: Keys | None) -> tuple[Tensor, Tensor]:
    """Centres (B, 2) and sides (B,), pixels, around the 2D joints; the whole picture where there are none."""
    squares = labels.squares(rule)
    if keys is not None:
        draws = Draws(keys_of("square", keys))
        jitter = draws.uniform(-rule.shift, rule.shift, (2,)) * ~labels.cut[:, None]
        squares[:, :2] += squares[:, 2:] * jitter
        squares[:, 2] *= (1 + rule.zoom) ** (draws.uniform(-1, 1) * ~labels.cut)
    centre, side = torch.from_numpy(squares.astype(np.float32)).split([2, 1], 1)
    return centre, side[:, 0]


# shape before height and width, dtype, what stands where a frame has none
_PICTURES: dict[str, tuple[tuple[int, ...], type, float]] = {
    "rgb": ((3,), np.uint8, 0),
    "depth": ((1,), np.float32, 0),
    "mask": ((1,), np.float32, 0),
    "parts": ((), np.uint8, UNLABELLED),
}


def _pictures(frames: Sequence[HandFrame], batch: HandBatch, size: int) -> HandBatch:
    """The crops of all pictures, rgb as uint8, and their flags."""
    affines = batch["crop"].double().numpy()
    z, half = batch["cube_centre"][:, 2].tolist(), (batch["cube_side"] / 2).tolist()
    pictures = HandBatch()
    for name, (shape, dtype, blank) in _PICTURES.items():
        there = [getattr(frame, name) is not None for frame in frames]
        pictures[f"has_{name}"] = torch.tensor(there)
        if not any(there):
            continue
        crops = np.empty((len(frames), *shape, size, size), dtype)
        for row, (crop, frame, affine) in enumerate(zip(crops, frames, affines, strict=True)):
            picture = getattr(frame, name)
            if picture is None:
                crop[...] = blank
            elif name == "rgb":
                resample_rgb(picture, affine, size, crop)
            elif name == "depth":
                resample_depth(picture, affine, size, crop[0], (z[row] - half[row], z[row] + half[row]))
            else:
                nearest(picture, affine, size, crop.reshape(size, size))
        pictures[name] = torch.from_numpy(crops)
    return pictures
