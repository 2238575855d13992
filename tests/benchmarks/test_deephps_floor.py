"""Round trip of HPSL: parameters to a mesh, and the fit finds them again."""

import torch

from benchmarks.deephps_floor import HandFit, measure
from ops.hand_model import open_hand
from ops.hand_model.pose_shape_layer import ARTICULATION, HandPoseShapeLayer, articulation_limits


def test_the_fit_recovers_the_parameters_that_made_a_hand():
    layer = HandPoseShapeLayer(open_hand(), backend="torch").double()
    generator = torch.Generator().manual_seed(3)
    low, high = (limit.double() for limit in articulation_limits(layer.model))
    bend = low + (high - low) * torch.rand(3, 20, generator=generator, dtype=torch.float64)
    pose = torch.cat([torch.randn(3, 6, generator=generator, dtype=torch.float64), bend], 1)
    scales = 1 + 0.05 * torch.randn(3, 6, generator=generator, dtype=torch.float64)
    shape = 0.5 * torch.randn(3, 7, generator=generator, dtype=torch.float64)
    target = layer(pose, scales, shape)
    fit = HandFit(layer, target.vertices, target.joints)
    assert (fit.hands(fit.parameters).joints - target.joints).norm(dim=-1).mean() > 0.01  # the start is no answer
    hands = fit.run(steps=25)
    assert (hands.vertices - target.vertices).norm(dim=-1).max() < 1e-5
    assert (fit.parameters[:, ARTICULATION] - pose[:, ARTICULATION]).abs().max() < 1e-3
    torch.testing.assert_close(fit.parameters[:, 26:32], scales, atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.parameters[:, 32:], shape, atol=1e-2, rtol=0)
    torch.testing.assert_close(hands.rotations[:, 0], layer(pose, scales, shape).rotations[:, 0], atol=1e-4, rtol=0)


def test_rendered_hands_are_fitted_to_a_millimetre():
    figures = measure(hands=2, batch_size=2)
    assert len(figures) == 6 and all(0 < error < 1.5 for error in figures.values())
