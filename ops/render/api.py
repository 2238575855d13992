"""The public functions of the renderer: check, project, dispatch to a backend, shade."""

import importlib
import importlib.util
import math
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ops.camera import Camera, PinholeCamera, WeakPerspectiveCamera
from ops.checks import check_choice, check_finite, check_floating, check_same_device, check_shape, require_module
from ops.render.projection import FARTHEST, project_in_front
from ops.render.shading import Light, Surface, shade, surface_normals
from ops.render.topology import NEAR, Topology, check_near, check_size, topology_of

Backend = Literal["auto", "cpu", "torch", "triton", "nvdiffrast", "nvdiffrast-native"]
BACKENDS = {
    "cpu": "ops.render.cpu",
    "torch": "ops.render.reference",
    "triton": "ops.render.triton_backend",
    "nvdiffrast": "ops.render.nvdiffrast_backend",
    "nvdiffrast-native": "ops.render.nvdiffrast_native",
}
OUTPUTS = ("silhouette", "depth", "parts", "normals", "rgb")
# metres between the edge of a fold and the surface that the pixel beside it shows. A finger of 8 mm radius drops by its
# whole radius within two pixels of its rim at 48 px. Slope of the gradient of RGB on supersampled differences, 48 px:
# 0.51 at 0.005, 0.79 at 0.01, 0.94 at 0.02, 0.98 at 0.03, 0.97 at 0.05 and 0.1 m; 128 px: 0.97 at 0.01, then 1.01
FOLD_TOLERANCE = 0.03


class Fragments(NamedTuple):
    """What each pixel of a (B, H, W) picture shows."""

    triangle_ids: Tensor  # (B, H, W) int32, row of faces, -1 none
    barycentrics: Tensor  # (B, H, W, 3) perspective-correct, 0 where nothing is
    depth: Tensor  # (B, H, W) metres, 0 where nothing is


class _Scene(NamedTuple):
    pixels: Tensor  # (B, V, 2)
    z: Tensor  # (B, V) metres
    topology: Topology
    size: tuple[int, int]
    near: float  # metres, -inf under weak perspective
    perspective: bool


def rasterize(
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    size: int | tuple[int, int],
    near: float = NEAR,
    backend: Backend = "auto",
) -> Fragments:
    """The triangle that each pixel shows, where on it, and how far.

    Gradients of barycentrics and depth flow to vertices and camera, for the triangle seen; none from its edges.

    Args:
        vertices: (B, V, 3) metres, camera frame.
        faces: (F, 3) integer; keep one tensor and pass it each time (`topology_of`).
        camera: of all B pictures (K (3, 3)) or one each.
        size: side of the square picture, or (H, W), pixels.
        near: metres; under a pinhole camera faces with a vertex nearer than this are left out.
        backend: "cpu" (numba, float32), "torch" (plain, any device and dtype), on CUDA "triton", "nvdiffrast" (its
            rasteriser, our antialiasing) or "nvdiffrast-native" (its antialiasing, too), or "auto": "cpu" or
            "triton" where they apply, else "torch".
    """
    module = _load_backend(backend, vertices)
    scene = _scene(vertices, faces, camera, size, near)
    return _fragments(module, scene)


def render(
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    size: int | tuple[int, int],
    outputs: Sequence[str] = ("silhouette",),
    *,
    part_of_face: Tensor | None = None,
    surface: Surface | None = None,
    light: Light | None = None,
    background: Tensor | None = None,
    antialias: bool = True,
    fold_tolerance: float = FOLD_TOLERANCE,
    near: float = NEAR,
    backend: Backend = "auto",
) -> dict[str, Tensor]:
    """Pictures of a batch of meshes.

    Args:
        vertices, faces, camera, size, near, backend: as in `rasterize`.
        outputs: which pictures, of `OUTPUTS`.
        part_of_face: (F,) uint8 labels, for "parts" (`labels.face_parts`).
        surface: colours for "rgb".
        light: for "rgb"; None is the surface's own colour everywhere.
        background: (B, 3, H, W) or (3,), behind "rgb"; None is black.
        antialias: blend "rgb" along outlines and folds; that is where its gradient towards the outline comes from.
        fold_tolerance: metres, see `ops.render`; only "rgb" depends on it.

    Returns:
        - silhouette (B, 1, H, W) coverage in [0, 1]: gradient at the outline, everywhere else 0.
        - depth (B, 1, H, W) metres, 0 where nothing is: gradient of the surface seen, none at edges.
        - parts (B, H, W) uint8, 0 where nothing is: no gradient.
        - normals (B, 3, H, W) unit, camera frame, outwards, 0 where nothing is: gradient of the surface seen.
        - rgb (B, 3, H, W) in [0, 1]: gradient of the surface and, antialiased, of outlines and folds.
    """
    module = _load_backend(backend, vertices)
    for name in outputs:
        check_choice("outputs", name, OUTPUTS)
    scene = _scene(vertices, faces, camera, size, near)
    pictures = {}
    if "silhouette" in outputs:
        pictures["silhouette"] = module.silhouette(scene.pixels, scene.z, scene.topology, scene.size, scene.near)
    if set(outputs) <= {"silhouette"}:
        return pictures
    fragments = _fragments(module, scene)
    ids, indices = fragments.triangle_ids, scene.topology.faces
    if "depth" in outputs:
        pictures["depth"] = fragments.depth[:, None]
    if "parts" in outputs:
        pictures["parts"] = _parts(ids, part_of_face, faces)
    if "normals" in outputs:
        pictures["normals"] = surface_normals(vertices, indices, ids, fragments.barycentrics)
    if "rgb" in outputs:
        rgb = shade(vertices, indices, ids, fragments.barycentrics, surface, light, background)
        if antialias:
            rgb = module.antialias(
                rgb, ids, fragments.depth, scene.pixels, scene.z, scene.topology, scene.near, scene.perspective,
                fold_tolerance,
            )  # fmt: skip
        pictures["rgb"] = rgb.clamp(0, 1)
    return pictures


