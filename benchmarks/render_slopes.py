"""Is the renderer's gradient right? Slopes of analytic gradients on finite differences of a supersampled picture.

A loss is a smooth random weighting of the picture. Its derivative along a direction (a smooth random field over the
vertices, a move of the hand, or a change of the camera) comes from the backward of `render`, and from the difference of
two pictures of 16 x 16 samples per pixel. The slope of the one on the other over hands, losses and directions is 1 for
a right gradient, 0 for one that says nothing.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ops.camera import PinholeCamera, resize_affine, transform_intrinsics
from ops.hand_model import open_hand
from ops.hand_model.layer import HandLayer
from ops.render import FOLD_TOLERANCE, Surface, render, render_labels, render_labels_rgb

SAMPLES = 16  # per pixel and axis
STEP = 0.25  # pixels that the strongest moved vertex goes either way, on average
DISTANCE = 0.5  # metres
FOCAL = 2.1  # in sides of the picture: a hand then covers a sixth of it, as in a crop


class Scene(NamedTuple):
    """Hands before a camera each."""

    vertices: Tensor  # (B, V, 3) float32 metres
    faces: Tensor  # (F, 3)
    K: Tensor  # (B, 3, 3)
    size: int


class Slope(NamedTuple):
    """Regression of analytic on numeric derivatives, and their correlation."""

    slope: float
    correlation: float


Silhouette = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def hand_scene(count: int, size: int, seed: int = 0, bend: float = 0.25) -> Scene:
    """Random poses of the open hand, seen from all sides, at half a metre; `bend` is a joint's deviation, radians."""
    random = torch.Generator().manual_seed(seed)
    model = open_hand()
    pose, shape = bend * torch.randn(count, 45, generator=random), torch.randn(count, 10, generator=random)
    turn = torch.randn(count, 3, generator=random) * 1.5
    vertices = HandLayer(model)(pose, shape, turn).vertices.detach()
    vertices = vertices - vertices.mean(1, keepdim=True) + torch.tensor([0.0, 0.0, DISTANCE])
    centre = (size - 1) / 2
    K = torch.tensor([[FOCAL * size, 0.0, centre], [0.0, FOCAL * size, centre], [0.0, 0.0, 1.0]])
    return Scene(vertices, torch.from_numpy(model.faces), K.expand(count, 3, 3), size)


def our_silhouette(vertices: Tensor, faces: Tensor, K: Tensor, size: int) -> Tensor:
    """(B, 1, H, W) by the project's renderer."""
    return render(vertices, faces, PinholeCamera(K), size)["silhouette"]


def silhouette_slope(scene: Scene, directions: int, seed: int = 0, silhouette: Silhouette = our_silhouette) -> Slope:
    """Slope of a silhouette's gradient towards vertices and camera."""
    pairs = []
    for vertices, K, faces, weights, (along_vertices, along_K) in _trials(scene, directions, seed):
        loss = (silhouette(vertices, faces, K, scene.size) * weights).sum()
        to_vertices, to_K = torch.autograd.grad(loss, (vertices, K))
        analytic = (to_vertices * along_vertices).sum() + (to_K * along_K).sum()
        with torch.no_grad():
            sides = [
                _supersampled(vertices + sign * along_vertices, faces, K + sign * along_K, scene.size)[0] * weights
                for sign in (1, -1)
            ]
        pairs.append((analytic.item(), (sides[0].sum() - sides[1].sum()).item() / 2))
    return _regress(pairs)


def depth_slope(scene: Scene, directions: int, seed: int = 0) -> Slope:
    """Slope of the depth's gradient towards vertices and camera, over pixels away from all edges."""
    pairs = []
    for vertices, K, faces, weights, (along_vertices, along_K) in _trials(scene, directions, seed):
        with torch.no_grad():
            sides = [
                _supersampled(vertices + sign * along_vertices, faces, K + sign * along_K, scene.size)
                for sign in (1, -1)
            ]
            inner = weights * (_inside(*sides[0]) & _inside(*sides[1]))
        depth = render(vertices, faces, PinholeCamera(K), scene.size, ("depth",))["depth"]
        to_vertices, to_K = torch.autograd.grad((depth * inner).sum(), (vertices, K))
        analytic = (to_vertices * along_vertices).sum() + (to_K * along_K).sum()
        pairs.append((analytic.item(), ((sides[0][1] - sides[1][1]) * inner).sum().item() / 2))
    return _regress(pairs)


