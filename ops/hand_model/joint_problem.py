"""The problem that a fit of joints solves, and its solver; `ops.hand_model.fitting` is the way in.

Levenberg-Marquardt (More: The Levenberg-Marquardt algorithm: implementation and theory, 1978) on pose, shape and place
of right hands. With labels y of noise sigma, points p, angles q, shape beta and priors, each hand minimises

    sum |p - y|^2 / sigma^2 + sum ((q - middle) / spread)^2 + sum (excess of q over its limits / limit)^2 + |beta|^2

A step is taken only where it lowers the sum: no hand ever gets worse. All float64.

Letters: B batch, P points, S shape components, N parameters: rotation 3, translation 3, angles 45, shape S, scale.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.checks import check_positive
from ops.hand_model.conventions import PointSet, point_set
from ops.hand_model.joint_skeleton import ANGLES, FINGERS, LEVELS, JointSkeleton, SkeletonPoints, finger_joints
from ops.hand_model.model import HandModel, open_hand
from ops.rotation import axis_angle_to_matrix

MAX_SHAPE = 3.0  # the open hand's shape space is made for |beta| <= 3
_LARGEST_TURN = 0.5  # radians in one step: beyond it the linear model means nothing
_CONVERGED = 1e-6  # share by which an accepted step must lower the sum to go on
_NEAREST = 0.01  # metres: what comes closer to the camera, or behind it, is projected as if it were here
_ROTATION, _TRANSLATION = slice(0, 3), slice(3, 6)
_ANGLES = slice(6, 6 + ANGLES)


@dataclass(frozen=True)
class FitPriors:
    """What is believed before a label is seen; standard deviations in radians and metres."""

    label_noise: float = 0.001  # of each coordinate of a joint
    flexion: float = 0.8  # about half bent
    sideways: float = 0.25  # of a hinge about the axes it does not have, and of a finger about its own length
    thumb_twist: float = 0.4  # the same of the thumb's joints, which are no hinges
    limit: float = 0.15  # how far beyond its anatomical limit a joint goes
    scale: float = 0.1  # of the logarithm of the overall size, where it is fitted

    def __post_init__(self) -> None:
        check_positive(**vars(self))


class FitState(NamedTuple):
    """Where the solver is."""

    rotation: Tensor  # (B, 3, 3)
    translation: Tensor  # (B, 3)
    angles: Tensor  # (B, 45)
    shape: Tensor  # (B, S)
    log_scale: Tensor  # (B,)

    def of(self, rows: Tensor) -> "FitState":
        """Some of the hands."""
        return FitState(*(tensor[rows] for tensor in self))


class FitLabels(NamedTuple):
    """What it fits to."""

    target: Tensor  # (B, P, 3) metres or (B, P, 2) pixels
    weight: Tensor  # (B, P) 1 / sigma, 0 where there is no label; in 2D 1 / pixels
    K: Tensor | None  # (B, 3, 3) of 2D labels

    def of(self, rows: Tensor) -> "FitLabels":
        """Some of the hands."""
        return FitLabels(self.target[rows], self.weight[rows], None if self.K is None else self.K[rows])


class JointProblem:
    """The problem of one point set on one model: residuals, slopes and the solver. All right hands, float64."""

    def __init__(
        self, points: str | PointSet, model: HandModel | None, priors: FitPriors | None, fit_scale: bool
    ) -> None:
        model = model or open_hand()
        if model.side != "right":
            raise ValueError(f"model: expected a right hand, got '{model.id}'; left hands are fitted with side=0")
        self.priors = priors or FitPriors()
        self.skeleton = JointSkeleton(model)
        self.points = SkeletonPoints(self.skeleton, point_set(points) if isinstance(points, str) else points)
        self.low, self.high, self.middle, self.spread = _angle_priors(model, self.priors)
        self.fit_scale = fit_scale

    def positions(self, state: FitState) -> Tensor:
        """(B, P, 3) metres."""
        posed = self.skeleton.pose(state.rotation, state.angles, state.shape)
        return self.placed(state, self.points.positions(posed))

    def cost(self, state: FitState, labels: FitLabels) -> Tensor:
        """(B,) the sum to be minimised."""
        residual = self._residual(self.positions(state), labels)
        prior = ((state.angles - self.middle) / self.spread).square().sum(1) + state.shape.square().sum(1)
        prior = prior + (self._excess(state.angles) / self.priors.limit).square().sum(1)
        return residual.square().sum((1, 2)) + prior + (state.log_scale / self.priors.scale).square()

    def minimise(self, state: FitState, labels: FitLabels, steps: int) -> tuple[FitState, Tensor]:
        """The best states after at most `steps` steps, and what they cost."""
        cost = self.cost(state, labels)
        damping = torch.full_like(cost, 1e-2)
        active = torch.arange(len(cost))
        for _ in range(steps):
            now, seen = state.of(active), labels.of(active)
            proposal = self._moved(now, self._step(now, seen, damping[active]))
            new = self.cost(proposal, seen)
            better = new < cost[active]
            gained = active[better]
            for tensor, value in zip(state, proposal, strict=True):
                tensor[gained] = value[better]
            settled = better & (cost[active] - new < _CONVERGED * cost[active])
            cost[gained] = new[better]
            damping[active] = torch.where(better, damping[active] / 5, damping[active] * 5).clamp_min(1e-9)
            active = active[~(settled | (damping[active] > 1e6))]
            if not len(active):
                break
        return state, cost

    def _step(self, state: FitState, labels: FitLabels, damping: Tensor) -> Tensor:
        """(B, N) damped Gauss-Newton step."""
        posed = self.skeleton.pose(state.rotation, state.angles, state.shape)
        unplaced = self.points.positions(posed)
        slopes = self._slopes(state, unplaced, self.points.slopes(posed, unplaced))
        placed = self.placed(state, unplaced)
        if labels.K is not None:
            slopes = _projection_slopes(placed, labels.K) @ slopes
        jacobian = (labels.weight[..., None, None] * slopes).flatten(1, 2)  # (B, 3 P, N)
        residual = self._residual(placed, labels).flatten(1)
        normal = jacobian.transpose(1, 2) @ jacobian
        slope = (jacobian.transpose(1, 2) @ residual[..., None]).squeeze(-1)
        diagonal = torch.diagonal(normal, dim1=1, dim2=2)  # a view
        curvature, pull = self._prior_terms(state)
        diagonal += curvature
        slope += pull
        diagonal += damping[:, None] * diagonal.clamp_min(1e-6)
        factor = torch.linalg.cholesky(normal)
        return -torch.cholesky_solve(slope[..., None], factor).squeeze(-1)

    def _slopes(self, state: FitState, unplaced: Tensor, slopes: Tensor) -> Tensor:
        """(B, P, 3, N) of placed points: the skeleton's slopes, with those of translation and scale put in."""
        scale = state.log_scale.exp()[:, None, None, None]
        move = torch.eye(3, dtype=slopes.dtype).expand(*unplaced.shape, 3)
        columns = [scale * slopes[..., :3], move, scale * slopes[..., 3:]]
        if self.fit_scale:
            columns.append(scale * unplaced[..., None])
        return torch.cat(columns, -1)

    def _prior_terms(self, state: FitState) -> tuple[Tensor, Tensor]:
        """(B, N) half second and half first derivative of the priors."""
        curvature = state.angles.new_zeros(len(state.angles), 6 + ANGLES + state.shape.shape[1] + self.fit_scale)
        pull = torch.zeros_like(curvature)
        excess = self._excess(state.angles)
        curvature[:, _ANGLES] = self.spread**-2 + (excess != 0) * self.priors.limit**-2
        pull[:, _ANGLES] = (state.angles - self.middle) / self.spread**2 + excess / self.priors.limit**2
        shape = slice(_ANGLES.stop, _ANGLES.stop + state.shape.shape[1])
        curvature[:, shape] = 1
        pull[:, shape] = state.shape
        if self.fit_scale:
            curvature[:, -1] = self.priors.scale**-2
            pull[:, -1] = state.log_scale / self.priors.scale**2
        return curvature, pull

    def _moved(self, state: FitState, step: Tensor) -> FitState:
        """States after a step (B, N), turns cut to a sensible length, shapes kept in their range."""
        turns = torch.cat([step[:, _ROTATION], step[:, _ANGLES]], 1).abs().amax(1, keepdim=True)
        step = step * (_LARGEST_TURN / turns.clamp_min(1e-12)).clamp(max=1)
        shape = step[:, _ANGLES.stop : _ANGLES.stop + state.shape.shape[1]]
        return FitState(
            axis_angle_to_matrix(step[:, _ROTATION]) @ state.rotation,
            state.translation + step[:, _TRANSLATION],
            state.angles + step[:, _ANGLES],
            (state.shape + shape).clamp(-MAX_SHAPE, MAX_SHAPE),
            state.log_scale + step[:, -1] if self.fit_scale else state.log_scale,
        )

    def placed(self, state: FitState, points: Tensor) -> Tensor:
        """Points (B, P, 3) of the skeleton, scaled and moved to their place."""
        return state.log_scale.exp()[:, None, None] * points + state.translation[:, None]

    def _excess(self, angles: Tensor) -> Tensor:
        return angles - angles.clamp(self.low, self.high)

    def _residual(self, placed: Tensor, labels: FitLabels) -> Tensor:
        """(B, P, 3 or 2) in standard deviations."""
        seen = placed if labels.K is None else projected(placed, labels.K)
        return (seen - labels.target) * labels.weight[..., None]


