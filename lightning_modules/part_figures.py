"""Figures of methods that find joints by way of parts: joint errors, part scores, how well parts and joints agree."""

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from datamodules.batch import HandBatch
from lightning_modules.metrics import ALIGNMENTS, MeanPoseError, PointError
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
        self.names = {f"{stage}/{domain}/" if domain else f"{stage}/": domain for domain in ("", *domains)}
        self.with_parts = with_parts
        self.errors = nn.ModuleDict({name: _joint_errors() for name in self.names})
        self.parts = nn.ModuleDict({name: PartScores() for name in self.names if with_parts})
        self.quality = nn.ModuleDict({name: MeanMetric() for name in self.names if with_parts})

    def update_joints(self, predicted: Tensor, valid: Tensor, batch: HandBatch) -> dict[str, Metric]:
        """Add joints (B, 21, 3), metres, of which (B, 21) count; what to log.

        Domains without a sample in this batch are fed and logged, too: all ranks must reduce the same metrics.
        """
        target = batch["joints_3d"]
        flat = torch.cat([predicted[..., :2], target[..., 2:]], -1)  # the error in the plane of x and y
        for name, domain in self.names.items():
            rows = rows_of_domain(batch, domain)
            errors = self.errors[name]
            for alignment in ALIGNMENTS:
                errors[f"joints_{alignment}"].update(predicted[rows], target[rows], valid[rows])
                errors[f"mean_pose_{alignment}"].update(target[rows], valid[rows], batch["cube_centre"][rows])
            errors["joints_xy"].update(flat[rows], target[rows], valid[rows])
        return {f"{name}{key}_mm": metric for name in self.names for key, metric in self.errors[name].items()}

    def update_maps(self, maps: Tensor, quality: Tensor, joints: Tensor, batch: HandBatch) -> dict[str, Metric]:
        """Add part maps (B, H, W) of the batch's pictures, Q(N) (B,) and how many joints it sums (B,); what to log."""
        for name, domain in self.names.items():
            rows = rows_of_domain(batch, domain)
            judged = rows & (joints > 0)
            self.quality[name].update(quality[judged] / joints[judged], joints[judged])
            if "parts" in batch:
                labelled = rows & batch["has_parts"]
                self.parts[name].update(maps[labelled], batch["parts"][labelled])
        return {f"{name}parts_to_joints_px": self.quality[name] for name in self.names}

    def part_scores(self) -> dict[str, float]:
        """The scores of all maps since the last call."""
        scores = {}
        for name, metric in self.parts.items():
            scores |= {f"{name}{key}": value for key, value in metric.compute().items()}
            metric.reset()
        return scores


def rows_of_domain(batch: HandBatch, domain: str) -> Tensor:
    """(B,) bool, samples of a domain; "" is all of them."""
    of_domain = [domain in ("", name) for name in batch["domain"]]
    return torch.tensor(of_domain, device=batch["joints_3d"].device)


def _joint_errors() -> nn.ModuleDict:
    """Joint errors and the mean pose's by alignment, and in the plane of x and y."""
    metrics: dict[str, nn.Module] = {"joints_xy": PointError()}
    for alignment in ALIGNMENTS:
        metrics[f"joints_{alignment}"] = PointError(alignment)
        metrics[f"mean_pose_{alignment}"] = MeanPoseError(alignment)
    return nn.ModuleDict(metrics)
