"""The CUDA backend without compiled extensions: Triton's z-buffer and edge-driven antialiasing.

The contract of the four functions is in `ops.render`, their meaning in `reference.py`. Imported inside calls only.
"""

import math

import torch
from torch import Tensor

from ops.render.reference import interpolate
from ops.render.topology import Topology
from ops.render.triton_edges import blend
from ops.render.triton_raster import cover, rasterize_ids

__all__ = ["antialias", "interpolate", "rasterize_ids", "silhouette"]


def silhouette(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Antialiased coverage (B, 1, H, W) in [0, 1]; gradient towards pixels."""
    covered = cover(pixels, z, topology, size, near) > 0
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
