"""Rotation, scale and translation of hands in the picture, exact for camera, joints and mesh."""

import torch
from torch import Tensor

from datamodules.batch import HandBatch
from ops.checks import check_shape
from ops.joints import UNLABELLED

_LABELS = ("depth", "mask", "parts")  # a blend of two surfaces or labels is none
_BLEND = 0.005  # metres: a blend of neighbouring depths that is no farther from the nearest is one surface's


def move_hands(batch: HandBatch, angle: Tensor, factor: Tensor, shift: Tensor) -> HandBatch:
    """The batch as another camera would have taken it of hands of another size.

    The camera is turned about its optical axis: all points in space turn, and so does the picture, about the crop's
    middle. All lengths in space grow by `factor`, as seen from a camera so much farther away: depths grow with them,
    and the crop, whose cube keeps its side, shows the hand so much larger. Then the picture moves by `shift`; where
    there is depth, the cube's centre moves the other way, so that it stays in the middle of the crop. K projects the
    joints onto the picture throughout. What was outside the old crop is 0.

    Args:
        batch: any batch of the contract.
        angle: (B,) radians, clockwise as seen (from x towards y).
        factor: (B,) above 0.
        shift: (B, 2) of the picture, pixels right and down.
    """
    for name, value, shape in (("angle", angle, ("B",)), ("factor", factor, ("B",)), ("shift", shift, ("B", 2))):
        check_shape(name, value, (len(batch["K"]), *shape[1:]))
    size = next(batch[name].shape[-1] for name in ("rgb", *_LABELS) if name in batch)
    turn = _about_axis(angle)
    zoom, picture = _zoom(batch["K"], turn, factor, shift, size)
    moved = HandBatch(**batch)
    grow = factor[:, None, None] * turn  # (B, 3, 3) of points in space
    for name in ("joints_3d", "vertices"):
        if name in batch:
            moved[name] = batch[name] @ grow.mT
    for name in ("palm", "cube_centre"):
        if name in batch:
            moved[name] = (grow @ batch[name][..., None])[..., 0]
    moved["K"] = zoom @ batch["K"]
    if "joints_2d" in batch:
        pixels = batch["joints_2d"] @ picture[:, :2, :2].mT + picture[:, None, :2, 2]
        known = batch["has_2d"][:, None] & batch["joint_valid"]
        moved["joints_2d"] = torch.where(known[..., None], pixels, batch["joints_2d"])
    if "crop" in batch:
        moved["crop"] = picture[:, :2, :2] @ batch["crop"]
        moved["crop"][..., 2] += picture[:, :2, 2]
    if "depth" in batch:
        moved["cube_centre"] = _recentred(moved, shift)
    moved.update(_resampled(moved, picture, factor))
    return moved


def _about_axis(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) about z: x towards y, clockwise in the picture."""
    cosine, sine, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], -1).unflatten(-1, (3, 3))


def _zoom(K: Tensor, turn: Tensor, factor: Tensor, pixels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Zoom and shift (B, 3, 3) of the turned camera's picture, and the map (B, 3, 3) from old to new pixels."""
    turned = K @ turn @ torch.linalg.inv(K)  # about the principal point; affine, since a turn about z leaves z
    middle = K.new_tensor([(size - 1) / 2, (size - 1) / 2, 1.0])
    zoom = torch.diag_embed(torch.stack([factor, factor, torch.ones_like(factor)], -1))
    zoom[:, :2, 2] = middle[:2] + pixels - factor[:, None] * (turned @ middle)[:, :2]
    return zoom, zoom @ turned


def _recentred(batch: HandBatch, pixels: Tensor) -> Tensor:
    """Cube centres (B, 3) moved against the picture's shift (B, 2), where there is depth."""
    centre, focal = batch["cube_centre"], torch.diagonal(batch["K"], dim1=1, dim2=2)[:, :2]
    across = pixels * centre[:, 2:] / focal
    move = torch.cat([across, torch.zeros_like(across[:, :1])], 1)
    return torch.where(batch["has_depth"][:, None], centre - move, centre)


def _resampled(batch: HandBatch, picture: Tensor, factor: Tensor) -> HandBatch:
    from kornia.geometry.transform import warp_affine  # half a second that only augmentation pays

    resampled = HandBatch()
    affine = picture[:, :2]
    if "rgb" in batch:
        resampled["rgb"] = warp_affine(batch["rgb"], affine, batch["rgb"].shape[-2:])
    labels = {name: batch[name].float() for name in _LABELS if name in batch}
    if not labels:
        return resampled
    stacked = torch.cat([value if value.ndim == 4 else value[:, None] for value in labels.values()], 1)
    warped = warp_affine(stacked, affine, stacked.shape[-2:], mode="nearest")
    for name, value in zip(labels, warped.split(1, 1), strict=True):
        resampled[name] = value
    if "depth" in labels:
        smooth = warp_affine(batch["depth"], affine, batch["depth"].shape[-2:])
        same_surface = (smooth - resampled["depth"]).abs() < _BLEND
        grown = torch.where(same_surface, smooth, resampled["depth"]) * factor[:, None, None, None]
        away = (grown - batch["cube_centre"][:, 2, None, None, None]).abs()
        resampled["depth"] = torch.where(away <= batch["cube_side"][:, None, None, None] / 2, grown, 0.0)
    if "parts" in labels:
        unlabelled = ~batch["has_parts"][:, None, None]
        resampled["parts"] = resampled["parts"][:, 0].to(torch.uint8).masked_fill(unlabelled, UNLABELLED)
    return resampled
