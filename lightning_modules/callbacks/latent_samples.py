"""Pictures of what a latent space holds: the same points of the prior, decoded after every validation."""

from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_modules.modalities import JointSpace
from ops.drawing import Picture, draw_skeleton, tile, write_picture

CELL = 128  # pixels along a side
_COLUMNS = 8
_COLOUR = (255, 255, 255)


class LatentSamples(Callback):
    """After each validation writes `samples/step_<n>.png` into the run's folder, a row of cells per modality.

    The method says `decoders` and `decode(z, name)`; pictures are shown as they are, joints as skeletons.

    Args:
        samples: how many points of the prior, the same ones every time.
    """

    def __init__(self, samples: int = 8) -> None:
        if samples < 1:
            raise ValueError(f"samples: expected at least 1, got {samples}; leave the callback out for none")
        self.samples = samples

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet on rank 0."""
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        z = torch.randn(self.samples, pl_module.hparams.latent, generator=torch.Generator().manual_seed(0))
        sheet = decoded_sheet(pl_module, z.to(pl_module.device))
        write_picture(Path(trainer.default_root_dir, "samples", f"step_{trainer.global_step:07d}.png"), sheet)


@torch.no_grad()
def decoded_sheet(method: LightningModule, z: torch.Tensor) -> Picture:
    """Points z (n, Z) in every modality of a method in evaluation mode: blocks of eight columns below one another."""
    rows = [tile(cells_of(name, method.decode(z, name).cpu(), method.space), _COLUMNS) for name in method.decoders]
    return np.vstack(rows)


def cells_of(modality: str, values: torch.Tensor, space: JointSpace) -> list[Picture]:
    """A picture of CELL x CELL pixels, BGR, for each decoded sample.

    Args:
        modality: rgb, depth, 2d or 3d.
        values: (n, C, S, S) in [-0.5, 0.5], or (n, D) numbers of joints; 3D is seen along the camera's axis.
        space: which joints they are; one that is missing lies at its neighbour.
    """
    if modality in ("rgb", "depth"):
        levels = (255 * (values + 0.5)).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        if modality == "depth":
            levels = 255 - np.repeat(levels, 3, -1)  # near is bright
        return [cv2.resize(np.ascontiguousarray(picture[..., ::-1]), (CELL, CELL)) for picture in levels]
    axes = 2 if modality == "2d" else 3
    joints = space.completed(values.unflatten(1, (-1, axes))[..., :2]).numpy()
    cells = []
    for hand in joints:
        cell = np.zeros((CELL, CELL, 3), np.uint8)
        if modality == "3d":  # units of the method's own: shown whole
            hand = (hand - hand.mean(0)) / max(np.abs(hand - hand.mean(0)).max(), 1e-6) * 0.9
        draw_skeleton(cell, ((hand + 1) * (CELL / 2) - 0.5).astype(np.float32), _COLOUR)
        cells.append(cell)
    return cells
