"""The hand without its surface: 21 joints and a dataset's points as functions of a few numbers, with their Jacobian.

Positions equal those of `HandLayer` in the convention asked for: bones and tips are linear in the shape, a fingertip
is a vertex of the last bone. The Jacobian leaves out one thing: how pose correctives (at most 0.3 mm at a tip of the
open hand) change with the pose.

A finger joint turns by three angles about axes fixed in its parent's frame: R = R_3(q_3) R_2(q_2) R_1(q_1). For a model
with flexion and abduction axes, q_1 is flexion, q_2 abduction; a hinge's q_2 and q_3 are meant to stay near 0.

Letters: B batch, P points, S shape components, N parameters. Fingers stand thumb to little, levels base to tip.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.hand_model.conventions import PointSet
from ops.hand_model.model import HandModel
from ops.joints import MODEL_TO_CANONICAL

FINGERS, LEVELS = 5, 3
ANGLES = 3 * LEVELS * FINGERS
_FINGER_BASES = (13, 1, 4, 10, 7)  # first model joint of thumb, index, middle, ring, little
_MODEL_ORDER = (1, 2, 4, 3, 0)  # finger of each of the model's five chains


class PosedSkeleton(NamedTuple):
    """Hands before their translation."""

    joints: Tensor  # (B, 21, 3) canonical order, the model's own
    shape_slopes: Tensor  # (B, 21, 3, S) their derivatives
    root: Tensor  # (B, 3, 3) world rotation of the palm
    local: Tensor  # (B, 5, 3, 3, 3) rotation of every finger joint relative to its parent
    world: Tensor  # (B, 5, 3, 3, 3) of every finger bone
    axes: Tensor  # (B, 5, 3, 3, 3) world axis of every angle: finger, joint, angle, xyz


class JointSkeleton:
    """Skeleton of one model.

    Args:
        model: any hand in MANO's layout.
        dtype: of all tensors.
    """

    def __init__(self, model: HandModel, dtype: torch.dtype = torch.float64) -> None:
        self.model, self.dtype = model, dtype
        rest = np.concatenate([model.joint_regressor @ model.v_template, model.v_template[model.tip_vertices]])
        slopes = np.einsum("jv,vcs->jcs", model.joint_regressor, model.shapedirs)
        slopes = np.concatenate([slopes, model.shapedirs[model.tip_vertices]])
        table = np.concatenate([slopes, rest[..., None]], -1)[list(MODEL_TO_CANONICAL)]  # (21, 3, S + 1)
        fingers = table[1:].reshape(FINGERS, LEVELS + 1, *table.shape[1:])
        parents = np.concatenate([np.broadcast_to(table[0], fingers[:, :1].shape), fingers[:, :-1]], 1)
        self.origin = self._tensor(table[0])  # (3, S + 1) the wrist
        self.segments = self._tensor(fingers - parents)  # (5, 4, 3, S + 1) from a joint's parent to the joint
        self.hinges = self._tensor(hinge_axes(model))  # (5, 3, 3, 3): finger, joint, angle, xyz
        x, y, z = self.hinges.unbind(-1)
        o = torch.zeros_like(x)
        self._generators = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
        self._tip_correctives = self._tensor(model.posedirs[model.tip_vertices])  # (5, 3, 135)

    @property
    def shape_size(self) -> int:
        """Shape components of the model."""
        return self.segments.shape[-1] - 1

    def pose(self, root: Tensor, angles: Tensor, shape: Tensor) -> PosedSkeleton:
        """Pose hands by rotations (B, 3, 3) of the palm, angles (B, 45) and shapes (B, S)."""
        q = angles.unflatten(1, (FINGERS, LEVELS, 3))[..., None, None]
        k = self._generators
        turns = torch.eye(3, dtype=self.dtype) + torch.sin(q) * k + (1 - torch.cos(q)) * (k @ k)
        first, second, third = turns.unbind(3)
        outer = third @ second
        local = outer @ first
        in_parent = [outer @ self.hinges[:, :, 0, :, None], third @ self.hinges[:, :, 1, :, None]]
        in_parent.append(self.hinges[None, :, :, 2, :, None].expand_as(in_parent[0]))
        axes = torch.cat(in_parent, -1)  # (B, 5, 3, xyz, angle)
        carriers = [root[:, None].expand(-1, FINGERS, 3, 3)]
        for level in range(LEVELS):
            carriers.append(carriers[-1] @ local[:, :, level])
        carrying = torch.stack(carriers, 2)  # (B, 5, 4, 3, 3): the bone that each joint moves with
        moved = (carrying @ self.segments).cumsum(2)  # (B, 5, 4, 3, S + 1)
        moved = torch.cat([self.origin.expand(len(root), 1, -1, -1), moved.flatten(1, 2) + self.origin], 1)
        joints = moved[..., -1] + (moved[..., :-1] @ shape[:, None, :, None]).squeeze(-1)
        joints[:, 4::4] += (carrying[:, :, LEVELS] @ self._correctives(local)).squeeze(-1)
        axes = (carrying[:, :, :LEVELS] @ axes).transpose(-1, -2)
        return PosedSkeleton(joints, moved[..., :-1], root, local, carrying[:, :, 1:], axes)

    def model_rotations(self, posed: PosedSkeleton) -> tuple[Tensor, Tensor]:
        """Local (B, 15, 3, 3) and world rotations (B, 16, 3, 3) in the model's order of joints."""
        local, world = (r[:, list(_MODEL_ORDER)].flatten(1, 2) for r in (posed.local, posed.world))
        return local, torch.cat([posed.root[:, None], world], 1)

    def tables(self) -> dict[str, np.ndarray]:
        """Fields of `fitting_arrays.Tables` that describe the skeleton."""
        by_chain = self._tip_correctives.numpy().reshape(FINGERS, 3, FINGERS, -1)
        correctives = np.empty_like(by_chain)
        correctives[:, :, list(_MODEL_ORDER)] = by_chain
        return {
            "rest": torch.cat([self.origin[None], self.segments.flatten(0, 1)]).numpy(),
            "hinges": self.hinges.numpy().reshape(ANGLES, 3),
            "correctives": np.ascontiguousarray(correctives.reshape(FINGERS * 3, -1).T),
        }

    def _correctives(self, local: Tensor) -> Tensor:
        """(B, 5, 3, 1) pose correctives of the tips, rest frame."""
        features = (local[:, list(_MODEL_ORDER)] - torch.eye(3, dtype=self.dtype)).flatten(1)  # (B, 135)
        return torch.einsum("tcf,bf->btc", self._tip_correctives, features)[..., None]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=self.dtype)


