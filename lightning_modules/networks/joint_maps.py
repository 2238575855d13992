"""Heat maps of 21 joints, 32 x 32, by a convolutional pose machine: an encoding, scores of it, and stages that refine.

"full" is PoseNet of Zimmermann and Brox: Learning to Estimate 3D Hand Pose from Single RGB Images, ICCV 2017 (after
Wei et al.: Convolutional Pose Machines, CVPR 2016). "small" has the same stages over a lean encoder, for CPUs: 0.2 G
multiply-adds instead of 60 G; "tiny" is half as wide, with one stage.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.backbones import centred, resized
from lightning_modules.networks.trunks import ResidualBlock
from ops.checks import check_choice, check_shape

JointMapSize = Literal["tiny", "small", "full"]
JOINTS = 21
GRID = 32  # cells along a side of the maps
_LEAST = 1e-3  # scores below count as this: networks say zero and less
_STAGES = {"tiny": 1, "small": 2, "full": 2}  # that refine the first scores
_SEEN = {"tiny": 128, "small": 128, "full": 256}  # pixels along a side that the networks take


class JointMaps(nn.Module):
    """Pictures (B, 3, S, S) in [0, 1] to the maps of every stage, each (B, 21, 32, 32); the last one is the answer.

    Args:
        size: tiny, small or full.
    """

    def __init__(self, size: JointMapSize = "full") -> None:
        super().__init__()
        check_choice("joint_maps", size, tuple(_SEEN))
        self.seen = _SEEN[size]
        if size == "full":
            self.encoder, width, hidden, kernel, layers = _full_encoder(), 128, 128, 7, 5
            first = [nn.Conv2d(width, 512, 1), nn.LeakyReLU(0.01, inplace=True), nn.Conv2d(512, JOINTS, 1)]
        else:
            width, hidden, kernel, layers = (32, 32, 3, 3) if size == "small" else (16, 32, 3, 2)
            self.encoder, first = SmallEncoder(width), [nn.Conv2d(width, JOINTS, 1)]
        self.first = nn.Sequential(*first)
        self.stages = nn.ModuleList(_stage(width, hidden, kernel, layers) for _ in range(_STAGES[size]))
        for last in (self.first[-1], *(stage[-1] for stage in self.stages)):
            nn.init.zeros_(last.weight)  # maps begin as zeros, which cost 1; at random they cost ten times as much
            nn.init.zeros_(last.bias)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """The maps of the first scores and of each stage."""
        check_shape("picture", picture, ("B", 3, "S", "S"))
        encoding = self.encoder(resized(centred(picture), self.seen))
        maps = [self.first(encoding)]
        for stage in self.stages:
            maps.append(stage(torch.cat([maps[-1], encoding], 1)))
        return maps


class SmallEncoder(nn.Module):
    """From 128 x 128 pixels to `width` maps of 32 x 32: down to 8 x 8 to see the whole hand, and up again.

    Args:
        width: channels at 32 x 32; coarser maps have two and four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 8, 4, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.fine = ResidualBlock(width, width)
        self.middle = ResidualBlock(width, 2 * width, stride=2)
        self.coarse = ResidualBlock(2 * width, 4 * width, stride=2)
        self.coarse_up = nn.Conv2d(4 * width, 2 * width, 1)
        self.middle_up = nn.Conv2d(2 * width, width, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, 128, 128) to (B, width, 32, 32)."""
        fine = self.fine(self.stem(picture))
        middle = self.middle(fine)
        middle = torch.relu(middle + F.interpolate(self.coarse_up(self.coarse(middle)), scale_factor=2))
        return torch.relu(fine + F.interpolate(self.middle_up(middle), scale_factor=2))


def _full_encoder() -> nn.Sequential:
    """PoseNet's: (B, 3, 256, 256) to (B, 128, 32, 32)."""
    layers: list[nn.Module] = []
    before = 3
    for widths, pooled in (((64, 64), True), ((128, 128), True), ((256,) * 4, True), ((512, 512), False)):
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.01, inplace=True)]
            before = width
        if pooled:
            layers.append(nn.MaxPool2d(2))
    for width in (256, 256, 256, 256, 128):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.01, inplace=True)]
        before = width
    return nn.Sequential(*layers)


def _stage(encoded: int, width: int, kernel: int, layers: int) -> nn.Sequential:
    """Scores and encoding to better scores."""
    refine: list[nn.Module] = []
    before = JOINTS + encoded
    for _ in range(layers):
        refine += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.LeakyReLU(0.01, inplace=True)]
        before = width
    refine += [nn.Conv2d(width, width, 1), nn.LeakyReLU(0.01, inplace=True), nn.Conv2d(width, JOINTS, 1)]
    return nn.Sequential(*refine)


def joint_places(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where the maps are largest, and how large they are there.

    The cell of the maximum, moved within it to the top of the Gaussian through the cell and its neighbours along x and
    along y: a cell is 7 pixels of a crop of 224. Without gradients, as the maximum has none.

    Args:
        maps: (B, 21, N, N).

    Returns:
        Places (B, 21, 2) in units of the picture's side, (0, 0) its corner; heights (B, 21).
    """
    check_shape("maps", maps, ("B", JOINTS, "N", "N"))
    side = maps.shape[-1]
    maps = maps.detach().float()
    heights, cells = maps.flatten(2).max(-1)
    x, y = cells % side, cells // side
    logs = F.pad(maps.clamp_min(_LEAST).log(), (1, 1, 1, 1), value=math.log(_LEAST)).flatten(2)
    place = (y + 1) * (side + 2) + x + 1  # of the maximum, in padded maps

    def shift(step: int) -> Tensor:
        before, top, after = (logs.gather(-1, place[..., None] + k * step)[..., 0] for k in (-1, 0, 1))
        return (0.5 * (before - after) / (before - 2 * top + after).clamp_max(-1e-6)).clamp(-0.5, 0.5)

    return (torch.stack([x + shift(1), y + shift(side + 2)], -1) + 0.5) / side, heights


def target_maps(places: Tensor, sigma: float, side: int = GRID) -> Tensor:
    """Gaussians of height 1 (B, 21, side, side) around places (B, 21, 2) as in `joint_places`; sigma in cells."""
    check_shape("places", places, ("B", JOINTS, 2))
    cells = torch.arange(side, device=places.device, dtype=places.dtype)
    distance = places[..., None] * side - 0.5 - cells  # (B, 21, 2, side)
    x, y = (-distance.square() / (2 * sigma**2)).exp().unbind(2)
    return y[..., :, None] * x[..., None, :]
