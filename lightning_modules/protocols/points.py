"""Depth protocols: NYU's 14, ICVL's 16 and MSRA's 21 points, as papers since 2015 report them.

Root: none. Scale: as predicted. Alignment: none, points are compared in the camera's frame. Visibility: all points
count. Prediction and truth go from pixels and depth to space with the same intrinsics, which are the protocol's (with
others the third digit moves). "Mean error" is the mean over all frames and points. The success curve counts frames
whose largest error (max-frame) or mean error (mean-frame) is at most a threshold.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from lightning_modules.protocols.base import MM, Protocol, check_points
from lightning_modules.protocols.curves import area, percent, rounded, success
from ops.camera import intrinsics, project
from ops.checks import check_finite, check_shape

MAX_FRAME_MM = tuple(range(0, 81))
_SHOWN_MAX, _SHOWN_MEAN, _SHOWN_JOINT = (10, 20, 30, 40, 50, 60, 70, 80), (5, 10, 15, 20, 30), (5, 10, 20, 30, 50)
_AUC_MM = torch.linspace(0, 50, 100, dtype=torch.float64)
# of the published evaluation script (github.com/xinghaochen/awesome-hand-pose-estimation), whose fy of NYU is negative:
# the sign moves no figure
CAMERAS = {
    "nyu-14": (588.03, 587.07, 320.0, 240.0),
    "icvl-16": (240.99, 240.96, 160.0, 120.0),
    "msra-21": (241.42, 241.42, 160.0, 120.0),
}


class PointsProtocol(Protocol):
    """Errors of a dataset's own points in space.

    Args:
        name: of `CAMERAS`.
        point_names: of the points, in the published order.
    """

    def __init__(self, name: str, point_names: tuple[str, ...]) -> None:
        super().__init__()
        self.name, self.point_names = name, point_names
        self.K = intrinsics(*CAMERAS[name]).double()
        self.facts = {
            "root": "none",
            "scale": "as predicted",
            "alignment": "none, camera frame",
            "visibility": "all points count",
            "thresholds": "success: largest error of a frame at most t, t = 0..80 mm",
            "intrinsics": "fx {:g} fy {:g} cx {:g} cy {:g} for both".format(*CAMERAS[name]),
        }
        self.add_state("errors", [], dist_reduce_fx="cat")
        self.add_state("errors_xy", [], dist_reduce_fx="cat")
        self.add_state("errors_px", [], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add points (B, P, 3), metres, camera frame, z > 0."""
        check_points(predicted, target, len(self.point_names))
        predicted, target, K = predicted.double(), target.double(), self.K.to(predicted.device)
        difference = predicted - target
        self.errors.append(difference.norm(dim=-1) * MM)
        self.errors_xy.append(difference[..., :2].norm(dim=-1) * MM)
        self.errors_px.append((project(predicted, K) - project(target, K)).norm(dim=-1))

    def compute(self) -> dict[str, Any]:
        """Mean, median, per point, success; `_xy_mm`: in the plane of the picture, `_px`: in pixels."""
        errors, xy, px = (dim_zero_cat(state) for state in (self.errors, self.errors_xy, self.errors_px))
        largest, mean = errors.amax(1), errors.mean(1)
        return {
            "frames": len(errors),
            "mean_mm": round(float(errors.mean()), 4),
            "median_mm": round(float(_median(errors)), 4),
            "per_joint_mm": rounded(errors.mean(0)),
            "success_maxframe_pct": percent(_SHOWN_MAX, success(largest, _SHOWN_MAX)),
            "success_meanframe_pct": percent(_SHOWN_MEAN, success(mean, _SHOWN_MEAN)),
            "joint_pck_pct": percent(_SHOWN_JOINT, success(errors, _SHOWN_JOINT)),
            "auc_joint_0_50_100pts": round(area(_AUC_MM, success(errors, _AUC_MM)), 5),
            "mean_xy_mm": round(float(xy.mean()), 4),
            "per_joint_xy_mm": rounded(xy.mean(0)),
            "mean_px": round(float(px.mean()), 4),
            "curve_maxframe": {
                "thresholds_mm": list(MAX_FRAME_MM),
                "share": rounded(success(largest, MAX_FRAME_MM), 5),
            },
        }


class PixelsProtocol(Protocol):
    """Errors of 14 points of NYU in the picture, pixels; other rules as in the module's docstring."""

    def __init__(self, name: str, point_names: tuple[str, ...]) -> None:
        super().__init__()
        self.name, self.point_names = name, point_names
        self.facts = {
            "root": "none",
            "scale": "pixels of the whole picture",
            "alignment": "none",
            "visibility": "all points count",
            "thresholds": "none",
        }
        self.add_state("errors", [], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add points (B, P, 2), pixels."""
        check_shape("predicted", predicted, ("B", len(self.point_names), 2))
        check_shape("target", target, tuple(predicted.shape))
        check_finite("predicted", predicted)
        check_finite("target", target)
        self.errors.append((predicted.double() - target.double()).norm(dim=-1))

    def compute(self) -> dict[str, Any]:
        """Mean, median, per point."""
        errors = dim_zero_cat(self.errors)
        return {
            "frames": len(errors),
            "mean_px": round(float(errors.mean()), 4),
            "median_px": round(float(_median(errors)), 4),
            "per_joint_px": rounded(errors.mean(0)),
        }


def _median(errors: Tensor) -> Tensor:
    """The median, of an even number the mean of the middle two (torch.median takes the lower)."""
    return errors.flatten().quantile(0.5) if errors.numel() < 2**24 else _large_median(errors.flatten())


def _large_median(errors: Tensor) -> Tensor:
    """The same for more numbers than torch.quantile takes."""
    ordered = errors.sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
