"""A labelled frame to a row of the batch contract: cut out, resized, its camera and joints moved with it.

Depth pictures are cut by a cube around the hand, as rendered frames and `predict.py` are; colour pictures that have no
depth beside them by a square around the joints. Pictures of one frame are cut alike: one camera belongs to all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numba import njit
from torch import Tensor

from datamodules.batch import HandBatch
from datamodules.frames import BadFrame, HandFrame
from datamodules.streams import Draws, Keys, keys_of
from datamodules.transforms import as_right_hands
from ops.camera import crop_affine, cube_crop, transform_intrinsics
from ops.checks import check_choice, check_not_negative
from ops.joints import CANONICAL_JOINTS, UNLABELLED

# neighbours farther apart in depth than this belong to different surfaces and are never blended, metres
SURFACE_JUMP = 0.01
JOINTS = len(CANONICAL_JOINTS)


@dataclass(frozen=True)
class CropRule:
    """Where frames are cut. A cube's centre is the mean of the valid joints; a square's that of the joints' box.

    Args:
        around: "cube" needs joints in 3D, "square" joints in 2D; "auto" takes the cube where a frame has depth.
        centre_jitter: standard deviation per axis of a cube's centre in training, metres, cut at two of them; that of
            the rendered domains' detector.
        square: side of the square over the larger side of the box around the 2D joints.
        shift: largest shift of the square in training, as a share of its side, along u and v.
        zoom: largest change of the square's side in training: a factor within [1 / (1 + zoom), 1 + zoom].
    """

    around: Literal["auto", "cube", "square"] = "auto"
    centre_jitter: float = 0.008
    square: float = 1.5
    shift: float = 0.05
    zoom: float = 0.1

    def __post_init__(self) -> None:
        check_choice("around", self.around, get_args(CropRule.__annotations__["around"]))
        check_not_negative(centre_jitter=self.centre_jitter, shift=self.shift, zoom=self.zoom)
        if not self.square >= 1:
            raise ValueError(f"square: expected at least 1, which just holds the joints, got {self.square}")

    def takes_cube(self, frame: HandFrame) -> bool:
        """Whether a frame is cut by a cube."""
        return self.around == "cube" or (self.around == "auto" and frame.depth is not None)


def crop_frames(frames: Sequence[HandFrame], rule: CropRule, size: int, keys: Keys | None = None) -> HandBatch:
    """Frames of one source as a batch without `domain` and `convention`; left hands come mirrored.

    Args:
        frames: with the same pictures and labels each.
        rule: where they are cut.
        size: side of the crops, pixels.
        keys: (B,) of the jitter in training; None takes the plain centres.
    """
    batch = _labels(frames)
    K = torch.from_numpy(np.stack([frame.K for frame in frames]).astype(np.float32))
    batch["cube_centre"], batch["cube_side"] = _cubes(frames, rule, keys)
    crop, _ = cube_crop(batch["cube_centre"], batch["cube_side"], K, size)
    cubes = torch.tensor([rule.takes_cube(frame) for frame in frames])
    if not cubes.all():
        squares = crop_affine(*_squares(frames, rule, keys), size)
        crop = torch.where(cubes[:, None, None], crop, squares)
    batch["crop"], batch["K"] = crop, transform_intrinsics(K, crop)
    if "joints_2d" in batch:
        batch["joints_2d"] = batch["joints_2d"] @ crop[..., :2].mT + crop[:, None, :, 2]
    batch = as_right_hands(batch, size)
    if "joints_2d" in batch:
        batch["joints_2d"] *= (batch["has_2d"][:, None] & batch["joint_valid"])[..., None]
    batch.update(_pictures(frames, batch, size))  # by the mirrored maps
    return batch


def check_croppable(frame: HandFrame, rule: CropRule) -> None:
    """Raise BadFrame unless the frame's joints say where to cut."""
    valid = _valid(frame)
    if rule.takes_cube(frame) or frame.depth is not None:  # depth is cut off before and behind the cube
        z = frame.joints_3d[valid, 2].mean() if frame.joints_3d is not None and valid.any() else 0.0
        if not z > 0:
            raise BadFrame(
                f"{frame.key}: a cube is cut around the joints in 3D, but the mean of {valid.sum()} valid joints "
                f"lies at z = {z:g} m; expected joints before the camera, in metres"
            )
    if not rule.takes_cube(frame) and _pixels(frame) is not None and not _square(frame, 1.0)[2] > 0:
        raise BadFrame(
            f"{frame.key}: the size of a crop comes from joints that lie apart, but the {valid.sum()} labelled ones do "
            "not; check joints_2d and joint_valid"
        )


