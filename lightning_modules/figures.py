"""The figures every method logs: errors by alignment beside those of a constant pose, of all and of each domain."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules.batch import HandBatch
from lightning_modules.metrics import ALIGNMENTS, MeanPoseError, PointError


class JointFigures(nn.Module):
    """Joint errors of one stage and the mean pose's, vertex errors where the method has a mesh, by alignment.

    Args:
        stage: what their names begin with: val or test.
        domains: to report one by one as well.
        with_mesh: whether there are vertices to judge.
    """

    def __init__(self, stage: str, domains: Sequence[str] = (), with_mesh: bool = False) -> None:
        super().__init__()
        self.names = stage_names(stage, domains)
        self.with_mesh = with_mesh
        self.errors = nn.ModuleDict({name: _errors(with_mesh) for name in self.names})

    def update(
        self, predicted: Tensor, batch: HandBatch, vertices: Tensor | None = None, valid: Tensor | None = None
    ) -> dict[str, Metric]:
        """Add a batch; what to log, by name.

        Domains without a sample in this batch are fed and logged, too: all ranks must reduce the same metrics.

        Args:
            predicted: (B, 21, 3) joints, metres, camera frame, in the convention of the labels.
            batch: the labels, and where the crops are.
            vertices: (B, V, 3) predicted, metres, where there is a mesh to judge.
            valid: (B, 21) bool, which joints count; None takes those labelled in 3D.
        """
        target = batch["joints_3d"]
        valid = batch["joint_valid"] & batch["has_3d"][:, None] if valid is None else valid
        for name, domain in self.names.items():
            rows = rows_of_domain(batch, domain)
            errors = self.errors[name]
            for alignment in ALIGNMENTS:
                errors[f"joints_{alignment}"].update(predicted[rows], target[rows], valid[rows])
                errors[f"mean_pose_{alignment}"].update(target[rows], valid[rows], batch["cube_centre"][rows])
            if self.with_mesh:
                roots = predicted[rows, 0], target[rows, 0], valid[rows, 0]
                true = batch["vertices"] if "vertices" in batch else torch.zeros_like(vertices)
                there = batch["has_mesh"][:, None].expand(-1, vertices.shape[1])
                for alignment in ALIGNMENTS:
                    errors[f"vertices_{alignment}"].update(vertices[rows], true[rows], there[rows], roots)
        return {f"{name}{key}_mm": metric for name in self.names for key, metric in self.errors[name].items()}


def stage_names(stage: str, domains: Sequence[str]) -> dict[str, str]:
    """What figures' names begin with, `<stage>/` and `<stage>/<domain>/`, and the domain; "" is all of them."""
    return {f"{stage}/{domain}/" if domain else f"{stage}/": domain for domain in ("", *domains)}


def rows_of_domain(batch: HandBatch, domain: str) -> Tensor:
    """(B,) bool, samples of a domain; "" is all of them."""
    of_domain = [domain in ("", name) for name in batch["domain"]]
    return torch.tensor(of_domain, device=batch["joints_3d"].device)


def of_own_mesh(batch: HandBatch, hand_model: str, vertices: int) -> HandBatch:
    """The batch without the meshes of other hand models than the one named, whose vertices mean other places."""
    own = [model == hand_model for model in batch["hand_model"]]
    has_mesh = batch["has_mesh"] & torch.tensor(own, device=batch["has_mesh"].device)
    judged = HandBatch(batch | {"has_mesh": has_mesh})
    if "vertices" in judged and judged["vertices"].shape[1] != vertices:
        del judged["vertices"]
    return judged


def _errors(with_mesh: bool) -> nn.ModuleDict:
    metrics: dict[str, nn.Module] = {}
    for alignment in ALIGNMENTS:
        metrics[f"joints_{alignment}"] = PointError(alignment)
        metrics[f"mean_pose_{alignment}"] = MeanPoseError(alignment)
        if with_mesh:
            metrics[f"vertices_{alignment}"] = PointError(alignment)
    return nn.ModuleDict(metrics)
