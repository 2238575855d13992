"""CUDA backend on nvdiffrast's rasteriser: it finds the faces, interpolation and antialiasing are this package's own.

nvdiffrast (Laine et al., "Modular Primitives for High-Performance Differentiable Rendering", SIGGRAPH Asia 2020) is
used through its public functions and imported inside the calls; its licence allows research and evaluation only. It
snaps vertices to a sub-pixel grid, so pixels whose centre lies on an edge may show the other face.
"""

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ops.checks import require_module
from ops.render.topology import Topology

__all__ = ["antialias", "interpolate", "rasterize_ids", "silhouette"]

REMEDY = (
    "install it from NVlabs' repository (its licence: research and evaluation only): "
    "pip install setuptools wheel ninja; "
    "pip install git+https://github.com/NVlabs/nvdiffrast.git --no-build-isolation; or use backend='triton'"
)
_MOST_FACES = (1 << 24) - 1  # of a call: it returns the index as float32
_DEPTH_RANGE = 0.99  # nearest and farthest vertex: within -1..1, so that rounding clips neither


def rasterize_ids(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, perspective: bool
) -> Tensor:
    """The face (B, H, W) int32 that each pixel shows, -1 none: see the package's docstring. No gradient."""
    batch, faces = len(z), len(topology.faces)
    if batch * faces * size[0] * size[1] == 0:
        return torch.full((batch, *size), -1, dtype=torch.int32, device=z.device)
    step = max(1, _MOST_FACES // faces)
    parts = [
        _rasterize_some(pixels[i : i + step], z[i : i + step], topology, size, near, perspective)
        for i in range(0, batch, step)
    ]
    return torch.cat(parts)


def interpolate(pixels: Tensor, z: Tensor, topology: Topology, ids: Tensor, perspective: bool) -> tuple[Tensor, Tensor]:
    """Barycentrics (B, H, W, 3) and depth (B, H, W) of the faces seen; gradients towards pixels and z."""
    from ops.render import triton_backend

    return triton_backend.interpolate(pixels, z, topology, ids, perspective)


def silhouette(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Antialiased coverage (B, 1, H, W) in [0, 1]; gradient towards pixels."""
    from ops.render.triton_backend import coverage

    covered = rasterize_ids(pixels.detach(), z.detach(), topology, size, near, perspective=False) >= 0
    return coverage(covered, pixels, z, topology, near)


def antialias(image: Tensor, *scene: Any) -> Tensor:
    """The image (B, C, H, W), blended along outlines and folds; gradients towards image and pixels."""
    from ops.render import triton_backend

    return triton_backend.antialias(image, *scene)


def import_nvdiffrast() -> ModuleType:
    """The module nvdiffrast.torch, or an error that says how to install it."""
    return require_module("nvdiffrast.torch", "backend 'nvdiffrast'", REMEDY)


def clip_positions(
    pixels: Tensor, z: Tensor, size: tuple[int, int], near: float, perspective: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Projected vertices in the clip space that nvdiffrast expects.

    Its row 0 lies at y = -1: rows that count downwards from there need no flip. Depth z / w grows away from the viewer;
    it is affine in nearness (1 / z, or -z under weak perspective) and spans the vertices in front of the camera.

    Returns:
        positions (B, V, 4) with gradients towards pixels; nearness of the farthest and of the nearest vertex, (B, 1).
    """
    height, width = size
    x, y = (2 * pixels[..., 0] + 1) / width - 1, (2 * pixels[..., 1] + 1) / height - 1
    live = z >= near
    values = nearness(z, perspective)
    low = values.masked_fill(~live, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~live, -torch.inf).amax(1, keepdim=True)
    depth = torch.where(live, screen_depth(values, low, high), 0.0)
    w = torch.where(live, z, 1.0) if perspective else torch.ones_like(z)
    return torch.stack([x * w, y * w, depth * w, w], -1), low, high


def nearness(z: Tensor, perspective: bool) -> Tensor:
    """What is affine on the screen: 1 / z, or -z under weak perspective."""
    return 1 / z if perspective else -z


def screen_depth(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """z / w in [-1, 1] of a nearness between that of the farthest (`low`) and of the nearest vertex (`high`)."""
    return _DEPTH_RANGE * (1 - 2 * (values - low) / (high - low).clamp(min=1e-12))


def _rasterize_some(
    pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float, perspective: bool
) -> Tensor:
    nvdiffrast = import_nvdiffrast()
    batch, vertices = z.shape
    faces = len(topology.faces)
    positions, _, _ = clip_positions(pixels.detach().float(), z.detach().float(), size, near, perspective)
    culled = (z < near)[:, topology.faces.long()].any(-1, keepdim=True)  # (B, F, 1)
    # a culled face becomes a point: nvdiffrast would cut it at the near plane instead
    corners = torch.where(culled, 0, topology.faces) + vertices * torch.arange(batch, device=z.device)[:, None, None]
    ranges = torch.tensor([[faces * i, faces] for i in range(batch)], dtype=torch.int32)  # on the CPU, by its contract
    seen, _ = nvdiffrast.rasterize(
        _context(z.device),
        positions.reshape(-1, 4).contiguous(),
        corners.reshape(-1, 3).int().contiguous(),
        size,
        ranges=ranges,
        grad_db=False,
    )
    index = seen[..., 3].int() - 1  # of all faces of the batch
    first = faces * torch.arange(batch, dtype=torch.int32, device=z.device)[:, None, None]
    return torch.where(index >= 0, index - first, -1)


@cache
def _context(device: torch.device) -> Any:
    if device.type != "cuda":
        raise ValueError(
            f"backend 'nvdiffrast': expected tensors on a CUDA device, got {device}; move them with .cuda()"
        )
    return import_nvdiffrast().RasterizeCudaContext(device=device)
