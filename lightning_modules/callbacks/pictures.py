"""Pictures of validation samples during training: colours, or else depth, with true and predicted joints; parts."""

from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from datamodules.batch import HandBatch
from lightning_modules.prediction import HandPrediction
from ops.drawing import (
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    Picture,
    bgr_bytes,
    caption,
    draw_skeleton,
    enlarge,
    part_colours,
    shade_depth,
    tile,
    write_picture,
)

COLUMNS, FACTOR = 4, 2


class ValidationPictures(Callback):
    """After each validation writes `step_<n>.png`: the first samples of the first batch, the same ones every time.

    Args:
        folder: where the pictures go.
        samples: how many samples of the batch are drawn.
    """

    def __init__(self, folder: Path, samples: int = 8) -> None:
        if samples < 1:
            raise ValueError(f"samples: expected at least 1, got {samples}; use --picture_samples=0 for no pictures")
        self.folder = Path(folder)
        self.samples = samples

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: HandBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first batch of rank 0."""
        if batch_idx or dataloader_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        with torch.no_grad():  # the prediction may differentiate inside; here nothing is learnt
            prediction = pl_module.predict_step(batch, 0)
        sheet = draw_samples(batch, prediction, self.samples)
        write_picture(self.folder / f"step_{trainer.global_step:07d}.png", sheet)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/samples", [sheet[..., ::-1]], step=None)


def draw_samples(batch: HandBatch, prediction: HandPrediction, samples: int) -> Picture:
    """A sheet of the first `samples` of `batch`."""
    return tile(sample_pictures(batch, prediction, samples), COLUMNS)


def sample_pictures(batch: HandBatch, prediction: HandPrediction, samples: int) -> list[Picture]:
    """The first `samples` of `batch`: truth green, prediction orange, predicted parts beside them."""
    cells = []
    predicted = _joints_in_picture(batch, prediction)
    for i in range(min(samples, len(batch["domain"]))):
        cell = enlarge(_picture(batch, i), FACTOR)
        if bool(batch["has_2d"][i]):
            draw_skeleton(cell, batch["joints_2d"][i].float().cpu().numpy(), TRUE_COLOUR, FACTOR)
        if predicted is not None:
            draw_skeleton(cell, predicted[i], PREDICTED_COLOUR, FACTOR)
        caption(cell, batch["domain"][i])
        if prediction.parts is not None:
            parts = prediction.parts[i].cpu().numpy()
            shown = parts[:, ::-1] if bool(batch["mirrored"][i]) else parts
            size = cell.shape[1], cell.shape[0]
            cell = np.hstack([cell, cv2.resize(part_colours()[shown], size, interpolation=cv2.INTER_NEAREST)])
        cells.append(cell)
    return cells


def _picture(batch: HandBatch, i: int) -> Picture:
    """What the camera saw of sample i; black where the batch shows neither colours nor depth."""
    if "rgb" in batch and bool(batch["has_rgb"][i]):
        return bgr_bytes(batch["rgb"][i])
    if "depth" in batch:
        depth = batch["depth"][i, 0].float().cpu().numpy()
        centre, half = float(batch["cube_centre"][i, 2]), float(batch["cube_side"][i]) / 2
        return shade_depth(depth, centre - half, centre + half)
    return np.zeros((*_size(batch), 3), np.uint8)


def _joints_in_picture(batch: HandBatch, prediction: HandPrediction) -> np.ndarray | None:
    """(B, 21, 2) pixels: predictions show the hand as it is, pictures of left hands in a batch are mirrored."""
    if prediction.joints_2d is None:
        return None
    joints = prediction.joints_2d.detach().float().cpu().numpy().copy()
    mirrored = batch["mirrored"].cpu().numpy()
    joints[mirrored, :, 0] = _size(batch)[1] - 1 - joints[mirrored, :, 0]
    return joints


def _size(batch: HandBatch) -> tuple[int, int]:
    """Height and width of the batch's pictures."""
    for name in ("rgb", "depth", "mask"):
        if name in batch:
            return tuple(batch[name].shape[-2:])
    raise ValueError("batch: expected a picture ('rgb', 'depth' or 'mask') to draw on; use --picture_samples=0")
