"""Where a fit begins: the palm placed in closed form, then the best of a few curls for every finger.

Letters: B batch, P points, C candidates of a finger's curl, V views of a bent hand.
"""

import math

import torch
from torch import Tensor

from ops.hand_model.joint_problem import FitLabels, FitState, JointProblem
from ops.hand_model.joint_skeleton import FINGERS
from ops.rotation import rigid_motion

# shares of the way from an angle's lowest to its highest value
_REFERENCES = (0.2, 0.45, 0.75)  # about flat, half bent, nearly a fist: whole hands that are aligned
_CURLS = (0.15, 0.4, 0.65, 0.9)  # of the base joint and, independently, of the two after it
_FREE_RANGE = 1.5  # radians that stand for the range of a joint without limits
_WEIGHTS = (1.0, 0.3, 0.1, 0.05)  # of a point in the alignment, by the number of finger joints that move it
_DIRECTIONS = 48  # from which a picture may show the hand
_STARTS_2D = 6


def start_3d(problem: JointProblem, labels: FitLabels) -> FitState:
    """One start per hand."""
    curls = torch.stack([_bent(problem, base, rest) for base in _CURLS for rest in _CURLS])  # (C, 45)
    candidates = _rest_points(problem, curls)  # (C, P, 3)
    valid = (labels.weight > 0).to(labels.target.dtype)
    weights = valid * candidates.new_tensor(_WEIGHTS)[problem.points.depth]
    start, least = None, None
    for share in _REFERENCES:
        reference = _rest_points(problem, _bent(problem, share, share)[None])
        rotation, translation, _ = rigid_motion(reference.expand_as(labels.target), labels.target, weights)
        local = (labels.target - translation[:, None]) @ rotation  # R^T (y - t), as rows
        angles, cost = _best_curls(problem, candidates, curls, local, valid)
        found = _mean_hand(problem, rotation, translation, angles)
        if start is None:
            start, least = found, cost
        for tensor, other in zip(start, found, strict=True):
            tensor[cost < least] = other[cost < least]
        least = torch.minimum(least, cost)
    return start


def starts_2d(problem: JointProblem, labels: FitLabels) -> list[FitState]:
    """Several starts per hand, best first: views all round, each with the roll, place and depth that suit it best."""
    bent = torch.stack([_bent(problem, share, share) for share in _REFERENCES])
    points = torch.einsum("vxy,rpy->vrpx", _view_rotations(_DIRECTIONS).to(bent), _rest_points(problem, bent))
    points = points.flatten(0, 1)  # (V, P, 3)
    focal, centre = labels.K[:, None, (0, 1), (0, 1)], labels.K[:, None, :2, 2]
    rays = (labels.target - centre) / focal  # (B, P, 2)
    weights = (labels.weight > 0).to(rays.dtype)
    weights = weights / weights.sum(1, keepdim=True)
    middles = torch.einsum("bp,vpx->bvx", weights, points)
    aim = (weights[..., None] * rays).sum(1)  # (B, 2)
    # turn and size in the plane of the picture that suit best are one complex number
    flat = _complex(points[..., :2]) - _complex(middles[..., :2])[..., None]  # (B, V, P)
    power = torch.einsum("bp,bvp->bv", weights, flat.abs().square())
    factors = torch.einsum("bp,bvp->bv", weights * _complex(rays - aim[:, None]), flat.conj()) / power
    explained = factors.abs().square() * power  # by which the squared residual shrinks
    starts, rows = [], torch.arange(len(rays))
    for view in explained.topk(_STARTS_2D, dim=1).indices.T:
        factor, middle = factors[rows, view], middles[rows, view]
        roll = _about_z(factor.angle())
        direction, posture = view // len(bent), view % len(bent)
        depth = 1 / factor.abs()
        place = torch.cat([aim, torch.ones_like(aim[:, :1])], 1) * depth[:, None]
        rotation = roll @ _view_rotations(_DIRECTIONS).to(bent)[direction]
        translation = place - (roll @ middle[..., None]).squeeze(-1)
        starts.append(_mean_hand(problem, rotation, translation, bent[posture]))
    return starts


def _best_curls(
    problem: JointProblem, candidates: Tensor, curls: Tensor, local: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Angles (B, 45), the best candidate finger by finger, and the squared distance (B,) that is left."""
    distance = (local[:, None] - candidates).square().sum(-1) * valid[:, None]  # (B, C, P)
    moved = problem.points.depth > 0
    per_finger = distance.new_zeros(*distance.shape[:2], FINGERS)
    per_finger.index_add_(2, problem.points.finger[moved], distance[..., moved])
    least, best = per_finger.min(1)  # (B, 5)
    angles = curls.unflatten(1, (FINGERS, -1))[best, torch.arange(FINGERS)].flatten(1)
    return angles, least.sum(1) + distance[:, 0, ~moved].sum(1)


def _bent(problem: JointProblem, base: float, rest: float) -> Tensor:
    """(45,) angles: flexion at a share of its range, of base joints and of the others; all else in its middle."""
    low = torch.where(problem.low.isinf(), torch.zeros_like(problem.low), problem.low)
    high = torch.where(problem.high.isinf(), low + _FREE_RANGE, problem.high)
    angles, low, high = (t.clone().view(FINGERS, -1, 3) for t in (problem.middle, low, high))
    shares = low.new_tensor([base, rest, rest])
    angles[..., 0] = low[..., 0] + shares * (high - low)[..., 0]
    return angles.flatten()


def _rest_points(problem: JointProblem, angles: Tensor) -> Tensor:
    """(C, P, 3) points of the mean hand at the origin, of angles (C, 45)."""
    rotation = torch.eye(3, dtype=angles.dtype).expand(len(angles), 3, 3)
    return problem.positions(_mean_hand(problem, rotation, angles.new_zeros(len(angles), 3), angles))


def _mean_hand(problem: JointProblem, rotation: Tensor, translation: Tensor, angles: Tensor) -> FitState:
    shape = angles.new_zeros(len(angles), problem.skeleton.shape_size)
    return FitState(rotation.clone(), translation.clone(), angles.clone(), shape, angles.new_zeros(len(angles)))


def _view_rotations(count: int) -> Tensor:
    """(count, 3, 3) rotations that take evenly spread directions (a Fibonacci spiral) to the viewing axis."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * index / count, index * math.pi * (3 - math.sqrt(5))
    ring = (1 - z * z).sqrt()
    along = torch.stack([ring * turn.cos(), ring * turn.sin(), z], -1)
    across = torch.stack([turn.sin(), -turn.cos(), torch.zeros_like(z)], -1)
    return torch.stack([across, torch.linalg.cross(along, across), along], 1)


def _about_z(angle: Tensor) -> Tensor:
    """(B, 3, 3) rotations about z."""
    cosine, sine, o = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([cosine, -sine, o, sine, cosine, o, o, o, o + 1], -1).unflatten(-1, (3, 3))


def _complex(plane: Tensor) -> Tensor:
    return torch.view_as_complex(plane.contiguous())
