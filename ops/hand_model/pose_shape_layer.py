"""HPSL, the hand pose and shape layer of DeepHPS: 26 + 6 + 7 numbers to a hand's mesh and 21 joints.

Malik, Elhayek, Nunnari, Varanasi, Tamaddon, Heloir, Stricker: DeepHPS: End-to-end Estimation of 3D Hand Pose and Shape
by Learning from Synthetic Depth, 3DV 2018. In the paper's symbols, for the parameters

    Theta (26): translation of the wrist (3), rotation about it (3, axis-angle), articulation (20)
    alpha (6):  bone scales of the palm and of thumb, index, middle, ring, little; 1 = as in the reference hand
    beta (7):   shape controls of `CONTROL_NAMES`; 0 = the reference hand

    V_shape = V_0 + sum_t beta_t (B_t - V_0)             blend shapes; `HandModel.controls` holds B_t - V_0
    J       = forward kinematics of the scaled bones     J(Theta, alpha)
    V       = linear blend skinning of V_shape           by the same bones

Articulation is four angles a finger, thumb to little: abduction and flexion of the base joint (the thumb's CMC), then
the flexion of the two joints that follow. At the base the finger flexes, then swings: R = R_abduction R_flexion.

What the paper leaves open is decided so: the skeleton is regressed from V_shape (a control that lengthens fingers takes
the knuckles along); a finger's scale stretches its surface along the bone only, thickness being the controls' part,
and the palm's scales the palm alike in all directions; pose correctives of the hand model are added as in its layer.

Letters: B batch, V vertices.
"""

import hashlib
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ops.checks import check_choice, check_like_layer, check_shape
from ops.hand_model.conventions import joint_convention
from ops.hand_model.layer import HandOutput
from ops.hand_model.model import HandModel
from ops.hand_model.skinning import SkinningConstants, blend_and_skin, blend_and_skin_cpu
from ops.joints import CANONICAL_BONE, MODEL_TO_CANONICAL
from ops.rotation import axis_angle_to_matrix

POSE_SIZE, SCALE_SIZE, SHAPE_SIZE = 26, 6, 7
TRANSLATION, ROTATION, ARTICULATION = slice(0, 3), slice(3, 6), slice(6, 26)

_FINGERS, _LEVELS = 5, 3  # model joints 1-15 are five chains of three: index, middle, little, ring, thumb
_CHAIN_TO_FINGER = (1, 2, 4, 3, 0)  # a chain's place among thumb, index, middle, ring, little
_BASES = (1, 4, 7, 10, 13)  # first joint of every chain
_MODEL_FIELDS = ("controls", "flexion_axes", "abduction_axes", "limits", "bone_groups")


