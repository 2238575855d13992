"""Pinhole projection for the renderer: safe behind the camera, in one pass on the CPU where plain torch takes ten."""

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy import ndarray as Array
from torch import Tensor
from torch.autograd.function import once_differentiable

from ops.memory import MEMORY
from ops.render.threads import over_batch

FARTHEST = 1e7  # pixels; keeps float32 finite for vertices far off the picture


def project_in_front(vertices: Tensor, K: Tensor, near: float) -> Tensor:
    """Pixels (B, V, 2) of vertices; those nearer than `near` are projected as if they were at that depth.

    So culled vertices never divide by zero. Gradients flow to vertices and to the first two rows of K, not through what
    was clamped: a depth less than near, a pixel farther than FARTHEST from the origin.

    Args:
        vertices: (B, V, 3) metres, camera frame.
        K: (B, 3, 3) or (3, 3), pixels, last row 0 0 1.
        near: metres, positive.
    """
    if vertices.device.type == "cpu" and vertices.dtype == torch.float32:
        return _Project.apply(vertices, K.expand(len(vertices), 3, 3), near)
    return project_in_front_reference(vertices, K, near)


def project_in_front_reference(vertices: Tensor, K: Tensor, near: float) -> Tensor:
    """The same in plain torch, for any device and dtype."""
    z = vertices[..., 2:].clamp(min=near)
    in_front = torch.cat([vertices[..., :2], z], -1)
    return (in_front @ K[..., :2, :].transpose(-1, -2) / z).clamp(-FARTHEST, FARTHEST)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, K: Tensor, near: float) -> Tensor:
        vertices, K = vertices.contiguous(), K.contiguous()
        pixels = MEMORY.empty((*vertices.shape[:2], 2))
        arrays = vertices.detach().numpy(), K.detach().numpy()
        over_batch(lambda start, stop: _project_kernel(start, stop, *arrays, near, pixels.numpy()), len(vertices))
        ctx.save_for_backward(vertices, K)
        ctx.near = near
        return pixels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_pixels: Tensor) -> tuple[Tensor, Tensor, None]:
        vertices, K = ctx.saved_tensors
        grad_vertices, grad_K = MEMORY.empty(vertices.shape), torch.zeros_like(K)
        arrays = vertices.numpy(), K.numpy(), ctx.near, grad_pixels.contiguous().numpy()
        grads = grad_vertices.numpy(), grad_K.numpy()
        over_batch(lambda start, stop: _project_backward(start, stop, *arrays, *grads), len(vertices))
        return grad_vertices, grad_K, None


_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _project_kernel(start: int, stop: int, vertices: Array, K: Array, near: float, pixels: Array) -> None:
    for b in range(start, stop):
        for v in range(vertices.shape[1]):
            x, y, z = float(vertices[b, v, 0]), float(vertices[b, v, 1]), max(float(vertices[b, v, 2]), near)
            nearness = 1.0 / z  # a division takes as long as all the rest
            for i in range(2):
                value = (K[b, i, 0] * x + K[b, i, 1] * y) * nearness + K[b, i, 2]
                pixels[b, v, i] = min(max(value, -FARTHEST), FARTHEST)


@njit(**_OPTIONS)
def _project_backward(
    start: int,
    stop: int,
    vertices: Array,
    K: Array,
    near: float,
    grad_pixels: Array,
    grad_vertices: Array,
    grad_K: Array,
) -> None:
    sums = np.empty((2, 3))
    for b in range(start, stop):
        sums[:] = 0
        for v in range(vertices.shape[1]):
            x, y, z = float(vertices[b, v, 0]), float(vertices[b, v, 1]), max(float(vertices[b, v, 2]), near)
            nearness = 1.0 / z
            x, y = x * nearness, y * nearness
            to_x, to_y, to_z = 0.0, 0.0, 0.0
            for i in range(2):
                shift = K[b, i, 0] * x + K[b, i, 1] * y
                grad = float(grad_pixels[b, v, i]) if abs(shift + K[b, i, 2]) <= FARTHEST else 0.0
                to_x += grad * K[b, i, 0]
                to_y += grad * K[b, i, 1]
                to_z -= grad * shift
                sums[i, 0] += grad * x
                sums[i, 1] += grad * y
                sums[i, 2] += grad
            grad_vertices[b, v, 0], grad_vertices[b, v, 1] = to_x * nearness, to_y * nearness
            grad_vertices[b, v, 2] = to_z * nearness if vertices[b, v, 2] >= near else 0.0
        grad_K[b, :2] += sums
