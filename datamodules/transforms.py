"""The mirror: picture, camera, joints and mesh of a batch together."""

import torch
from torch import Tensor

from datamodules.batch import LEFT, RIGHT, HandBatch
from ops.checks import check_shape

_PICTURES = ("rgb", "depth", "mask", "parts")
_POINTS = ("joints_3d", "vertices")
_PLACES = ("palm", "cube_centre")


def mirror(batch: HandBatch, rows: Tensor, width: int | None = None) -> HandBatch:
    """The batch with samples `rows` seen in a mirror: pictures flipped, x of everything in space negated.

    The camera keeps its axes: its principal point moves to the other side, so K still projects the joints onto the
    picture. `side` keeps saying which hand was photographed; `mirrored` says that it now looks like the other.
    Mirroring twice gives the batch back.

    Args:
        batch: any batch of the contract.
        rows: (B,) bool.
        width: of the pictures, pixels; None asks those of the batch.
    """
    check_shape("rows", rows, (len(batch["K"]),))
    mirrored = dict(batch)
    if width is None:
        width = next(batch[name].shape[-1] for name in _PICTURES if name in batch)
    for name in _PICTURES:
        if name in batch:
            mirrored[name] = _where(rows, batch[name].flip(-1), batch[name])
    for name in (*_POINTS, *_PLACES):
        if name in batch:
            mirrored[name] = _where(rows, batch[name] * batch[name].new_tensor([-1.0, 1.0, 1.0]), batch[name])
    if "joints_2d" in batch:
        flipped = torch.stack([width - 1 - batch["joints_2d"][..., 0], batch["joints_2d"][..., 1]], -1)
        mirrored["joints_2d"] = _where(rows, flipped, batch["joints_2d"])
    mirrored["K"] = _where(rows, _mirrored_camera(batch["K"], width), batch["K"])
    if "crop" in batch:
        mirrored["crop"] = _where(rows, _flip_affine(width, batch["crop"]) @ _homogeneous(batch["crop"]), batch["crop"])
    mirrored["mirrored"] = batch["mirrored"] ^ rows
    return HandBatch(**mirrored)


def as_right_hands(batch: HandBatch, width: int | None = None) -> HandBatch:
    """What networks see: left hands mirrored, right hands as they are; arguments as in `mirror`."""
    return mirror(batch, (batch["side"] == LEFT) & ~batch["mirrored"], width)


def as_pictured(batch: HandBatch) -> HandBatch:
    """The inverse of `as_right_hands`: every mirrored sample as the camera saw it."""
    return mirror(batch, batch["mirrored"])


def looks_right(batch: HandBatch) -> Tensor:
    """(B,) bool: the picture shows what looks like a right hand."""
    return (batch["side"] == RIGHT) ^ batch["mirrored"]


def _mirrored_camera(K: Tensor, width: int) -> Tensor:
    mirrored = K.clone()
    mirrored[:, 0, 2] = width - 1 - K[:, 0, 2]
    mirrored[:, 0, 1] = -K[:, 0, 1]
    return mirrored


def _flip_affine(width: int, like: Tensor) -> Tensor:
    return like.new_tensor([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]]).expand(len(like), 2, 3)


def _homogeneous(affine: Tensor) -> Tensor:
    """(B, 2, 3) -> (B, 3, 3)."""
    bottom = affine.new_tensor([0.0, 0.0, 1.0]).expand(len(affine), 1, 3)
    return torch.cat([affine, bottom], 1)


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *(1,) * (no.ndim - 1)), yes, no)