class HandPoseShapeLayer(nn.Module):
    """Differentiable HPSL of one hand model; its constants are buffers, rebuilt from the model and never saved.

    What is saved is their name alone: weights trained with other controls, axes, limits or bone groups mean other
    hands, and `load_state_dict` refuses them.

    Args:
        model: a hand with controls, flexion and abduction axes, limits and bone groups (the open hand).
        convention: name of the joint convention of the reported joints.
        backend: "torch" is the readable reference; "auto" skins with a hand-written backward on the CPU.
    """

    def __init__(self, model: HandModel, convention: str = "open", backend: Literal["auto", "torch"] = "auto") -> None:
        super().__init__()
        _check_model(model)
        check_choice("backend", backend, ("auto", "torch"))
        self.backend = backend
        self.model = model
        self.convention = joint_convention(convention)
        for name, array in _constants(model).items():
            dtype = torch.float32 if array.dtype.kind == "f" else torch.int64
            self.register_buffer(name, torch.tensor(array, dtype=dtype), persistent=False)
        mirror = np.array([1.0 if model.side == "right" else -1.0, 1.0, 1.0])
        offsets = torch.tensor(self.convention.offsets * mirror, dtype=torch.float32)  # (21, 3)
        self.register_buffer("joint_offsets", offsets, persistent=False)

    def forward(
        self, pose: Tensor, bone_scales: Tensor, shape: Tensor, global_rotation: Tensor | None = None
    ) -> HandOutput:
        """Mesh and joints of the parameters. All inputs get gradients.

        Args:
            pose: (B, 26) Theta, metres and radians.
            bone_scales: (B, 6) alpha, palm then thumb to little.
            shape: (B, 7) beta.
            global_rotation: (B, 3, 3) stands in for the axis-angle pose[:, 3:6], which is then not read: axis-angle
                is not continuous over the whole sphere of rotations.

        Returns:
            Vertices, joints in canonical order, skeleton and bone rotations; metres, in the frame of the translation.
        """
        if not torch.compiler.is_compiling():
            self._check(pose, bone_scales, shape, global_rotation)
        # half precision moves vertices by millimetres
        with torch.autocast(pose.device.type, enabled=False):
            return self._hands(pose, bone_scales, shape, global_rotation)

    def _hands(self, pose: Tensor, bone_scales: Tensor, shape: Tensor, global_rotation: Tensor | None) -> HandOutput:
        if global_rotation is None:
            global_rotation = axis_angle_to_matrix(pose[:, ROTATION])
        local = self.local_rotations(pose[:, ARTICULATION])
        rest_joints = torch.addmm(self.joint_template, shape, self.joint_directions).unflatten(1, (16, 3))
        rotations, transforms, skeleton = self._forward_kinematics(global_rotation, local, bone_scales, rest_joints)
        features = torch.cat([shape, (local - self.identity).flatten(1)], 1)
        bones = _skinning_rows(transforms, skeleton, rest_joints)
        vertices, tips = self._skin(features, bones)
        joints = torch.cat([skeleton, tips], 1).index_select(1, self.canonical)
        joints = joints + (rotations.index_select(1, self.carrier) @ self.joint_offsets[..., None]).squeeze(-1)
        translation = pose[:, None, TRANSLATION]
        return HandOutput(vertices + translation, joints + translation, skeleton + translation, rotations)

    def get_extra_state(self) -> str:
        """Names the hand model and the arrays that its id leaves out but the parameters' meaning depends on."""
        digest = hashlib.sha256()
        for field in _MODEL_FIELDS:
            digest.update(np.ascontiguousarray(getattr(self.model, field), dtype="<f4").tobytes())
        return f"{self.model.id}/{digest.hexdigest()[:8]}"

    def set_extra_state(self, state: str) -> None:
        """Raise unless the weights being loaded were trained with this hand model and these arrays."""
        expected = self.get_extra_state()
        if state != expected:
            raise ValueError(
                f"weights of HPSL: trained with hand model and {', '.join(_MODEL_FIELDS)} '{state}', here they are "
                f"'{expected}'; load them with the hand model they were trained on, or train again"
            )

    def local_rotations(self, articulation: Tensor) -> Tensor:
        """Rotations (B, 15, 3, 3) of model joints 1-15 about their parents, of articulation angles (B, 20)."""
        angles = articulation.unflatten(1, (_FINGERS, 1 + _LEVELS)).index_select(1, self.chain_to_finger)
        abduction = _hinge(angles[:, :, :1], self.abduction_hinges)  # (B, 5, 1, 3, 3)
        flexion = _hinge(angles[:, :, 1:], self.flexion_hinges)  # (B, 5, 3, 3, 3)
        bases = abduction @ flexion[:, :, :1]
        return torch.cat([bases, flexion[:, :, 1:]], 2).flatten(1, 2)

    def _forward_kinematics(
        self, root: Tensor, local: Tensor, bone_scales: Tensor, rest_joints: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """World rotations (B, 16, 3, 3), the same with their bones' stretch (B, 16, 3, 3), joints (B, 16, 3)."""
        scales = bone_scales.index_select(1, self.bone_groups)[..., None, None]  # (B, 16, 1, 1)
        stretches = self.identity + (scales - 1) * self.stretch_axes  # (B, 16, 3, 3)
        local = local.unflatten(1, (_FINGERS, _LEVELS))
        rest = rest_joints[:, 1:].unflatten(1, (_FINGERS, _LEVELS))
        bone_stretches = stretches[:, 1:].unflatten(1, (_FINGERS, _LEVELS))

        rotation, transform = root[:, None], root[:, None] @ stretches[:, :1]
        joint, rest_parent = rest_joints[:, :1], rest_joints[:, :1]
        rotations, transforms, joints = [], [], []
        for level in range(_LEVELS):
            bone = rest[:, :, level] - rest_parent
            joint = joint + (transform @ bone[..., None]).squeeze(-1)
            rotation = rotation @ local[:, :, level]
            transform = rotation @ bone_stretches[:, :, level]
            rest_parent = rest[:, :, level]
            rotations.append(rotation)
            transforms.append(transform)
            joints.append(joint)
        return (
            torch.cat([root[:, None], torch.stack(rotations, 2).flatten(1, 2)], 1),
            torch.cat([root[:, None] @ stretches[:, :1], torch.stack(transforms, 2).flatten(1, 2)], 1),
            torch.cat([rest_joints[:, :1], torch.stack(joints, 2).flatten(1, 2)], 1),
        )

    def _skin(self, features: Tensor, bones: Tensor) -> tuple[Tensor, Tensor]:
        constants = SkinningConstants(self.template, self.directions, self.weights, self.tips)
        # compilers and exporters fuse and differentiate the plain formulation themselves
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        fast = self.backend == "auto" and features.device.type == "cpu" and not traced
        return (blend_and_skin_cpu if fast else blend_and_skin)(features, bones, constants)

    def _check(self, pose: Tensor, bone_scales: Tensor, shape: Tensor, global_rotation: Tensor | None) -> None:
        check_shape("pose", pose, ("B", POSE_SIZE))
        check_shape("bone_scales", bone_scales, (len(pose), SCALE_SIZE))
        check_shape("shape", shape, (len(pose), SHAPE_SIZE))
        tensors = {"pose": pose, "bone_scales": bone_scales, "shape": shape}
        if global_rotation is not None:
            check_shape("global_rotation", global_rotation, (len(pose), 3, 3))
            tensors["global_rotation"] = global_rotation
        check_like_layer(self.template, **tensors)


def articulation_limits(model: HandModel) -> tuple[Tensor, Tensor]:
    """Lowest and highest articulation angles, (20,) each, radians, in Theta's order."""
    _check_model(model)
    limits = torch.tensor(model.limits, dtype=torch.float32)[1:].unflatten(0, (_FINGERS, _LEVELS))
    flexion, abduction = limits[:, :, 0], limits[:, :1, 1]  # (5, 3, 2), (5, 1, 2)
    chains = torch.cat([abduction, flexion], 1)  # (5, 4, 2)
    order = [_CHAIN_TO_FINGER.index(finger) for finger in range(_FINGERS)]
    low, high = chains[order].flatten(0, 1).unbind(-1)
    return low, high


def _hinge(angles: Tensor, axes: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by `angles` (...) about constant axes, given as cross-product matrices (..., 3, 3)."""
    angles = angles[..., None, None]
    identity = torch.eye(3, dtype=angles.dtype, device=angles.device)
    return identity + torch.sin(angles) * axes + (1 - torch.cos(angles)) * (axes @ axes)


def _skinning_rows(transforms: Tensor, skeleton: Tensor, rest_joints: Tensor) -> Tensor:
    """(B, 12, 16) rows of [A | t] that take a rest point to its posed place, bone by bone."""
    offsets = skeleton - (transforms @ rest_joints[..., None]).squeeze(-1)
    return torch.cat([transforms, offsets[..., None]], -1).flatten(2).transpose(1, 2)


def _constants(model: HandModel) -> dict[str, np.ndarray]:
    regress = model.joint_regressor
    rest_joints = regress @ model.v_template  # (16, 3)
    controls = model.controls.transpose(2, 1, 0)  # (7, 3, V)
    directions = np.concatenate([controls, model.posedirs.transpose(2, 1, 0)])  # (7 + 135, 3, V)
    directions = directions.reshape(len(directions), -1)
    flexion = _cross_matrices(model.flexion_axes)
    return {
        "template": model.v_template.T.reshape(-1),  # (3 V,)
        "directions": np.ascontiguousarray(directions.T),  # (3 V, 7 + 135)
        "weights": model.weights.T,  # (16, V)
        "joint_template": rest_joints.reshape(-1),  # (16 * 3,)
        "joint_directions": np.einsum("jv,vct->tjc", regress, model.controls).reshape(SHAPE_SIZE, -1),
        "flexion_hinges": flexion[1:].reshape(_FINGERS, _LEVELS, 3, 3),
        "abduction_hinges": _cross_matrices(model.abduction_axes)[list(_BASES), None],  # (5, 1, 3, 3)
        "stretch_axes": _stretch_axes(model, rest_joints),  # (16, 3, 3)
        "identity": np.eye(3),
        "bone_groups": model.bone_groups,  # (16,)
        "chain_to_finger": np.array(_CHAIN_TO_FINGER),
        "tips": model.tip_vertices,  # (5,)
        "canonical": np.array(MODEL_TO_CANONICAL),  # (21,)
        "carrier": np.array(CANONICAL_BONE),  # (21,)
    }


def _stretch_axes(model: HandModel, rest_joints: np.ndarray) -> np.ndarray:
    """What a bone's scale stretches, (16, 3, 3): the palm in all directions, a finger's bone along d: d d^T."""
    starts = rest_joints[1:].reshape(_FINGERS, _LEVELS, 3)
    tips = model.v_template[model.tip_vertices][np.array(_CHAIN_TO_FINGER)]  # (5, 3), chain by chain
    bones = np.concatenate([starts[:, 1:], tips[:, None]], 1) - starts
    bones = (bones / np.linalg.norm(bones, axis=-1, keepdims=True)).reshape(15, 3)
    return np.concatenate([np.eye(3)[None], bones[:, :, None] * bones[:, None]])


def _cross_matrices(axes: np.ndarray) -> np.ndarray:
    """(N, 3, 3) matrices whose product with x is axis x x, of axes (N, 3)."""
    return np.cross(axes[:, None], np.eye(3)[None]).transpose(0, 2, 1)


def _check_model(model: HandModel) -> None:
    missing = [field for field in _MODEL_FIELDS if getattr(model, field) is None]
    if missing:
        raise ValueError(
            f"hand model '{model.name}': expected the arrays {', '.join(_MODEL_FIELDS)}, "
            f"got none of {', '.join(missing)}; use a model whose file has them, such as ops.hand_model.open_hand()"
        )
