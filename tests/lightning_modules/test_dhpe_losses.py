"""The losses of DHPE: a value derived by hand and a gradient check of each, and what must not count."""

import math

import numpy as np
import pytest
import torch

from lightning_modules.dhpe_losses import (
    PLACE_UNIT,
    articulation_loss,
    cotangent_laplacian,
    heat_map_loss,
    hierarchical_gate,
    laplacian_loss,
    masked_feature_loss,
    mean_pixels,
    place_loss,
    refiner_loss,
    silhouette_loss,
)
from lightning_modules.networks.joint_maps import GRID, target_maps

YES = torch.ones(1, 21, dtype=torch.bool)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_gradient(loss, *inputs):
    assert torch.autograd.gradcheck(loss, [each.clone().requires_grad_() for each in inputs])


def test_masked_features_equation_2():
    loss = masked_feature_loss(torch.tensor([[1.0, 2.0], [0, 0]]), torch.tensor([[1.0, 5.0], [0, 0]]))
    assert loss.tolist() == [4.5, 0]  # (0 + 9) / 2
    check_gradient(masked_feature_loss, rand(2, 3), rand(2, 3, seed=1))


def test_heat_maps_equation_3():
    places = torch.full((1, 21, 2), (16 + 0.5) / GRID)
    nothing, right = torch.zeros(1, 21, GRID, GRID), target_maps(places, 1.5)
    # the sum of squares of a Gaussian is pi sigma^2
    assert heat_map_loss([nothing], places, YES, 1.5).item() == pytest.approx(1, rel=1e-4)
    assert heat_map_loss([right], places, YES, 1.5).item() == 0
    assert heat_map_loss([nothing, right], places, YES, 1.5).item() == pytest.approx(0.5, rel=1e-4)
    # one cell of one joint off by one, 21 joints
    off = right.clone()
    off[0, 3, 5, 6] += 1
    assert heat_map_loss([off], places, YES, 1.5).item() == pytest.approx(1 / (math.pi * 1.5**2) / 21, rel=1e-4)
    only = torch.arange(21)[None] == 3
    assert heat_map_loss([off], places, only, 1.5).item() == pytest.approx(1 / (math.pi * 1.5**2), rel=1e-4)
    assert heat_map_loss([off], places, ~YES, 1.5).item() == 0
    spots = rand(1, 21, 2)
    check_gradient(lambda a, b: heat_map_loss([a, b], spots, YES, 1.0), rand(1, 21, 3, 3), rand(1, 21, 3, 3, seed=1))


def test_places_and_the_refiner_equation_6():
    truth = torch.zeros(1, 21, 2)
    once = truth + PLACE_UNIT * torch.tensor([3.0, 4.0])  # 25 units
    assert place_loss(once, truth, YES).item() == pytest.approx(25)
    half = torch.arange(21)[None] < 7
    moved = torch.where(half[..., None], once, truth)
    assert place_loss(moved, truth, YES).item() == pytest.approx(25 / 3)
    assert refiner_loss([once, moved, truth], truth, YES).item() == pytest.approx(25 + 25 / 3)
    valid = torch.tensor([[True, False, True]])
    check_gradient(
        lambda a, b: refiner_loss([a, b], rand(1, 3, 2, seed=2), valid), rand(1, 3, 2), rand(1, 3, 2, seed=1)
    )


def test_articulation_equation_8():
    truth = torch.zeros(2, 21, 3)
    found = truth + PLACE_UNIT * torch.tensor([1.0, 2.0, 2.0])
    valid = torch.ones(2, 21, dtype=torch.bool)
    valid[1] = False
    assert articulation_loss(found, truth, valid).tolist() == pytest.approx([9, 0])
    some = rand(2, 3) > 0.3
    check_gradient(lambda a: articulation_loss(a, rand(2, 3, 3, seed=1), some), rand(2, 3, 3))


