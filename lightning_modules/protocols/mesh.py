"""`freihand`: joints and mesh after Procrustes alignment, as Zimmermann et al. (FreiHAND, ICCV 2019) evaluate."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from lightning_modules.protocols.base import MM, Protocol, check_points
from lightning_modules.protocols.curves import area, rounded, success
from ops.checks import check_finite, check_shape
from ops.joints import CANONICAL_JOINTS
from ops.rotation import rigid_alignment

THRESHOLDS_MM = torch.linspace(0, 50, 100, dtype=torch.float64)
F_THRESHOLDS_MM = (5.0, 15.0)


class FreiHAND(Protocol):
    """Joints and mesh of FreiHAND.

    Root: none. Scale and alignment: Procrustes (rotation, translation, scale) of the prediction, joints and mesh each
    by themselves; figures without `pa` are unaligned. Visibility: all points count. Thresholds: 100 from 0 to 50 mm.
    F@t is the harmonic mean of the share of predicted vertices within t of a true one and the reverse.
    """

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
        for state in ("joints", "joints_pa", "vertices", "vertices_pa", "f_scores"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(
        self,
        predicted: Tensor,
        target: Tensor,
        predicted_vertices: Tensor | None = None,
        target_vertices: Tensor | None = None,
    ) -> None:
        """Add joints (B, 21, 3) and, of methods that give a mesh, vertices (B, V, 3); metres, camera frame."""
        check_points(predicted, target, 21)
        self._add("joints", predicted.double(), target.double())
        if predicted_vertices is None or target_vertices is None:
            return
        check_shape("predicted_vertices", predicted_vertices, (len(predicted), "V", 3))
        check_shape("target_vertices", target_vertices, tuple(predicted_vertices.shape))
        check_finite("predicted_vertices", predicted_vertices)
        check_finite("target_vertices", target_vertices)
        aligned = self._add("vertices", predicted_vertices.double(), target_vertices.double())
        self.f_scores.append(f_scores(aligned, target_vertices.double()))

    def _add(self, name: str, predicted: Tensor, target: Tensor) -> Tensor:
        aligned = rigid_alignment(predicted, target, torch.ones_like(target[..., 0]), scale=True)
        getattr(self, name).append((predicted - target).norm(dim=-1) * MM)
        getattr(self, f"{name}_pa").append((aligned - target).norm(dim=-1) * MM)
        return aligned

    def compute(self) -> dict[str, Any]:
        """PA-MPJPE, PA-MPVPE, F-scores, AUC; per joint means are those of the aligned joints."""
        joints, aligned = dim_zero_cat(self.joints), dim_zero_cat(self.joints_pa)
        curve = torch.stack([success(own, THRESHOLDS_MM) for own in aligned.unbind(1)]).mean(0)
        limits = list(range(10, 81, 10))
        figures = {
            "frames": len(joints),
            "mean_mm": round(float(joints.mean()), 4),
            "median_mm": round(float(joints.flatten().quantile(0.5)), 4),
            "per_joint_mm": rounded(joints.mean(0)),
            "pa_mpjpe_mm": round(float(aligned.mean()), 4),
            "auc_pa_0_50_100pts": round(area(THRESHOLDS_MM, curve), 4),
            "success_maxframe_pct": {
                str(t): round(100 * float(v), 3) for t, v in zip(limits, success(joints.amax(1), limits), strict=True)
            },
            "curve_pck": {"thresholds_mm": rounded(THRESHOLDS_MM), "share": rounded(curve, 5)},
        }
        if len(self.vertices):
            scores = dim_zero_cat(self.f_scores).mean(0)
            figures |= {
                "mpvpe_mm": round(float(dim_zero_cat(self.vertices).mean()), 4),
                "pa_mpvpe_mm": round(float(dim_zero_cat(self.vertices_pa).mean()), 4),
                **{f"pa_f_at_{t:g}mm": round(float(s), 4) for t, s in zip(F_THRESHOLDS_MM, scores, strict=True)},
            }
        return figures


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