def _labels(frames: Sequence[HandFrame]) -> HandBatch:
    """What a frame says beside its pictures; joints_2d are still pixels of the whole picture."""
    batch = HandBatch(
        joint_valid=torch.from_numpy(np.stack([_valid(frame) for frame in frames])),
        original_size=torch.tensor([frame.size for frame in frames]),
        side=torch.tensor([frame.side for frame in frames]),
        mirrored=torch.zeros(len(frames), dtype=torch.bool),
        hand_model=["" if frame.vertices is None else frame.hand_model for frame in frames],
        key=[frame.key for frame in frames],
    )
    for field, flag in (("joints_3d", "3d"), ("joints_2d", "2d"), ("vertices", "mesh"), ("palm", None)):
        values = [_pixels(frame) if field == "joints_2d" else getattr(frame, field) for frame in frames]
        there = [value is not None for value in values]
        if any(there):
            blank = np.zeros_like(values[there.index(True)])
            stacked = np.stack([blank if value is None else value for value in values])
            batch[field] = torch.from_numpy(stacked.astype(np.float32))
        if flag is not None:
            batch[f"has_{flag}"] = torch.tensor(there)
    return batch


def _valid(frame: HandFrame) -> np.ndarray:
    """(21,) bool: labelled, in 3D where there is 3D."""
    if frame.joint_valid is not None:
        return frame.joint_valid
    return np.full(JOINTS, frame.joints_3d is not None or frame.joints_2d is not None)


def _pixels(frame: HandFrame) -> np.ndarray | None:
    """(21, 2) pixels of the whole picture: as labelled, or projected and 0 where not valid."""
    if frame.joints_2d is not None or frame.joints_3d is None:
        return frame.joints_2d
    valid = _valid(frame)
    pixels = np.zeros((JOINTS, 2))
    rays = frame.joints_3d[valid].astype(np.float64) @ frame.K.T
    pixels[valid] = rays[:, :2] / rays[:, 2:]
    return pixels


def _cubes(frames: Sequence[HandFrame], rule: CropRule, keys: Keys | None) -> tuple[Tensor, Tensor]:
    """Centres (B, 3) and sides (B,), metres; a centre is 0 where no joint is labelled in 3D."""
    jitter = np.zeros((len(frames), 3))
    if keys is not None:
        jitter = rule.centre_jitter * np.clip(Draws(keys_of("cube", keys)).normal((3,)), -2, 2)
    centres = np.zeros((len(frames), 3))
    for row, frame in enumerate(frames):
        valid = _valid(frame)
        if frame.joints_3d is not None and valid.any():
            centres[row] = frame.joints_3d[valid].mean(0) + jitter[row]
    sides = np.array([frame.cube_side for frame in frames])
    return torch.from_numpy(centres.astype(np.float32)), torch.from_numpy(sides.astype(np.float32))


def _squares(frames: Sequence[HandFrame], rule: CropRule, keys: Keys | None) -> tuple[Tensor, Tensor]:
    """Centres (B, 2) and sides (B,), pixels, around the 2D joints; the whole picture where there are none."""
    squares = np.array([_square(frame, rule.square) for frame in frames])
    if keys is not None:
        draws = Draws(keys_of("square", keys))
        squares[:, :2] += squares[:, 2:] * draws.uniform(-rule.shift, rule.shift, (2,))
        squares[:, 2] *= (1 + rule.zoom) ** draws.uniform(-1, 1)
    centre, side = torch.from_numpy(squares.astype(np.float32)).split([2, 1], 1)
    return centre, side[:, 0]


def _square(frame: HandFrame, factor: float) -> tuple[float, float, float]:
    """Centre u, v and side."""
    pixels = _pixels(frame)
    if pixels is None:
        height, width = frame.size
        return (width - 1) / 2, (height - 1) / 2, max(height, width)
    labelled = pixels[_valid(frame)]
    low, high = labelled.min(0, initial=np.inf), labelled.max(0, initial=-np.inf)
    side = factor * float((high - low).max())
    return (*(low + high) / 2, side)


def _pictures(frames: Sequence[HandFrame], batch: HandBatch, size: int) -> HandBatch:
    """The crops of all pictures and their flags."""
    affines = batch["crop"].double().numpy()
    pictures = HandBatch()
    for name, (shape, dtype, blank, cut) in _PICTURES.items():
        there = [getattr(frame, name) is not None for frame in frames]
        pictures[f"has_{name}"] = torch.tensor(there)
        if not any(there):
            continue
        crops = np.empty((len(frames), *shape, size, size), dtype)
        for crop, frame, affine in zip(crops, frames, affines, strict=True):
            picture = getattr(frame, name)
            if picture is None:
                crop[...] = blank
            elif name == "rgb":
                np.multiply(resample_rgb(picture, affine, size).transpose(2, 0, 1), np.float32(1 / 255), out=crop)
            else:
                crop[...] = cut(picture, affine, size)
        pictures[name] = torch.from_numpy(crops)
    if "depth" in pictures:
        centre, half = batch["cube_centre"][:, 2, None, None, None], batch["cube_side"][:, None, None, None] / 2
        pictures["depth"][(pictures["depth"] - centre).abs() > half] = 0
    return pictures


