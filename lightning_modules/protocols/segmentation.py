"""`segmentation`: part labels of pixels."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.protocols.base import Protocol, check_some
from lightning_modules.protocols.curves import rounded
from ops.checks import check_shape
from ops.joints import BACKGROUND, PART_NAMES, UNLABELLED

_LABELS = len(PART_NAMES) + 1  # with the background


class Segmentation(Protocol):
    """Accuracy and IoU of the 20 parts.

    Root, scale, alignment: none, pixels are compared where they are. Visibility: true hand pixels alone count (a pixel
    of the hand that is called background is an error); unlabelled pixels do not. Thresholds: none. Per-class accuracy
    and mean IoU average over the parts that occur; frequency-weighted IoU weighs them by their true pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name, self.point_names = "segmentation", PART_NAMES
        self.facts = {
            "root": "none",
            "scale": "none",
            "alignment": "none",
            "visibility": "pixels of the true hand with a label",
            "thresholds": "none",
        }
        self.add_state("confusion", torch.zeros(_LABELS, _LABELS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add label pictures (B, H, W) of the batch contract: 0 background, 1 palm, 2-20 fingers, 255 unlabelled."""
        check_shape("target", target, ("B", "H", "W"))
        check_shape("predicted", predicted, tuple(target.shape))
        for name, labels in (("predicted", predicted), ("target", target)):
            odd = labels[((labels < 0) | (labels >= _LABELS)) & ~((labels == UNLABELLED) & (name == "target"))]
            if odd.numel() or labels.is_floating_point():
                raise ValueError(
                    f"{name}: expected integer labels 0 to {_LABELS - 1}, got {labels.dtype} {odd[:3].tolist()}; "
                    "relabel them as the batch contract says"
                )
        counted = (target != BACKGROUND) & (target != UNLABELLED)
        pairs = target[counted].long() * _LABELS + predicted[counted].long()
        self.confusion += torch.bincount(pairs, minlength=_LABELS**2).view(_LABELS, _LABELS)

    def figures(self) -> dict[str, Any]:
        """Accuracy per pixel and per class, mean and frequency-weighted IoU, per cent."""
        confusion = self.confusion.double()
        hits, true, said = confusion.diagonal()[1:], confusion.sum(1)[1:], confusion.sum(0)[1:]
        check_some(self.name, int(true.sum()), "labelled hand pixels")
        there = true > 0
        recall = hits[there] / true[there]
        iou = hits[there] / (true + said - hits)[there]
        per_part = torch.full_like(true, torch.nan)
        per_part[there] = recall
        return {
            "pixels": int(true.sum()),
            "per_pixel_pct": round(100 * float(hits.sum() / true.sum()), 4),
            "per_class_pct": round(100 * float(recall.mean()), 4),
            "mean_iou_pct": round(100 * float(iou.mean()), 4),
            "frequency_weighted_iou_pct": round(100 * float((iou * true[there]).sum() / true.sum()), 4),
            "per_part_pct": rounded(100 * per_part),
        }
