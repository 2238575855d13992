"""Learning-rate schedules that methods share: factors by global step."""

import math
from collections.abc import Callable


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Learning-rate factor by global step: linear from 1 / warmup_steps to 1, then a half cosine to 0."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    return factor


def inverse_time(decay: float) -> Callable[[int], float]:
    """Learning-rate factor by global step: 1 / (1 + decay * step), Torch7's learning-rate decay."""

    def factor(step: int) -> float:
        return 1 / (1 + decay * step)

    return factor
