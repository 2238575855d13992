"""A sheet of samples for the eye: depth, part labels, mask with the mesh's outline, and joints on colours, per hand."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.batch import HandBatch
from ops.camera import project
from ops.drawing import bgr_bytes, draw_skeleton, enlarge, part_colours, tile, write_picture

_COLUMNS = 6  # hands side by side; each hand is four pictures in a square
_ZOOM = 2  # thin lines need room


def draw_sheet(batch: HandBatch, faces: Tensor, path: Path) -> None:
    """Write a PNG or JPEG: for each hand depth and parts above, outline and joints below.

    Args:
        batch: with depth, rgb, mask, parts, vertices, joints_2d.
        faces: (F, 3) of the vertices.
        path: picture to write; its suffix says which.
    """
    tiles = [_tile(batch, faces.numpy(), index) for index in range(len(batch["key"]))]
    write_picture(path, tile(tiles, _COLUMNS))


def _tile(batch: HandBatch, faces: np.ndarray, index: int) -> np.ndarray:
    depth = _grey_depth(batch, index)
    parts = enlarge(part_colours()[batch["parts"][index].numpy()], _ZOOM)
    outline = enlarge(np.repeat(batch["mask"][index, 0].numpy()[..., None] * 120, 3, 2).astype(np.uint8), _ZOOM)
    _draw_outline(outline, project(batch["vertices"][index][None], batch["K"][index])[0], faces)
    joints = enlarge(bgr_bytes(batch["rgb"][index]), _ZOOM)
    draw_skeleton(joints, batch["joints_2d"][index].numpy(), factor=_ZOOM)
    cell = np.vstack([np.hstack([depth, parts]), np.hstack([outline, joints])])
    return cv2.copyMakeBorder(cell, 0, 2, 0, 2, cv2.BORDER_CONSTANT, value=(60, 60, 60))


def _grey_depth(batch: HandBatch, index: int) -> np.ndarray:
    """Near is light; the cube's depth is the range; missing is black."""
    depth = batch["depth"][index, 0]
    centre, side = batch["cube_centre"][index, 2], batch["cube_side"][index]
    light = 255 - 190 * ((depth - centre) / side + 0.5).clamp(0, 1)
    light = torch.where(depth > 0, light, torch.zeros_like(light))
    return enlarge(np.repeat(light.numpy()[..., None], 3, 2).astype(np.uint8), _ZOOM)


def _draw_outline(picture: np.ndarray, points: Tensor, faces: np.ndarray) -> None:
    """Outline of the union of all faces: what the mesh covers, to compare with the mask."""
    covered = np.zeros(picture.shape[:2], np.uint8)
    for corners in _zoomed(points.numpy())[faces]:
        cv2.fillConvexPoly(covered, corners, 255, shift=4)
    contours, _ = cv2.findContours(covered, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, (60, 220, 60), 1)


def _zoomed(points: np.ndarray) -> np.ndarray:
    """Pixels of the zoomed picture in OpenCV's fixed point (1/16 pixel)."""
    return np.rint(((points + 0.5) * _ZOOM - 0.5) * 16).astype(np.int32)