def test_what_is_not_labelled_reaches_neither_value_nor_gradient():
    found = torch.zeros(1, 21, 3, requires_grad=True)
    truth = torch.full((1, 21, 3), torch.nan)
    truth[0, 0] = PLACE_UNIT
    valid = torch.zeros(1, 21, dtype=torch.bool)
    valid[0, 0] = True
    loss = articulation_loss(found, truth, valid)
    loss.sum().backward()
    assert loss.item() == pytest.approx(3)
    assert found.grad[0, 1:].abs().max() == 0 and found.grad[0, 0].isfinite().all()


def test_silhouette_equation_9():
    mask = torch.zeros(3, 1, 4, 4)
    mask[:2, :, :2] = 1  # 8 pixels
    half = mask.clone()
    half[1, 0, 0] = 0  # a row of four missing
    half[1, 0, 3, 0] = 0.5
    half[2, 0, 0, 0] = 1  # a pixel where nothing is: an area of at least a twentieth of 16
    assert silhouette_loss(half, mask).tolist() == pytest.approx([0, (4 + 0.25) / 8, 1 / 0.8])
    assert silhouette_loss(torch.zeros(3, 1, 4, 4), mask).tolist() == [1, 1, 0]
    check_gradient(lambda a: silhouette_loss(a, mask.double()), rand(3, 1, 4, 4))


def test_the_laplacian_of_equations_10_and_11():
    # a square of two right triangles: opposite the diagonal are right angles, cot 90 = 0; opposite sides cot 45 = 1
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    laplacian = cotangent_laplacian(corners, np.array([[0, 1, 2], [0, 2, 3]]))
    expected = np.array([[1, -0.5, 0, -0.5], [-0.5, 1, -0.5, 0], [0, -0.5, 1, -0.5], [-0.5, 0, -0.5, 1]])
    np.testing.assert_allclose(laplacian, expected, atol=1e-12)
    matrix, flat = torch.tensor(laplacian), torch.tensor(corners)[None]
    # corner (0, 0): (0, 0) - ((1, 0) + (0, 1)) / 2, length sqrt(1/2); so are all four
    assert laplacian_loss(flat, matrix).item() == pytest.approx(math.sqrt(0.5))
    assert laplacian_loss(flat * 0 + 3, matrix).item() == pytest.approx(1e-6)  # one point, no roughness
    check_gradient(lambda a: laplacian_loss(a, matrix), rand(2, 4, 3))


def test_the_laplacian_of_a_flat_regular_neighbourhood_is_zero():
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    faces = np.array([[6, i, (i + 1) % 6] for i in range(6)])
    vertices = np.concatenate([ring, np.zeros((1, 3))])
    laplacian = cotangent_laplacian(vertices, faces)
    np.testing.assert_allclose((laplacian @ vertices)[6], 0, atol=1e-12)
    np.testing.assert_allclose(laplacian.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(laplacian, laplacian.T)
    # 60 degrees on both sides of a spoke
    assert laplacian[6, 0] == pytest.approx(-1 / math.tan(math.pi / 3))


def test_the_gate_of_equation_12():
    assert hierarchical_gate(torch.tensor([0.0, 14.9, 15.0, torch.inf]), 15.0).tolist() == [1, 1, 0, 0]
    truth = torch.zeros(3, 21, 2)
    found = torch.zeros(3, 21, 3)
    found[0, :, 0], found[0, :, 2] = 3 / 224, 9.0  # depth does not count
    found[1, 0] = 1.0
    valid = torch.ones(3, 21, dtype=torch.bool)
    valid[1, 0] = valid[2] = False
    assert mean_pixels(found, truth, valid).tolist() == pytest.approx([3, 0, math.inf])


def test_bad_input():
    with pytest.raises(ValueError, match="sigma"):
        heat_map_loss([torch.zeros(1, 21, 4, 4)], torch.zeros(1, 21, 2), YES, 0.0)
    with pytest.raises(ValueError, match="masked_features: expected shape"):
        masked_feature_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="mask: expected shape"):
        silhouette_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 5, 5))
    with pytest.raises(ValueError, match="laplacian: expected shape"):
        laplacian_loss(torch.zeros(1, 4, 3), torch.zeros(5, 5))
    with pytest.raises(ValueError, match="target: expected shape"):
        articulation_loss(torch.zeros(1, 21, 3), torch.zeros(1, 21, 2), YES)
