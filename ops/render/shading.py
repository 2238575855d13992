"""What surfaces look like: normals, texture, simple light. Plain torch on any backend's fragments, differentiable."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ops.checks import check_floating, check_shape
from ops.render.numba_shading import light_kernel
from ops.render.threads import over_batch
from ops.render.topology import topology_of


class Light(NamedTuple):
    """Light from everywhere and from one direction. Each colour is a number, (3,) or (B, 3); 1 is full brightness."""

    direction: Tensor  # (3,) or (B, 3) towards the light, camera frame, any length
    ambient: Tensor | float = 0.4
    directional: Tensor | float = 0.6


class Surface(NamedTuple):
    """Colour in [0, 1]: per vertex, from a texture, or the product of both. Gradients flow to all of it but `faces`."""

    colours: Tensor | None = None  # (V, 3) or (B, V, 3)
    textures: Tensor | None = None  # (1, 3, h, w) or (B, 3, h, w)
    uv: Tensor | None = None  # (N, 2) in [0, 1], v upwards
    faces: Tensor | None = None  # (F, 3) rows of uv


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (B, V, 3), outwards where faces (F, 3) are counter-clockwise from outside; faces weigh by area."""
    a, b, c = vertices[:, faces.long()].unbind(2)  # (B, F, 3) each
    face_normals = torch.linalg.cross(b - a, c - a)
    corners = faces.long().T.reshape(-1)
    normals = torch.zeros_like(vertices).index_add(1, corners, face_normals.repeat(1, 3, 1))
    return functional.normalize(normals, dim=-1, eps=1e-20)  # areas of mm² faces are 1e-6: far above eps


def vertex_light(vertices: Tensor, faces: Tensor, light: Light) -> Tensor:
    """Light (B, V, 3) that reaches each vertex: ambient + directional max(0, normal . direction)."""
    tensors = (vertices, *(value for value in light if isinstance(value, Tensor)))
    graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if vertices.device.type == "cpu" and vertices.dtype == torch.float32 and not graph:
        return _light_by_kernel(vertices, faces, light)
    direction = functional.normalize(_per_vertex(light.direction, vertices), dim=-1)
    cosine = (vertex_normals(vertices, faces) * direction).sum(-1, keepdim=True)
    return _per_vertex(light.ambient, vertices) + _per_vertex(light.directional, vertices) * cosine.clamp(min=0)


def _light_by_kernel(vertices: Tensor, faces: Tensor, light: Light) -> Tensor:
    lit = torch.empty(vertices.shape)
    points, corners = vertices.detach().contiguous(), topology_of(faces, vertices.shape[1]).faces
    values = [torch.as_tensor(value, dtype=torch.float32).detach().expand(len(vertices), 3) for value in light]
    arrays = [tensor.numpy() for tensor in (points, corners, *values, lit)]
    over_batch(lambda start, stop: light_kernel(start, stop, *arrays), len(vertices))
    return lit


def interpolate_attributes(attributes: Tensor, faces: Tensor, ids: Tensor, barycentrics: Tensor) -> Tensor:
    """Values at the vertices, (B, N, C), as pictures (B, C, H, W); 0 where nothing is.

    Args:
        attributes: (B, N, C).
        faces: (F, 3) integer, rows of the attributes.
        ids: (B, H, W) rows of faces, -1 none.
        barycentrics: (B, H, W, 3).
    """
    batch, y, x = torch.nonzero(ids >= 0, as_tuple=True)  # a hand covers a sixth of its picture
    count, channels = attributes.shape[1:]
    rows = faces.long()[ids[batch, y, x].long()] + batch[:, None] * count  # (P, 3)
    corners = attributes.flatten(0, 1).index_select(0, rows.reshape(-1)).reshape(-1, 3, channels)  # (P, 3, C)
    values = (corners * barycentrics[batch, y, x][..., None].to(attributes.dtype)).sum(1)
    picture = attributes.new_zeros(*ids.shape, channels).index_put((batch, y, x), values)
    return picture.permute(0, 3, 1, 2)


def surface_normals(vertices: Tensor, faces: Tensor, ids: Tensor, barycentrics: Tensor) -> Tensor:
    """Unit normals (B, 3, H, W), camera frame, interpolated from the vertices; 0 where nothing is."""
    return functional.normalize(
        interpolate_attributes(vertex_normals(vertices, faces), faces, ids, barycentrics), dim=1
    )


def shade(
    vertices: Tensor,
    faces: Tensor,
    ids: Tensor,
    barycentrics: Tensor,
    surface: Surface | None,
    light: Light | None,
    background: Tensor | None,
) -> Tensor:
    """Picture (B, 3, H, W) of a lit surface before antialiasing, over the background (None: black)."""
    _check_surface(surface, vertices, faces)
    colours = torch.ones_like(vertices) if surface.colours is None else surface.colours.expand_as(vertices)
    if light is not None:
        colours = colours * vertex_light(vertices, faces, light)
    rgb = interpolate_attributes(colours, faces, ids, barycentrics)
    if surface.textures is not None:
        uv = surface.uv.expand(len(vertices), -1, -1)
        rgb = rgb * _look_up(surface.textures, interpolate_attributes(uv, surface.faces, ids, barycentrics))
    if background is None:
        return rgb
    behind = background[:, None, None] if background.ndim == 1 else background
    check_shape("background", behind, (3, 1, 1) if background.ndim == 1 else tuple(rgb.shape))
    return torch.where((ids >= 0)[:, None], rgb, behind.to(rgb.dtype))


def _look_up(textures: Tensor, uv: Tensor) -> Tensor:
    """Colours (B, 3, H, W) of textures at uv (B, 2, H, W), bilinear, v upwards, 0 and 1 the texture's outer borders."""
    grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], -1)
    textures = textures.expand(len(uv), -1, -1, -1)
    return functional.grid_sample(textures, grid, padding_mode="border", align_corners=False)


def _per_vertex(value: Tensor | float, vertices: Tensor) -> Tensor:
    value = torch.as_tensor(value, dtype=vertices.dtype, device=vertices.device)
    return value[:, None] if value.ndim == 2 else value


def _check_surface(surface: Surface | None, vertices: Tensor, faces: Tensor) -> None:
    if surface is None or (surface.colours is None and surface.textures is None):
        raise ValueError("surface: expected colours or textures for the output 'rgb', got none")
    batch, count = vertices.shape[:2]
    if surface.colours is not None:
        shape = (count, 3) if surface.colours.ndim == 2 else (batch, count, 3)
        check_shape("surface.colours", surface.colours, shape)
        check_floating("surface.colours", surface.colours)
    if surface.textures is not None:
        if surface.uv is None or surface.faces is None:
            raise ValueError("surface: expected uv and faces with textures, got None")
        lead = 1 if surface.textures.shape[0] == 1 else batch
        check_shape("surface.textures", surface.textures, (lead, 3, "h", "w"))
        check_floating("surface.textures", surface.textures)
        check_shape("surface.uv", surface.uv, ("N", 2))
        check_shape("surface.faces", surface.faces, (len(faces), 3))
