"""Where a hand is whose joints are only known from the wrist: where they are seen in the picture.

Letters: B batch, J joints.
"""

from dataclasses import replace

import torch
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.prediction import Frame, HandPrediction
from ops.camera import project
from ops.checks import check_shape


def in_camera(prediction: HandPrediction, seen: HandBatch) -> HandPrediction:
    """A root-relative prediction in the camera's frame; an absolute one as it is.

    The place is that from which the joints are seen nearest to the predicted pixels; of a method without these, the
    joints' middle is put where the middle of the crop is, at the depth of its cube.

    Args:
        prediction: as pictured.
        seen: the crops as pictured.
    """
    if prediction.frame == Frame.ABSOLUTE:
        return prediction
    if prediction.frame != Frame.ROOT_RELATIVE:
        raise ValueError(
            f"prediction: its joints are in the frame '{prediction.frame}', which has no place in the camera's; choose "
            "the checkpoint of another method with --ckpt"
        )
    joints = prediction.joints_3d
    if prediction.joints_2d is None:
        place = seen["cube_centre"] - joints.mean(1)
    else:
        place = place_by_pixels(joints, prediction.joints_2d, seen["K"])
    moved = [None if points is None else points + place[:, None] for points in (joints, prediction.vertices)]
    pixels = project(moved[0], seen["K"])
    return replace(prediction, joints_3d=moved[0], vertices=moved[1], joints_2d=pixels, frame=Frame.ABSOLUTE)


def place_by_pixels(joints: Tensor, pixels: Tensor, K: Tensor) -> Tensor:
    """Translations (B, 3) by which joints are seen at pixels: least squares of u (z + t_z) = f (x + t_x) + c (z + t_z).

    Args:
        joints: (B, J, 3) metres, camera axes, from any origin.
        pixels: (B, J, 2).
        K: (B, 3, 3) without skew.
    """
    check_shape("pixels", pixels, (len(joints), joints.shape[1], 2))
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None]  # (B, 1, 2)
    away = (pixels - K[:, None, :2, 2]) / focal  # (B, J, 2): x / z
    one, none = torch.ones_like(away[..., 0]), torch.zeros_like(away[..., 0])
    rows = torch.cat(
        [torch.stack([one, none, -away[..., 0]], -1), torch.stack([none, one, -away[..., 1]], -1)], 1
    )  # (B, 2 J, 3)
    z = joints[..., 2]
    right = torch.cat([away[..., 0] * z - joints[..., 0], away[..., 1] * z - joints[..., 1]], 1)
    return torch.linalg.lstsq(rows.double(), right.double()[..., None]).solution[..., 0].to(joints.dtype)
