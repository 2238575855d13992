"""Sizes of the networks against the release's, counted by hand; what goes in and what comes out."""

import pytest
import torch
from torch import nn

from lightning_modules.networks.vae_decoders import JointDecoder, PictureDecoder
from lightning_modules.networks.vae_encoders import JointEncoder, PictureEncoder, gaussian, resized

Z = 30
RIGHT = torch.tensor([True, False])


def numbers(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_encoder_of_pictures_is_resnet18_with_four_cells_and_the_side():
    def basic(before, width):
        shortcut = before * width + 2 * width if before != width else 0
        first = 9 * before * width + 2 * width + 9 * width * width + 2 * width + shortcut
        return first + 2 * (9 * width * width + 2 * width)

    trunk = 3 * 64 * 49 + 2 * 64 + basic(64, 64) + basic(64, 128) + basic(128, 256) + basic(256, 512)
    assert trunk == 11_176_512  # He et al.'s ResNet-18 without its classifier
    network = PictureEncoder(3, Z)
    assert numbers(network) == trunk + (2048 + 2) * 60 + 60
    assert numbers(PictureEncoder(3, Z, sides=False)) == trunk + 2048 * 60 + 60
    assert numbers(PictureEncoder(1, Z)) == numbers(network) - 2 * 64 * 49
    assert network.features(torch.zeros(1, 3, 256, 256)).shape == (1, 512, 2, 2)


def test_the_networks_of_joints_have_512_units_a_layer():
    hidden = 512 * 512 + 512
    assert numbers(JointEncoder(63, Z)) == 63 * 512 + 512 + 2 * hidden + 512 * 60 + 60 == 588_860
    assert numbers(JointEncoder(42, Z)) == 578_108
    assert numbers(JointDecoder(Z, 63)) == 30 * 512 + 512 + 4 * hidden + 512 * 63 + 63 == 1_098_815
    assert numbers(JointDecoder(Z, 42)) == 1_088_042
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in JointDecoder(Z, 63))
    assert isinstance(JointDecoder(Z, 63)[-1], nn.Linear)


def test_the_decoder_of_pictures_doubles_eight_cells_four_times():
    cells = 30 * 8192 + 8192 + 2 * 8192
    maps = sum(16 * a * b + b + 2 * b for a, b in ((128, 64), (64, 32), (32, 16)))
    network = PictureDecoder(Z, 3)
    assert numbers(network) == cells + maps + 16 * 16 * 3 + 3 == 443_475
    assert numbers(PictureDecoder(Z, 1)) == cells + maps + 16 * 16 + 1
    assert network(torch.zeros(2, Z)).shape == (2, 3, 128, 128)
    assert isinstance(network.pictures[-1], nn.ConvTranspose2d), "pixels have no last activation"


@pytest.mark.parametrize("size", ["small", "resnet18"])
def test_an_encoder_takes_pictures_of_any_size_and_is_told_the_side(size):
    torch.manual_seed(0)
    network = PictureEncoder(1, Z, size).eval()
    picture = torch.rand(1, 1, 64, 64).expand(2, -1, -1, -1) - 0.5
    told = network(picture, RIGHT)
    assert told.mu.shape == told.logvar.shape == (2, Z)
    assert not torch.allclose(told.mu[0], told.mu[1])
    untold = PictureEncoder(1, Z, size, sides=False).eval()(picture, RIGHT)
    torch.testing.assert_close(untold.mu[0], untold.mu[1])


def test_an_encoder_says_the_logarithm_of_the_variance_first():
    said = gaussian(torch.tensor([[1.0, 2.0, 3.0, 99.0, 5.0, 6.0]]))
    torch.testing.assert_close(said.logvar, torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(said.mu, torch.tensor([[99.0, 5.0, 6.0]]))
    assert gaussian(torch.tensor([[99.0, 5.0]])).logvar.item() == 20, "exp() must not overflow"


def test_resizing_averages_pixels_and_leaves_pictures_of_the_right_size():
    picture = torch.rand(1, 1, 8, 8)
    assert resized(picture, 8) is picture
    assert resized(picture, 4).mean().item() == pytest.approx(picture.mean().item(), abs=0.03)
    torch.testing.assert_close(resized(torch.full((1, 1, 4, 4), 0.3), 8), torch.full((1, 1, 8, 8), 0.3))


def test_bad_input():
    with pytest.raises(ValueError, match="encoder: expected one of 'small', 'resnet18', got 'large'"):
        PictureEncoder(3, Z, "large")
    with pytest.raises(ValueError, match="picture"):
        PictureEncoder(3, Z, "small")(torch.zeros(2, 3, 8, 9), RIGHT)


def test_numbers_keep_their_size_through_the_joints_networks():
    torch.manual_seed(0)
    for network, numbers_in in ((JointEncoder(63, Z), 63), (JointDecoder(Z, 63), Z)):
        hidden = nn.Sequential(*list(network)[:-1])(torch.randn(64, numbers_in))
        assert 0.5 < hidden.square().mean() < 2  # as PyTorch begins them: 0.02 and less
