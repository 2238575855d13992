"""Figures of methods that find joints by way of parts: joint errors, part scores, how well parts and joints agree."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from datamodules.batch import HandBatch
from lightning_modules.figures import JointFigures, rows_of_domain, stage_names
from lightning_modules.metrics import PointError
from lightning_modules.protocols.segmentation import Segmentation

SCORES = ("per_pixel_pct", "per_class_pct", "mean_iou_pct")


class PartScores(Segmentation):
    """Three figures of the protocol `segmentation`, and `pixel_error_pct`, whose smallest value is the best.

    NaN where no labelled pixel was seen.
    """

    def compute(self) -> dict[str, float]:
        """Per cent by name."""
        if not bool(self.confusion[1:].any()):
            return dict.fromkeys((*SCORES, "pixel_error_pct"), torch.nan)
        figures = self.figures()
        return {name: figures[name] for name in SCORES} | {"pixel_error_pct": 100 - figures["per_pixel_pct"]}


class PartFigures(nn.Module):
    """The figures of one stage, of all samples and of each domain.

    Args:
        stage: what their names begin with: val or test.
        domains: to report one by one as well.
        with_parts: whether there are maps to judge.
    """

    def __init__(self, stage: str, domains: list[str], with_parts: bool) -> None:
        super().__init__()
        self.names = stage_names(stage, domains)
        self.joints = JointFigures(stage, domains)
        self.flat = nn.ModuleDict({name: PointError() for name in self.names})
        self.parts = nn.ModuleDict({name: PartScores() for name in self.names if with_parts})
        self.quality = nn.ModuleDict({name: MeanMetric() for name in self.names if with_parts})

    def update_joints(self, predicted: Tensor, valid: Tensor, batch: HandBatch) -> dict[str, Metric]:
        """Add joints (B, 21, 3), metres, of which (B, 21) count; what to log."""
        target = batch["joints_3d"]
        flat = torch.cat([predicted[..., :2], target[..., 2:]], -1)  # the error in the plane of x and y
        for name, domain in self.names.items():
            rows = rows_of_domain(batch, domain)
            self.flat[name].update(flat[rows], target[rows], valid[rows])
        logged = {f"{name}joints_xy_mm": metric for name, metric in self.flat.items()}
        return self.joints.update(predicted, batch, valid=valid) | logged

    def update_maps(self, maps: Tensor, quality: Tensor, joints: Tensor, batch: HandBatch) -> dict[str, Metric]:
        """Add part maps (B, H, W) of the batch's pictures, Q(N) (B,) and how many joints it sums (B,); what to log."""
        parts = batch.get("parts", torch.zeros_like(maps))  # without the field nothing has part labels
        for name, domain in self.names.items():
            rows = rows_of_domain(batch, domain)
            judged = rows & (joints > 0)
            self.quality[name].update(quality[judged] / joints[judged], joints[judged])
            labelled = rows & batch["has_parts"]
            self.parts[name].update(maps[labelled], parts[labelled])
        return {f"{name}parts_to_joints_px": self.quality[name] for name in self.names}

    def part_scores(self) -> dict[str, float]:
        """The scores of all maps since the last call."""
        scores = {}
        for name, metric in self.parts.items():
            scores |= {f"{name}{key}": value for key, value in metric.compute().items()}
            metric.reset()
        return scores
