"""f_s and f_r: a dense patch classifier is the patch classifier; J networks in one are J networks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_modules.networks.part_classifier import RECEPTIVE_FIELD, PartClassifier
from lightning_modules.networks.part_regressor import PartRegressor


def plain_classifier():
    """Without normalisation, which looks at the whole picture."""
    torch.manual_seed(0)
    network = PartClassifier((3, 4, 5), hidden=6).double()
    network.norms = nn.ModuleList(nn.Identity() for _ in range(5))
    return network


def classify_patch(network, patch):
    """The paper's patch classifier, as published: one label of a 32 x 32 patch, pooling at stride 2, no padding."""
    maps = F.max_pool2d(F.relu(F.conv2d(patch, network.first.weight)), 2)
    maps = F.max_pool2d(F.relu(F.conv2d(maps, network.second.weight)), 2)
    maps = F.relu(F.conv2d(maps, network.third.weight))
    assert maps.shape[2:] == (1, 1)
    return network.scores(F.relu(network.fifth(F.relu(network.fourth(maps)))))


@pytest.mark.parametrize("stride", [1, 2])
def test_every_pixel_gets_what_the_patch_around_it_would(stride):
    network = plain_classifier()
    picture = torch.randn(2, 1, 40, 40, dtype=torch.float64)
    dense = network(picture, stride)
    assert dense.shape == (2, 20, 40 // stride, 40 // stride)
    half = RECEPTIVE_FIELD // 2
    for v, u in ((16, 16), (18, 24), (24, 20)) + (((17, 23),) if stride == 1 else ()):
        patch = picture[:, :, v - half : v + half, u - half : u + half]
        torch.testing.assert_close(dense[:, :, v // stride, u // stride], classify_patch(network, patch)[:, :, 0, 0])


def test_a_pixel_sees_32_pixels_along_each_side_and_no_more():
    network = plain_classifier()
    for parameter in network.parameters():
        parameter.data.abs_()  # more anywhere in view is then more in the end
    picture = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    before = network(picture)[0, :, 32, 32]
    for row, seen in ((15, False), (16, True), (47, True), (48, False)):
        for view in (picture, picture.transpose(2, 3)):
            brighter = view.clone()
            brighter[0, 0, row] += 1
            after = network(brighter if view is picture else brighter.transpose(2, 3))[0, :, 32, 32]
            assert bool((after > before).all()) if seen else torch.equal(after, before), (row, seen)


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_is_the_pictures_own(training):
    torch.manual_seed(0)
    network = PartClassifier((3, 4, 5), hidden=6).double().train(training)
    pictures = torch.randn(2, 1, 16, 16, dtype=torch.float64) * torch.tensor([1.0, 9.0])[:, None, None, None]
    together = network(pictures)
    torch.testing.assert_close(together, torch.cat([network(pictures[:1]), network(pictures[1:])]))
    torch.testing.assert_close(network.train(not training)(pictures), together)
    maps = network.norms[0](network.first(pictures))  # over all pixels of the picture
    torch.testing.assert_close(maps.mean((2, 3)), torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(maps.var((2, 3), correction=0), torch.ones(2, 3, dtype=torch.float64), atol=1e-4, rtol=0)


def test_classifier_refuses_what_it_cannot_see():
    network = PartClassifier((1, 1, 1), hidden=1)
    with pytest.raises(ValueError, match="stride: expected one of 1, 2, got 4"):
        network(torch.zeros(1, 1, 8, 8), 4)
    with pytest.raises(ValueError, match=r"picture: expected even height and width, got \(7, 8\)"):
        network(torch.zeros(1, 1, 7, 8))
    with pytest.raises(ValueError, match=r"widths\[1\]: expected at least 1 channel, got 0"):
        PartClassifier((1, 0, 1))


def regressor(joints=3):
    torch.manual_seed(0)
    network = PartRegressor(joints, hidden=5)
    nn.init.normal_(network.head)
    return network


def test_before_training_every_joint_is_in_the_middle():
    network = PartRegressor(2, hidden=4)
    said = network(torch.randn(3, 1, 24, 24), torch.ones(3, 2, 12, 12))
    torch.testing.assert_close(said, torch.zeros(3, 2, 3), atol=0, rtol=0)


def test_networks_in_one_are_networks_apart():
    together = regressor()
    picture, regions = torch.randn(4, 1, 24, 24), torch.rand(4, 3, 12, 12) > 0.5
    expected = together(picture, regions)
    for joint in range(3):
        alone = PartRegressor(1, hidden=5)
        state = {}
        for name, own in alone.state_dict().items():
            whole = together.state_dict()[name]
            state[name] = whole if own.shape == whole.shape else whole.unflatten(0, (3, -1))[joint].view(own.shape)
        alone.load_state_dict(state)
        said = alone(picture, regions[:, joint : joint + 1])
        torch.testing.assert_close(said[:, 0], expected[:, joint], atol=1e-5, rtol=1e-4)


def test_one_of_the_3x3_branches_sees_the_joints_region_alone():
    network = regressor().eval()
    picture, regions = torch.randn(1, 1, 24, 24), torch.zeros(1, 3, 12, 12)
    regions[0, 1, 4:6, 4:6] = 1
    seen = []
    network.local[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole = network(picture, regions)
    masked = seen[0].unflatten(1, (3, 32))
    assert (masked[0, 0] == 0).all() and (masked[0, 2] == 0).all()
    assert (masked[0, 1, :, 4:6, 4:6] != 0).any() and masked[0, 1].abs().sum() == masked[0, 1, :, 4:6, 4:6].abs().sum()
    regions[0, 1] = 1
    changed = network(picture, regions) != whole
    assert changed[0, 1].all() and not changed[0, [0, 2]].any()


def test_gradients_reach_every_weight_of_both_networks():
    network = regressor()
    network(torch.randn(4, 1, 24, 24), torch.ones(4, 3, 12, 12)).square().sum().backward()
    classifier = PartClassifier((3, 4, 5), hidden=6)
    classifier(torch.randn(2, 1, 16, 16)).square().sum().backward()
    for module in (network, classifier):
        unreached = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not unreached


def test_regressor_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"picture: expected shape \(B, 1, 24, 24\)"):
        regressor()(torch.zeros(1, 1, 48, 48), torch.zeros(1, 3, 12, 12))
    with pytest.raises(ValueError, match=r"regions: expected shape \(1, 3, 12, 12\)"):
        regressor()(torch.zeros(1, 1, 24, 24), torch.zeros(1, 2, 12, 12))
    with pytest.raises(ValueError, match="hidden: expected a finite number above 0, got 0"):
        PartRegressor(2, hidden=0)
