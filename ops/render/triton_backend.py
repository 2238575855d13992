"""The CUDA backend without compiled extensions: Triton's z-buffer and edge-driven antialiasing.

The contract of the four functions is in `ops.render`, their meaning in `reference.py`. Imported inside calls only.
"""

import math

import torch
from torch import Tensor

from ops.camera import project
from ops.render.topology import Topology
from ops.render.triton_edges import blend
from ops.render.triton_interpolate import interpolate
from ops.render.triton_raster import cover, rasterize_ids, show_labels

__all__ = ["antialias", "interpolate", "labels", "rasterize_ids", "silhouette"]


def silhouette(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Antialiased coverage (B, 1, H, W) in [0, 1]; gradient towards pixels."""
    return coverage(cover(pixels, z, topology, size, near) > 0, pixels, z, topology, near)


def coverage(covered: Tensor, pixels: Tensor, z: Tensor, topology: Topology, near: float) -> Tensor:
    """The hard mask (B, H, W) bool, blended along the outline: (B, 1, H, W) in [0, 1]; gradient towards pixels."""
    # nothing but coverage counts: all surfaces at one level, the background behind it
    level = torch.where(covered, 0.0, -math.inf)
    flat = torch.where(z < near, -math.inf, 0.0)
    mask = covered[:, None].to(pixels.dtype)
    return blend(mask, level, flat, pixels, topology, perspective=False, tolerance=math.inf).clamp(0, 1)


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
    """The image (B, C, H, W), blended along outlines and folds; gradients towards image and pixels."""
    level = torch.where(ids >= 0, -depth.detach(), -math.inf)
    vertex_level = torch.where(z < near, -math.inf, -z.detach())
    return blend(image, level, vertex_level, pixels, topology, perspective, fold_tolerance)


def labels(
    vertices: Tensor, topology: Topology, K: Tensor, size: tuple[int, int], part_of_face: Tensor, near: float
) -> tuple[Tensor, Tensor]:
    """Depth (B, 1, H, W) and part labels (B, H, W) of pinhole pictures: see `labels.render_labels`."""
    # float64 from the projection on, as on the CPU
    z = vertices[..., 2:].detach().double()
    in_front = torch.cat([vertices[..., :2].detach().double(), z.clamp(min=near)], -1)
    depth, parts = show_labels(project(in_front, K.double()), z[..., 0], topology, size, near, part_of_face)
    return depth[:, None], parts
