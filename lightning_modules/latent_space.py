"""What the latent space of a cross-modal method is for: points of samples, and how unlike a hand a picture is.

A method here has `encoders`, `decoders`, `encode` and `decode` by names of modalities, and a `space` of joints.
Letters: B batch, Z latent numbers.
"""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.modalities import View, looks_right, views_of
from ops.checks import check_choice


@torch.no_grad()
def latent_points(method: LightningModule, batch: HandBatch, source: str) -> Tensor:
    """mu (B, Z) of samples that must all have the modality `source`."""
    return method.encode(_whole_view(method, batch, source), source, _all(batch), looks_right(batch)).mu


@torch.no_grad()
def reject_scores(method: LightningModule, batch: HandBatch, source: str) -> dict[str, Tensor]:
    """How unlike what was trained on samples look: the larger, the less a hand.

    Returns:
        `reconstruction` (B,) mean squared error of the modality decoded from its own mu; `norm` (B,) |mu|.
    """
    check_choice("source: one that is decoded, too", source, method.decoders)
    view = _whole_view(method, batch, source)
    mu = method.encode(view, source, _all(batch), looks_right(batch)).mu
    error = (method.decode(mu, source) - view.target).square().flatten(1).mean(1)
    return {"reconstruction": error, "norm": mu.norm(dim=1)}


def _whole_view(method: LightningModule, batch: HandBatch, source: str) -> View:
    check_choice("source", source, method.encoders)
    views = views_of(batch, [source], method.space)
    if source not in views or not views[source].whole.all():
        raise ValueError(f"source '{source}': expected it in every sample of the batch; choose samples that have it")
    return views[source]


def _all(batch: HandBatch) -> Tensor:
    return torch.ones_like(batch["mirrored"])