def projected(points: Tensor, K: Tensor) -> Tensor:
    """(B, P, 2) pixels."""
    focal, centre = K[:, None, (0, 1), (0, 1)], K[:, None, :2, 2]
    return points[..., :2] / points[..., 2:].clamp_min(_NEAREST) * focal + centre


def _projection_slopes(points: Tensor, K: Tensor) -> Tensor:
    """(B, P, 2, 3) of pixels to camera coordinates."""
    focal = K[:, None, (0, 1), (0, 1)]
    over_depth = focal / points[..., 2:].clamp_min(_NEAREST)  # (B, P, 2)
    along = -over_depth * points[..., :2] / points[..., 2:].clamp_min(_NEAREST)
    return torch.cat([torch.diag_embed(over_depth), along[..., None]], -1)


def _angle_priors(model: HandModel, priors: FitPriors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lowest, highest, middle and spread of the angles, each (45,); without limits a joint is free about all axes."""
    shape = (FINGERS, LEVELS, 3)
    low, high, middle = np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape)
    spread = np.full(shape, float(priors.flexion))
    if model.limits is not None and model.flexion_axes is not None and model.abduction_axes is not None:
        spread[..., 1:] = priors.sideways
        spread[0, :, 1:] = priors.thumb_twist
        limits = model.limits[finger_joints()]  # (5, 3, [flexion, abduction], [low, high])
        for angles in ((slice(None), slice(None), 0), (slice(None), 0, 1)):
            low[angles], high[angles] = limits[angles][..., 0], limits[angles][..., 1]
            middle[angles] = limits[angles].mean(-1)
            spread[angles] = priors.flexion
    return tuple(torch.from_numpy(array.reshape(-1)) for array in (low, high, middle, spread))
