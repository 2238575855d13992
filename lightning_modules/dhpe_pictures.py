"""What DHPE's refinement at test time does to one hand, as a picture: the hand by iterations, and the objective."""

from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.normalised_hand import HandProjection, NormalisedHand, picture_pixels
from lightning_modules.refinement import Refined
from ops.drawing import Picture, bgr_bytes, caption, draw_skeleton, enlarge, tile, write_picture

PANELS = 7  # beside the curve
_COLUMNS, _SIDE = 4, 256  # pixels, or as near as whole pixels allow
_MASK_COLOUR, _MASK_SHARE = (80, 200, 255), 0.45


class RefiningMethod(Protocol):
    """What a method must have to be drawn so: `lightning_modules.dhpe`."""

    hparams: Any  # refinement_steps
    projection: HandProjection

    def __call__(self, picture: Tensor, K: Tensor) -> Any:
        """An estimate with `hand`."""

    def refine(self, estimate: Any, batch: HandBatch, keep_path: bool) -> Refined:
        """Eq. 13."""

    def silhouette(self, hand: NormalisedHand, size: int) -> Tensor:
        """(B, 1, S, S)."""


def write_refinement(method: RefiningMethod, batch: HandBatch, path: Path) -> None:
    """Write `refinement_picture` as PNG or JPEG."""
    write_picture(path, refinement_picture(method, batch))


def refinement_picture(method: RefiningMethod, batch: HandBatch) -> Picture:
    """Panels of the crop with mask and skeleton of the hand after some iterations, then the objective of all.

    Args:
        method: with at least one iteration of refinement.
        batch: a crop of one hand, as predictions get it.

    Returns:
        (H, W, 3) uint8 BGR; a hand that was mirrored to look like a right one is shown so.
    """
    if len(batch["key"]) != 1:
        raise ValueError(f"batch: expected one hand to draw, got {len(batch['key'])}; draw them one by one")
    steps = method.hparams.refinement_steps
    if steps == 0:
        raise ValueError("refinement_steps: expected at least 1 iteration to draw, got 0; give --refine N")
    with torch.no_grad():
        estimate = method(batch["rgb"], batch["K"])
    found = method.refine(estimate, batch, keep_path=True)
    seen = bgr_bytes(batch["rgb"][0])
    factor = max(1, round(_SIDE / len(seen)))
    panels = []
    for step in shown_steps(steps):
        with torch.no_grad():
            hand = method.projection(found.path[step], estimate.hand.view)
            mask = method.silhouette(hand, len(seen))[0, 0, :, :, None].numpy()
        tinted = seen + _MASK_SHARE * mask * (np.array(_MASK_COLOUR) - seen)
        panels.append(enlarge(tinted.astype(np.uint8), factor))
        draw_skeleton(panels[-1], picture_pixels(hand.joints[0, :, :2], len(seen)).numpy(), factor=factor)
        value = f": {float(found.values[step, 0]):.4f}" if step else ""  # see `_curve`
        caption(panels[-1], f"iteration {step}{value}")
    return tile([*panels, _curve(found, len(panels[0]))], _COLUMNS)


def shown_steps(steps: int, most: int = PANELS) -> list[int]:
    """Iterations to draw, at most PANELS: first and last, and closer together at the start, where most happens.

    Args:
        steps: of the refinement.
        most: fewer than PANELS, at least 2.
    """
    spread = steps * np.linspace(0, 1, min(most, PANELS)) ** 2
    return sorted({round(float(step)) for step in spread})


def _curve(found: Refined, side: int) -> Picture:
    """What eq. 13 lowers, by iterations; where it begins and ends is written beside it.

    The start is left out: there the refiner has not spoken of the hand that is refined yet, so its places are others.
    """
    values = found.values[min(1, len(found.values) - 1) :, 0].numpy()
    picture = np.full((side, side, 3), 30, np.uint8)
    there = np.isfinite(values)
    if there.any():
        low, high = float(values[there].min()), float(values[there].max())
        margin, reach = side // 8, side - 2 * (side // 8)
        u = margin + reach * np.arange(len(values)) / max(len(values) - 1, 1)
        v = margin + reach * (high - values) / max(high - low, 1e-12)
        line = np.stack([u, v], 1)[there].round().astype(np.int32)
        cv2.polylines(picture, [line], False, _MASK_COLOUR, 1, cv2.LINE_AA)
        caption(picture, f"objective: {values[there][0]:.4f} to {values[there][-1]:.4f}")
    return picture
