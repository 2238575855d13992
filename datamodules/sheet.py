"""A sheet of samples for the eye: depth, part labels, mask with the mesh's outline, and joints, per hand."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.batch import HandBatch
from ops.camera import project
from ops.joints import BONES

_COLUMNS = 6  # hands side by side; each hand is four pictures in a square
_ZOOM = 2  # thin lines need room


def draw_sheet(batch: HandBatch, faces: Tensor, path: Path) -> None:
    """Write a PNG or JPEG: for each hand depth and parts above, outline and joints below.

    Args:
        batch: with depth, mask, parts, vertices, joints_2d.
        faces: (F, 3) of the vertices.
        path: picture to write; its suffix says which.
    """
    tiles = [_tile(batch, faces.numpy(), index) for index in range(len(batch["key"]))]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise FileNotFoundError(f"{path}: cannot be written; does its folder exist?")


def part_colours() -> np.ndarray:
    """Colours (256, 3) uint8 of part labels: hue by finger, darker towards the base, unlabelled in grey."""
    colours = np.full((256, 3), 128, np.uint8)
    colours[0] = 0
    colours[1] = (200, 200, 200)
    hues = [0] * 3 + [30] * 4 + [60] * 4 + [105] * 4 + [145] * 4  # OpenCV hues, thumb to little
    values = [130, 195, 255] + [100, 150, 200, 255] * 4
    hsv = np.array([[hue, 220, value] for hue, value in zip(hues, values, strict=True)], np.uint8)
    colours[2:21] = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0]
    return colours


def _tile(batch: HandBatch, faces: np.ndarray, index: int) -> np.ndarray:
    depth = _grey_depth(batch, index)
    parts = _zoom(part_colours()[batch["parts"][index].numpy()])
    outline = _zoom(np.repeat(batch["mask"][index, 0].numpy()[..., None] * 120, 3, 2).astype(np.uint8))
    _draw_outline(outline, project(batch["vertices"][index][None], batch["K"][index])[0], faces)
    joints = depth.copy()
    _draw_joints(joints, batch["joints_2d"][index].numpy())
    tile = np.vstack([np.hstack([depth, parts]), np.hstack([outline, joints])])
    return cv2.copyMakeBorder(tile, 0, 2, 0, 2, cv2.BORDER_CONSTANT, value=(60, 60, 60))


def _grey_depth(batch: HandBatch, index: int) -> np.ndarray:
    """Near is light; the cube's depth is the range; missing is black."""
    depth = batch["depth"][index, 0]
    centre, side = batch["cube_centre"][index, 2], batch["cube_side"][index]
    light = 255 - 190 * ((depth - centre) / side + 0.5).clamp(0, 1)
    light = torch.where(depth > 0, light, torch.zeros_like(light))
    return _zoom(np.repeat(light.numpy()[..., None], 3, 2).astype(np.uint8))


def _draw_outline(picture: np.ndarray, points: Tensor, faces: np.ndarray) -> None:
    """Outline of the union of all faces: what the mesh covers, to compare with the mask."""
    covered = np.zeros(picture.shape[:2], np.uint8)
    for corners in _zoomed(points.numpy())[faces]:
        cv2.fillConvexPoly(covered, corners, 255, shift=4)
    contours, _ = cv2.findContours(covered, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (60, 220, 60), 1)


def _draw_joints(picture: np.ndarray, joints: np.ndarray) -> None:
    colours = part_colours()
    points = _zoomed(joints)
    for parent, child in BONES:
        colour = tuple(map(int, colours[(4, 8, 12, 16, 20)[(child - 1) // 4]]))
        cv2.line(picture, points[parent].tolist(), points[child].tolist(), colour, 1, cv2.LINE_AA, shift=4)
    for point in points:
        cv2.circle(picture, point.tolist(), 24, (255, 255, 255), -1, cv2.LINE_AA, shift=4)


def _zoom(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.kron(picture, np.ones((_ZOOM, _ZOOM, 1), np.uint8)))


def _zoomed(points: np.ndarray) -> np.ndarray:
    """Pixels of the zoomed picture in OpenCV's fixed point (1/16 pixel)."""
    return np.rint(((points + 0.5) * _ZOOM - 0.5) * 16).astype(np.int32)
