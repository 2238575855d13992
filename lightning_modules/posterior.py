"""Gaussian posteriors of variational autoencoders: divergence, samples, the bound, whether the latent space is used.

Letters: B batch, Z latent numbers.
"""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from ops.checks import check_shape

ACTIVE_VARIANCE = 0.01  # of the means over the data: Burda et al. 2016 call a unit active above it
COLLAPSED = 0.1  # share of active units below which training is warned of
ENOUGH = 4  # samples to say so


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of every number: (B, Z) nats. Kingma and Welling 2014, appendix B."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def kl_loss(mu: Tensor, logvar: Tensor, free_bits: float = 0.0) -> Tensor:
    """KL () of a batch: per dimension the mean over samples, at least `free_bits` nats, summed over dimensions.

    Free nats (Kingma et al. 2016, IAF, eq. 15) give no reason to empty a dimension that holds less.

    Args:
        mu: (B, Z).
        logvar: (B, Z).
        free_bits: nats of a dimension that cost nothing.
    """
    return kl_per_dimension(mu, logvar).mean(0).clamp_min(free_bits).sum()


def drawn(mu: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """z (B, Z) ~ N(mu, exp(logvar)), differentiable; noise comes from a generator on the CPU, alike on every device."""
    noise = torch.randn(mu.shape, generator=generator).to(mu)
    return mu + (0.5 * logvar).exp() * noise


def log_likelihood(squared: Tensor, numbers: Tensor, kl_weight: float) -> Tensor:
    """log p(x | z) (B,), nats, of the Gaussian whose bound the loss `mean squared error + kl_weight KL` is.

    The loss is 2 sigma^2 / D times the negative bound if sigma^2 = kl_weight D / 2; hence
    log p = -squared / kl_weight - D / 2 log(pi kl_weight D).

    Args:
        squared: (B,) squared error, mean over a sample's numbers.
        numbers: (B,) D, how many numbers a sample has.
        kl_weight: of the loss.
    """
    return -squared / kl_weight - 0.5 * numbers * (math.pi * kl_weight * numbers.clamp_min(1)).log()


class PosteriorFigures(Metric):
    """What a source's posteriors do over a split: KL of each dimension, and how far the means move with the data."""

    full_state_update = False

    def __init__(self, latent: int) -> None:
        super().__init__()
        for name in ("kl", "sum", "squares"):
            self.add_state(name, torch.zeros(latent, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mu: Tensor, logvar: Tensor) -> None:
        """Add posteriors (B, Z)."""
        check_shape("mu", mu, ("B", len(self.kl)))
        check_shape("logvar", logvar, tuple(mu.shape))
        mu = mu.detach().double()
        self.kl += kl_per_dimension(mu, logvar.detach().double()).sum(0)
        self.sum += mu.sum(0)
        self.squares += mu.square().sum(0)
        self.count += len(mu)

    def compute(self) -> dict[str, Tensor]:
        """`kl_per_dimension` (Z,) nats, `active` (Z,) bool: variance of the means above 0.01, `count` ()."""
        variance = self.squares / self.count - (self.sum / self.count).square()
        return {"kl_per_dimension": self.kl / self.count, "active": variance > ACTIVE_VARIANCE, "count": self.count}
