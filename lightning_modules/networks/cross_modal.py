"""Encoders and decoders of the cross-modal VAE by the names of their modalities."""

from collections.abc import Collection

from torch import nn

from lightning_modules.networks.vae_decoders import JointDecoder, PictureDecoder
from lightning_modules.networks.vae_encoders import EncoderSize, JointEncoder, PictureEncoder

CHANNELS = {"rgb": 3, "depth": 1}  # of the modalities that are pictures
AXES = {"2d": 2, "3d": 3}  # numbers of a joint, of those that are joints


def build_encoders(
    modalities: Collection[str], latent: int, joints: int, size: EncoderSize, sides: bool
) -> nn.ModuleDict:
    """Encoders of `modalities` to q(z | x) of `latent` numbers; of `joints` joints, and pictures by `size`."""
    networks = nn.ModuleDict()
    for name in sorted(modalities):
        if name in CHANNELS:
            networks[name] = PictureEncoder(CHANNELS[name], latent, size, sides)
        else:
            networks[name] = JointEncoder(AXES[name] * joints, latent)
    return networks


def build_decoders(modalities: Collection[str], latent: int, joints: int) -> nn.ModuleDict:
    """Decoders of `latent` numbers to `modalities`."""
    networks = nn.ModuleDict()
    for name in sorted(modalities):
        if name in CHANNELS:
            networks[name] = PictureDecoder(latent, CHANNELS[name])
        else:
            networks[name] = JointDecoder(latent, AXES[name] * joints)
    return networks
