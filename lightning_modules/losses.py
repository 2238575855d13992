"""Losses that methods share, as pure functions. Each is a mean over valid elements: its value does not depend on how
many there are, and is 0 (with zero gradients) where there are none.

Letters: B batch, N points, P parameters.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ops.checks import check_choice, check_shape

PointLoss = Literal["squared", "distance"]


def point_loss(
    predicted: Tensor, target: Tensor, valid: Tensor, kind: PointLoss = "squared", unit: float = 1.0
) -> Tensor:
    """How far points lie from where they should.

    Args:
        predicted: (B, N, 3) metres; gets gradients.
        target: (B, N, 3) metres.
        valid: (B, N) bool, which points count.
        kind: "squared": 1/2 ||p - t||^2; "distance": ||p - t||, which large errors dominate less.
        unit: metres that count as 1.

    Returns:
        () mean over the valid points.
    """
    check_choice("kind", kind, ("squared", "distance"))
    check_shape("predicted", predicted, ("B", "N", 3))
    check_shape("target", target, tuple(predicted.shape))
    check_shape("valid", valid, tuple(predicted.shape[:2]))
    squared = ((predicted - target) / unit).square().sum(-1)
    # sqrt has no gradient at 0: a point within a 1e-6th of the unit counts as met
    error = 0.5 * squared if kind == "squared" else (squared + 1e-12).sqrt()
    return mean_of_valid(error, valid)


def joint_limit_loss(angles: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Soft joint limits: sum over angles of max(0, a - high)^2 + max(0, low - a)^2, mean over samples.

    Zhou et al.: Model-based Deep Hand Pose Estimation, IJCAI 2016, eq. 4.

    Args:
        angles: (B, P) radians; gets gradients.
        low: (P,) lowest angles.
        high: (P,) highest angles.
    """
    check_shape("angles", angles, ("B", "P"))
    check_shape("low", low, tuple(angles.shape[1:]))
    check_shape("high", high, tuple(angles.shape[1:]))
    excess = (angles - high).relu() + (low - angles).relu()
    return excess.square().sum(1).mean()


class NotFinite(ValueError):
    """A loss or a gradient is no number; the step is not to be taken."""


def check_loss(total: Tensor, step: int, keys: Sequence[str]) -> None:
    """Raise unless the total loss () of a step is a number: the step after it would spoil every weight.

    Args:
        total: () the loss.
        step: global step, for the message.
        keys: names of the batch's samples, for the message.
    """
    if not bool(total.isfinite()):
        raise NotFinite(
            f"training loss: expected a finite number, got {total.item()} at step {step}, on {len(keys)} samples from "
            f"{keys[0]} on; look for NaN in their labels, lower model.lr, or use trainer.precision=32-true"
        )


def mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Mean () of `values` where `valid`, two tensors of one shape; 0 where nothing is valid."""
    check_shape("valid", valid, tuple(values.shape))
    kept = torch.where(valid, values, torch.zeros_like(values))  # an invalid NaN must not reach the sum
    return kept.sum() / valid.sum().clamp_min(1)
