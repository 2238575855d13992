"""The offsets of a joint convention from labels alone: fit hands, move the offsets by what is left, fit again.

What a fit leaves over, turned into the frame of the bone that carries the point and averaged over hands, is how far the
labels' point lies from the model's. Fits start where the last ones ended, so a round costs a few steps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ops.hand_model.conventions import PointSet
from ops.hand_model.fitting_start import start_3d
from ops.hand_model.joint_problem import FitLabels, FitPriors, JointProblem

_CHUNK = 500  # hands solved together
_FIRST_STEPS, _STEPS = 30, 4


def calibrate_points(
    labels: Tensor,
    valid: Tensor,
    points: PointSet,
    rounds: int = 30,
    priors: FitPriors | None = None,
    shrinkage: float = 0.02,
    progress: Callable[[Iterator[int]], Iterator[int]] = lambda rounds: rounds,
) -> PointSet:
    """Offsets of labelled points.

    Args:
        labels: (B, P, 3) metres, right hands (left ones mirrored).
        valid: (B, P) bool; a point that is never labelled keeps its offset.
        points: what the points are; their offsets are where the search begins.
        rounds: of fitting and moving.
        priors: of the fits.
        shrinkage: weight of an offset of zero beside one of a hand per labelled point: it holds still what labels
            cannot tell from a change of shape.
        progress: wraps the rounds, for a progress bar.

    Returns:
        The same points with other offsets.
    """
    problem = JointProblem(points, None, priors, fit_scale=False)
    weight = valid / problem.priors.label_noise
    target = torch.where(valid[..., None], labels, torch.zeros_like(labels)).double()
    everything = FitLabels(target, weight, None)
    chunks = torch.arange(len(target)).split(_CHUNK)
    states = []
    for rows in chunks:
        hands = everything.of(rows)
        states.append(problem.minimise(start_3d(problem, hands), hands, _FIRST_STEPS)[0])
    count = valid.sum(0).double()[:, None]  # (P, 1)
    for _ in progress(iter(range(rounds))):
        total = torch.zeros_like(problem.points.offsets)
        for number, rows in enumerate(chunks):
            labels_here = everything.of(rows)
            states[number], _ = problem.minimise(states[number], labels_here, _STEPS)
            posed = problem.skeleton.pose(*(states[number][i] for i in (0, 2, 3)))
            left = labels_here.target - problem.placed(states[number], problem.points.positions(posed))
            local = (problem.points.carriers(posed).transpose(-1, -2) @ left[..., None]).squeeze(-1)
            total += (local * valid[rows][..., None]).sum(0)
        moved = problem.points.offsets + total / count.clamp_min(1)
        problem.points.offsets = torch.where(count > 0, moved * (1 - shrinkage), problem.points.offsets)
    return replace(points, offsets=problem.points.offsets.numpy().copy())


def residual_offsets(joints: Tensor, valid: Tensor, fitted: Tensor, rotations: Tensor, bones: Sequence[int]) -> Tensor:
    """Mean place of labelled joints in the frames of bones, seen from fitted ones.

    Args:
        joints: (B, J, 3) labels, metres.
        valid: (B, J) bool.
        fitted: (B, J, 3) the fitted hands' own joints.
        rotations: (B, 16, 3, 3) world rotations of the bones.
        bones: J model bones.

    Returns:
        (J, 3) metres, 0 where nothing is labelled.
    """
    local = (rotations[:, list(bones)].transpose(-1, -2) @ (joints - fitted)[..., None]).squeeze(-1)
    weight = valid.to(local.dtype)[..., None]
    return (local * weight).sum(0) / weight.sum(0).clamp_min(1)
