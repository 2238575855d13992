"""The solver of `ops.hand_model.joint_problem` in tensor operations: what its kernels must equal, to be read.

Letters: B batch, P points, S shape components, N parameters: rotation 3, translation 3, angles 45, shape S, scale.
"""

import torch
from torch import Tensor

from ops.hand_model.joint_problem import FitLabels, FitState, JointProblem
from ops.hand_model.joint_skeleton import ANGLES, FINGERS, LEVELS, PosedSkeleton, SkeletonPoints
from ops.hand_model.numba_fitting import (
    CONVERGED,
    DAMPING_FACTOR,
    FIRST_DAMPING,
    GIVEN_UP,
    LARGEST_TURN,
    LEAST_CURVATURE,
    LEAST_DAMPING,
    MAX_SHAPE,
    NEAREST,
)
from ops.rotation import axis_angle_to_matrix

_ROTATION, _TRANSLATION = slice(0, 3), slice(3, 6)
_ANGLES = slice(6, 6 + ANGLES)


def minimise(problem: JointProblem, state: FitState, labels: FitLabels, steps: int) -> tuple[FitState, Tensor]:
    """The best states after at most `steps` steps, and what they cost (B,)."""
    state = FitState(*(tensor.clone() for tensor in state))
    cost = problem.cost(state, labels)
    damping = torch.full_like(cost, FIRST_DAMPING)
    active = torch.arange(len(cost))
    for _ in range(steps):
        now, seen = state.of(active), labels.of(active)
        proposal = _moved(problem, now, _step(problem, now, seen, damping[active]))
        new = problem.cost(proposal, seen)
        better = new < cost[active]
        gained = active[better]
        for tensor, value in zip(state, proposal, strict=True):
            tensor[gained] = value[better]
        settled = better & (cost[active] - new < CONVERGED * cost[active])
        cost[gained] = new[better]
        factor = torch.where(better, 1 / DAMPING_FACTOR, DAMPING_FACTOR)
        damping[active] = (damping[active] * factor).clamp_min(LEAST_DAMPING)
        active = active[~(settled | (damping[active] > GIVEN_UP))]
        if not len(active):
            break
    return state, cost


def point_slopes(points: SkeletonPoints, posed: PosedSkeleton, positions: Tensor) -> Tensor:
    """(B, P, 3, 3 + 45 + S) of positions (B, P, 3) to rotation, angles and shape."""
    batch, size = len(positions), len(points.finger)
    around = positions - posed.joints[:, :1]
    whole = torch.linalg.cross(torch.eye(3, dtype=around.dtype)[None, None], around[:, :, None]).transpose(-1, -2)
    # joint m of a finger is moved by the finger's joints l < m, each about its own place
    joints = posed.joints[:, 1:].unflatten(1, (FINGERS, LEVELS + 1))
    lever = (joints[:, :, :, None] - joints[:, :, None, :LEVELS])[..., None, :]  # (B, 5, 4, 3, 1, xyz)
    turned = torch.linalg.cross(posed.axes[:, :, None], lever)  # (B, 5, 4, 3, 3, xyz)
    turned = turned * torch.ones(LEVELS + 1, LEVELS, dtype=lever.dtype).tril(-1)[..., None, None]
    angles = positions.new_zeros(batch, 21, 3, FINGERS, 3 * LEVELS)
    for finger in range(FINGERS):
        rows = slice(1 + 4 * finger, 5 + 4 * finger)
        angles[:, rows, :, finger] = turned[:, finger].flatten(2, 3).transpose(-1, -2)
    angles = (points.weights @ angles.flatten(2)).unflatten(2, (3, FINGERS, 3 * LEVELS))
    reach = (torch.arange(LEVELS) < points.depth[:, None]).to(lever.dtype)[..., None, None]  # (P, 3, 1, 1)
    offsets = torch.linalg.cross(posed.axes[:, points.finger], points.levers(posed)[:, :, None, None]) * reach
    angles[:, torch.arange(size), :, points.finger] += offsets.flatten(2, 3).transpose(-1, -2).transpose(0, 1)
    shape = (points.weights @ posed.shape_slopes.flatten(2)).unflatten(2, posed.shape_slopes.shape[2:])
    return torch.cat([whole, angles.flatten(3), shape], -1)


