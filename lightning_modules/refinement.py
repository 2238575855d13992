"""Descent on the parameters of single hands at test time: Adam, each sample of a batch on its own.

Letters: B batch, P parameters, J joints, T iterations.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ops.checks import check_not_negative, check_positive, check_shape

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Kingma and Ba, ICLR 2015

# parameters (B, P) and places (B, J, 2) -> what to lower (B,), differentiable, and the places of the next iteration
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Refined(NamedTuple):
    """What descent came to; without gradients."""

    parameters: Tensor  # (B, P)
    places: Tensor  # (B, J, 2) as the objective left them
    values: Tensor  # (T + 1, B) of the objective, at the start and after each iteration; NaN where it gave none
    path: Tensor | None  # (T + 1, B, P) parameters, where asked for


def refine(
    start: Tensor, places: Tensor, objective: Objective, steps: int, lr: float, keep_path: bool = False
) -> Refined:
    """Lower an objective from `start` on.

    A sample whose objective or gradient is no number stays where it last had one, and the others go on.

    Args:
        start: (B, P) finite.
        places: (B, J, 2) for the first iteration.
        objective: whose values belong to one sample each.
        steps: T, iterations.
        lr: Adam's step.
        keep_path: give all parameters on the way.
    """
    check_shape("start", start, ("B", "P"))
    check_not_negative(steps=steps)
    check_positive(lr=lr)
    # under Lightning's inference mode nothing could be differentiated, not even by a nested enable_grad
    with torch.inference_mode(False), torch.enable_grad():
        parameters = good = start.detach().clone()
        places = good_places = places.detach().clone()
        first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        alive = torch.ones(len(start), dtype=torch.bool, device=start.device)
        values, path = [], [parameters]
        for step in range(1, steps + 2):
            parameters = parameters.detach().requires_grad_()
            value, following = objective(parameters, places)
            (gradient,) = torch.autograd.grad(value.sum(), parameters)
            alive = alive & value.detach().isfinite() & gradient.isfinite().all(1)
            good = torch.where(alive[:, None], parameters.detach(), good)
            good_places = torch.where(alive[:, None, None], places, good_places)
            values.append(torch.where(alive, value.detach(), torch.nan))
            if step > steps:
                break
            gradient = torch.where(alive[:, None], gradient, 0)
            first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
            second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient.square()
            scale = (second / (1 - _BETAS[1] ** step)).sqrt() + _EPSILON
            moved = parameters.detach() - lr * first / (1 - _BETAS[0] ** step) / scale
            parameters = torch.where(alive[:, None], moved, good)
            places = torch.where(alive[:, None, None], following.detach(), good_places)
            path.append(parameters)
        return Refined(good, good_places, torch.stack(values), torch.stack(path) if keep_path else None)
