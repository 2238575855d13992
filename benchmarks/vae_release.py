"""The networks of the cross-modal VAE's release in plain PyTorch, to compare speeds with.

Spurr et al., CVPR 2018. Sizes are those of the authors' model file: ResNet-18 of 256 x 256 pixels, 2 x 2 cells and the
hand's side to [logvar | mu] of 30 numbers; six layers to joints; pictures of 128 x 128.
"""

import torch
from torch import Tensor, nn

LATENT = 30


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a short cut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.short = nn.Identity()
        if stride > 1 or before != width:
            self.short = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of maps."""
        return torch.relu(self.layers(maps) + self.short(maps))


class PlainVAE(nn.Module):
    """A picture (B, C, 256, 256) to joints (B, 63) and to itself (B, C, 128, 128)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        blocks = [Block(64, 64, 1), Block(64, 64, 1)]
        for before, width in ((64, 128), (128, 256), (256, 512)):
            blocks += [Block(before, width, 2), Block(width, width, 1)]
        stem = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        self.encoder = nn.Sequential(*stem, *blocks, nn.AvgPool2d(7, 1), nn.Flatten())
        self.head = nn.Linear(2048 + 2, 2 * LATENT)
        hidden = [layer for _ in range(4) for layer in (nn.Linear(512, 512), nn.ReLU())]
        self.joints = nn.Sequential(nn.Linear(LATENT, 512), nn.ReLU(), *hidden, nn.Linear(512, 63))
        self.cells = nn.Sequential(nn.Linear(LATENT, 8192), nn.BatchNorm1d(8192), nn.ReLU())
        ups = [
            layer
            for before, width in ((128, 64), (64, 32), (32, 16))
            for layer in (nn.ConvTranspose2d(before, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        ]
        self.pictures = nn.Sequential(*ups, nn.ConvTranspose2d(16, channels, 4, 2, 1))

    def posterior(self, picture: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance (B, 30); `side` (B, 2) is one-hot."""
        logvar, mu = self.head(torch.cat([self.encoder(picture), side], 1)).chunk(2, 1)
        return mu, logvar

    def forward(self, picture: Tensor, side: Tensor) -> Tensor:
        """Joints (B, 63), with z = mu."""
        return self.joints(self.posterior(picture, side)[0])

    def loss(self, picture: Tensor, side: Tensor, joints: Tensor, small: Tensor) -> Tensor:
        """() of both pairs; `small` (B, C, 128, 128) is the picture to be said."""
        mu, logvar = self.posterior(picture, side)
        z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
        said = self.pictures(self.cells(z).unflatten(1, (128, 8, 8)))
        divergence = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        return (said - small).square().mean() + (self.joints(z) - joints).square().mean() + 1e-4 * divergence