def fold_slope(scene: Scene, directions: int, seed: int = 0, tolerance: float = FOLD_TOLERANCE) -> Slope:
    """Slope of the gradient of RGB: each finger and the palm of its own grey, so that folds carry most of it."""
    parts = torch.from_numpy(open_hand().part_labels)
    finger = torch.where(parts < 4, (parts > 0).long(), (parts + 4) // 4)  # 0 palm, 1-5 thumb to little
    greys = torch.rand(6, generator=torch.Generator().manual_seed(seed))
    colours = greys[finger][:, None].expand(-1, 3).contiguous()
    pairs = []
    for vertices, K, faces, weights, (along_vertices, along_K) in _trials(scene, directions, seed):
        rgb = render(
            vertices, faces, PinholeCamera(K), scene.size, ("rgb",), surface=Surface(colours), fold_tolerance=tolerance
        )["rgb"]
        to_vertices, to_K = torch.autograd.grad((rgb[:, 0] * weights).sum(), (vertices, K))
        analytic = (to_vertices * along_vertices).sum() + (to_K * along_K).sum()
        with torch.no_grad():
            sides = [
                _supersampled_grey(
                    vertices + sign * along_vertices, faces, K + sign * along_K, scene.size, colours[None]
                )
                for sign in (1, -1)
            ]
        pairs.append((analytic.item(), ((sides[0] - sides[1]) * weights).sum().item() / 2))
    return _regress(pairs)


def _trials(
    scene: Scene, directions: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]]:
    """Vertices (1, V, 3) and K (1, 3, 3) that want gradients, faces, weights (H, W), a step of vertices and K."""
    random = torch.Generator().manual_seed(seed)
    for b in range(len(scene.vertices)):
        for trial in range(directions):
            vertices = scene.vertices[b : b + 1].clone().requires_grad_()
            K = scene.K[b : b + 1].clone().requires_grad_()
            weights = _smooth_picture(scene.size, random)
            step = STEP * DISTANCE / (FOCAL * scene.size)  # metres per STEP pixels
            along_vertices, along_K = torch.zeros_like(vertices), torch.zeros_like(K)
            if trial % 4 == 3:
                along_K[:, :2] = STEP * torch.randn(1, 2, 3, generator=random)
                along_K[:, (0, 1), (0, 1)] *= scene.size / 10  # the hand spans some tenths of the focal length
                along_K[:, (0, 1), (1, 0)] = 0
            elif trial % 4 == 2:
                along_vertices += step * torch.randn(3, generator=random)
            else:
                along_vertices += step * _smooth_field(vertices.detach(), random)
            yield vertices, K, scene.faces, weights, (along_vertices, along_K)


def _smooth_picture(size: int, random: torch.Generator) -> Tensor:
    """(H, W): a sum of waves no shorter than a quarter of the picture."""
    at = torch.arange(size) / size
    waves = (torch.rand(6, 2, generator=random) * 2 - 1) * 4 * 2 * torch.pi
    phases = torch.rand(6, generator=random) * 2 * torch.pi
    return torch.cos(waves[:, 0, None, None] * at[:, None] + waves[:, 1, None, None] * at + phases[:, None, None]).sum(
        0
    )


def _smooth_field(vertices: Tensor, random: torch.Generator) -> Tensor:
    """(1, V, 3): unit-size waves about as long as a finger."""
    waves = torch.randn(4, 3, generator=random) * 2 * torch.pi / 0.1
    phases = torch.rand(4, generator=random) * 2 * torch.pi
    return torch.cos(vertices @ waves.T + phases) @ torch.randn(4, 3, generator=random) / 2


def _supersampled(vertices: Tensor, faces: Tensor, K: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each pixel (H, W): share of samples covered, mean depth, range of depth (metres)."""
    fine_K = transform_intrinsics(K, resize_affine(SAMPLES)[None])
    depth, _ = render_labels(vertices, faces, fine_K, size * SAMPLES, torch.ones(len(faces), dtype=torch.uint8))
    samples = depth.reshape(size, SAMPLES, size, SAMPLES).transpose(1, 2).flatten(2)
    spread = samples.amax(2) - samples.amin(2)
    return (samples > 0).float().mean(2), samples.double().mean(2).float(), spread


def _supersampled_grey(vertices: Tensor, faces: Tensor, K: Tensor, size: int, colours: Tensor) -> Tensor:
    """(H, W) mean of the samples' first colour."""
    fine_K = transform_intrinsics(K, resize_affine(SAMPLES)[None])
    one_part = torch.ones(len(faces), dtype=torch.uint8)
    _, _, rgb = render_labels_rgb(vertices, faces, fine_K, size * SAMPLES, one_part, colours)
    return rgb[0, 0].reshape(size, SAMPLES, size, SAMPLES).transpose(1, 2).flatten(2).float().mean(2) / 255


def _inside(share: Tensor, depth: Tensor, spread: Tensor) -> Tensor:
    # a surface that changes by more than four pixels' width in depth within a pixel is a fold, or as good as one
    return (share == 1) & (spread < 4 * depth.clamp(min=0.1) / (FOCAL * len(share)))


def _regress(pairs: list[tuple[float, float]]) -> Slope:
    analytic, numeric = torch.tensor(pairs, dtype=torch.float64).T
    slope = (analytic * numeric).sum() / numeric.square().sum()
    return Slope(slope.item(), torch.corrcoef(torch.stack([analytic, numeric]))[0, 1].item())
