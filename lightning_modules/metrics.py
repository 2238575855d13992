"""Hand metrics in millimetres, as torchmetrics: logged as objects, so that ranks reduce them.

Alignments: "absolute" compares in the camera frame, "root" after both wrists are moved to the origin, "procrustes"
after the best similarity (rotation, translation, scale) of the prediction. Letters: B batch, N points, T thresholds.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ops.checks import check_choice, check_shape
from ops.rotation import rigid_alignment

Alignment = Literal["absolute", "root", "procrustes"]
ALIGNMENTS: tuple[Alignment, ...] = ("absolute", "root", "procrustes")
MM = 1000.0
_POINTS_FOR_PROCRUSTES = 3
Roots = tuple[Tensor, Tensor, Tensor]  # predicted and true wrists (B, 3), metres; (B,) bool, is the true one valid


def point_errors(
    predicted: Tensor, target: Tensor, valid: Tensor, alignment: Alignment, roots: Roots | None = None
) -> tuple[Tensor, Tensor]:
    """Distances of points after alignment, and which of them count.

    Args:
        predicted: (B, N, 3) metres.
        target: (B, N, 3) metres.
        valid: (B, N) bool.
        alignment: see the module.
        roots: the wrists; None: the points are joints, the wrist is point 0.

    Returns:
        (B, N) millimetres and (B, N) bool: without a valid wrist, or three points for Procrustes, hands do not count.
    """
    check_choice("alignment", alignment, ALIGNMENTS)
    check_shape("predicted", predicted, ("B", "N", 3))
    check_shape("target", target, tuple(predicted.shape))
    check_shape("valid", valid, tuple(predicted.shape[:2]))
    if alignment == "root":
        predicted_root, target_root, root_valid = roots or (predicted[:, 0], target[:, 0], valid[:, 0])
        check_shape("roots' validity", root_valid, (len(predicted),))
        valid = valid & root_valid[:, None]
        predicted, target = predicted - predicted_root[:, None], target - target_root[:, None]
    elif alignment == "procrustes":
        valid = valid & (valid.sum(1, keepdim=True) >= _POINTS_FOR_PROCRUSTES)
        with torch.autocast(predicted.device.type, enabled=False):  # half precision has no svd
            predicted = rigid_alignment(predicted, target, valid.to(predicted.dtype), scale=True)
    return (predicted - target).norm(dim=-1) * MM, valid


class PointError(Metric):
    """Mean error of points (joints or vertices), mm, over all valid points seen."""

    higher_is_better = False

    def __init__(self, alignment: Alignment = "absolute") -> None:
        super().__init__()
        check_choice("alignment", alignment, ALIGNMENTS)
        self.alignment: Alignment = alignment
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor, valid: Tensor, roots: Roots | None = None) -> None:
        """Add a batch, maybe of no hands; arguments as in `point_errors`."""
        errors, valid = point_errors(predicted.detach(), target, valid, self.alignment, roots)
        self.total += errors[valid].sum()
        self.count += valid.sum()

    def compute(self) -> Tensor:
        """() mm; NaN where nothing valid was seen."""
        return (self.total / self.count).float()


class SuccessRate(Metric):
    """Share of hands whose largest joint error, or of joints whose error, stays below each threshold (absolute).

    Args:
        thresholds: T of them, mm.
        per: "hand" counts hands by their largest joint error, "joint" counts joints.
    """

    higher_is_better = True

    def __init__(self, thresholds: Sequence[float], per: Literal["hand", "joint"] = "hand") -> None:
        super().__init__()
        check_choice("per", per, ("hand", "joint"))
        self.per = per
        self.thresholds = tuple(thresholds)
        self.add_state("below", torch.zeros(len(self.thresholds), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add a batch of joints (B, N, 3), metres; hands without a valid joint do not count."""
        errors, valid = point_errors(predicted.detach(), target, valid, "absolute")
        if self.per == "hand":
            errors = torch.where(valid, errors, torch.zeros_like(errors)).amax(1)[valid.any(1)]
        else:
            errors = errors[valid]
        thresholds = errors.new_tensor(self.thresholds)
        self.below += (errors[:, None] < thresholds).sum(0)
        self.count += errors.numel()

    def compute(self) -> Tensor:
        """(T,) shares in [0, 1]; NaN where nothing valid was seen."""
        return self.below / self.count


class MeanPoseError(Metric):
    """Error, mm, of the constant pose that suits the labels seen here best: what a method must beat.

    The constant is the mean of the labels, each aligned first: about the crop's centre (absolute), about the wrist
    (root), or by rotation onto the others (procrustes: generalised Procrustes analysis, Gower 1975). It is taken from
    the very labels it is measured on, which makes it stronger than a mean of the training set.
    """

    higher_is_better = False

    def __init__(self, alignment: Alignment = "absolute") -> None:
        super().__init__()
        check_choice("alignment", alignment, ALIGNMENTS)
        self.alignment: Alignment = alignment
        self.add_state("joints", [], dist_reduce_fx="cat")
        self.add_state("valid", [], dist_reduce_fx="cat")

    def update(self, target: Tensor, valid: Tensor, centre: Tensor) -> None:
        """Add labels (B, 21, 3), valid (B, 21) and crop centres (B, 3), which every method is told; metres."""
        check_shape("centre", centre, (len(target), 3))
        self.joints.append(target - centre[:, None])
        self.valid.append(valid)

    def compute(self) -> Tensor:
        """() mm; NaN where nothing valid was seen."""
        if len(self.joints) == 0:
            return torch.tensor(torch.nan, device=self.device)
        joints, valid = dim_zero_cat(self.joints), dim_zero_cat(self.valid)  # one tensor each where ranks were reduced
        if not valid.any():
            return joints.new_tensor(torch.nan)
        if self.alignment == "root":
            valid = valid & valid[:, :1]
            joints = joints - joints[:, :1]
        constant = _masked_mean(joints, valid)
        if self.alignment == "procrustes":
            constant = _procrustes_mean(joints, valid)
        errors, valid = point_errors(constant.expand_as(joints), joints, valid, self.alignment)
        return errors[valid].mean()


def _procrustes_mean(joints: Tensor, valid: Tensor, rounds: int = 5) -> Tensor:
    """Mean hand (21, 3) after turning all hands (B, 21, 3) onto it, again and again."""
    weights = valid.to(joints.dtype)
    mean = joints[valid.sum(1).argmax()]  # a whole hand to start from
    for _ in range(rounds):
        mean = _masked_mean(rigid_alignment(joints, mean.expand_as(joints), weights), valid)
    return mean


def _masked_mean(points: Tensor, valid: Tensor) -> Tensor:
    weights = valid.to(points.dtype)[..., None]
    return (points * weights).sum(0) / weights.sum(0).clamp_min(1)
