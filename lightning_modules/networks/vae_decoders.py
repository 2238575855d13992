"""Decoders of the cross-modal VAE: z to a modality.

Spurr, Song, Park, Hilliges: Cross-modal Deep Variational Hand Pose Estimation, CVPR 2018; sizes are those of the model
file that its authors released.

Letters: B batch, Z latent numbers, C channels of a picture, N numbers of a set of joints.
"""

from itertools import pairwise

from torch import Tensor, nn

from lightning_modules.networks.vae_encoders import HIDDEN, keep_scale

DECODED_SIZE = 128  # pixels along a side of decoded pictures
_WIDTHS = (128, 64, 32, 16)  # of maps of 8, 16, 32 and 64 cells a side
_CELLS = 8


class PictureDecoder(nn.Module):
    """z (B, Z) to pictures (B, C, 128, 128), about [-0.5, 0.5], without a last activation.

    Args:
        latent: Z.
        channels: C.
    """

    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        width = _WIDTHS[0] * _CELLS**2
        self.cells = nn.Sequential(nn.Linear(latent, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True))
        layers: list[nn.Module] = []
        for before, after in pairwise(_WIDTHS):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.pictures = nn.Sequential(*layers, nn.ConvTranspose2d(_WIDTHS[-1], channels, 4, 2, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Pictures of z; batch norm needs two samples to train."""
        return self.pictures(self.cells(z).unflatten(1, (_WIDTHS[0], _CELLS, _CELLS)))


class JointDecoder(nn.Sequential):
    """z (B, Z) to joints (B, N): five hidden layers of 512 units.

    Args:
        latent: Z.
        numbers: N, 3 or 2 for each joint.
    """

    def __init__(self, latent: int, numbers: int) -> None:
        layers: list[nn.Module] = []
        for before, width in pairwise((latent, *[HIDDEN] * 5)):
            layers += [nn.Linear(before, width), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(HIDDEN, numbers))
        keep_scale(self)
