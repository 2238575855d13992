"""The CPU backend: numba kernels behind autograd, parallel over the batch. float32; the contract is in `ops.render`.

Kernels compile on first use, 20 s of CPU time for all of them, and are then read from numba's cache beside the source.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ops.memory import MEMORY
from ops.render import numba_edges
from ops.render.numba_interpolate import interpolate_backward, interpolate_kernel
from ops.render.numba_raster import id_kernel
from ops.render.threads import over_batch
from ops.render.topology import Topology

# what the backward of antialiasing walks over: crossings and places of consecutive parts of the batch
_Tables = list[tuple[np.ndarray, np.ndarray]]


def rasterize_ids(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, perspective: bool
) -> Tensor:
    """The face that each pixel shows, (B, H, W) int32, -1 none. No gradient."""
    ids = MEMORY.empty((len(z), *size), np.int32)
    arrays = _numpy(pixels, z, topology.faces)
    over_batch(lambda start, stop: id_kernel(start, stop, *arrays, near, perspective, ids.numpy()), len(z))
    return ids


def interpolate(pixels: Tensor, z: Tensor, topology: Topology, ids: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics (B, H, W, 3) and depth (B, H, W), metres, of the faces seen; 0 where none is."""
    return _Interpolate.apply(pixels, z, topology, ids, perspective)


def silhouette(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Antialiased coverage (B, 1, H, W) in [0, 1]."""
    return _Silhouette.apply(pixels, z, topology, size, near)


def antialias(
    image: Tensor,
    ids: Tensor,
    depth: Tensor,
    pixels: Tensor,
    z: Tensor,
    topology: Topology,
    near: float,
    perspective: bool,
    fold_tolerance: float,
) -> Tensor:
    """The image (B, C, H, W), blended along outlines and folds."""
    level = torch.where(ids >= 0, -depth.detach(), -math.inf)
    return _Antialias.apply(image, pixels, level, z, topology, near, perspective, fold_tolerance)


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, pixels: Tensor, z: Tensor, topology: Topology, ids: Tensor, perspective: bool
    ) -> tuple[Tensor, Tensor]:
        barycentrics, depth = MEMORY.empty((*ids.shape, 3)), MEMORY.empty(ids.shape)
        arrays = _numpy(pixels, z, topology.faces, ids)
        outputs = barycentrics.numpy(), depth.numpy()
        over_batch(lambda start, stop: interpolate_kernel(start, stop, *arrays, perspective, *outputs), len(z))
        ctx.save_for_backward(pixels, z, topology.faces, ids)
        ctx.perspective = perspective
        return barycentrics, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_barycentrics: Tensor, grad_depth: Tensor) -> tuple[Tensor | None, ...]:
        pixels, z, faces, ids = ctx.saved_tensors
        grad_pixels, grad_z = torch.zeros_like(pixels), torch.zeros_like(z)
        arrays = _numpy(pixels, z, faces, ids)
        grads = _numpy(grad_barycentrics, grad_depth, grad_pixels, grad_z)
        over_batch(lambda start, stop: interpolate_backward(start, stop, *arrays, ctx.perspective, *grads), len(z))
        return grad_pixels, grad_z, None, None, None


class _Silhouette(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
        coverage = MEMORY.empty((len(z), 1, *size))
        xy, depth, *tables = _numpy(pixels, z, topology.faces, topology.edges, topology.sides)
        arrays = xy, depth, near, tuple(tables), coverage[:, 0].numpy()
        ctx.tables = over_batch(lambda start, stop: numba_edges.coverage_kernel(start, stop, *arrays), len(z))
        ctx.vertices = pixels.shape[1]
        return coverage

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_coverage: Tensor) -> tuple[Tensor | None, ...]:
        batch = len(grad_coverage)
        grad_pixels = torch.zeros(batch, ctx.vertices, 2)
        grads = _numpy(grad_coverage.flatten(1), grad_pixels)
        _over_tables(lambda tables: numba_edges.blend_mask_backward(*tables, *grads), ctx.tables)
        return grad_pixels, None, None, None, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        pixels: Tensor,
        level: Tensor,
        z: Tensor,
        topology: Topology,
        near: float,
        perspective: bool,
        tolerance: float,
    ) -> Tensor:
        blended = image.clone(memory_format=torch.contiguous_format)
        flat = _numpy(image.flatten(2), blended.flatten(2))
        xy, depth, heights, *tables = _numpy(pixels, z, level, topology.faces, topology.edges, topology.sides)
        arrays = xy, depth, near, tuple(tables), heights, perspective, tolerance

        def task(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            tables = numba_edges.fold_kernel(start, stop, *arrays)
            numba_edges.blend_image_kernel(*tables, *flat)
            return tables

        ctx.tables = over_batch(task, len(z))
        ctx.save_for_backward(image, pixels)
        return blended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_blended: Tensor) -> tuple[Tensor | None, ...]:
        image, pixels = ctx.saved_tensors
        grad_image, grad_pixels = grad_blended.clone(memory_format=torch.contiguous_format), torch.zeros_like(pixels)
        grads = _numpy(image.flatten(2), grad_blended.flatten(2), grad_image.flatten(2), grad_pixels)
        _over_tables(lambda tables: numba_edges.blend_image_backward(*tables, *grads), ctx.tables)
        return grad_image, grad_pixels, None, None, None, None, None, None


def _over_tables(task: Any, tables: _Tables) -> None:
    """Runs task on each table; a picture's crossings are all in one, so no two threads write to the same gradient."""
    over_batch(lambda start, stop: [task(table) for table in tables[start:stop]], len(tables))


def _numpy(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """The same memory where it is contiguous: what a kernel writes to must be."""
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)
