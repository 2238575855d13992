"""Trunks for one-channel pictures of 128 x 128: a picture (B, 1, H, W) to features (B, F). `features` says F.

Sizes at 128 x 128 (multiply-adds, parameters): tiny 0.001 G, 0.2 M; small 0.020 G, 1.5 M; resnet18 0.566 G, 11.2 M.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ops.checks import check_choice

TrunkName = Literal["tiny", "small", "resnet18"]
PICTURE_SIZE = 128
PYRAMID_WIDTHS = (32, 64, 128, 192)  # from a quarter of the picture's side on


def build_trunk(name: TrunkName) -> nn.Module:
    """The trunk of that name."""
    check_choice("trunk", name, ("tiny", "small", "resnet18"))
    if name == "resnet18":
        return ResNet18()
    if name == "small":
        return PatchTrunk((16, 32, 64, 128), kernel=8, stride=4, blocks=1, features=512)
    return PatchTrunk((16, 32, 64), kernel=8, stride=8, blocks=0, features=128)


class PatchTrunk(nn.Sequential):
    """Dense 3x3 convolutions after an early reduction: CPU time goes with activations as much as with products.

    Args:
        widths: channels after the first layer, and after each halving that follows.
        kernel: of the first layer, pixels.
        stride: of the first layer, pixels.
        blocks: residual blocks after each halving.
        features: length F of the feature vector.
    """

    def __init__(self, widths: Sequence[int], kernel: int, stride: int, blocks: int, features: int) -> None:
        layers: list[nn.Module] = [_convolution(1, widths[0], kernel, stride), nn.ReLU(inplace=True)]
        for before, width in pairwise(widths):
            layers += [_convolution(before, width, stride=2), nn.ReLU(inplace=True)]
            layers += [ResidualBlock(width, width) for _ in range(blocks)]
        side = PICTURE_SIZE // stride // 2 ** (len(widths) - 1)
        # the place of a feature in the picture matters to a pose: flatten, do not average
        layers += [nn.Flatten(), nn.Linear(widths[-1] * side * side, features), nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.features = features


class ResNet18(nn.Sequential):
    """ResNet-18 (He et al. 2016, table 1) for one input channel, without its classifier; F = 512."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [_convolution(1, 64, kernel=7, stride=2), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, stride=2, padding=1)]
        super().__init__(*layers, *resnet18_blocks(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.features = 512


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut (He et al. 2016, fig. 2 left)."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(before, width, stride=stride)
        self.second = _convolution(width, width)
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(before, width, kernel=1, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (B, C, H, W) to (B, width, H / stride, W / stride)."""
        return torch.relu(self.second(torch.relu(self.first(maps))) + self.shortcut(maps))


def resnet18_blocks() -> list[nn.Module]:
    """What stands between ResNet-18's first pooling and its last: 64 maps to 512, an eighth as large."""
    blocks: list[nn.Module] = []
    for before, width, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        blocks += [ResidualBlock(before, width, stride), ResidualBlock(width, width)]
    return blocks


def small_pyramid(channels: int) -> list[nn.Module]:
    """Pictures (B, C, S, S) to maps (B, 192, S / 32, S / 32): residual blocks after an early reduction."""
    first = PYRAMID_WIDTHS[0]
    layers: list[nn.Module] = [nn.Conv2d(channels, first, 8, 4, 2, bias=False), nn.BatchNorm2d(first)]
    layers.append(nn.ReLU(inplace=True))
    return layers + [ResidualBlock(before, width, stride=2) for before, width in pairwise(PYRAMID_WIDTHS)]


def _convolution(before: int, width: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution that keeps side / stride, and batch norm."""
    padding = (kernel - stride + 1) // 2 if kernel % 2 == 0 else kernel // 2
    return nn.Sequential(
        nn.Conv2d(before, width, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(width),
    )
