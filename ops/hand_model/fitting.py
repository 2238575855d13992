"""Joints in, hand parameters out: many hands at once, to joints in 3D or to joints in a picture and its camera.

No surface is made: `ops.hand_model.joint_problem` moves the skeleton alone. A left hand is fitted as its mirror image.

Letters: B batch, P points, S shape components.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from ops.checks import check_finite, check_shape
from ops.hand_model.conventions import PointSet, convention_names, convention_points, joints_in_conventions
from ops.hand_model.fitting_start import start_3d, starts_2d
from ops.hand_model.joint_problem import FitLabels, FitPriors, FitState, JointProblem, projected
from ops.hand_model.model import HandModel
from ops.rotation import matrix_to_axis_angle

_FEWEST = 3  # labelled points of a hand: with fewer its rotation is anybody's guess
_CHUNK = 500  # hands at most that share a thread: the views they are compared with fill 25 MB
_FIRST_STEPS_2D = 12  # from each of several starts; the best one goes on
_MIRROR = (-1.0, 1.0, 1.0)


class JointFit(NamedTuple):
    """Fitted hands, each of its side; metres and radians, in the frame of the labels, dtype of the labels."""

    pose: Tensor  # (B, 45) axis-angle, the model's order
    shape: Tensor  # (B, S)
    global_rotation: Tensor  # (B, 3, 3)
    translation: Tensor  # (B, 3): the hand is scale * HandLayer(pose, shape, global_rotation) + translation
    scale: Tensor  # (B,) 1 unless it was fitted
    joints: Tensor  # (B, 21, 3) canonical, the model's own (convention `model`)
    rotations: Tensor  # (B, 16, 3, 3) world rotations of the bones
    points: Tensor  # (B, P, 3) the fitted points
    errors: Tensor  # (B, P) from the labels, metres, of 2D labels pixels; 0 where there is no label
    cost: Tensor  # (B,) the sum that was minimised


def fit_joints(
    joints: Tensor,
    valid: Tensor | None = None,
    points: str | PointSet = "open",
    side: Tensor | None = None,
    model: HandModel | None = None,
    priors: FitPriors | None = None,
    fit_scale: bool = False,
    steps: int = 40,
) -> JointFit:
    """Fit hands to labelled points in 3D. No gradients.

    Args:
        joints: (B, P, 3) metres; 21 canonical joints, or a dataset's own points.
        valid: (B, P) bool: which points are labelled; None: all.
        points: the convention of the joints, or the point set they are (`ops.hand_model.conventions`).
        side: (B,) int64, 0 left, 1 right; None: all right.
        model: the right hand to fit; None: the open hand.
        priors: None: the defaults.
        fit_scale: fit the overall size beside the shape.
        steps: at most so many.

    Raises:
        ValueError: shapes do not fit, labels are not finite, a hand has fewer than three labelled points.
    """
    problem = JointProblem(points, model, priors, fit_scale)
    valid = _checked(joints, valid, problem, 3)
    return _solve_all(problem, joints, valid, side, None, steps)


def fit_joints_2d(
    joints: Tensor,
    K: Tensor,
    valid: Tensor | None = None,
    points: str | PointSet = "open",
    side: Tensor | None = None,
    model: HandModel | None = None,
    priors: FitPriors | None = None,
    steps: int = 60,
) -> JointFit:
    """Fit hands to labelled points in a picture. No gradients.

    Depth comes from the size of the hand, which is drawn to that of a mean hand: a tenth of it may be wrong.

    Args:
        joints: (B, P, 2) pixels.
        K: (B, 3, 3) or (3, 3) camera of the picture, without skew.
        valid: as in `fit_joints`, like all others.
        points: the convention or the point set.
        side: (B,) 0 left, 1 right.
        model: the right hand to fit.
        priors: `label_noise` is taken at the depth of the hand.
        steps: at most so many.
    """
    problem = JointProblem(points, model, priors, fit_scale=False)
    valid = _checked(joints, valid, problem, 2)
    check_shape("K", K, (len(joints), 3, 3) if K.ndim == 3 else (3, 3))
    check_finite("K", K)
    return _solve_all(problem, joints, valid, side, K.double().expand(len(joints), 3, 3), steps)


def convert_joints(
    joints: Tensor, valid: Tensor | None, source: str, target: str, side: Tensor | None = None
) -> tuple[Tensor, JointFit]:
    """Joints without a hand model behind them, in another convention or as a dataset's points.

    The hand is fitted; between two conventions a labelled joint then keeps its place but for the difference of the
    offsets, everything else is read off the fitted hand.

    Args:
        joints: (B, P, 3) metres, in the convention or point set `source`.
        valid: (B, P) bool; None: all.
        source: name of a convention or point set.
        target: name of a convention or point set.
        side: (B,) 0 left, 1 right; None: all right.

    Returns:
        (B, Q, 3) metres, and the fit.
    """
    fit = fit_joints(joints, valid, source, side)
    left = torch.zeros(len(joints), dtype=torch.bool) if side is None else side == 0
    converted = None
    for rows, name in ((~left, "right"), (left, "left")):
        own, turns = fit.joints[rows], fit.rotations[rows]
        moved = convention_points(own, turns, target, side=name)
        if source in convention_names() and target in convention_names():
            kept = joints_in_conventions(joints[rows], turns, target, source, name)
            moved = kept if valid is None else torch.where(valid[rows][..., None], kept, moved)
        if converted is None:
            converted = joints.new_empty(len(joints), *moved.shape[1:])
        converted[rows] = moved
    return converted, fit


def _checked(joints: Tensor, valid: Tensor | None, problem: JointProblem, dimensions: int) -> Tensor:
    """The labels' validity (B, P), all of it in order."""
    check_shape("joints", joints, ("B", len(problem.points.set.points), dimensions))
    valid = torch.ones(joints.shape[:2], dtype=torch.bool) if valid is None else valid
    check_shape("valid", valid, tuple(joints.shape[:2]))
    check_finite("joints that are valid", joints[valid])
    few = (valid.sum(1) < _FEWEST).nonzero().flatten().tolist()
    if few:
        raise ValueError(
            f"valid: expected at least {_FEWEST} labelled points of each hand, hands {few[:8]} have fewer; "
            "leave them out"
        )
    return valid


