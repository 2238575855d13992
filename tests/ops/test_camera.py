"""Projection, crop and resize agree with the renderer about where a point lies, to 0.01 px."""

import pytest
import torch

from ops.camera import (
    CAMERA_PRESETS,
    PinholeCamera,
    WeakPerspectiveCamera,
    camera_preset,
    crop_affine,
    project,
    resize_affine,
    transform_intrinsics,
    unproject,
)
from ops.render import render

K = torch.tensor([[[90.0, 0, 31.2], [0, 95.0, 28.7], [0, 0, 1]]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def rectangle(left, top, right, bottom, K, z=0.6):
    """Vertices (1, 4, 3) whose projections are these pixels."""
    corners = torch.tensor([[[left, top], [right, top], [right, bottom], [left, bottom]]])
    return unproject(corners, torch.full((1, 4), z), K)


def centroid(coverage):
    """Centre of mass (u, v) of a silhouette (1, 1, H, W)."""
    weights = coverage[0, 0] / coverage.sum()
    v, u = torch.meshgrid(*(torch.arange(n).float() for n in weights.shape), indexing="ij")
    return torch.stack([(weights * u).sum(), (weights * v).sum()])


def test_a_rendered_rectangle_lies_where_its_corners_project():
    vertices = rectangle(10.5, 7.5, 30.9, 21.5, K)
    torch.testing.assert_close(project(vertices, K)[0, 0], torch.tensor([10.5, 7.5]), atol=1e-4, rtol=0)
    coverage = render(vertices, FACES, PinholeCamera(K), (48, 64))["silhouette"]
    torch.testing.assert_close(centroid(coverage), torch.tensor([20.7, 14.5]), atol=0.01, rtol=0)


def test_weak_perspective_agrees_with_the_renderer():
    camera = WeakPerspectiveCamera(torch.tensor([100.0]), torch.tensor([[20.0, 16.0]]))
    vertices = torch.tensor([[[-0.055, -0.045, 3], [0.125, -0.045, 3], [0.125, 0.055, 3], [-0.055, 0.055, 3]]])
    coverage = render(vertices, FACES, camera, (40, 44))["silhouette"]
    torch.testing.assert_close(centroid(coverage), camera.project(vertices)[0].mean(0), atol=0.01, rtol=0)


def test_a_resized_camera_renders_the_resized_picture():
    vertices = rectangle(10.5, 7.5, 30.5, 21.5, K)
    small = render(vertices, FACES, PinholeCamera(K), (48, 64))["silhouette"]
    fine_K = transform_intrinsics(K, resize_affine(4.0)[None])
    fine = render(vertices, FACES, PinholeCamera(fine_K), (192, 256))["silhouette"]
    shrunk = torch.nn.functional.avg_pool2d(fine, 4)
    torch.testing.assert_close(shrunk, small, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("side", "size"), [(32.0, 64), (24.0, 24), (40.0, 20)])
def test_a_cropped_camera_renders_the_crop(side, size):
    vertices = rectangle(14.5, 8.5, 26.5, 20.5, K)
    affine = crop_affine(torch.tensor([[20.3, 15.8]]), torch.tensor([side]), size)
    crop_K = transform_intrinsics(K, affine)
    coverage = render(vertices, FACES, PinholeCamera(crop_K), size)["silhouette"]
    expected = affine[0, :, :2] @ torch.tensor([20.5, 14.5]) + affine[0, :, 2]
    torch.testing.assert_close(centroid(coverage), expected, atol=0.01, rtol=0)
    torch.testing.assert_close(
        project(vertices, crop_K)[0], project(vertices, K)[0] @ affine[0, :, :2].T + affine[0, :, 2], atol=1e-3, rtol=0
    )


def test_a_crops_centre_lies_between_its_middle_pixels():
    affine = crop_affine(torch.tensor([[100.0, 50.0]]), torch.tensor([10.0]), 20)
    centre = affine[0, :, :2] @ torch.tensor([100.0, 50.0]) + affine[0, :, 2]
    assert centre.tolist() == pytest.approx([9.5, 9.5], abs=1e-4)
    # the crop's left border, half a pixel beyond its first centre, is the square's left border
    border = affine[0, :, :2] @ torch.tensor([95.0, 45.0]) + affine[0, :, 2]
    assert border.tolist() == pytest.approx([-0.5, -0.5], abs=1e-4)


def test_resizing_maps_borders_to_borders():
    affine = resize_affine(0.5)
    assert (affine[0, 0] * -0.5 + affine[0, 2]).item() == pytest.approx(-0.5)
    assert (affine[0, 0] * 0.5 + affine[0, 2]).item() == pytest.approx(0)  # between pixels 0 and 1: centre of the new 0


def test_unproject_inverts_project():
    points = torch.rand(2, 7, 3) + torch.tensor([-0.5, -0.5, 0.5])
    two = K.repeat(2, 1, 1)
    torch.testing.assert_close(unproject(project(points, two), points[..., 2], two), points, atol=1e-5, rtol=1e-5)


def test_presets_are_valid_cameras():
    for name in CAMERA_PRESETS:
        matrix, (height, width) = camera_preset(name)
        PinholeCamera(matrix)
        assert 0 < matrix[0, 2] < width and 0 < matrix[1, 2] < height
    with pytest.raises(ValueError, match="camera: expected one of 'nyu'"):
        camera_preset("webcam")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(3, 3), "positive focal lengths"),
        (torch.eye(3)[:2], r"expected shape \(3, 3\)|expected shape \('?B"),
        (torch.full((3, 3), torch.nan), "finite"),
        (torch.eye(3) + torch.tensor([[0.0, 0, 0], [0, 0, 0], [5, 5, 0]]), "last row to be 0 0 1"),
    ],
)
def test_bad_intrinsics_are_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        PinholeCamera(matrix)
