"""The hand layer: pose, shape and place to vertices and joints, for any model in MANO's layout.

Romero, Tzionas, Black: Embodied Hands: Modeling and Capturing Hands and Bodies Together, SIGGRAPH Asia 2017. The order
below is the paper's: shape and pose blend shapes (eq. 3-4), joints (eq. 5), forward kinematics, skinning (eq. 1-2).
What differs is only the arithmetic: both blend shapes are one matrix product, joints come from a regressor already
multiplied into the shape directions, and the five fingers move together, one level of the tree at a time.

Letters: B batch, V vertices, S shape components, N pose components.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ops.checks import check_choice, check_finite, check_like_layer, check_shape, require_module
from ops.hand_model.conventions import OWN_JOINTS, joint_convention
from ops.hand_model.kinematics import axis_angle_to_matrix_cpu, pose_bones, pose_bones_cpu
from ops.hand_model.model import OPEN_HAND, HandModel
from ops.hand_model.skinning import SkinningConstants, blend_and_skin, blend_and_skin_cpu
from ops.joints import CANONICAL_BONE, MODEL_TO_CANONICAL
from ops.rotation import axis_angle_to_matrix

PoseSpace = Literal["axis-angle", "pca", "matrix"]
Backend = Literal["auto", "torch", "triton"]


class _Operations(NamedTuple):
    axis_angle_to_matrix: Callable[[Tensor], Tensor]
    pose_bones: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    blend_and_skin: Callable[[Tensor, Tensor, SkinningConstants], tuple[Tensor, Tensor]]


_REFERENCE = _Operations(axis_angle_to_matrix, pose_bones, blend_and_skin)
_FAST_CPU = _Operations(axis_angle_to_matrix_cpu, pose_bones_cpu, blend_and_skin_cpu)


class HandOutput(NamedTuple):
    """Posed hands, metres, in the frame of `translation`."""

    vertices: Tensor  # (B, V, 3)
    joints: Tensor  # (B, 21, 3) canonical order, in the layer's convention
    skeleton: Tensor  # (B, 16, 3) centres of rotation, model order
    rotations: Tensor  # (B, 16, 3, 3) world rotation of every bone, model order


class HandLayer(nn.Module):
    """Differentiable hand of one model; constants are buffers, rebuilt from the model and never saved in checkpoints.

    Args:
        model: arrays of the hand; `model.mirrored()` gives the other side.
        pose_space: "axis-angle" (B, 45), "pca" (B, N) coefficients of the first N pose components, 1 <= N <= 45, or
            "matrix" (B, 15, 3, 3).
        flat_hand_mean: a pose of zeros is the flat hand; False: it is the model's mean pose (as in smplx).
        convention: name of the joint convention that `HandOutput.joints` follows. None: `open` for the open hand, on
            whose skeleton the offsets were measured; the model's own joints for any other, such as MANO.
        backend: "torch" the readable reference; "triton" a fused CUDA kernel; "auto" what is fastest and sure.
    """

    def __init__(
        self,
        model: HandModel,
        pose_space: PoseSpace = "axis-angle",
        flat_hand_mean: bool = True,
        convention: str | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_choice("pose_space", pose_space, ("axis-angle", "pca", "matrix"))
        check_choice("backend", backend, ("auto", "torch", "triton"))
        if pose_space == "matrix" and not flat_hand_mean:
            raise ValueError(
                "flat_hand_mean: expected True with pose_space='matrix', got False; rotation matrices are absolute, "
                "there is no mean to add: use 'axis-angle' or 'pca'"
            )
        if backend == "triton":
            require_module(
                "triton", "HandLayer(backend='triton')", "install a CUDA build of torch or use backend='auto'"
            )
        self.model = model
        self.pose_space = pose_space
        self.flat_hand_mean = flat_hand_mean
        if convention is None:
            convention = "open" if model.name == OPEN_HAND else OWN_JOINTS
        self.convention = joint_convention(convention)
        self._has_offsets = bool(self.convention.offsets.any())  # `model` has none: nothing to compute
        self.backend = backend
        for name, array in self._constants().items():
            dtype = torch.float32 if array.dtype.kind == "f" else torch.int64
            self.register_buffer(name, torch.tensor(np.ascontiguousarray(array), dtype=dtype), persistent=False)

    def _constants(self) -> dict[str, np.ndarray]:
        model = self.model
        regress = model.joint_regressor
        shapes = model.shapedirs.transpose(2, 1, 0)  # (S, 3, V)
        directions = np.concatenate([shapes, model.posedirs.transpose(2, 1, 0)])  # (S + 135, 3, V)
        mirror = np.array([1.0 if model.side == "right" else -1.0, 1.0, 1.0])
        return {
            "template": model.v_template.T.reshape(-1),  # (3 V,)
            "directions": directions.reshape(len(directions), -1).T,  # (3 V, S + 135)
            "weights": model.weights.T,  # (16, V)
            "joint_template": (regress @ model.v_template).reshape(-1),  # (16 * 3,)
            "joint_directions": np.einsum("jv,vcs->sjc", regress, model.shapedirs).reshape(len(shapes), -1),
            "pose_mean": model.pose_mean,  # (45,)
            "pose_components": model.pose_components,  # (45, 45)
            "joint_offsets": self.convention.offsets * mirror,  # (21, 3)
            "identity": np.eye(3),
            "faces": model.faces,  # (F, 3)
            "tips": model.tip_vertices,  # (5,)
            "canonical": np.array(MODEL_TO_CANONICAL),  # (21,)
            "carrier": np.array(CANONICAL_BONE),  # (21,)
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "HandLayer":
        """Move or cast; a cast starts again from the model's float64 arrays, so that `.double()` is exact."""
        before = self.template.dtype
        super()._apply(fn, recurse)
        if self.template.dtype != before:
            for name, array in self._constants().items():
                buffer = getattr(self, name)
                setattr(self, name, torch.tensor(np.ascontiguousarray(array), dtype=buffer.dtype, device=buffer.device))
        return self

    def forward(
        self, pose: Tensor, shape: Tensor, global_rotation: Tensor | None = None, translation: Tensor | None = None
    ) -> HandOutput:
        """Pose the hand. All inputs get gradients.

        Args:
            pose: (B, 45), (B, N) or (B, 15, 3, 3), see the class; radians.
            shape: (B, S).
            global_rotation: (B, 3) axis-angle or (B, 3, 3), about joint 0; None: the identity.
            translation: (B, 3) metres, added last; None: none.

        Returns:
            Vertices, joints, skeleton and bone rotations.

        Raises:
            ValueError: shapes do not fit; on the CPU's fast path also NaN or infinite numbers.
            TypeError: another dtype than the layer's.
        """
        self._check(pose, shape, global_rotation, translation)
        run = self._operations(pose.device)
        if run is _FAST_CPU:  # elsewhere a look at the numbers would stop a GPU, or break a trace
            given = {"pose": pose, "shape": shape, "global_rotation": global_rotation, "translation": translation}
            for name, tensor in given.items():
                if tensor is not None:
                    check_finite(name, tensor)
        # half precision moves vertices by tenths of a millimetre
        with torch.autocast(pose.device.type, enabled=False):
            local = self._local_rotations(pose, global_rotation, run)  # (B, 16, 3, 3)
            features = torch.cat([shape, (local[:, 1:] - self.identity).flatten(1)], 1)  # (B, S + 135)
            rest_joints = torch.addmm(self.joint_template, shape, self.joint_directions).unflatten(1, (16, 3))
            rotations, skeleton, transforms = run.pose_bones(local, rest_joints)
            vertices, tips = run.blend_and_skin(features, transforms, self._skinning_constants())
            joints = self._joints(skeleton, tips, rotations)
        if translation is not None:
            offset = translation[:, None]
            vertices, joints, skeleton = vertices + offset, joints + offset, skeleton + offset
        return HandOutput(vertices, joints, skeleton, rotations)

    def _operations(self, device: torch.device) -> _Operations:
        """The three steps as the backend does them. Raises where a named backend cannot run."""
        if self.backend == "triton":
            from ops.hand_model.triton_skinning import blend_and_skin_triton

            return _Operations(axis_angle_to_matrix, pose_bones, blend_and_skin_triton)
        # compilers and exporters fuse and differentiate the plain formulation themselves
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        return _REFERENCE if self.backend == "torch" or device.type != "cpu" or traced else _FAST_CPU

    def _skinning_constants(self) -> SkinningConstants:
        return SkinningConstants(self.template, self.directions, self.weights, self.tips)

    def _local_rotations(self, pose: Tensor, global_rotation: Tensor | None, run: _Operations) -> Tensor:
        """(B, 16, 3, 3) rotation of every joint relative to its parent."""
        if self.pose_space == "pca":
            pose = pose @ self.pose_components[: pose.shape[1]]
        if not self.flat_hand_mean:
            pose = pose + self.pose_mean
        if global_rotation is None:
            global_rotation = self.identity.expand(pose.shape[0], 3, 3)
        if self.pose_space == "matrix" or global_rotation.ndim == 3:
            matrices = pose if self.pose_space == "matrix" else run.axis_angle_to_matrix(pose.unflatten(1, (15, 3)))
            if global_rotation.ndim == 2:
                global_rotation = run.axis_angle_to_matrix(global_rotation)
            return torch.cat([global_rotation[:, None], matrices], 1)
        return run.axis_angle_to_matrix(torch.cat([global_rotation, pose], 1).unflatten(1, (16, 3)))

    def _joints(self, skeleton: Tensor, tips: Tensor, rotations: Tensor) -> Tensor:
        """(B, 21, 3) canonical joints, moved by the convention's offsets."""
        joints = torch.cat([skeleton, tips], 1).index_select(1, self.canonical)
        if self._has_offsets:
            moved = rotations.index_select(1, self.carrier) @ self.joint_offsets[:, :, None]
            joints = joints + moved.squeeze(-1)
        return joints

    def _check(self, pose: Tensor, shape: Tensor, global_rotation: Tensor | None, translation: Tensor | None) -> None:
        """Raise unless the inputs have the shapes, the dtype and the device that the layer expects."""
        given = {"pose": pose, "shape": shape, "global_rotation": global_rotation, "translation": translation}
        expected = {"axis-angle": ("B", 45), "pca": ("B", "N"), "matrix": ("B", 15, 3, 3)}
        check_shape("pose", pose, expected[self.pose_space])
        if self.pose_space == "pca" and not 1 <= pose.shape[1] <= 45:
            raise ValueError(f"pose: expected 1 to 45 pose components, got {pose.shape[1]}")
        batch = pose.shape[0]
        check_shape("shape", shape, (batch, self.joint_directions.shape[0]))
        if global_rotation is not None:
            check_shape("global_rotation", global_rotation, (batch, 3, 3)[: max(global_rotation.ndim, 2)])
        if translation is not None:
            check_shape("translation", translation, (batch, 3))
        check_like_layer(self.template, **{name: tensor for name, tensor in given.items() if tensor is not None})


def mirror_pose(pose: Tensor) -> Tensor:
    """The same pose of the other hand: (x, -y, -z) of every axis-angle in (..., 3 n)."""
    signs = pose.new_tensor([1.0, -1.0, -1.0])
    return (pose.unflatten(-1, (-1, 3)) * signs).flatten(-2)
