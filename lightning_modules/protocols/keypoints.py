"""RGB protocols: RHD and STB as Zimmermann and Brox (ICCV 2017) evaluate, fingertips of Dexter+Object.

Zimmermann and Brox's evaluation (their EvalUtil, which Spurr 2018, Cai 2018 and DHPE follow): per key point the share
of errors at most 20 thresholds from 0 to 50 mm, its area, then the mean over key points; mean and median error are
averaged over key points likewise. What papers call "AUC 20-50 mm" takes thresholds 9 to 20 of these 20, that is 21.05
to 50 mm.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from lightning_modules.protocols.base import MM, Protocol, check_points, check_some, visible_or_all
from lightning_modules.protocols.curves import area, curve_of, median, percent, rounded, success
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS, FINGERS

THRESHOLDS_MM = torch.linspace(0, 50, 20, dtype=torch.float64)
_NAMED_20_50 = slice(8, None)  # 21.05 to 50 mm
_TRUE_20_50 = torch.linspace(20, 50, 31, dtype=torch.float64)
TIP_THRESHOLDS_MM = torch.linspace(0, 100, 101, dtype=torch.float64)
_WRIST, _MIDDLE_MCP, _MIDDLE_PIP, _RING_MCP = (
    CANONICAL_JOINTS.index(name) for name in ("wrist", "middle_mcp", "middle_pip", "ring_mcp")
)
# The palm centre stands for the wrist in both sets: RHD's between wrist and middle knuckle; STB labels it, and its
# wrist is derived as ring knuckle + 2 (palm - ring knuckle)
PALM_BETWEEN = {"rhd": (_WRIST, _MIDDLE_MCP), "stb": (_WRIST, _RING_MCP)}
Scale = Literal["as predicted", "ground truth"]


class EvalUtil(Protocol):
    """`rhd-eval-util` and `stb-eval-util`.

    Root: the palm centre, which also stands for joint 0 and counts, with error 0. Scale: "as predicted" (metres), or
    "ground truth": the prediction is in units of the bone middle MCP-PIP and is multiplied by the true one's length, as
    the papers do. Alignment: translation to the root alone. Visibility: only visible joints count. Thresholds: 20 from
    0 to 50 mm, the boundary succeeds; areas and errors are taken per joint, then averaged over joints.

    Args:
        dataset: rhd or stb.
        scale: see above.
    """

    def __init__(self, dataset: Literal["rhd", "stb"], scale: Scale = "as predicted") -> None:
        super().__init__()
        check_choice("dataset", dataset, PALM_BETWEEN)
        check_choice("scale", scale, ("as predicted", "ground truth"))
        self.name, self.dataset, self.scale = f"{dataset}-eval-util", dataset, scale
        self.point_names = ("palm", *CANONICAL_JOINTS[1:])
        self.facts = {
            "root": f"palm centre, the middle of wrist and {CANONICAL_JOINTS[PALM_BETWEEN[dataset][1]]}; it counts",
            "scale": scale if scale == "as predicted" else "times the true length of middle MCP-PIP",
            "alignment": "root moved to the origin, nothing else",
            "visibility": "visible joints only",
            "thresholds": "20 from 0 to 50 mm; per joint, then averaged over joints",
        }
        self.add_rows("errors", len(self.point_names))
        self.add_rows("visible", len(self.point_names), dtype=torch.bool)

    def update(self, predicted: Tensor, target: Tensor, visible: Tensor | None = None) -> None:
        """Add canonical joints (B, 21, 3), metres (predicted: maybe normalised), and which are visible (B, 21)."""
        check_points(predicted, target, 21)
        visible = visible_or_all(visible, target)
        predicted, target = self._rooted(predicted.double()), self._rooted(target.double())
        if self.scale == "ground truth":
            bone = (target[:, _MIDDLE_PIP] - target[:, _MIDDLE_MCP]).norm(dim=-1)
            predicted = predicted * bone[:, None, None]
        self.errors.append((predicted - target).norm(dim=-1) * MM)
        self.visible.append(visible)

    def _rooted(self, joints: Tensor) -> Tensor:
        palm = joints[:, list(PALM_BETWEEN[self.dataset])].mean(1, keepdim=True)
        return torch.cat([palm, joints[:, 1:]], 1) - palm

    def figures(self) -> dict[str, Any]:
        """AUC over 0-50 mm, over what is called 20-50 mm, and over 20-50 mm; errors averaged over joints."""
        errors, visible = self.rows("errors"), self.rows("visible")
        per_joint = _seen(errors, visible)
        there = [own for own in per_joint if len(own)]
        check_some(self.name, len(there), "visible joints")
        curve = torch.stack([success(own, THRESHOLDS_MM) for own in there]).mean(0)
        true_curve = torch.stack([success(own, _TRUE_20_50) for own in there]).mean(0)
        return {
            "frames": len(errors),
            "mean_mm": round(float(torch.stack([own.mean() for own in there]).mean()), 4),
            "median_mm": round(sum(median(own) for own in there) / len(there), 4),
            "per_joint_mm": rounded([own.mean() for own in per_joint]),
            "auc_0_50_20pts": round(area(THRESHOLDS_MM, curve), 4),
            "auc_20_50_as_published": round(area(THRESHOLDS_MM[_NAMED_20_50], curve[_NAMED_20_50]), 4),
            "auc_20_50": round(area(_TRUE_20_50, true_curve), 4),
            "visible_pct": round(100 * float(visible.double().mean()), 3),
            "success_maxframe_pct": _max_frame(errors, visible),
            "curve_pck": curve_of(THRESHOLDS_MM, curve),
        }


class DexterTips(Protocol):
    """`dexter-tips`: the five fingertips of Dexter+Object.

    Root: none. Scale: as predicted. Alignment: none for `auc_0_100`; for `auc_0_100_centred` the centroids of the
    visible tips coincide, which is all that a root-relative method can be asked for. Visibility: visible tips only.
    Thresholds: 0 to 100 mm, every mm, over all visible tips; the boundary succeeds.
    """

    needs_place = ("mean_mm", "median_mm", "per_joint_mm", "auc_0_100", "success_maxframe_pct", "curve_pck")

    def __init__(self) -> None:
        super().__init__()
        self.name, self.point_names = "dexter-tips", tuple(f"{finger}_tip" for finger in FINGERS)
        self.facts = {
            "root": "none; centred: centroid of the visible tips",
            "scale": "as predicted",
            "alignment": "none, camera frame; centred: translation",
            "visibility": "visible tips only",
            "thresholds": "0 to 100 mm, every mm, over all visible tips",
        }
        self.add_rows("errors", len(FINGERS))
        self.add_rows("centred", len(FINGERS))
        self.add_rows("visible", len(FINGERS), dtype=torch.bool)

    def update(self, predicted: Tensor, target: Tensor, visible: Tensor | None = None) -> None:
        """Add tips (B, 5, 3), thumb to little, metres, and which are visible (B, 5)."""
        check_points(predicted, target, len(FINGERS))
        visible = visible_or_all(visible, target)
        difference = predicted.double() - target.double()
        weights = visible.double()[..., None]
        shift = (difference * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
        self.errors.append(difference.norm(dim=-1) * MM)
        self.centred.append((difference - shift).norm(dim=-1) * MM)
        self.visible.append(visible)

    def figures(self) -> dict[str, Any]:
        """Mean, median, area, as predicted and centred."""
        errors, centred, visible = (self.rows(state) for state in ("errors", "centred", "visible"))
        seen = errors[visible]
        check_some(self.name, len(seen), "visible tips")
        curve, centred_curve = success(seen, TIP_THRESHOLDS_MM), success(centred[visible], TIP_THRESHOLDS_MM)
        return {
            "frames": len(visible),
            "mean_mm": round(float(seen.mean()), 4),
            "median_mm": round(median(seen), 4),
            "per_joint_mm": rounded([own.mean() for own in _seen(errors, visible)]),
            "auc_0_100": round(area(TIP_THRESHOLDS_MM, curve), 4),
            "mean_centred_mm": round(float(centred[visible].mean()), 4),
            "auc_0_100_centred": round(area(TIP_THRESHOLDS_MM, centred_curve), 4),
            "visible_pct": round(100 * float(visible.double().mean()), 3),
            "success_maxframe_pct": _max_frame(errors, visible),
            "curve_pck": curve_of(TIP_THRESHOLDS_MM, curve),
        }


def _seen(errors: Tensor, visible: Tensor) -> list[Tensor]:
    """The errors of each point where it is visible; the mean of none is NaN."""
    return [own[seen] for own, seen in zip(errors.unbind(1), visible.unbind(1), strict=True)]


def _max_frame(errors: Tensor, visible: Tensor) -> dict[str, float]:
    """Per cent of hands whose largest visible error is at most 10, 20, ... 80 mm."""
    largest = errors.masked_fill(~visible, 0).amax(1)[visible.any(1)]
    limits = range(10, 81, 10)
    return percent(limits, success(largest, list(limits)))
