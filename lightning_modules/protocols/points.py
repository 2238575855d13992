"""Depth protocols: NYU's 14, ICVL's 16 and MSRA's 21 points, as papers since 2015 report them."""

from typing import Any

import torch
from torch import Tensor

from lightning_modules.protocols.base import MM, Protocol, check_points, check_some
from lightning_modules.protocols.curves import area, curve_of, median, percent, rounded, success
from ops.camera import intrinsics, project

THRESHOLDS_MM = tuple(range(0, 81))
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
    """`nyu-14`, `icvl-16`, `msra-21`: errors of a dataset's own points in space.

    Root: none. Scale: as predicted. Alignment: none, points are compared in the camera's frame. Visibility: all points
    count. Thresholds: 0 to 80 mm, every mm, the boundary succeeds; the curve counts frames whose largest error
    (max-frame) or mean error (mean-frame) is at most the threshold.

    Prediction and truth go from pixels and depth to space with the same intrinsics, which are the protocol's (others
    move the third digit). The mean error is the mean over all frames and points.

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
            "thresholds": "success: largest (maxframe) or mean (meanframe) error of a frame at most t, t = 0..80 mm",
            "intrinsics": "fx {:g} fy {:g} cx {:g} cy {:g} for both".format(*CAMERAS[name]),
        }
        for state in ("errors", "errors_xy", "errors_px"):
            self.add_rows(state, len(point_names))

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add points (B, P, 3), metres, camera frame, z > 0."""
        check_points(predicted, target, len(self.point_names))
        predicted, target, K = predicted.double(), target.double(), self.K.to(predicted.device)
        difference = predicted - target
        self.errors.append(difference.norm(dim=-1) * MM)
        self.errors_xy.append(difference[..., :2].norm(dim=-1) * MM)
        self.errors_px.append((project(predicted, K) - project(target, K)).norm(dim=-1))

    def figures(self) -> dict[str, Any]:
        """Mean, median, per point, success; `_xy_mm`: in the plane of the picture, `_px`: in pixels."""
        errors, xy, px = (self.rows(state) for state in ("errors", "errors_xy", "errors_px"))
        check_some(self.name, len(errors))
        largest, mean = errors.amax(1), errors.mean(1)
        return {
            "frames": len(errors),
            "mean_mm": round(float(errors.mean()), 4),
            "median_mm": round(median(errors), 4),
            "per_joint_mm": rounded(errors.mean(0)),
            "success_maxframe_pct": percent(_SHOWN_MAX, success(largest, _SHOWN_MAX)),
            "success_meanframe_pct": percent(_SHOWN_MEAN, success(mean, _SHOWN_MEAN)),
            "joint_pck_pct": percent(_SHOWN_JOINT, success(errors, _SHOWN_JOINT)),
            "auc_joint_0_50_100pts": round(area(_AUC_MM, success(errors, _AUC_MM)), 5),
            "mean_xy_mm": round(float(xy.mean()), 4),
            "per_joint_xy_mm": rounded(xy.mean(0)),
            **_pixel_figures(px),
            "curve_maxframe": curve_of(THRESHOLDS_MM, success(largest, THRESHOLDS_MM)),
            "curve_meanframe": curve_of(THRESHOLDS_MM, success(mean, THRESHOLDS_MM)),
        }


class PixelsProtocol(Protocol):
    """`nyu-14-px`: errors of NYU's 14 points in the picture.

    Root: none. Scale: pixels of the whole picture, 640 x 480. Alignment: none. Visibility: all points count.
    Thresholds: none.
    """

    def __init__(self, name: str, point_names: tuple[str, ...]) -> None:
        super().__init__()
        self.name, self.point_names = name, point_names
        self.K = intrinsics(*CAMERAS["nyu-14"]).double()  # for predictions in space
        self.facts = {
            "root": "none",
            "scale": "pixels of the whole picture, 640 x 480",
            "alignment": "none",
            "visibility": "all points count",
            "thresholds": "none",
        }
        self.add_rows("errors_px", len(point_names))

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add points (B, P, 2), pixels."""
        check_points(predicted, target, len(self.point_names), 2)
        self.errors_px.append((predicted.double() - target.double()).norm(dim=-1))

    def figures(self) -> dict[str, Any]:
        """Mean, median, per point."""
        errors = self.rows("errors_px")
        check_some(self.name, len(errors))
        return {"frames": len(errors), **_pixel_figures(errors)}


def _pixel_figures(errors: Tensor) -> dict[str, Any]:
    return {
        "mean_px": round(float(errors.mean()), 4),
        "median_px": round(median(errors), 4),
        "per_joint_px": rounded(errors.mean(0)),
    }
