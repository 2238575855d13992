"""Figures of the cross-modal VAE beside every method's: joints in the picture, errors as its paper measures."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, SumMetric

from lightning_modules.protocols import EvalUtil
from lightning_modules.protocols.keypoints import PALM_BETWEEN


class PaperFigures(nn.Module):
    """`joints_2d_px`, mean distance of 2D joints in the crop, and Zimmermann and Brox's error and area, of one stage.

    Args:
        stage: what their names begin with: val or test.
        dataset: rhd or stb, whose palm they are measured from.
    """

    def __init__(self, stage: str, dataset: Literal["rhd", "stb"] = "rhd") -> None:
        super().__init__()
        self.stage, self.palm = stage, list(PALM_BETWEEN[dataset])
        self.pixels, self.eval_util, self.hands = MeanMetric(), EvalUtil(dataset), SumMetric()

    def update_pixels(self, said: Tensor, true: Tensor, valid: Tensor) -> dict[str, Metric]:
        """Add joints (B, 21, 2), pixels, of which `valid` (B, 21) count; what to log, by name."""
        self.pixels.update((said - true).norm(dim=-1)[valid])
        return {f"{self.stage}/joints_2d_px": self.pixels}

    def update_joints(self, said: Tensor, true: Tensor, valid: Tensor) -> None:
        """Add joints (B, 21, 3), metres, from anywhere: they are compared from the palm, where that is labelled."""
        rows = valid[:, self.palm].all(1)
        self.hands.update(rows.sum())
        if rows.any():
            self.eval_util.update(said[rows].detach(), true[rows], valid[rows])

    def errors_from_palm(self) -> dict[str, Tensor]:
        """`eval_util_mm` and `eval_util_auc_20_50`, as published, of all ranks; nothing where no hand was added."""
        self.hands.update(0)  # of a rank that saw no batch
        found = self.eval_util.compute() if self.hands.compute() else {}
        self.eval_util.reset()
        self.hands.reset()
        names = {"eval_util_mm": "mean_mm", "eval_util_auc_20_50": "auc_20_50_as_published"}
        return {f"{self.stage}/{name}": torch.tensor(found[figure]) for name, figure in names.items() if found}
