"""A sheet of a dataset's frames with their joints: a wrong axis, side or joint order is seen at once."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datamodules.check.contract import valid_joints
from datamodules.check.observe import pixels_of
from datamodules.frames import HandFrame
from ops.drawing import FINGER_COLOURS, Picture, caption, draw_skeleton, shade_depth, tile, write_picture
from ops.joints import FINGERS

_SIDE = 320  # px of a panel
_CAPTION = 36  # px that two lines of text take
_COLUMNS = 4
_ROOM = 1.7  # side of what is shown over the larger side of the box around the joints
_TIPS = (4, 8, 12, 16, 20)


def draw_frames(frames: Sequence[HandFrame], path: Path) -> None:
    """Write a PNG or JPEG of frames, each as colour and depth panels, whichever it has, around its hand."""
    cells = [_cell(frame) for frame in frames]
    width = max(cell.shape[1] for cell in cells)
    cells = [cv2.copyMakeBorder(c, 0, 4, 0, width - c.shape[1] + 4, cv2.BORDER_CONSTANT) for c in cells]
    write_picture(path, tile(cells, _COLUMNS))


def _cell(frame: HandFrame) -> Picture:
    joints, seen = pixels_of(frame), valid_joints(frame)
    if joints is None:
        joints, seen = np.zeros((21, 2)), np.zeros(21, bool)
    elif frame.joints_3d is None:
        seen = np.ones(21, bool)
    window = _window(joints[seen], frame.size)
    panels = []
    for picture in _pictures(frame):
        panel = cv2.warpAffine(picture, window, (_SIDE, _SIDE), flags=cv2.INTER_NEAREST)
        _draw(panel, joints @ window[:, :2].T + window[:, 2], seen)
        panels.append(panel)
    panels[0][:_CAPTION] //= 3  # white letters need a dark ground
    caption(panels[0], frame.key.split("/", 1)[-1])
    caption(panels[0], "right" if frame.side else "left", line=1)
    return np.hstack(panels)


def _pictures(frame: HandFrame) -> list[Picture]:
    pictures = []
    if frame.rgb is not None:
        pictures.append(np.ascontiguousarray(frame.rgb[..., ::-1]))
    if frame.depth is not None:
        z = frame.joints_3d[valid_joints(frame), 2] if frame.joints_3d is not None else frame.depth[frame.depth > 0]
        middle = float(np.median(z)) if len(z) else 1.0
        pictures.append(shade_depth(frame.depth, middle - frame.cube_side / 2, middle + frame.cube_side / 2))
    if frame.mask is not None:
        pictures = [_tint(picture, frame.mask) for picture in pictures]
    return pictures or [np.zeros((*frame.size, 3), np.uint8)]


def _tint(picture: Picture, mask: np.ndarray) -> Picture:
    """What is not this hand at two thirds of its brightness."""
    return np.where(mask[..., None], picture, picture // 3 * 2)


def _window(joints: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(2, 3) map from the picture to a panel: the square around the joints, or the whole picture."""
    if not len(joints) or not np.isfinite(joints).all():
        joints = np.array([[0, 0], [size[1] - 1, size[0] - 1]], np.float64)
    low, high = joints.min(0), joints.max(0)
    scale = _SIDE / max(_ROOM * float((high - low).max()), 8.0)
    shift = (_SIDE - 1) / 2 - scale * (low + high) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)


def _draw(panel: Picture, joints: np.ndarray, seen: np.ndarray) -> None:
    draw_skeleton(panel, joints, valid=seen)
    for finger, (name, tip) in enumerate(zip(FINGERS, _TIPS, strict=True)):
        if seen[tip] and np.abs(joints[tip]).max() < 2 * _SIDE:
            place = (round(float(joints[tip, 0])) + 4, round(float(joints[tip, 1])) - 4)
            cv2.putText(panel, name[0].upper(), place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, FINGER_COLOURS[finger], 1)
