"""What all protocols are: a torchmetrics.Metric that says how it measures, and gives its figures by name."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ops.checks import check_finite, check_shape

MM = 1000.0


class Protocol(Metric):
    """A named way to measure. States are rows that ranks concatenate, so that medians and curves are exact."""

    higher_is_better = None
    full_state_update = False
    name: str
    point_names: tuple[str, ...]
    # figures that mean nothing where predictions are root-relative
    needs_place: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        # root, scale, alignment, visibility, thresholds: what must be known to compare with another figure
        self.facts: dict[str, str] = {}
        self._no_rows: dict[str, Tensor] = {}

    def add_rows(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        """A state of rows (N, *shape), one a hand."""
        self.add_state(name, [], dist_reduce_fx="cat")
        self._no_rows[name] = torch.empty(0, *shape, dtype=dtype)

    def rows(self, name: str) -> Tensor:
        """All rows of a state."""
        state = getattr(self, name)
        return dim_zero_cat(state) if len(state) else self._no_rows[name]

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As torchmetrics does; a rank that saw no hand takes part with no rows of the right shape.

        Without them the ranks' collectives differ in size: gloo ends the process, NCCL waits for ever.
        """
        for name, no_rows in self._no_rows.items():
            state = getattr(self, name)
            if isinstance(state, list) and not state:
                state.append(no_rows.to(self.device))
        super().sync(*args, **kwargs)

    def forget_place(self) -> None:
        """Say that predictions are root-relative: figures of `needs_place` are left out."""
        self.facts["place"] = "predictions are root-relative: figures that compare places are left out"

    def compute(self) -> dict[str, Any]:
        """The figures by name; millimetres and per cent unless the name says otherwise; None: cannot be said."""
        figures = self.figures()
        if "place" in self.facts:
            figures |= dict.fromkeys(self.needs_place)
        return figures

    def figures(self) -> dict[str, Any]:
        """The figures by name, as if all of them could be said."""
        raise NotImplementedError


def check_points(predicted: Tensor, target: Tensor, points: int, dimensions: int = 3) -> None:
    """Raise unless both are (B, points, dimensions) and finite."""
    check_shape("predicted", predicted, ("B", points, dimensions))
    check_shape("target", target, (len(predicted), points, dimensions))
    check_finite("predicted", predicted)
    check_finite("target", target)


def visible_or_all(visible: Tensor | None, target: Tensor) -> Tensor:
    """Which points (B, P) of `target` (B, P, 3) count: as told, else all."""
    if visible is None:
        return torch.ones_like(target[..., 0], dtype=torch.bool)
    check_shape("visible", visible, tuple(target.shape[:2]))
    if visible.dtype != torch.bool:
        raise TypeError(f"visible: expected bool, got {visible.dtype}; convert with .bool()")
    return visible


def check_some(name: str, count: int, what: str = "hands") -> None:
    """Raise if a protocol has nothing to measure."""
    if count == 0:
        raise ValueError(f"{name}: no {what} to measure; expected at least one; give it predictions and their labels")
