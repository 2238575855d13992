"""Depth, part labels and RGB in one pass without gradients: what data generation renders with.

On the CPU numba, compiled on first use (seconds, then cached beside the source) and parallel over the batch; see
threads.py for the number of threads. On CUDA Triton, labels only. Same coverage rule and near plane as
`ops.render.rasterize`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ops.camera import check_intrinsics
from ops.checks import check_finite, check_same_device, check_shape
from ops.memory import MEMORY
from ops.render.numba_raster import colour_kernel, label_kernel
from ops.render.threads import over_batch
from ops.render.topology import NEAR, Topology, check_near, check_size, topology_of


class Texture(NamedTuple):
    """Pictures on the surface: `pictures` (T, h, w, 3) uint8, picture b of a batch wears number b % T."""

    pictures: Tensor
    uv: Tensor  # (N, 2) in [0, 1], v upwards
    faces: Tensor  # (F, 3) rows of uv


def face_parts(vertex_parts: Tensor, faces: Tensor) -> Tensor:
    """Picture label (F,) uint8 of each face: the label of most of its corners plus 1; all different: the first's.

    Args:
        vertex_parts: (V,) integer, 0 palm, 1-19 finger parts (`HandModel.part_labels`).
        faces: (F, 3) integer.
    """
    first, second, third = vertex_parts[faces.long()].unbind(-1)
    return (torch.where(second == third, second, first) + 1).to(torch.uint8)


def render_labels(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    size: int | tuple[int, int],
    part_of_face: Tensor,
    near: float = NEAR,
    closed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Depth and part labels under a pinhole camera. No gradients.

    Args:
        vertices: (B, V, 3) float32, metres, camera frame, on the CPU or a CUDA device.
        faces: (F, 3) integer; pass the same tensor again and again, what is derived from it is kept.
        K: (B, 3, 3) or (3, 3) float32, pixels.
        size: side of the square picture, or (H, W).
        part_of_face: (F,) uint8, the label of each face (`face_parts`).
        near: metres; faces with a vertex nearer than this are left out.
        closed: the mesh has no rim and the camera is outside: faces seen from behind are hidden by others, and the CPU
            leaves them out, which takes 40 % less time.

    Returns:
        depth (B, 1, H, W) float32, metres, 0 where nothing is; parts (B, H, W) uint8, 0 where nothing is.
    """
    check_near(near)
    height, width = check_size(size)
    if isinstance(vertices, Tensor) and vertices.device.type == "cuda":
        from ops.render import triton_backend

        topology, K = _check(vertices, faces, K, part_of_face, "cuda")
        return triton_backend.labels(vertices, topology, K, (height, width), part_of_face, near)
    arrays = _checked(vertices, faces, K, part_of_face)
    depth = MEMORY.empty((len(vertices), height, width))
    parts = MEMORY.empty((len(vertices), height, width), np.uint8)
    outputs = depth.numpy(), parts.numpy()
    over_batch(lambda start, stop: label_kernel(start, stop, *arrays, near, closed, *outputs), len(vertices))
    return depth[:, None], parts


def render_labels_rgb(
    vertices: Tensor,
    faces: Tensor,
    K: Tensor,
    size: int | tuple[int, int],
    part_of_face: Tensor,
    colours: Tensor,
    background: Tensor | None = None,
    texture: Texture | None = None,
    near: float = NEAR,
    closed: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, part labels and RGB under a pinhole camera. No gradients, edges not antialiased.

    Args:
        vertices, faces, K, size, part_of_face, near, closed: as in `render_labels`.
        colours: (B, V, 3) float32, albedo times light at each vertex (`shading.vertex_light`), or with a texture the
            light alone; interpolated over faces, 1 is full brightness.
        background: (B, 3, H, W) uint8; None is black.
        texture: multiplied onto the colours.

    Returns:
        depth (B, 1, H, W) and parts (B, H, W) as in `render_labels`; rgb (B, 3, H, W) uint8, divide by 255 for [0, 1].
    """
    arrays = _checked(vertices, faces, K, part_of_face)
    check_near(near)
    height, width = check_size(size)
    check_shape("colours", colours, tuple(vertices.shape))
    if background is None:
        rgb = torch.zeros(len(vertices), 3, height, width, dtype=torch.uint8)
    else:
        check_shape("background", background, (len(vertices), 3, height, width))
        _check_bytes("background", background)
        rgb = background.clone(memory_format=torch.contiguous_format)
    depth = MEMORY.empty((len(vertices), height, width))
    parts = MEMORY.empty((len(vertices), height, width), np.uint8)
    outputs = depth.numpy(), parts.numpy()
    paint = colours.detach().float().contiguous().numpy(), *_texture_arrays(texture, len(faces)), rgb.numpy()
    over_batch(lambda start, stop: colour_kernel(start, stop, *arrays, near, closed, *outputs, *paint), len(vertices))
    return depth[:, None], parts, rgb


def _texture_arrays(texture: Texture | None, faces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if texture is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 1, 1, 3), np.uint8)
    check_shape("texture.pictures", texture.pictures, ("T", "h", "w", 3))
    _check_bytes("texture.pictures", texture.pictures)
    check_shape("texture.uv", texture.uv, ("N", 2))
    check_finite("texture.uv", texture.uv)
    check_shape("texture.faces", texture.faces, (faces, 3))
    uv_faces = topology_of(texture.faces, len(texture.uv)).faces
    return texture.uv.float().contiguous().numpy(), uv_faces.numpy(), texture.pictures.contiguous().numpy()


def _check_bytes(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.uint8:
        raise TypeError(f"{name}: expected torch.uint8, got {tensor.dtype}; convert with .to(torch.uint8)")


def _checked(vertices: Tensor, faces: Tensor, K: Tensor, part_of_face: Tensor) -> tuple[np.ndarray, ...]:
    topology, K = _check(vertices, faces, K, part_of_face, "cpu")
    tensors = (vertices.detach(), topology.faces, K, part_of_face)
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


def _check(vertices: Tensor, faces: Tensor, K: Tensor, part_of_face: Tensor, device: str) -> tuple[Topology, Tensor]:
    """The topology, and K (B, 3, 3) float32."""
    check_shape("vertices", vertices, ("B", "V", 3))
    if vertices.device.type != device or vertices.dtype != torch.float32:
        raise TypeError(
            f"vertices: expected float32 on the {device.upper()}, got {vertices.dtype} on {vertices.device}; "
            f"convert with .float().{device}(), or use ops.render.render for other devices"
        )
    check_finite("vertices", vertices)
    topology = topology_of(faces, vertices.shape[1])
    check_intrinsics(K)
    if K.ndim == 3:
        check_shape("K", K, (len(vertices), 3, 3))
    check_shape("part_of_face", part_of_face, (len(faces),))
    _check_bytes("part_of_face", part_of_face)
    check_same_device(vertices=vertices, faces=faces, K=K, part_of_face=part_of_face)
    return topology, K.detach().float().expand(len(vertices), 3, 3)
