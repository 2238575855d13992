"""`freihand`: joints and mesh after Procrustes alignment, as Zimmermann et al. (FreiHAND, ICCV 2019) evaluate."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.protocols.base import MM, Protocol, check_points, check_some
from lightning_modules.protocols.curves import area, curve_of, median, percent, rounded, success
from ops.checks import check_finite, check_shape
from ops.joints import CANONICAL_JOINTS
from ops.rotation import rigid_alignment

THRESHOLDS_MM = torch.linspace(0, 50, 100, dtype=torch.float64)
F_THRESHOLDS_MM = (5.0, 15.0)


class FreiHAND(Protocol):
    """`freihand`: joints and mesh.

    Root: none. Scale and alignment: Procrustes (rotation, translation, scale) of the prediction, joints and mesh each
    by themselves; figures without `pa` are unaligned. Visibility: all points count. Thresholds: 100 from 0 to 50 mm,
    the boundary succeeds, area per joint, then averaged; 5 and 15 mm for F, the boundary fails. F@t is the harmonic
    mean of the share of predicted vertices within t of a true one and the reverse.
    """

    needs_place = ("mean_mm", "median_mm", "per_joint_mm", "success_maxframe_pct", "mpvpe_mm")

    def __init__(self) -> None:
        super().__init__()
        self.name, self.point_names = "freihand", CANONICAL_JOINTS
        self.facts = {
            "root": "none",
            "scale": "pa: Procrustes; else as predicted",
            "alignment": "pa: Procrustes of joints and of vertices, each by itself; else none",
            "visibility": "all points count",
            "thresholds": "100 from 0 to 50 mm, strictly below for F; F at 5 and 15 mm",
        }
        self.add_rows("joints", len(CANONICAL_JOINTS))
        self.add_rows("joints_pa", len(CANONICAL_JOINTS))
        self.add_rows("vertices")  # the mean of each hand: ranks need not agree on the number of vertices
        self.add_rows("vertices_pa")
        self.add_rows("f_scores", len(F_THRESHOLDS_MM))

    def update(
        self,
        predicted: Tensor,
        target: Tensor,
        predicted_vertices: Tensor | None = None,
        target_vertices: Tensor | None = None,
    ) -> None:
        """Add joints (B, 21, 3) and, of methods that give a mesh, vertices (B, V, 3); metres, camera frame."""
        check_points(predicted, target, 21)
        errors, aligned_errors, _ = _errors(predicted.double(), target.double())
        self.joints.append(errors)
        self.joints_pa.append(aligned_errors)
        if predicted_vertices is None or target_vertices is None:
            return
        check_shape("predicted_vertices", predicted_vertices, (len(predicted), "V", 3))
        check_shape("target_vertices", target_vertices, tuple(predicted_vertices.shape))
        check_finite("predicted_vertices", predicted_vertices)
        check_finite("target_vertices", target_vertices)
        errors, aligned_errors, aligned = _errors(predicted_vertices.double(), target_vertices.double())
        self.vertices.append(errors.mean(1))
        self.vertices_pa.append(aligned_errors.mean(1))
        self.f_scores.append(f_scores(aligned, target_vertices.double()))

    def figures(self) -> dict[str, Any]:
        """PA-MPJPE, PA-MPVPE, F-scores, AUC; `per_joint_mm` is unaligned, `per_joint_pa_mm` aligned."""
        joints, aligned = self.rows("joints"), self.rows("joints_pa")
        check_some(self.name, len(joints))
        curve = torch.stack([success(own, THRESHOLDS_MM) for own in aligned.unbind(1)]).mean(0)
        limits = list(range(10, 81, 10))
        return {
            "frames": len(joints),
            "mean_mm": round(float(joints.mean()), 4),
            "median_mm": round(median(joints), 4),
            "per_joint_mm": rounded(joints.mean(0)),
            "pa_mpjpe_mm": round(float(aligned.mean()), 4),
            "per_joint_pa_mm": rounded(aligned.mean(0)),
            "auc_pa_0_50_100pts": round(area(THRESHOLDS_MM, curve), 4),
            "success_maxframe_pct": percent(limits, success(joints.amax(1), limits)),
            "curve_pck": curve_of(THRESHOLDS_MM, curve),
            **self._mesh_figures(),
        }

    def _mesh_figures(self) -> dict[str, float]:
        unaligned, aligned, scores = (self.rows(state) for state in ("vertices", "vertices_pa", "f_scores"))
        if not len(unaligned):
            return {}
        return {
            "mpvpe_mm": round(float(unaligned.mean()), 4),
            "pa_mpvpe_mm": round(float(aligned.mean()), 4),
            **{f"pa_f_at_{t:g}mm": round(float(s), 4) for t, s in zip(F_THRESHOLDS_MM, scores.mean(0), strict=True)},
        }


def _errors(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Errors (B, P) before and after Procrustes alignment, mm, and the aligned points (B, P, 3)."""
    aligned = rigid_alignment(predicted, target, torch.ones_like(target[..., 0]), scale=True)
    return (predicted - target).norm(dim=-1) * MM, (aligned - target).norm(dim=-1) * MM, aligned


def f_scores(predicted: Tensor, target: Tensor) -> Tensor:
    """F-scores (B, 2) at 5 and 15 mm of vertex clouds (B, V, 3), metres (Knapitsch et al., Tanks and Temples, 2017)."""
    scores = []
    for ours, theirs in zip(predicted, target, strict=True):  # one hand at a time: V x V distances
        distances = torch.cdist(ours, theirs) * MM
        nearest = distances.amin(1), distances.amin(0)
        row = []
        for limit in F_THRESHOLDS_MM:
            precision, recall = ((part < limit).double().mean() for part in nearest)
            row.append(2 * precision * recall / (precision + recall).clamp_min(1e-12))
        scores.append(torch.stack(row))
    return torch.stack(scores)