def _fragments(module: ModuleType, scene: _Scene) -> Fragments:
    pixels, z, topology, size, near, perspective = scene
    ids = module.rasterize_ids(pixels.detach(), z.detach(), topology, size, near, perspective)
    return Fragments(ids, *module.interpolate(pixels, z, topology, ids, perspective))


def _parts(ids: Tensor, part_of_face: Tensor | None, faces: Tensor) -> Tensor:
    if part_of_face is None:
        raise ValueError("part_of_face: expected the label of each face for the output 'parts', got None")
    check_shape("part_of_face", part_of_face, (len(faces),))
    labels = torch.cat([part_of_face.to(ids.device, torch.uint8), ids.new_zeros(1, dtype=torch.uint8)])
    return labels[ids.long()]  # -1 picks the last: background


def _scene(vertices: Tensor, faces: Tensor, camera: Camera, size: int | tuple[int, int], near: float) -> _Scene:
    check_shape("vertices", vertices, ("B", "V", 3))
    check_floating("vertices", vertices)
    check_finite("vertices", vertices)
    _check_camera(camera, vertices)
    check_same_device(vertices=vertices, faces=faces)
    size, topology = check_size(size), topology_of(faces, vertices.shape[1])
    z = vertices[..., 2]
    if isinstance(camera, WeakPerspectiveCamera):
        pixels = camera.project(vertices).clamp(-FARTHEST, FARTHEST)
        return _Scene(pixels, z, topology, size, -math.inf, False)
    check_near(near)
    return _Scene(project_in_front(vertices, camera.K, near), z, topology, size, near, True)


def _check_camera(camera: Camera, vertices: Tensor) -> None:
    if isinstance(camera, PinholeCamera):
        tensors = {"camera.K": (camera.K, (3, 3))}
    elif isinstance(camera, WeakPerspectiveCamera):
        tensors = {"camera.scale": (camera.scale, ()), "camera.centre": (camera.centre, (2,))}
    else:
        raise TypeError(f"camera: expected a PinholeCamera or WeakPerspectiveCamera, got {type(camera).__name__}")
    for name, (tensor, shape) in tensors.items():
        check_same_device(vertices=vertices, **{name: tensor})
        if tensor.dtype != vertices.dtype:
            raise TypeError(f"{name}: expected the vertices' dtype {vertices.dtype}, got {tensor.dtype}")
        if not (tensor.ndim == len(shape) and name == "camera.K"):
            check_shape(name, tensor, (len(vertices), *shape))
        check_finite(name, tensor)
    if isinstance(camera, WeakPerspectiveCamera) and not bool((camera.scale > 0).all()):
        raise ValueError(f"camera.scale: expected positive pixels per metre, got {camera.scale.min().item():g}")


def _load_backend(backend: str, vertices: Tensor) -> ModuleType:
    check_choice("backend", backend, ("auto", *BACKENDS))
    if not isinstance(vertices, Tensor):
        raise TypeError(f"vertices: expected a torch.Tensor of shape (B, V, 3), got {type(vertices).__name__}")
    if backend == "auto":
        backend = _choose(vertices)
    on_cpu, single = vertices.device.type == "cpu", vertices.dtype == torch.float32
    if backend == "cpu" and not (on_cpu and single):
        raise TypeError(
            f"backend 'cpu': expected float32 vertices on the CPU, got {vertices.dtype} on {vertices.device}; "
            "use backend='torch', or convert with .float().cpu()"
        )
    if backend in ("triton", "nvdiffrast", "nvdiffrast-native"):
        _check_cuda(backend, vertices)
    return importlib.import_module(BACKENDS[backend])


def _check_cuda(backend: str, vertices: Tensor) -> None:
    remedy = "it comes with torch's CUDA wheels for Linux; else pip install triton, or use backend='torch'"
    require_module("triton", f"backend '{backend}'", remedy)
    # triton's interpreter runs the kernels on the CPU, for tests
    if vertices.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"backend '{backend}': expected vertices on a CUDA device, got {vertices.device}; "
            "move them with .cuda(), or use backend='cpu'"
        )
    if vertices.dtype != torch.float32:
        raise TypeError(f"backend '{backend}': expected float32 vertices, got {vertices.dtype}; use backend='torch'")


def _choose(vertices: Tensor) -> str:
    if vertices.dtype != torch.float32:
        return "torch"
    if vertices.device.type == "cuda" and importlib.util.find_spec("triton"):
        return "triton"
    return "cpu" if vertices.device.type == "cpu" else "torch"
