"""The problem that a fit of joints solves, and its solver; `ops.hand_model.fitting` is the way in.

Levenberg-Marquardt (More: The Levenberg-Marquardt algorithm: implementation and theory, 1978) on pose, shape and place
of right hands. With labels y of noise sigma, points p, angles q, shape beta and priors, each hand minimises

    sum |p - y|^2 / sigma^2 + sum ((q - middle) / spread)^2 + sum (excess of q over its limits / limit)^2 + |beta|^2

A step is taken only where it lowers the sum: no hand ever gets worse. All float64. The steps are taken by kernels
(`ops.hand_model.numba_fitting`); `ops.hand_model.fitting_reference` takes the same in tensor operations.

Letters: B batch, P points, S shape components, N parameters.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.checks import check_positive
from ops.hand_model.conventions import PointSet, point_set
from ops.hand_model.fitting_arrays import PLACE, SHAPE, TURN, Labels, Tables, workspace
from ops.hand_model.joint_skeleton import ANGLES, FINGERS, LEVELS, JointSkeleton, SkeletonPoints, finger_joints
from ops.hand_model.model import HandModel, open_hand
from ops.hand_model.numba_fitting import NEAREST, minimise_kernel
from ops.render.threads import over_batch


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
        residual = self.residual(self.positions(state), labels)
        prior = ((state.angles - self.middle) / self.spread).square().sum(1) + state.shape.square().sum(1)
        prior = prior + (self.excess(state.angles) / self.priors.limit).square().sum(1)
        return residual.square().sum((1, 2)) + prior + (state.log_scale / self.priors.scale).square()

    def minimise(self, state: FitState, labels: FitLabels, steps: int) -> tuple[FitState, Tensor]:
        """The best states after at most `steps` steps, and what they cost."""
        hands = hand_rows(state).numpy()
        camera = torch.zeros(len(hands), 4, dtype=torch.float64)
        if labels.K is not None:
            camera[:, :2], camera[:, 2:] = labels.K[:, (0, 1), (0, 1)], labels.K[:, :2, 2]
        given = Labels(*(tensor.double().contiguous().numpy() for tensor in (labels.target, labels.weight, camera)))
        tables, costs = self.tables(), np.empty(len(hands))

        def part(start: int, stop: int) -> None:
            work = workspace(len(self.points.offsets), self.skeleton.shape_size, len(tables.lasts))
            minimise_kernel(start, stop, tables, hands, given, steps, work, costs)

        over_batch(part, len(costs))
        found = torch.from_numpy(hands)
        angles, rotation, translation, shape, log_scale = found.tensor_split([TURN, PLACE, SHAPE, -1], 1)
        state = FitState(rotation.unflatten(1, (3, 3)), translation, angles, shape, log_scale[:, 0])
        return state, torch.from_numpy(costs)

    def tables(self) -> Tables:
        """The problem as the kernels read it."""
        points = self.points.tables()
        columns = 6 + ANGLES + self.skeleton.shape_size + self.fit_scale
        return Tables(
            **self.skeleton.tables(),
            **points,
            lasts=_last_angles(points["moved"], columns),
            beliefs=torch.stack([self.low, self.high, self.middle, self.spread**-2], 1).numpy(),
            limit=self.priors.limit**-2,
            scale=self.priors.scale**-2,
        )

    def placed(self, state: FitState, points: Tensor) -> Tensor:
        """Points (B, P, 3) of the skeleton, scaled and moved to their place."""
        return state.log_scale.exp()[:, None, None] * points + state.translation[:, None]

    def excess(self, angles: Tensor) -> Tensor:
        """By how much angles (B, 45) are beyond their limits."""
        return angles - angles.clamp(self.low, self.high)

    def residual(self, placed: Tensor, labels: FitLabels) -> Tensor:
        """(B, P, 3 or 2) in standard deviations."""
        seen = placed if labels.K is None else projected(placed, labels.K)
        return (seen - labels.target) * labels.weight[..., None]


def hand_rows(state: FitState) -> Tensor:
    """(B, M) hands as the kernels take them (`ops.hand_model.fitting_arrays`)."""
    scale = state.log_scale[:, None]
    return torch.cat([state.angles, state.rotation.flatten(1), state.translation, state.shape, scale], 1)


def projected(points: Tensor, K: Tensor) -> Tensor:
    """(B, P, 2) pixels."""
    focal, centre = K[:, None, (0, 1), (0, 1)], K[:, None, :2, 2]
    return points[..., :2] / points[..., 2:].clamp_min(NEAREST) * focal + centre


def _last_angles(moved: np.ndarray, parameters: int) -> np.ndarray:
    """(N,) last + 1 of the angles that a row of the normal equations, and of their factor, ties to each parameter."""
    last = np.arange(1, ANGLES + 1)
    for start, stop in moved:  # a point ties the angles that move it
        last[start:stop] = np.maximum(last[start:stop], stop)
    return np.concatenate([np.maximum.accumulate(last), np.zeros(parameters - ANGLES, dtype=np.int64)])


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
