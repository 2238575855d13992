"""Shared losses: values by hand, gradients, masks, bad input."""

import pytest
import torch

from lightning_modules.losses import check_loss, joint_limit_loss, mean_of_valid, point_loss


def points(*rows):
    return torch.tensor([rows], dtype=torch.float64)


def test_point_loss_by_hand():
    predicted, target = points([0.3, 0.4, 0], [1, 1, 1]), points([0, 0, 0], [1, 1, 3])
    valid = torch.tensor([[True, True]])
    # distances 0.5 and 2: halves of squares 0.125 and 2
    torch.testing.assert_close(point_loss(predicted, target, valid), torch.tensor(1.0625, dtype=torch.float64))
    got = point_loss(predicted, target, valid, "distance", unit=0.5)
    torch.testing.assert_close(got, torch.tensor(2.5, dtype=torch.float64))


def test_only_valid_points_count_whatever_stands_in_the_others():
    predicted, target = points([0.3, 0.4, 0], [torch.nan, 0, 0]), points([0, 0, 0], [0, 0, 0])
    got = point_loss(predicted, target, torch.tensor([[True, False]]), "distance")
    torch.testing.assert_close(got, torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["squared", "distance"])
def test_the_value_does_not_depend_on_the_batch_size_and_nothing_valid_is_zero(kind):
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 3, 5, 3, generator=generator, dtype=torch.float64)
    valid = torch.ones(3, 5, dtype=torch.bool)
    once = point_loss(predicted, target, valid, kind)
    twice = point_loss(predicted.repeat(2, 1, 1), target.repeat(2, 1, 1), valid.repeat(2, 1), kind)
    torch.testing.assert_close(once, twice)
    predicted.requires_grad_()
    nothing = point_loss(predicted, target, ~valid, kind)
    nothing.backward()
    assert nothing == 0 and (predicted.grad == 0).all()


@pytest.mark.parametrize("kind", ["squared", "distance"])
def test_gradcheck(kind):
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randn(2, 2, 4, 3, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, 4, generator=generator) > 0.3
    torch.autograd.gradcheck(lambda p: point_loss(p, target, valid, kind, 0.1), predicted.requires_grad_())
    low, high = torch.tensor([[-0.5], [0.5]], dtype=torch.float64).expand(2, 4)
    torch.autograd.gradcheck(lambda p: joint_limit_loss(p, low, high), predicted[..., 0].detach().requires_grad_())


def test_joint_limits_by_hand():
    angles = torch.tensor([[-1.0, 0.2], [0.5, 2.0]])
    low, high = torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 1.0])
    # excess: 0.5 below in the first sample, 1 above in the second
    torch.testing.assert_close(joint_limit_loss(angles, low, high), torch.tensor((0.25 + 1.0) / 2))


def test_a_met_point_has_a_finite_gradient():
    predicted = torch.zeros(1, 1, 3, requires_grad=True)
    point_loss(predicted, torch.zeros(1, 1, 3), torch.ones(1, 1, dtype=torch.bool), "distance").backward()
    assert torch.isfinite(predicted.grad).all()


def test_bad_input():
    joints, valid = torch.zeros(2, 21, 3), torch.ones(2, 21, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 21, 3\), got \(2, 20, 3\)"):
        point_loss(joints, joints[:, 1:], valid)
    with pytest.raises(ValueError, match="kind: expected one of 'squared', 'distance', got 'l1'"):
        point_loss(joints, joints, valid, "l1")
    with pytest.raises(ValueError, match=r"low: expected shape \(20,\)"):
        joint_limit_loss(torch.zeros(2, 20), torch.zeros(19), torch.zeros(20))
    with pytest.raises(ValueError, match="valid: expected shape"):
        mean_of_valid(joints[..., 0], valid[:1])


def test_a_loss_that_is_no_number_is_refused():
    check_loss(torch.tensor(2.0), 7, ["a/train/1"])
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=rf"finite number, got {bad} at step 7, on 2 samples from a/train/1 on"):
            check_loss(torch.tensor(bad), 7, ["a/train/1", "a/train/2"])
