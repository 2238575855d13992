"""The renderer's gradients: twins against each other, gradcheck, finite differences of supersampled pictures."""

import pytest
import torch

from benchmarks.render_slopes import depth_slope, fold_slope, hand_scene, silhouette_slope
from ops.camera import PinholeCamera, WeakPerspectiveCamera
from ops.render import Light, Surface, face_parts, rasterize, render
from ops.render.projection import project_in_front, project_in_front_reference
from ops.render.reference import interpolate as reference_interpolate
from ops.render.topology import topology_of

OUTPUTS = ("silhouette", "depth", "parts", "normals", "rgb")


def hand_outputs(scene, camera, backend, background=None):
    random = torch.Generator().manual_seed(1)
    count = scene.vertices.shape[1]
    return render(
        scene.vertices,
        scene.faces,
        camera,
        (scene.size, scene.size + 13),
        OUTPUTS,
        part_of_face=face_parts(torch.arange(count) % 20, scene.faces),
        surface=Surface(torch.rand(count, 3, generator=random)),
        light=Light(torch.tensor([0.3, -0.2, -1.0])),
        background=background,
        backend=backend,
    )


@pytest.mark.parametrize("kind", ["pinhole", "weak perspective"])
def test_numba_equals_torch_forward_and_backward(kind):
    scene = hand_scene(2, 64, seed=4)
    scene.vertices.requires_grad_()
    if kind == "pinhole":
        parameters = (scene.vertices, scene.K.clone().requires_grad_())
        camera = PinholeCamera(parameters[1])
    else:
        parameters = (
            scene.vertices,
            torch.full((2,), 270.0).requires_grad_(),
            torch.full((2, 2), 35.0).requires_grad_(),
        )
        camera = WeakPerspectiveCamera(*parameters[1:])
    background = torch.rand(2, 3, 64, 77, generator=torch.Generator().manual_seed(2))
    ours, twin = (hand_outputs(scene, camera, backend, background) for backend in ("cpu", "torch"))
    assert torch.equal(ours["parts"], twin["parts"])
    random = torch.Generator().manual_seed(3)
    for name in ("silhouette", "depth", "normals", "rgb"):
        torch.testing.assert_close(ours[name], twin[name], atol=1e-6, rtol=1e-5)
        cotangent = torch.randn(twin[name].shape, generator=random)
        pairs = zip(
            torch.autograd.grad(ours[name], parameters, cotangent, retain_graph=True),
            torch.autograd.grad(twin[name], parameters, cotangent, retain_graph=True),
            strict=True,
        )
        for gradient, expected in pairs:
            # float32 sums over thousands of pixels, in another order
            assert (gradient - expected).norm() <= 1e-5 * expected.norm() + 1e-6


def test_projection_equals_its_twin_also_behind_the_camera():
    random = torch.Generator().manual_seed(0)
    vertices = torch.randn(3, 50, 3, generator=random).requires_grad_()
    vertices.data[0, 0] = torch.tensor([1e9, 0.0, 0.5])  # clamped
    K = (torch.eye(3) * 100 + 10 * torch.rand(3, 3, 3, generator=random)).requires_grad_()
    K.data[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    ours, twin = (project(vertices, K, 0.01) for project in (project_in_front, project_in_front_reference))
    torch.testing.assert_close(ours, twin, atol=1e-2, rtol=1e-5)  # at 1 cm, 1 m aside: 1e4 px in float32
    cotangent = torch.randn(ours.shape, generator=random)
    pairs = (torch.autograd.grad(pixels, (vertices, K), cotangent) for pixels in (ours, twin))
    for gradient, expected in zip(*pairs, strict=True):
        assert (gradient - expected).norm() <= 1e-5 * expected.norm()
    clamped = torch.autograd.grad(project_in_front(vertices, K, 0.01).sum(), vertices)[0][0, 0]
    assert (clamped == 0).all()


def test_gradcheck_of_the_projection():
    random = torch.Generator().manual_seed(0)
    vertices = (torch.rand(1, 4, 3, generator=random, dtype=torch.float64) + 0.1).requires_grad_()
    rows = torch.rand(1, 2, 3, generator=random, dtype=torch.float64).requires_grad_()
    last = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64)

    def pixels(vertices, rows):
        return project_in_front_reference(vertices, torch.cat([rows, last], 1), 0.01)

    assert torch.autograd.gradcheck(pixels, (vertices, rows))


