"""The one prediction that every method returns; predict, evaluate and export know only this."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

import torch
from torch import Tensor

from ops.checks import check_shape


class Frame(StrEnum):
    """In which frame a prediction's points stand."""

    ABSOLUTE = "absolute"  # metres, camera frame
    ROOT_RELATIVE = "root-relative"  # metres, camera axes, the wrist at the origin
    NORMALISED = "normalised"  # unit and origin of the method's own


@dataclass
class HandPrediction:
    """Predicted hands, B of them, as the picture shows them (already un-mirrored)."""

    joints_3d: Tensor  # (B, 21, 3) in `frame`, canonical order
    joints_2d: Tensor | None  # (B, 21, 2) pixels of the picture in the batch
    vertices: Tensor | None  # (B, V, 3) in `frame`
    parts: Tensor | None  # (B, H, W) uint8 part labels
    side: Tensor  # (B,) int64: 0 left, 1 right
    confidence: Tensor | None  # (B,) in [0, 1]; None: the method gives none
    frame: Frame
    hand_model: str  # id of the hand model of `vertices`
    convention: str  # joint convention of `joints_3d`
    points: Tensor | None = None  # (B, P, 3) in `frame`: a dataset's own points, for its protocol
    point_set: str = ""  # name of `points` (ops.hand_model.conventions.point_set)
    rotations: Tensor | None = None  # (B, 16, 3, 3) of the bones, hand -> camera; of a left hand where it is one
    shape: Tensor | None = None  # (B, S) numbers of the method's hand shape

    def __post_init__(self) -> None:
        check_shape("joints_3d", self.joints_3d, ("B", 21, 3))
        size = len(self.joints_3d)
        check_shape("side", self.side, (size,))
        shapes = {"joints_2d": (size, 21, 2), "vertices": (size, "V", 3), "parts": (size, "H", "W")}
        shapes |= {"confidence": (size,), "points": (size, "P", 3), "rotations": (size, 16, 3, 3), "shape": (size, "S")}
        for name, shape in shapes.items():
            if getattr(self, name) is not None:
                check_shape(name, getattr(self, name), shape)
        self.frame = Frame(self.frame)


def hand_of(prediction: HandPrediction, row: int) -> HandPrediction:
    """One hand of a prediction, as a prediction of one."""
    values = {field.name: getattr(prediction, field.name) for field in fields(HandPrediction)}
    return replace(prediction, **{k: v[row : row + 1] for k, v in values.items() if isinstance(v, Tensor)})


def join_predictions(parts: Sequence[HandPrediction]) -> HandPrediction:
    """Predictions of several batches as one; all must be in one frame, convention and hand model."""
    first = parts[0]
    joined = {}
    for field in fields(HandPrediction):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], Tensor):
            joined[field.name] = torch.cat(values)
        elif any(value != values[0] for value in values):
            raise ValueError(f"predictions: expected one {field.name} throughout, got {sorted(set(map(str, values)))}")
    return replace(first, **joined)
