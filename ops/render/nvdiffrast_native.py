"""As `nvdiffrast_backend`, with nvdiffrast's own antialiasing: to compare with, and for scenes of large triangles.

It looks for outline edges among the triangles that pixels show. At a hand's density most of the outline belongs to
triangles smaller than a pixel, and its gradient is lost (see `benchmarks/render.py`).
"""

import torch
from torch import Tensor

from ops.render.nvdiffrast_backend import (
    clip_positions,
    import_nvdiffrast,
    interpolate,
    nearness,
    rasterize_ids,
    screen_depth,
)
from ops.render.topology import Topology

__all__ = ["antialias", "interpolate", "rasterize_ids", "silhouette"]


def silhouette(pixels: Tensor, z: Tensor, topology: Topology, size: tuple[int, int], near: float) -> Tensor:
    """Antialiased coverage (B, 1, H, W) in [0, 1]; gradient towards pixels."""
    ids = rasterize_ids(pixels.detach(), z.detach(), topology, size, near, perspective=False)
    _, depth = interpolate(pixels.detach(), z.detach(), topology, ids, perspective=False)
    mask = (ids >= 0)[:, None].to(pixels.dtype)
    return antialias(mask, ids, depth, pixels, z, topology, near, False, 0.0).clamp(0, 1)


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
    """The image (B, C, H, W), blended where nvdiffrast finds outlines and folds; its own rule, no tolerance.

    Gradients towards image and pixels. `fold_tolerance` is not used: nvdiffrast compares depths without one.
    """
    size = (ids.shape[1], ids.shape[2])
    positions, low, high = clip_positions(pixels, z.detach(), size, near, perspective)
    shown = ids >= 0
    values = nearness(torch.where(shown, depth.detach(), 1.0), perspective)
    level = torch.where(shown, screen_depth(values, low[..., None], high[..., None]), 0.0)
    # (u, v, z / w, face + 1): u and v play no part in antialiasing
    seen = torch.stack([torch.zeros_like(level), torch.zeros_like(level), level, (ids + 1).to(level.dtype)], -1)
    picture = image.permute(0, 2, 3, 1).contiguous()
    blended = import_nvdiffrast().antialias(picture, seen.contiguous(), positions.contiguous(), topology.faces)
    return blended.permute(0, 3, 1, 2)
