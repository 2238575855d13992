"""Peers of the CPU renderer: deodr (differentiable) and OpenCV's polygon filling (not), one picture at a time."""

import warnings
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.render_slopes import Scene
from ops.camera import PinholeCamera

_SUBPIXEL_BITS = 4  # OpenCV's fixed point


def projected(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (B, V, 2) and depth (B, V) float64, faces (F, 3)."""
    pixels = PinholeCamera(scene.K).project(scene.vertices.detach())
    return pixels.double().numpy(), scene.vertices[..., 2].detach().double().numpy(), scene.faces.numpy()


def deodr_round(scene: Scene, gradient: Tensor) -> Callable[[], np.ndarray]:
    """Silhouettes forward and backward, from pixels to the gradient of pixels (B, V, 2)."""
    pixels, depth, faces = projected(scene)
    wanted = gradient[:, 0, :, :, None].double().numpy()
    silhouettes = DeodrSilhouette(faces, scene.size)

    def run() -> np.ndarray:
        found = []
        for b in range(len(pixels)):
            silhouettes.forward(pixels[b], depth[b])
            found.append(silhouettes.backward(wanted[b]))
        return np.stack(found)

    return run


def opencv_round(scene: Scene) -> Callable[[], np.ndarray]:
    """Hard masks (B, H, W), face by face; no gradient."""
    pixels, _, faces = projected(scene)
    corners = np.ascontiguousarray(np.round(pixels[:, faces] * 2**_SUBPIXEL_BITS), dtype=np.int32)

    def run() -> np.ndarray:
        masks = np.zeros((len(pixels), scene.size, scene.size), np.uint8)
        for mask, triangles in zip(masks, corners, strict=True):
            for triangle in triangles:
                cv2.fillConvexPoly(mask, triangle, 1, cv2.LINE_8, _SUBPIXEL_BITS)
        return masks

    return run


class DeodrSilhouette:
    """deodr's antialiased silhouette of one mesh, white on black; it needs back-face culling for its gradient."""

    def __init__(self, faces: np.ndarray, size: int) -> None:
        from deodr.differentiable_renderer import Scene2D
        from deodr.triangulated_mesh import TriMesh

        count = int(faces.max()) + 1
        faces = np.ascontiguousarray(faces, dtype=np.uint32)
        self.mesh = TriMesh(faces, np.zeros((count, 3)))
        self.scene = Scene2D(
            faces=faces,
            faces_uv=faces,
            ij=np.zeros((count, 2)),
            depths=np.zeros(count),
            textured=np.zeros(len(faces), dtype=bool),
            uv=np.zeros((count, 2)),
            shade=np.zeros(count),
            colors=np.ones((count, 1)),
            shaded=np.zeros(len(faces), dtype=bool),
            edgeflags=np.zeros((len(faces), 3), dtype=bool),
            height=size,
            width=size,
            nb_colors=1,
            texture=np.zeros((1, 1, 1)),
            background_color=np.zeros(1),
            backface_culling=True,
        )

    def forward(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """(H, W, 1) from pixels (V, 2) and depth (V,)."""
        self.scene.ij, self.scene.depths = pixels, depth
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its np.cross of plane vectors
            self.scene.edgeflags = self.mesh.edge_on_silhouette(pixels)
        return self.scene.render()[0]

    def backward(self, gradient: np.ndarray) -> np.ndarray:
        """Gradient of pixels (V, 2) from that of the picture (H, W, 1)."""
        self.scene.clear_gradients()
        self.scene.render_backward(gradient)
        return self.scene.ij_b.copy()


def deodr_silhouette(vertices: Tensor, faces: Tensor, K: Tensor, size: int) -> Tensor:
    """One picture (1, 1, H, W) by deodr with its gradient, to measure the slope of the latter."""
    silhouette = DeodrSilhouette(faces.numpy(), size)
    return _Deodr.apply(PinholeCamera(K).project(vertices), vertices[..., 2].detach(), silhouette)


def deodr_pixels(pixels: Tensor, depth: Tensor, silhouette: DeodrSilhouette) -> Tensor:
    """One picture (1, H, W) by deodr, from pixels (V, 2), which get gradients, and depth (V,)."""
    return _Deodr.apply(pixels[None], depth[None], silhouette)[0]


class _Deodr(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, pixels: Tensor, depth: Tensor, silhouette: DeodrSilhouette
    ) -> Tensor:
        ctx.silhouette = silhouette
        picture = silhouette.forward(pixels[0].detach().double().numpy(), depth[0].double().numpy())
        return torch.from_numpy(picture).float().permute(2, 0, 1)[None]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = np.ascontiguousarray(gradient[0].permute(1, 2, 0).double().numpy())
        return torch.from_numpy(ctx.silhouette.backward(wanted)).float()[None], None, None
