"""A prediction drawn over the depth frame it was made from."""

import cv2
import numpy as np
import torch
from torch import Tensor

from ops.camera import project, transform_intrinsics
from ops.drawing import Picture, caption, draw_skeleton, enlarge, part_colours, shade_depth
from ops.hand_model import HandModel
from ops.render.labels import face_parts, render_labels

CROP_FACTOR = 4  # crops are drawn this much larger
MESH_SHARE = 0.6  # of a part's colour over the depth below it


def draw_overlay(
    depth: np.ndarray,
    crop_depth: np.ndarray,
    K: Tensor,
    crop: Tensor,
    cube: tuple[float, float],
    joints_3d: Tensor,
    vertices: Tensor,
    model: HandModel,
    title: str = "",
) -> Picture:
    """Three panels: the frame with crop and joints, the crop with joints, the crop with the mesh's part map.

    Args:
        depth: (H, W) metres, the frame.
        crop_depth: (S, S) metres, what the method saw (not mirrored).
        K: (3, 3) of the frame.
        crop: (2, 3) pixels of the frame -> pixels of the crop (not mirrored).
        cube: depth of the crop cube's near and far face, metres.
        joints_3d: (21, 3) metres, camera frame.
        vertices: (V, 3) metres, camera frame, of the right or left hand of `model`.
        model: gives faces and parts.
        title: a line of text in the frame.
    """
    size = len(crop_depth)
    crop_K = transform_intrinsics(K[None], crop[None])
    frame = shade_depth(depth, cube[0], cube[1] + 0.5)  # half a metre more, so that the person shows
    draw_skeleton(frame, project(joints_3d[None], K)[0].numpy())
    corners = (np.array([[-0.5, -0.5], [size - 0.5, size - 0.5]]) - crop[:, 2].numpy()) / float(crop[0, 0])
    cv2.rectangle(frame, *[tuple(corner) for corner in corners.round().astype(int).tolist()], (0, 220, 255), 1)
    caption(frame, title)

    joints = enlarge(shade_depth(crop_depth, *cube), CROP_FACTOR)
    draw_skeleton(joints, project(joints_3d[None], crop_K)[0].numpy(), factor=CROP_FACTOR)
    mesh = enlarge(_mesh_over(shade_depth(crop_depth, *cube), vertices, crop_K, model), CROP_FACTOR)
    panels = [joints, mesh]
    height = max(len(frame), len(joints))
    panels = [cv2.copyMakeBorder(p, 0, height - len(p), 0, 0, cv2.BORDER_CONSTANT) for p in (frame, *panels)]
    return np.hstack(panels)


def _mesh_over(picture: Picture, vertices: Tensor, crop_K: Tensor, model: HandModel) -> Picture:
    faces = torch.from_numpy(model.faces)
    parts = face_parts(torch.from_numpy(model.part_labels), faces)
    _, labels = render_labels(vertices[None].float(), faces, crop_K, picture.shape[:2], parts)
    colours = part_colours()[labels[0].numpy()]
    covered = (labels[0] > 0).numpy()[..., None]
    return np.where(covered, MESH_SHARE * colours + (1 - MESH_SHARE) * picture, picture).astype(np.uint8)
