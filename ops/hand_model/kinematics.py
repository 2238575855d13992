"""Forward kinematics of the hand's tree of 16 bones (Romero et al. 2017, eq. 2): reference and fast CPU path.

Letters: B batch. Joints 1-15 are five fingers of three, finger by finger (`ops.joints.MODEL_JOINTS`).
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_FINGERS, _LEVELS = 5, 3


def pose_bones(local: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move the bones: the readable reference, all fingers together, one level of the tree at a time.

    Args:
        local: (B, 16, 3, 3) rotation of every joint relative to its parent; the root's is the global rotation.
        rest: (B, 16, 3) joints of the rest pose, metres. The root turns about its own rest place.

    Returns:
        World rotations (B, 16, 3, 3), joints (B, 16, 3), and transforms (B, 12, 16): the rows of every bone's 3x4
        matrix from rest to posed space. All inputs get gradients.
    """
    fingers = local[:, 1:].unflatten(1, (_FINGERS, _LEVELS))  # (B, 5, 3, 3, 3)
    rest_fingers = rest[:, 1:].unflatten(1, (_FINGERS, _LEVELS))  # (B, 5, 3, 3)
    rotation, joint, parent = local[:, :1], rest[:, :1], rest[:, :1]
    rotations, joints = [], []
    for level in range(_LEVELS):
        bone = rest_fingers[:, :, level] - parent  # (B, 5, 3)
        joint = joint + (rotation @ bone[..., None]).squeeze(-1)
        rotation = rotation @ fingers[:, :, level]  # (B, 5, 3, 3)
        parent = rest_fingers[:, :, level]
        rotations.append(rotation)
        joints.append(joint)
    world = torch.cat([local[:, :1], torch.stack(rotations, 2).flatten(1, 2)], 1)
    posed = torch.cat([rest[:, :1], torch.stack(joints, 2).flatten(1, 2)], 1)
    offsets = posed - (world @ rest[..., None]).squeeze(-1)
    transforms = torch.cat([world, offsets[..., None]], -1).flatten(2).transpose(1, 2)
    return world, posed, transforms


def pose_bones_cpu(local: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`pose_bones` by one compiled loop, forward and backward; on the CPU, differentiable once."""
    return _PoseBones.apply(local, rest)


def axis_angle_to_matrix_cpu(axis_angles: Tensor) -> Tensor:
    """`ops.rotation.axis_angle_to_matrix` of (B, J, 3) by one compiled loop; on the CPU, differentiable once."""
    return _Rodrigues.apply(axis_angles)


class _Rodrigues(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, axis_angles: Tensor) -> Tensor:
        from ops.hand_model import numba_kinematics as kernels  # numba takes 0.3 s to import

        matrices = axis_angles.new_empty(*axis_angles.shape, 3)
        kernels.rodrigues(axis_angles.reshape(-1, 3).numpy(), matrices.view(-1, 3, 3).numpy())
        ctx.save_for_backward(axis_angles)
        return matrices

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_matrices: Tensor) -> Tensor:
        from ops.hand_model import numba_kinematics as kernels

        (axis_angles,) = ctx.saved_tensors
        d_axis_angles = torch.empty(axis_angles.shape, dtype=axis_angles.dtype)
        kernels.rodrigues_backward(
            axis_angles.detach().reshape(-1, 3).numpy(),
            d_matrices.reshape(-1, 3, 3).numpy(),
            d_axis_angles.view(-1, 3).numpy(),
        )
        return d_axis_angles


class _PoseBones(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, local: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from ops.hand_model import numba_kinematics as kernels

        local, rest = local.contiguous(), rest.contiguous()
        world, joints = torch.empty_like(local), torch.empty_like(rest)
        transforms = local.new_empty(len(local), 12, 16)
        kernels.pose_bones(local.numpy(), rest.numpy(), world.numpy(), joints.numpy(), transforms.numpy())
        ctx.save_for_backward(local, rest, world)
        return world, joints, transforms

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_world: Tensor, d_joints: Tensor, d_transforms: Tensor) -> tuple[Tensor, Tensor]:
        from ops.hand_model import numba_kinematics as kernels

        local, rest, world = (tensor.detach() for tensor in ctx.saved_tensors)
        d_local, d_rest = torch.empty_like(local), torch.zeros_like(rest)
        kernels.pose_bones_backward(
            local.numpy(),
            rest.numpy(),
            world.numpy(),
            # the kernel adds to these two on its way to the root
            d_world.clone(memory_format=torch.contiguous_format).numpy(),
            d_joints.clone(memory_format=torch.contiguous_format).numpy(),
            d_transforms.contiguous().numpy(),
            d_local.numpy(),
            d_rest.numpy(),
        )
        return d_local, d_rest
