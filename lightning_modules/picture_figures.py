"""Figures in the picture, for methods that find hands in colours: joints in pixels, masks by their overlap."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric


class PictureFigures(nn.Module):
    """`joints_px`, mean distance of 2D joints in a crop of 224 pixels, and `mask_iou_pct`, of one stage.

    Args:
        stage: what their names begin with: val or test.
    """

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        self.joints_px, self.mask_iou_pct = MeanMetric(), MeanMetric()

    def update(self, pixels: Tensor, found: Tensor, mask: Tensor, has_mask: Tensor) -> dict[str, Metric]:
        """Add a batch; what to log, by name.

        Args:
            pixels: (B,) mean distance of the 2D joints, infinite where none is labelled.
            found: (B, 1, S, S) coverage in [0, 1].
            mask: (B, 1, S, S) true one.
            has_mask: (B,) bool, which of them are.
        """
        self.joints_px.update(pixels[pixels.isfinite()])
        self.mask_iou_pct.update(100 * overlap(found, mask)[has_mask])
        return {f"{self.stage}/{name}": getattr(self, name) for name in ("joints_px", "mask_iou_pct")}


def overlap(found: Tensor, mask: Tensor) -> Tensor:
    """Intersection over union (B,) of coverages (B, 1, S, S), cut at one half; 1 where both are empty."""
    found, mask = found > 0.5, mask > 0.5
    both, either = (pixels.sum((1, 2, 3)) for pixels in (found & mask, found | mask))
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)
