"""Transforms of a whole batch: picture, geometry and labels together."""

import torch
from torch import Tensor

from datamodules.batch import HandBatch

_PICTURES = ("rgb", "depth", "mask", "parts")
_POINTS = ("joints_3d", "palm", "vertices", "cube_centre")


def mirror(batch: HandBatch) -> HandBatch:
    """Every hand as its mirror image about x = 0 of the camera; a left hand then looks like a right one.

    Mirroring twice gives the batch back. `side` says what was pictured and stays; `mirrored` is toggled.
    """
    width = next(batch[name] for name in _PICTURES if name in batch).shape[-1]
    mirrored = HandBatch(**batch)
    for name in _PICTURES:
        if name in batch:
            mirrored[name] = batch[name].flip(-1)
    for name in _POINTS:
        if name in batch:
            mirrored[name] = batch[name] * batch[name].new_tensor([-1.0, 1.0, 1.0])
    if "joints_2d" in batch:
        u, v = batch["joints_2d"].unbind(-1)
        mirrored["joints_2d"] = torch.stack([width - 1 - u, v], -1)
    # K maps mirrored points to mirrored pixels: both sides flip, the focal length keeps its sign
    mirrored["K"] = _flip_u(batch["K"], width) * batch["K"].new_tensor([-1.0, 1.0, 1.0])
    if "crop" in batch:
        mirrored["crop"] = _flip_u(batch["crop"], width)
    mirrored["mirrored"] = ~batch["mirrored"]
    return mirrored


def _flip_u(rows: Tensor, width: int) -> Tensor:
    """Maps (B, 2 or 3, 3) onto homogeneous pixels, followed by u' = width - 1 - u."""
    flipped = rows.clone()
    flipped[:, 0] = -rows[:, 0]
    flipped[:, 0, 2] += width - 1
    return flipped