def within_cube(depth: np.ndarray, z: float, side: float) -> np.ndarray:
    """Depth (H, W), metres, without what lies before or behind a cube of `side` around depth z."""
    return np.where(np.abs(depth - z) <= side / 2, depth, 0).astype(np.float32)


def nearest(picture: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """The nearest pixels (size, size) of a picture (H, W) at those of its crop; 0 outside the picture.

    Args:
        picture: (H, W) of labels.
        affine: (2, 3) pixels of the picture -> pixels of the crop, without rotation; mirrored where affine[0, 0] < 0.
        size: side of the crop, pixels.
    """
    height, width = picture.shape
    u, v = (np.rint((np.arange(size) - affine[axis, 2]) / affine[axis, axis]).astype(int) for axis in (0, 1))
    cut = picture[np.clip(v, 0, height - 1)[:, None], np.clip(u, 0, width - 1)]
    cut[(v < 0) | (v >= height)] = 0
    cut[:, (u < 0) | (u >= width)] = 0
    return cut


def resample_rgb(picture: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """A crop (size, size, 3) uint8 of a picture (H, W, 3) uint8, bilinear; 0 outside the picture.

    Where the crop is coarser than the picture, the picture is blurred first: fine patterns become grey, not moire.

    Args:
        picture: colours.
        affine: (2, 3) pixels of the picture -> pixels of the crop, without rotation; mirrored where affine[0, 0] < 0.
        size: side of the crop, pixels.
    """
    affine = affine.copy()
    shrink = 1 / abs(affine[0, 0])
    sigma = 0.5 * np.sqrt(max(shrink**2 - 1, 0))  # pixels; the blur of a pixel `shrink` times as wide
    # only what the crop and the blur reach is read: hands are small in large pictures
    reach = int(3 * sigma) + 2
    height, width = picture.shape[:2]
    corners = np.sort((np.array([[-0.5, size - 0.5]] * 2) - affine[:, 2:]) / affine[[0, 1], [0, 1], None])
    left, top = np.clip(np.floor(corners[:, 0]).astype(int) - reach, 0, [width - 1, height - 1])
    right, bottom = np.clip(np.ceil(corners[:, 1]).astype(int) + reach + 1, [left + 1, top + 1], [width, height])
    part = picture[top:bottom, left:right]
    if sigma > 0.3:  # narrower than that, a Gaussian is a single pixel
        part = cv2.GaussianBlur(part, (0, 0), sigma)
    affine[:, 2] += affine[[0, 1], [0, 1]] * (left, top)
    return cv2.warpAffine(part, affine, (size, size), flags=cv2.INTER_LINEAR)


def resample_depth(depth: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """Sample a depth picture at the pixels of its crop: linear on a surface, nearest across edges and holes.

    Args:
        depth: (H, W) metres, 0 = missing.
        affine: (2, 3) pixels of the picture -> pixels of the crop, without rotation; mirrored where affine[0, 0] < 0.
        size: side of the crop, pixels.

    Returns:
        (size, size) float32; 0 outside the picture.
    """
    u, v = ((np.arange(size) - affine[axis, 2]) / affine[axis, axis] for axis in (0, 1))
    crop = np.empty((size, size), np.float32)
    _resample(np.ascontiguousarray(depth), u, v, crop)
    return crop


# shape before height and width, dtype, what stands where a frame has none, how it is cut
_PICTURES: dict[str, tuple[tuple[int, ...], type, float, Callable[[np.ndarray, np.ndarray, int], np.ndarray]]] = {
    "rgb": ((3,), np.float32, 0, resample_rgb),
    "depth": ((1,), np.float32, 0, resample_depth),
    "mask": ((1,), np.float32, 0, nearest),
    "parts": ((), np.uint8, UNLABELLED, nearest),
}


@njit(cache=True)
def _resample(depth, u, v, crop):  # noqa: ANN001, ANN202 - numba infers
    height, width = depth.shape
    for y in range(len(v)):
        top = int(np.floor(v[y]))
        down = v[y] - top
        for x in range(len(u)):
            left = int(np.floor(u[x]))
            along = u[x] - left
            if 0 <= top < height - 1 and 0 <= left < width - 1:
                a, b = depth[top, left], depth[top, left + 1]
                c, d = depth[top + 1, left], depth[top + 1, left + 1]
            else:
                a, b = _at(depth, top, left), _at(depth, top, left + 1)
                c, d = _at(depth, top + 1, left), _at(depth, top + 1, left + 1)
            if max(a, b, c, d) - min(a, b, c, d) < SURFACE_JUMP:
                crop[y, x] = (1 - down) * ((1 - along) * a + along * b) + down * ((1 - along) * c + along * d)
            elif down > 0.5:
                crop[y, x] = d if along > 0.5 else c
            else:
                crop[y, x] = b if along > 0.5 else a


@njit(cache=True, inline="always")
def _at(depth, row, column):  # noqa: ANN001, ANN202 - numba infers
    inside = 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]
    return depth[row, column] if inside else depth.dtype.type(0)
