import math

import pytest
import torch

from ops.rotation import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rigid_alignment,
    rotation_6d_to_matrix,
)

QUARTER_ABOUT_Z = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def random_axis_angles(n, angles):
    axes = torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64), dim=-1)
    return axes * angles[:, None]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def test_a_quarter_turn_about_z_takes_x_to_y():
    turn = torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64)
    torch.testing.assert_close(axis_angle_to_matrix(turn), QUARTER_ABOUT_Z, atol=1e-15, rtol=0)
    half = math.sqrt(0.5)
    quaternion = torch.tensor([half, 0, 0, half], dtype=torch.float64)
    torch.testing.assert_close(quaternion_to_matrix(quaternion), QUARTER_ABOUT_Z, atol=1e-15, rtol=0)
    torch.testing.assert_close(matrix_to_quaternion(QUARTER_ABOUT_Z), quaternion, atol=1e-15, rtol=0)
    torch.testing.assert_close(matrix_to_axis_angle(QUARTER_ABOUT_Z), turn, atol=1e-15, rtol=0)


def test_six_numbers_are_the_first_two_columns_made_orthonormal():
    # columns (2, 0, 0) and (5, 3, 0): x, then y once its share of x is gone, then z
    six = torch.tensor([2.0, 0.0, 0.0, 5.0, 3.0, 0.0])
    torch.testing.assert_close(rotation_6d_to_matrix(six), torch.eye(3))
    columns = QUARTER_ABOUT_Z[:, :2].T.reshape(6)
    torch.testing.assert_close(rotation_6d_to_matrix(columns), QUARTER_ABOUT_Z)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 9.9e-5, 1.1e-4, 0.01, 1.0, 3.0, 5.0])
def test_matrices_are_those_of_the_matrix_exponential(angle):
    axis_angles = random_axis_angles(20, torch.full((20,), angle, dtype=torch.float64))
    x, y, z = axis_angles.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).view(-1, 3, 3)
    torch.testing.assert_close(axis_angle_to_matrix(axis_angles), torch.linalg.matrix_exp(cross), atol=1e-13, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 1.0, 2.0, 3.0, math.pi - 1e-6])
def test_axis_angle_and_quaternion_round_trips(angle):
    axis_angles = random_axis_angles(50, torch.full((50,), angle, dtype=torch.float64))
    matrices = axis_angle_to_matrix(axis_angles)
    torch.testing.assert_close(matrix_to_axis_angle(matrices), axis_angles, atol=1e-9, rtol=0)
    quaternions = matrix_to_quaternion(matrices)
    assert (quaternions[:, 0] >= 0).all()
    torch.testing.assert_close(quaternion_to_matrix(-3 * quaternions), matrices, atol=1e-12, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_have_an_angle_of_pi(axis):
    turn = torch.zeros(3, dtype=torch.float64)
    turn[axis] = math.pi
    back = matrix_to_axis_angle(axis_angle_to_matrix(turn))
    torch.testing.assert_close(back.abs(), turn, atol=1e-9, rtol=0)


def test_gradients_of_axis_angle_hold_at_and_near_the_zero_rotation():
    near = random_axis_angles(4, torch.tensor([0.0, 1e-3, 1.0, 3.0], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (near,))


def test_gradient_at_zero_is_the_cross_product_matrix():
    zero = torch.zeros(3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(axis_angle_to_matrix, zero)  # (3, 3, 3)
    about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(jacobian[:, :, 2], about_z, atol=0, rtol=0)


def test_float32_gradients_keep_their_digits_at_small_angles():
    angles = torch.logspace(-6, 0, 60, dtype=torch.float64)
    exact = random_axis_angles(60, angles).requires_grad_()
    rough = exact.detach().float().requires_grad_()
    weights = torch.randn(60, 3, 3, dtype=torch.float64)
    (axis_angle_to_matrix(exact) * weights).sum().backward()
    (axis_angle_to_matrix(rough) * weights.float()).sum().backward()
    torch.testing.assert_close(rough.grad.double(), exact.grad, atol=5e-6, rtol=0)


@pytest.mark.parametrize("convert, size", [(quaternion_to_matrix, 4), (rotation_6d_to_matrix, 6)])
def test_gradients_of_quaternion_and_six_numbers(convert, size):
    values = torch.randn(5, size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convert, (values,))
    matrices = convert(values)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(5, dtype=torch.float64))


def test_gradients_of_the_way_back_to_axis_angle():
    axis_angles = random_axis_angles(5, torch.linspace(0.1, 2.9, 5, dtype=torch.float64)).requires_grad_()
    round_trip = torch.autograd.functional.jacobian(
        lambda a: matrix_to_axis_angle(axis_angle_to_matrix(a)).sum(0), axis_angles
    )
    expected = torch.eye(3, dtype=torch.float64)[:, None].expand(3, 5, 3)
    torch.testing.assert_close(round_trip, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", [False, True])
def test_alignment_undoes_a_rigid_motion(scale):
    target = torch.randn(4, 21, 3, dtype=torch.float64)
    rotation = axis_angle_to_matrix(torch.randn(4, 3, dtype=torch.float64))
    factor = 1.7 if scale else 1.0
    source = factor * target @ rotation.mT + torch.randn(4, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(rigid_alignment(source, target, scale=scale), target, atol=1e-12, rtol=0)


def test_alignment_never_mirrors():
    target = torch.randn(6, 21, 3, dtype=torch.float64)
    mirrored = target * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    moved = rigid_alignment(mirrored, target)
    # volumes spanned by three joints keep their sign, so the moved points are still a left hand
    before, after = (torch.linalg.det(p[:, 1:4] - p[:, :1]) for p in (mirrored, moved))
    torch.testing.assert_close(after, before)
    assert (moved - target).norm(dim=-1).mean() > 0.1


def test_the_scale_of_a_mirrored_set_is_the_one_that_fits_best():
    target = torch.randn(6, 21, 3, dtype=torch.float64)
    mirrored = target * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    moved = rigid_alignment(mirrored, target, scale=True)
    middle = target.mean(1, keepdim=True)
    factors = torch.linspace(0.2, 3, 281, dtype=torch.float64)  # steps of 0.01, the 81st is 1
    tried = middle + factors[:, None, None, None] * (moved - middle)  # (281, 6, 21, 3)
    errors = (tried - target).square().sum((2, 3))
    assert factors[80] == pytest.approx(1) and (errors.argmin(0) == 80).all()
    assert (errors[80] < (rigid_alignment(mirrored, target) - target).square().sum((1, 2)) - 0.1).all()


def test_alignment_ignores_points_without_weight():
    target = torch.randn(2, 21, 3, dtype=torch.float64)
    rotation = axis_angle_to_matrix(torch.randn(2, 3, dtype=torch.float64))
    source = target @ rotation.mT
    source[:, 5] += 10
    weights = torch.ones(2, 21)
    weights[:, 5] = 0
    moved = rigid_alignment(source, target, weights)
    torch.testing.assert_close(moved[:, :5], target[:, :5], atol=1e-12, rtol=0)


def test_alignment_refuses_unequal_point_sets():
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 21, 3\), got \(2, 20, 3\)"):
        rigid_alignment(torch.zeros(2, 21, 3), torch.zeros(2, 20, 3))
