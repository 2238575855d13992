"""Triton's render kernels against the torch reference, in Triton's interpreter: no GPU, tiny scenes.

Not collected by itself: TRITON_INTERPRET=1 must stand before triton is imported, so `test_render_cuda.py` runs this
file in a process of its own.
"""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from ops.camera import WeakPerspectiveCamera
from ops.render import reference, render, render_labels, triton_backend, triton_raster
from ops.render.shading import Surface
from ops.render.topology import topology_of

SIZE = (13, 15)
NEAR = 0.01


@pytest.fixture(autouse=True)
def large_steps(monkeypatch):
    """The interpreter pays per operation, not per lane."""
    monkeypatch.setattr(triton_raster, "_ROWS", 16)
    monkeypatch.setattr(triton_raster, "_COLUMNS", 16)


def ball(seed=0, batch=1, centre=(7.3, 6.1), radius=4.5):
    """An icosahedron turned at random on the screen: pixels (B, 12, 2), z (B, 12), faces (20, 3)."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([(a, b * golden, 0) for a in (1, -1) for b in (1, -1)])
    corners = np.concatenate([corners, corners[:, [2, 0, 1]], corners[:, [1, 2, 0]]]) / 1.9
    faces = torch.tensor(ConvexHull(corners).simplices.astype(np.int64))
    random = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(batch, 3, 3, generator=random))[0]
    points = torch.tensor(corners, dtype=torch.float32) @ turn.transpose(1, 2)
    return points[..., :2] * radius + torch.tensor(centre), points[..., 2] * 0.05 + 0.5, faces


def two_balls():
    """A small ball before a large one: outlines and folds over a farther surface."""
    far_pixels, far_z, faces = ball(1, radius=6.0)
    near_pixels, near_z, _ = ball(2, centre=(8.4, 7.2), radius=3.0)
    pixels, z = torch.cat([far_pixels, near_pixels], 1), torch.cat([far_z, near_z - 0.2], 1)
    return pixels, z, torch.cat([faces, faces + 12])


def loose_triangles():
    """Twelve triangles that share no vertex and overlap: edges of either slope hide others between the same pixels."""
    random = torch.Generator().manual_seed(15)
    centres = torch.rand(1, 12, 1, 2, generator=random) * 6 + torch.tensor([4.0, 3.0])
    pixels = (centres + torch.randn(1, 12, 3, 2, generator=random) * 1.5).flatten(1, 2)
    return pixels, torch.full((1, 36), 0.5), torch.arange(36).view(12, 3)


def cotangent(like, seed=0):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


@pytest.mark.parametrize("perspective", [True, False])
def test_ids(perspective):
    random = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 14, 2, generator=random) * 14 - 1
    pixels[0, :7] = pixels[0, :7].round()  # corners on pixel centres, level and upright edges
    z = torch.rand(2, 14, generator=random) * 0.5 + 0.02
    z[1, 0] = 0.001  # nearer than near
    faces = torch.stack([torch.randperm(14, generator=random)[:3] for _ in range(12)])
    faces = torch.cat([faces, faces[:3], torch.tensor([[4, 4, 5]])])  # doubles, and one without area
    near = NEAR if perspective else -math.inf
    arguments = pixels, z, topology_of(faces, 14), SIZE, near, perspective
    ids = triton_backend.rasterize_ids(*arguments)
    expected = reference.rasterize_ids(*arguments)
    assert ids.dtype == torch.int32 and (expected >= 0).float().mean() > 0.3
    assert torch.equal(ids, expected)
    assert torch.equal(triton_raster.cover(*arguments[:5]) > 0, expected >= 0)


@pytest.mark.parametrize("perspective", [True, False])
def test_interpolation(perspective):
    pixels, z, faces = ball(batch=2)
    topology = topology_of(faces, 12)
    ids = reference.rasterize_ids(pixels, z, topology, SIZE, -math.inf, perspective)
    a, b, c = faces[ids[0, 6, 7]]
    pixels[0, b] = pixels[0, c] = pixels[0, a].clone()  # a face without area is seen
    results = []
    for backend in (triton_backend, reference):
        inputs = pixels.clone().requires_grad_(), z.clone().requires_grad_()
        outputs = backend.interpolate(*inputs, topology, ids, perspective)
        gradients = torch.autograd.grad(outputs, inputs, [cotangent(output) for output in outputs])
        results.append((*outputs, *gradients))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6 * want.abs().max().item())


def test_silhouette():
    pixels, z, faces = loose_triangles()
    pixels, z = pixels.repeat(2, 1, 1), z.repeat(2, 1)
    z[1, 24] = 0.001  # its face is culled, and with it the edges
    results = []
    for backend in (triton_backend, reference):
        leaf = pixels.clone().requires_grad_()
        picture = backend.silhouette(leaf, z, topology_of(faces, 36), SIZE, NEAR)
        results.append((picture, *torch.autograd.grad(picture, leaf, cotangent(picture))))
    assert ((results[1][0] > 0) & (results[1][0] < 1)).sum() > 10  # the outline is antialiased
    assert not torch.equal(results[1][0][0], results[1][0][1])
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-5)


def test_antialiasing_of_outlines_and_folds():
    pixels, z, faces = two_balls()
    topology = topology_of(faces, 24)
    ids = reference.rasterize_ids(pixels, z, topology, SIZE, NEAR, True)
    _, depth = reference.interpolate(pixels, z, topology, ids, True)
    image = torch.rand(1, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    results = []
    for backend in (triton_backend, reference):
        leaves = image.clone().requires_grad_(), pixels.clone().requires_grad_()
        picture = backend.antialias(leaves[0], ids, depth, leaves[1], z, topology, NEAR, True, 0.02)
        results.append((picture, *torch.autograd.grad(picture, leaves, cotangent(picture))))
    inner = (results[1][0] - image).abs().amax(1)[0] > 1e-3
    assert (inner & (ids[0] >= 20)).sum() >= 3  # the small ball's rim lies over the large one
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_labels():
    vertices = torch.randn(2, 10, 3, generator=torch.Generator().manual_seed(0)) * 0.05 + torch.tensor([0, 0, 0.5])
    vertices[0, 0, 2] = 0.001
    faces = torch.randint(0, 10, (9, 3), generator=torch.Generator().manual_seed(1))
    K = torch.tensor([[50.0, 0, 7], [0, 45, 6], [0, 0, 1]])
    parts = torch.arange(1, 10, dtype=torch.uint8)
    depth, labels = render_labels(vertices, faces, K, SIZE, parts)
    got = triton_backend.labels(vertices, topology_of(faces, 10), K.expand(2, 3, 3), SIZE, parts, NEAR)
    torch.testing.assert_close(got[0], depth, rtol=1e-6, atol=0)
    assert torch.equal(got[1], labels) and (labels > 0).any()


def test_the_public_function_from_vertices_to_gradients():
    pixels, z, faces = ball()
    camera = WeakPerspectiveCamera(torch.tensor([40.0]), torch.tensor([[7.0, 6.0]]))
    points = torch.cat([(pixels - torch.tensor([7.0, 6.0])) / 40, z[..., None]], -1)
    results = []
    for backend in ("triton", "torch"):
        leaf = points.clone().requires_grad_()
        colours = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
        pictures = render(
            leaf, faces, camera, SIZE, ("silhouette", "depth", "rgb"), surface=Surface(colours), backend=backend
        )
        total = sum((picture * cotangent(picture)).sum() for picture in pictures.values())
        results.append((*pictures.values(), *torch.autograd.grad(total, leaf)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())


def test_nothing_to_see():
    pixels, z, faces = ball()
    topology = topology_of(faces, 12)
    behind = triton_backend.silhouette(pixels.requires_grad_(), z - 1, topology, SIZE, NEAR)
    behind.sum().backward()
    assert behind.shape == (1, 1, *SIZE) and not behind.any() and not pixels.grad.any()
    none = topology_of(faces[:0], 12)
    assert (triton_backend.rasterize_ids(pixels, z, none, SIZE, NEAR, True) == -1).all()
    assert not triton_backend.silhouette(pixels, z, none, SIZE, NEAR).any()
    assert triton_backend.silhouette(pixels[:0], z[:0], topology, SIZE, NEAR).shape == (0, 1, *SIZE)
    outside = triton_backend.silhouette(pixels.detach() + 1e6, z, topology, SIZE, NEAR)
    assert not outside.any()
