"""What all protocols are: a torchmetrics.Metric that says how it measures, and gives its figures by name."""

from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric

from ops.checks import check_finite, check_shape

MM = 1000.0


class Protocol(Metric):
    """A named way to measure. States are lists that ranks concatenate, so that medians and curves are exact."""

    higher_is_better = None
    full_state_update = False
    name: str
    point_names: tuple[str, ...]
    # root, scale, alignment, visibility, thresholds: what must be known to compare with another figure
    facts: ClassVar[dict[str, str]] = {}

    def compute(self) -> dict[str, Any]:
        """The figures by name; millimetres and per cent unless the name says otherwise."""
        raise NotImplementedError


def check_points(predicted: Tensor, target: Tensor, points: int, dimensions: int = 3) -> None:
    """Raise unless both are (B, points, dimensions) and finite."""
    check_shape("predicted", predicted, ("B", points, dimensions))
    check_shape("target", target, (len(predicted), points, dimensions))
    check_finite("predicted", predicted)
    check_finite("target", target)
