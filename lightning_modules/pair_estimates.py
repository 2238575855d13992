"""What an encoder and decoders make of a batch, pair by pair, its error and its bound; whose labels are kept.

Letters: B batch, n of its samples have the source, m of these the target; Z latent numbers.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.modalities import Pair, View
from lightning_modules.networks.vae_encoders import Gaussian
from lightning_modules.posterior import kl_per_dimension, log_likelihood


class Posterior(NamedTuple):
    """q(z | x) of the samples of a batch that have a source."""

    q: Gaussian  # (n, Z)
    rows: Tensor  # (B,) bool, n of them


class Decoded(NamedTuple):
    """What a decoder says of the samples that have source and target."""

    values: Tensor  # (m, ...)
    q: Gaussian  # (m, Z) they were drawn from
    rows: Tensor  # (B,) bool, m of them


class PairEstimate(NamedTuple):
    """What the networks make of a batch, on the pairs of a step."""

    views: dict[str, View]
    posteriors: dict[str, Posterior]
    decoded: dict[Pair, Decoded]


def squared_error(view: View, said: Decoded) -> Tensor:
    """Squared error (m,) of what a decoder said, mean over the numbers of the target that count."""
    counted = view.counted.expand_as(view.target)[said.rows]
    error = torch.where(counted, said.values - view.target[said.rows], torch.zeros_like(said.values))
    return error.square().flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)


def bound(view: View, said: Decoded, kl_weight: float) -> Tensor:
    """Evidence lower bound (m,), nats, of the samples of a pair."""
    numbers = view.counted.expand_as(view.target)[said.rows].flatten(1).sum(1).float()
    likelihood = log_likelihood(squared_error(view, said), numbers, kl_weight)
    return likelihood - kl_per_dimension(*said.q).sum(1)


def labelled(keys: Sequence[str], share: float) -> Tensor:
    """(B,) bool: samples that keep their labels, by their keys alone; who has them at a share has them at a larger."""
    digests = (hashlib.blake2s(key.encode(), digest_size=4).digest() for key in keys)
    return torch.tensor([int.from_bytes(digest) < share * 2**32 for digest in digests])
