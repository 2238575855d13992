"""A prediction drawn over the picture it was made from."""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from ops.camera import project, transform_intrinsics
from ops.drawing import Picture, caption, draw_skeleton, enlarge, part_colours
from ops.hand_model import HandModel
from ops.render.labels import face_parts, render_labels

CROP_SIZE = 512  # pixels that a crop is drawn at, or as near as whole pixels allow
FRAME_HEIGHT = 720  # pixels; larger frames are drawn smaller
PART_SHARE = 0.6  # of a part's colour over the picture below it


def draw_overlay(
    frame: Picture,
    seen: Picture,
    K: Tensor,
    crop: Tensor,
    joints_3d: Tensor,
    vertices: Tensor | None,
    model: HandModel,
    title: str = "",
    parts: Mapping[str, np.ndarray] | None = None,
) -> Picture:
    """Panels: the frame with crop and joints, the crop with joints, with the mesh's part map, with given part maps.

    Args:
        frame: (H, W, 3) what the camera saw; changed.
        seen: (S, S, 3) what the method saw (not mirrored).
        K: (3, 3) of the frame.
        crop: (2, 3) pixels of the frame -> pixels of the crop (not mirrored).
        joints_3d: (21, 3) metres, camera frame.
        vertices: (V, 3) metres, camera frame, of the right or left hand of `model`; None: the method has no mesh.
        model: gives faces and parts.
        title: a line of text in the frame.
        parts: part labels (S, S) of the crop to show, by what is written above them.
    """
    size = len(seen)
    factor = max(1, round(CROP_SIZE / size))
    crop_K = transform_intrinsics(K[None], crop[None])
    shrink = min(1.0, FRAME_HEIGHT / len(frame))
    if shrink < 1:
        frame = cv2.resize(frame, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    draw_skeleton(frame, _shrunk(project(joints_3d[None], K)[0].numpy(), shrink))
    corners = (np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]]) - crop[:, 2].numpy()) / float(crop[0, 0])
    corners = _shrunk(corners, shrink)
    cv2.rectangle(frame, *[tuple(corner) for corner in corners.round().astype(int).tolist()], (0, 220, 255), 1)
    caption(frame, title)

    joints = enlarge(seen, factor)
    draw_skeleton(joints, project(joints_3d[None], crop_K)[0].numpy(), factor=factor)
    panels = [joints]
    if vertices is not None:
        panels.append(enlarge(_parts_over(seen, _mesh_parts(size, vertices, crop_K, model)), factor))
    for name, labels in (parts or {}).items():
        panels.append(enlarge(_parts_over(seen, labels), factor))
        caption(panels[-1], name)
    height = max(len(frame), len(joints))
    panels = [cv2.copyMakeBorder(p, 0, height - len(p), 0, 0, cv2.BORDER_CONSTANT) for p in (frame, *panels)]
    return np.hstack(panels)


def crop_overlay(
    seen: Picture, crop_K: Tensor, joints_3d: Tensor, vertices: Tensor | None, model: HandModel
) -> tuple[Picture, Picture]:
    """The crop enlarged, plain and with the mesh's parts and the joints over it.

    Args:
        seen: (S, S, 3) what the method saw (not mirrored).
        crop_K: (3, 3) of it.
        joints_3d: (21, 3) metres, camera frame.
        vertices: (V, 3) likewise, or None.
        model: gives faces and parts.
    """
    factor = max(1, round(CROP_SIZE / len(seen)))
    below = seen if vertices is None else _parts_over(seen, _mesh_parts(len(seen), vertices, crop_K[None], model))
    drawn = enlarge(below, factor)
    draw_skeleton(drawn, project(joints_3d[None], crop_K[None])[0].numpy(), factor=factor)
    return enlarge(seen, factor), drawn


def _shrunk(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Places (N, 2) in the picture made smaller by a factor."""
    return (pixels + 0.5) * factor - 0.5


def _mesh_parts(size: int, vertices: Tensor, crop_K: Tensor, model: HandModel) -> np.ndarray:
    """(S, S) part labels of the mesh."""
    faces = torch.from_numpy(model.faces)
    parts = face_parts(torch.from_numpy(model.part_labels), faces)
    return render_labels(vertices[None].float(), faces, crop_K, (size, size), parts)[1][0].numpy()


def _parts_over(picture: Picture, labels: np.ndarray) -> Picture:
    covered = (labels > 0)[..., None]
    return np.where(covered, PART_SHARE * part_colours()[labels] + (1 - PART_SHARE) * picture, picture).astype(np.uint8)