def _step(problem: JointProblem, state: FitState, labels: FitLabels, damping: Tensor) -> Tensor:
    """(B, N) damped Gauss-Newton step."""
    posed = problem.skeleton.pose(state.rotation, state.angles, state.shape)
    unplaced = problem.points.positions(posed)
    slopes = placed_slopes(problem, state, posed, unplaced)
    placed = problem.placed(state, unplaced)
    if labels.K is not None:
        slopes = _projection_slopes(placed, labels.K) @ slopes
    jacobian = (labels.weight[..., None, None] * slopes).flatten(1, 2)  # (B, 3 P, N)
    residual = problem.residual(placed, labels).flatten(1)
    normal = jacobian.transpose(1, 2) @ jacobian
    slope = (jacobian.transpose(1, 2) @ residual[..., None]).squeeze(-1)
    diagonal = torch.diagonal(normal, dim1=1, dim2=2)  # a view
    curvature, pull = _prior_terms(problem, state)
    diagonal += curvature
    slope += pull
    diagonal += damping[:, None] * diagonal.clamp_min(LEAST_CURVATURE)
    factor = torch.linalg.cholesky(normal)
    return -torch.cholesky_solve(slope[..., None], factor).squeeze(-1)


def placed_slopes(problem: JointProblem, state: FitState, posed: PosedSkeleton, unplaced: Tensor) -> Tensor:
    """(B, P, 3, N) of points (B, P, 3): `point_slopes` of scaled hands, with those of translation and scale put in."""
    slopes = point_slopes(problem.points, posed, unplaced)
    scale = state.log_scale.exp()[:, None, None, None]
    move = torch.eye(3, dtype=slopes.dtype).expand(*unplaced.shape, 3)
    columns = [scale * slopes[..., :3], move, scale * slopes[..., 3:]]
    if problem.fit_scale:
        columns.append(scale * unplaced[..., None])
    return torch.cat(columns, -1)


def _projection_slopes(points: Tensor, K: Tensor) -> Tensor:
    """(B, P, 2, 3) of pixels to camera coordinates."""
    focal = K[:, None, (0, 1), (0, 1)]
    over_depth = focal / points[..., 2:].clamp_min(NEAREST)  # (B, P, 2)
    along = -over_depth * points[..., :2] / points[..., 2:].clamp_min(NEAREST)
    return torch.cat([torch.diag_embed(over_depth), along[..., None]], -1)


def _prior_terms(problem: JointProblem, state: FitState) -> tuple[Tensor, Tensor]:
    """(B, N) half second and half first derivative of the priors."""
    priors, size = problem.priors, state.shape.shape[1]
    curvature = state.angles.new_zeros(len(state.angles), 6 + ANGLES + size + problem.fit_scale)
    pull = torch.zeros_like(curvature)
    excess = problem.excess(state.angles)
    curvature[:, _ANGLES] = problem.spread**-2 + (excess != 0) * priors.limit**-2
    pull[:, _ANGLES] = (state.angles - problem.middle) / problem.spread**2 + excess / priors.limit**2
    shape = slice(_ANGLES.stop, _ANGLES.stop + size)
    curvature[:, shape] = 1
    pull[:, shape] = state.shape
    if problem.fit_scale:
        curvature[:, -1] = priors.scale**-2
        pull[:, -1] = state.log_scale / priors.scale**2
    return curvature, pull


def _moved(problem: JointProblem, state: FitState, step: Tensor) -> FitState:
    """States after a step (B, N), turns cut to a sensible length, shapes kept in their range."""
    turns = torch.cat([step[:, _ROTATION], step[:, _ANGLES]], 1).abs().amax(1, keepdim=True)
    step = step * (LARGEST_TURN / turns.clamp_min(1e-12)).clamp(max=1)
    shape = step[:, _ANGLES.stop : _ANGLES.stop + state.shape.shape[1]]
    return FitState(
        axis_angle_to_matrix(step[:, _ROTATION]) @ state.rotation,
        state.translation + step[:, _TRANSLATION],
        state.angles + step[:, _ANGLES],
        (state.shape + shape).clamp(-MAX_SHAPE, MAX_SHAPE),
        state.log_scale + step[:, -1] if problem.fit_scale else state.log_scale,
    )
