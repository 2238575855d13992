"""Encoders of the cross-modal VAE: a modality to [logvar | mu] of a Gaussian over z, in that order.

Spurr, Song, Park, Hilliges: Cross-modal Deep Variational Hand Pose Estimation, CVPR 2018; sizes are those of the model
file that its authors released. "small" is our own, for CPUs: 0.03 G multiply-adds at 128 x 128.

Letters: B batch, Z latent numbers, C channels of a picture, N numbers of a set of joints.
"""

from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.backbones import resized
from lightning_modules.networks.trunks import PYRAMID_WIDTHS, resnet18_blocks, small_pyramid
from ops.checks import check_choice, check_shape

EncoderSize = Literal["small", "resnet18"]
SIDES = 2  # a hand looks left or right: one-hot beside the features of a picture
HIDDEN = 512  # units of a layer of the joints' networks
_SEEN = {"small": 128, "resnet18": 256}  # pixels along a side that the networks take
_LOGVAR_LIMIT = 20.0  # beyond it exp() over- or underflows in half precision


class Gaussian(NamedTuple):
    """q(z | x) of B samples, a variance for each number."""

    mu: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)


class PictureEncoder(nn.Module):
    """Pictures (B, C, S, S), about [-0.5, 0.5], to q(z | x).

    "resnet18" is ResNet-18 on 256 x 256 pixels up to its last maps (512, 8, 8), averaged by 7 x 7 windows to 2 x 2:
    2048 features. Pictures of other sizes are resized.

    Args:
        channels: C.
        latent: Z.
        size: small or resnet18.
        sides: whether the layer after the features is told which hand the picture looks like.
    """

    def __init__(self, channels: int, latent: int, size: EncoderSize = "resnet18", sides: bool = True) -> None:
        super().__init__()
        check_choice("encoder", size, get_args(EncoderSize))
        self.seen, self.sides = _SEEN[size], sides
        if size == "resnet18":
            self.features, width = _resnet18(channels)
        else:  # 4 x 4 cells are kept, as in the small backbone
            self.features, width = nn.Sequential(*small_pyramid(channels)), PYRAMID_WIDTHS[-1] * 4 * 4
        self.head = nn.Linear(width + (SIDES if sides else 0), 2 * latent)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, picture: Tensor, looks_right: Tensor) -> Gaussian:
        """q(z | x) of pictures; `looks_right` (B,) bool is not read by an encoder without sides."""
        check_shape("picture", picture, ("B", "C", "S", "S"))
        features = self.features(resized(picture, self.seen)).flatten(1)
        if self.sides:
            features = torch.cat([features, F.one_hot(looks_right.long(), SIDES).to(features.dtype)], 1)
        return gaussian(self.head(features))


class JointEncoder(nn.Sequential):
    """Joints (B, N) to q(z | x): three hidden layers of 512 units. Which hand it is does not matter to it.

    Args:
        numbers: N, 3 or 2 for each joint.
        latent: Z.
    """

    def __init__(self, numbers: int, latent: int) -> None:
        layers: list[nn.Module] = []
        for before, width in pairwise((numbers, HIDDEN, HIDDEN, HIDDEN)):
            layers += [nn.Linear(before, width), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(HIDDEN, 2 * latent))
        keep_scale(self)

    def forward(self, joints: Tensor, looks_right: Tensor | None = None) -> Gaussian:
        """q(z | x) of joints (B, N); `looks_right` is there for the picture encoders' sake."""
        return gaussian(super().forward(joints))


def keep_scale(layers: nn.Sequential) -> None:
    """Begin hidden layers so that numbers keep their size through them (He et al. 2015).

    As PyTorch begins them, each lets through 0.4 of it: after five, little is left to learn from.
    """
    for layer in list(layers)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def gaussian(numbers: Tensor) -> Gaussian:
    """q(z | x) that an encoder says as [logvar | mu] (B, 2 Z)."""
    logvar, mu = numbers.float().chunk(2, 1)
    return Gaussian(mu, logvar.clamp(-_LOGVAR_LIMIT, _LOGVAR_LIMIT))


def _resnet18(channels: int) -> tuple[nn.Sequential, int]:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    return nn.Sequential(*layers, *resnet18_blocks(), nn.AvgPool2d(7, stride=1)), 512 * 2 * 2
