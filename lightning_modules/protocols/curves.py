"""Success curves and what is read off them; errors in millimetres, shares in [0, 1]."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def success(errors: Tensor, thresholds: Sequence[float] | Tensor) -> Tensor:
    """Share (T,) of errors (N,) at most each threshold (T,): the boundary counts as a success."""
    ordered = errors.flatten().sort().values
    limits = torch.as_tensor(thresholds, dtype=ordered.dtype, device=ordered.device)
    return torch.searchsorted(ordered, limits, right=True).double() / len(ordered)


def area(thresholds: Sequence[float] | Tensor, values: Tensor) -> float:
    """Area under a curve by trapezoids, over its range of thresholds: 1 where all succeed from the first on."""
    limits = torch.as_tensor(thresholds, dtype=torch.float64)
    return float(torch.trapezoid(values.double().cpu(), limits) / (limits[-1] - limits[0]))


def median(errors: Tensor) -> float:
    """The median; of an even number the mean of the middle two (torch.median takes the lower)."""
    ordered = errors.flatten().sort().values  # torch.quantile takes 2^24 numbers at most
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def percent(thresholds: Sequence[float], values: Tensor) -> dict[str, float]:
    """A curve as {threshold: per cent}."""
    return {f"{limit:g}": round(100 * float(value), 3) for limit, value in zip(thresholds, values, strict=True)}


def curve_of(thresholds: Sequence[float] | Tensor, values: Tensor) -> dict[str, list[float | None]]:
    """A curve as JSON holds it."""
    return {"thresholds_mm": rounded(thresholds), "share": rounded(values, 5)}


def rounded(values: Tensor | Sequence[float], digits: int = 4) -> list[float | None]:
    """Numbers for a table or JSON; None for NaN, which JSON does not have."""
    numbers = (float(value) for value in values)
    return [None if math.isnan(number) else round(number, digits) for number in numbers]
