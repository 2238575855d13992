"""Changes of a batch that must touch picture, camera, joints and mesh together: mirror and crop."""

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.batch import LEFT, RIGHT, HandBatch
from ops.camera import crop_affine, transform_intrinsics
from ops.checks import check_shape

_PICTURES = ("rgb", "depth", "mask", "parts")
_POINTS = ("joints_3d", "vertices")
_PLACES = ("palm", "cube_centre")


def mirror(batch: HandBatch, rows: Tensor) -> HandBatch:
    """The batch with samples `rows` seen in a mirror: pictures flipped, x of everything in space negated.

    The camera keeps its axes: its principal point moves to the other side, so K still projects the joints onto the
    picture. `side` keeps saying which hand was photographed; `mirrored` says that it now looks like the other.
    Mirroring twice gives the batch back.

    Args:
        batch: any batch of the contract.
        rows: (B,) bool.
    """
    check_shape("rows", rows, (len(batch["K"]),))
    mirrored = dict(batch)
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


def as_right_hands(batch: HandBatch) -> HandBatch:
    """What networks see: left hands mirrored, right hands as they are."""
    return mirror(batch, (batch["side"] == LEFT) & ~batch["mirrored"])


def as_pictured(batch: HandBatch) -> HandBatch:
    """The inverse of `as_right_hands`: every mirrored sample as the camera saw it."""
    return mirror(batch, batch["mirrored"])


def looks_right(batch: HandBatch) -> Tensor:
    """(B,) bool: the picture shows what looks like a right hand."""
    return (batch["side"] == RIGHT) ^ batch["mirrored"]


def crop(batch: HandBatch, centre: Tensor, side: Tensor, size: int) -> HandBatch:
    """A square cut out of every picture and resized; camera, joints_2d and crop follow.

    Depth, mask and parts take the nearest pixel (a blend of two depths is no depth), rgb is bilinear; what lies outside
    the picture is 0.

    Args:
        batch: any batch of the contract.
        centre: (B, 2) pixels of the batch's picture.
        side: (B,) pixels of the batch's picture.
        size: side of the new picture, pixels.
    """
    check_shape("centre", centre, (len(batch["K"]), 2))
    check_shape("side", side, (len(batch["K"]),))
    if not bool((side > 0).all()):
        raise ValueError(f"side: expected positive pixels, got {side.min().item():g}")
    affine = crop_affine(centre, side, size)
    cropped = dict(batch)
    for name in _PICTURES:
        if name in batch:
            cropped[name] = _resample(batch[name], centre, side, size, nearest=name != "rgb")
    cropped["K"] = transform_intrinsics(batch["K"], affine)
    if "joints_2d" in batch:
        cropped["joints_2d"] = batch["joints_2d"] @ affine[..., :2].mT + affine[:, None, :, 2]
    if "crop" in batch:
        cropped["crop"] = affine @ _homogeneous(batch["crop"])
    return HandBatch(**cropped)


def _resample(picture: Tensor, centre: Tensor, side: Tensor, size: int, nearest: bool) -> Tensor:
    channels = picture[:, None] if picture.ndim == 3 else picture
    height, width = channels.shape[-2:]
    steps = ((torch.arange(size, device=side.device) + 0.5) / size - 0.5) * side[:, None]  # (B, size) pixels
    x, y = centre[:, :1] + steps, centre[:, 1:] + steps
    # grid_sample's coordinates: -1 and 1 are the outer borders of the first and last pixel
    grid = torch.stack(
        [
            ((2 * x + 1) / width - 1)[:, None, :].expand(-1, size, -1),
            ((2 * y + 1) / height - 1)[:, :, None].expand(-1, -1, size),
        ],
        -1,
    )
    mode = "nearest" if nearest else "bilinear"
    cut = functional.grid_sample(channels.float(), grid.float(), mode=mode, align_corners=False)
    return (cut[:, 0] if picture.ndim == 3 else cut).to(picture.dtype)


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