def test_barycentrics_and_depth_gradients_equal_the_twin():
    scene = hand_scene(1, 48, seed=5)
    vertices = scene.vertices.requires_grad_()
    gradients = []
    for backend in ("cpu", "torch"):
        out = rasterize(vertices, scene.faces, PinholeCamera(scene.K), 48, backend=backend)
        cotangents = [torch.sin(torch.arange(x.numel()).reshape(x.shape) * 0.7) for x in out[1:]]
        gradients.append(torch.autograd.grad(out[1:], vertices, cotangents)[0])
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


def tetrahedron(random):
    base = torch.tensor([[3.2, 2.1, 1.0], [9.6, 3.7, 1.1], [5.3, 9.2, 0.9], [6.1, 4.9, 0.7]], dtype=torch.float64)
    vertices = base + 0.1 * torch.rand(4, 3, generator=random, dtype=torch.float64)
    faces = torch.tensor([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]])
    return vertices[None] * torch.tensor([0.1, 0.1, 1], dtype=torch.float64), faces


@pytest.mark.parametrize("output", ["silhouette", "depth", "normals", "rgb"])
def test_gradcheck_of_the_reference_towards_vertices_and_camera(output):
    vertices, faces = tetrahedron(torch.Generator().manual_seed(0))
    K = torch.tensor([[10.0, 0, 0.3], [0, 10.0, 0.2], [0, 0, 1]], dtype=torch.float64)
    colours = torch.rand(4, 3, dtype=torch.float64)

    def picture(vertices, fx, cy, colours):
        camera = K.clone()
        camera[0, 0], camera[1, 2] = fx, cy
        surface = Surface(colours)
        return render(vertices, faces, PinholeCamera(camera), 13, (output,), surface=surface, backend="torch")[output]

    inputs = (vertices, K[0, 0].clone(), K[1, 2].clone(), colours)
    assert picture(*inputs).abs().sum() > 1
    assert torch.autograd.gradcheck(picture, [x.requires_grad_() for x in inputs], eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("perspective", [True, False])
def test_gradcheck_of_the_reference_interpolation(perspective):
    vertices, faces = tetrahedron(torch.Generator().manual_seed(1))
    topology = topology_of(faces, 4)
    pixels, z = vertices[..., :2] * 10, vertices[..., 2].clone()
    ids = torch.full((1, 12, 12), -1, dtype=torch.int32)
    ids[0, 4:7, 4:7] = torch.randint(0, 4, (3, 3), generator=torch.Generator().manual_seed(2), dtype=torch.int32)

    def values(pixels, z):
        return reference_interpolate(pixels, z, topology, ids, perspective)

    assert torch.autograd.gradcheck(values, (pixels.requires_grad_(), z.requires_grad_()), fast_mode=True)


def test_clamped_coverage_has_no_gradient():
    # a square of one pixel, 0.2 px to each side of its centre: 1 - 4 x 0.3 < 0, clamped
    vertices = torch.tensor([[[2.8, 2.8, 1], [3.2, 2.8, 1], [3.2, 3.2, 1], [2.8, 3.2, 1]]]).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    for backend in ("cpu", "torch"):
        picture = render(vertices, faces, PinholeCamera(torch.eye(3)), 7, backend=backend)["silhouette"]
        assert picture.max() == 0
        assert torch.autograd.grad(picture.sum(), vertices)[0].abs().max() == 0


def test_silhouette_gradient_matches_supersampled_differences():
    slope = silhouette_slope(hand_scene(5, 48, seed=0), directions=4)
    # 20 pairs with a correlation of 0.99 scatter by 0.03
    assert slope.slope == pytest.approx(1, abs=0.08) and slope.correlation > 0.97


def test_depth_gradient_matches_supersampled_differences():
    slope = depth_slope(hand_scene(2, 64, seed=0), directions=4)
    assert slope.slope == pytest.approx(1, abs=0.03) and slope.correlation > 0.99


def test_fold_gradient_matches_supersampled_differences():
    scene = hand_scene(4, 64, seed=5, bend=0.5)
    slope = fold_slope(scene, directions=3)
    # 12 pairs that scatter by a third: many folds are thinner than a pixel
    assert slope.slope == pytest.approx(1, abs=0.2) and slope.correlation > 0.85
    # what a tolerance far below a finger's curvature would do: the metres are what makes the test work
    assert fold_slope(scene, directions=3, tolerance=0.001).slope < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("size", [48, 128, 224])
def test_silhouette_gradient_at_all_sizes(size):
    slope = silhouette_slope(hand_scene(12, size, seed=1), directions=12)
    assert slope.slope == pytest.approx(1, abs=0.03)