class SkeletonPoints:
    """A point set on a skeleton."""

    def __init__(self, skeleton: JointSkeleton, points: PointSet) -> None:
        self.skeleton, self.set = skeleton, points
        self.offsets = torch.as_tensor(points.offsets, dtype=skeleton.dtype)
        self.weights = torch.as_tensor(points.weights, dtype=skeleton.dtype)
        self._own = points.weights.shape[0] == 21 and bool((points.weights == np.eye(21)).all())
        chain, level = np.divmod(np.maximum(points.bones - 1, 0), LEVELS)
        self.finger = torch.tensor(np.array(_MODEL_ORDER)[chain])  # (P,) whose bone carries the offset
        self.depth = torch.tensor(np.where(points.bones > 0, level + 1, 0))  # (P,) finger joints that turn it

    def positions(self, posed: PosedSkeleton) -> Tensor:
        """(B, P, 3) metres."""
        return self._mix(posed.joints) + self.levers(posed)

    def carriers(self, posed: PosedSkeleton) -> Tensor:
        """(B, P, 3, 3) world rotations of the bones in whose frames the offsets stand."""
        fingers = posed.world[:, self.finger, (self.depth - 1).clamp_min(0)]
        return torch.where((self.depth > 0)[:, None, None], fingers, posed.root[:, None])

    def tables(self) -> dict[str, np.ndarray]:
        """Fields of `fitting_arrays.Tables` that describe the points."""
        finger, depth, weights = self.finger.numpy(), self.depth.numpy(), self.weights.numpy()
        # a finger's first joint moves with the palm
        moved = weights[:, 1:].reshape(-1, FINGERS, LEVELS + 1)[:, :, 1:].any(-1)
        moved[np.flatnonzero(depth), finger[depth > 0]] = True
        return {
            "weights": weights,
            "offsets": self.offsets.numpy(),
            "bones": (LEVELS + 1) * finger + depth,
            "moved": ANGLES // FINGERS * _spans(moved),
        }

    def levers(self, posed: PosedSkeleton) -> Tensor:
        """(B, P, 3) offsets as the bones carry them."""
        return (self.carriers(posed) @ self.offsets[..., None]).squeeze(-1)

    def _mix(self, joints: Tensor) -> Tensor:
        return joints.clone() if self._own else self.weights @ joints


def _spans(marked: np.ndarray) -> np.ndarray:
    """(P, 2) first and last + 1 marked column of every row of (P, F); 0, 0 where none is."""
    columns = marked.shape[1]
    last = np.where(marked.any(1), columns - marked[:, ::-1].argmax(1), 0)
    return np.stack([marked.argmax(1), last], 1)


def hinge_axes(model: HandModel) -> np.ndarray:
    """(5, 3, 3, 3) unit axes of every finger joint's three angles, rest frame; x, y, z where a model has none."""
    if model.flexion_axes is None or model.abduction_axes is None:
        return np.broadcast_to(np.eye(3), (FINGERS, LEVELS, 3, 3)).copy()
    axes = np.empty((FINGERS, LEVELS, 3, 3))
    for finger, base in enumerate(_FINGER_BASES):
        for level in range(LEVELS):
            flexion, abduction = model.flexion_axes[base + level], model.abduction_axes[base + level]
            if not abduction.any():  # a hinge: any direction across its axis
                abduction = np.cross(flexion, np.eye(3)[np.argmin(np.abs(flexion))])
                abduction /= np.linalg.norm(abduction)
            axes[finger, level] = flexion, abduction, np.cross(flexion, abduction)
    return axes / np.linalg.norm(axes, axis=-1, keepdims=True)  # the model's are unit vectors in single precision


def finger_joints() -> np.ndarray:
    """(5, 3) model joints, fingers thumb to little, base first."""
    return np.array(_FINGER_BASES)[:, None] + np.arange(LEVELS)
