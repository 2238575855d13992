"""What the latent space of a cross-modal method is for: points of samples, rejecting pictures, whether decoders agree.

A method here has `encoders`, `decoders`, `encode` and `decode` by names of modalities, and a `space` of joints.
Letters: B batch, Z latent numbers.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.modalities import View, looks_right, normalised_depth, views_of
from lightning_modules.networks.vae_decoders import DECODED_SIZE
from ops.checks import check_choice

CUBE_SIDE = 0.3  # metres, of the rendered domains' crops
_LEAST_VARIANCE = 1e-6  # of pictures that show nothing


@torch.no_grad()
def latent_points(method: LightningModule, batch: HandBatch, source: str) -> Tensor:
    """mu (B, Z) of samples that must all have the modality `source`."""
    return method.encode(_whole_view(method, batch, source), source, _all(batch), looks_right(batch)).mu


@torch.no_grad()
def reject_scores(method: LightningModule, batch: HandBatch, source: str) -> dict[str, Tensor]:
    """How unlike what was trained on samples look: the larger, the less a hand.

    Returns:
        `reconstruction` (B,) mean squared error of the modality decoded from its own mu; `relative` (B,) the same over
        the picture's variance: 1 is what its mean colour would do, and a blank picture has far more; `norm` (B,) |mu|.
    """
    check_choice("source: one that is decoded, too", source, method.decoders)
    view = _whole_view(method, batch, source)
    mu = method.encode(view, source, _all(batch), looks_right(batch)).mu
    error = (method.decode(mu, source) - view.target).square().flatten(1).mean(1)
    variance = view.target.flatten(1).var(1, correction=0).clamp_min(_LEAST_VARIANCE)
    return {"reconstruction": error, "relative": error / variance, "norm": mu.norm(dim=1)}


@torch.no_grad()
def agreement(method: LightningModule, z: Tensor) -> dict[str, float]:
    """How far the modalities are apart that points z (B, Z) are decoded to.

    Returns:
        `2d_px`: 2D joints from the 3D ones in the picture; `<modality>_mm`: the 3D joints of a decoded modality that is
        encoded again from those of z, from the wrist. `others_2d_px` and `others_mm` are the same figures of two
        different points: what modalities that share nothing but their statistics would give.
    """
    check_choice("target: one that is decoded, too", "3d", method.decoders)
    joints = _joints(method, z)
    found = {"others_mm": _apart(joints, joints.roll(1, 0))}
    if "2d" in method.decoders:
        pixels = method.space.pixels(method.decode(z, "2d"), DECODED_SIZE)
        found |= {"2d_px": picture_error(joints, pixels), "others_2d_px": picture_error(joints.roll(1, 0), pixels)}
    right = torch.ones(len(z), dtype=torch.bool, device=z.device)
    for name in method.encoders:
        if name in method.decoders:
            decoded = method.decode(z, name)
            again = method.encoders[name](decoded.clamp(-0.5, 0.5) if decoded.ndim == 4 else decoded, right)
            found[f"{name}_mm"] = _apart(_joints(method, again.mu), joints)
    return found


def picture_error(joints: Tensor, pixels: Tensor) -> float:
    """Mean distance, pixels, of 2D joints (B, N, 2) from 3D ones (B, N, 3) as they are seen from afar.

    Where and how far away a hand is, joints about the palm do not say: the shift and scale are taken that suit a hand
    best. What perspective does to it remains, also of true labels.
    """
    seen, pixels = (points - points.mean(1, keepdim=True) for points in (joints[..., :2], pixels))
    scale = (seen * pixels).sum((1, 2)) / seen.square().sum((1, 2)).clamp_min(1e-12)
    return float((scale[:, None, None] * seen - pixels).norm(dim=-1).mean())


def export_fields(method: LightningModule) -> tuple[str, ...]:
    """Fields of the batch that `exported` reads: the first source of predictions, which must be a picture."""
    check_choice("predict_from: what is exported takes a picture", method.predict_from[0], ("rgb", "depth"))
    return method.predict_from[0], "cube_centre", "cube_side"


def exported(method: LightningModule, batch: HandBatch) -> dict[str, Tensor]:
    """Joints (B, 21, 3) of z = mu, metres: in the camera's frame, or from the wrist where the frame is the palm's."""
    source = method.predict_from[0]
    picture = batch["rgb"] - 0.5 if source == "rgb" else 0.5 * normalised_depth(batch)
    right = torch.ones_like(batch["cube_side"], dtype=torch.bool)
    numbers = method.decode(method.encoders[source](picture, right).mu, "3d")
    if method.space.frame == "palm":
        joints = method.space.metres(numbers, torch.full_like(batch["cube_side"], method.space.usual_bone))
        return {"joints": joints - joints[:, :1]}
    return {"joints": method.space.metres(numbers, 0.5 * batch["cube_side"]) + batch["cube_centre"][:, None]}


def _joints(method: LightningModule, z: Tensor) -> Tensor:
    """Joints (B, 21, 3), metres, from the wrist, of a hand of usual size, or in a crop's usual cube."""
    unit = method.space.usual_bone if method.space.frame == "palm" else 0.5 * CUBE_SIDE
    joints = method.space.metres(method.decode(z, "3d"), torch.full((len(z),), unit, device=z.device))
    return joints - joints[:, :1]


def _apart(one: Tensor, other: Tensor) -> float:
    return 1000 * float((one - other).norm(dim=-1).mean())


def _whole_view(method: LightningModule, batch: HandBatch, source: str) -> View:
    check_choice("source", source, method.encoders)
    views = views_of(batch, [source], method.space)
    if source not in views or not views[source].whole.all():
        raise ValueError(f"source '{source}': expected it in every sample of the batch; choose samples that have it")
    return views[source]


def _all(batch: HandBatch) -> Tensor:
    return torch.ones_like(batch["mirrored"])