@torch.no_grad()
def _solve_all(
    problem: JointProblem, joints: Tensor, valid: Tensor, side: Tensor | None, K: Tensor | None, steps: int
) -> JointFit:
    if side is not None:
        check_shape("side", side, (len(joints),))
    left = torch.zeros(len(joints), dtype=torch.bool) if side is None else side == 0
    labels = torch.where(valid[..., None], joints, torch.zeros_like(joints)).double()

    @torch.no_grad()  # does not reach into other threads by itself
    def solve(rows: slice) -> JointFit:
        camera = None if K is None else K[rows]
        target = _mirrored(labels[rows], left[rows], camera)
        state, cost = _solve(problem, target, valid[rows], camera, steps)
        return _result(problem, state, cost, labels[rows], valid[rows], left[rows], camera)

    size = max(1, min(_CHUNK, math.ceil(len(joints) / torch.get_num_threads())))
    chunks = [slice(start, start + size) for start in range(0, max(len(joints), 1), size)]
    fits = _in_threads(solve, chunks)
    return JointFit(*(torch.cat(parts).to(joints.dtype) for parts in zip(*fits, strict=True)))


def _in_threads(solve: Callable[[slice], JointFit], chunks: list[slice]) -> list[JointFit]:
    """Results of all chunks: each on one thread. Threads that share a chunk's small matrices wait more than work."""
    threads = torch.get_num_threads()
    if threads == 1 or len(chunks) == 1:
        return [solve(rows) for rows in chunks]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(solve, chunks))
    finally:
        torch.set_num_threads(threads)


def _solve(
    problem: JointProblem, target: Tensor, valid: Tensor, K: Tensor | None, steps: int
) -> tuple[FitState, Tensor]:
    weight = valid / problem.priors.label_noise
    if K is None:
        labels = FitLabels(target, weight, None)
        return problem.minimise(start_3d(problem, labels), labels, steps)
    starts = starts_2d(problem, FitLabels(target, weight, K))
    # a pixel is worth its size at the depth of the best start
    pixels = K[:, 0, 0] / problem.positions(starts[0])[..., 2].mean(1).clamp_min(1e-3)
    labels = FitLabels(target, weight / pixels[:, None], K)
    return problem.minimise(_best_start(problem, starts, labels), labels, steps)


def _best_start(problem: JointProblem, starts: list[FitState], labels: FitLabels) -> FitState:
    """What the best of several starts per hand has become after a few steps."""
    batch = len(labels.target)
    hands = torch.arange(batch)
    joined = FitState(*(torch.cat(column) for column in zip(*starts, strict=True)))
    states, cost = problem.minimise(joined, labels.of(hands.repeat(len(starts))), _FIRST_STEPS_2D)
    return states.of(cost.view(-1, batch).argmin(0) * batch + hands)


def _result(
    problem: JointProblem,
    state: FitState,
    cost: Tensor,
    labels: Tensor,
    valid: Tensor,
    left: Tensor,
    K: Tensor | None,
) -> JointFit:
    """What was found for right hands, with left ones turned back."""
    posed = problem.skeleton.pose(state.rotation, state.angles, state.shape)
    local, world = problem.skeleton.model_rotations(posed)
    points, joints = problem.placed(state, problem.points.positions(posed)), problem.placed(state, posed.joints)
    translation, world = state.translation.clone(), world.clone()
    pose = matrix_to_axis_angle(local)  # (B, 15, 3)
    flip = torch.tensor(_MIRROR, dtype=torch.float64)
    for tensor in (points, joints, translation):
        tensor[left] *= flip
    pose[left] *= -flip
    world[left] *= flip[:, None] * flip
    seen = points if K is None else projected(points, K)
    errors = (seen - labels).norm(dim=-1) * valid
    scale = state.log_scale.exp()
    return JointFit(pose.flatten(1), state.shape, world[:, 0], translation, scale, joints, world, points, errors, cost)


def _mirrored(labels: Tensor, left: Tensor, K: Tensor | None) -> Tensor:
    """Labels (B, P, 3 or 2), those of left hands mirrored: x, or pixels about the camera's axis."""
    axis = torch.zeros_like(left, dtype=labels.dtype) if K is None else K[:, 0, 2]
    mirrored = labels.clone()
    mirrored[..., 0] = torch.where(left[:, None], 2 * axis[:, None] - labels[..., 0], labels[..., 0])
    return mirrored
