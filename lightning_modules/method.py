"""What the methods share: a step's losses logged and checked, figures of validation and test, the optimiser.

A method says how hands are estimated, what that costs and how good it is:

    class MyMethod(HandMethod):
        def estimate(self, batch): ...          # what the networks make of a batch
        def losses(self, estimate, batch): ...  # named terms and their weighted "total"
        def measure(self, estimate, batch, stage): ...  # feeds and logs the figures of "val" or "test"
        def predict_step(self, batch, batch_idx): ...   # a HandPrediction, as pictured

Letters: B batch, N points.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from datamodules.batch import HandBatch
from lightning_modules.losses import check_loss
from lightning_modules.schedules import warmup_cosine


class HandMethod(LightningModule):
    """A method on the batch contract. Hyperparameters read here: lr, weight_decay, warmup_steps, report_domains."""

    hand_model_id: str  # id of the hand model whose vertices or parts the method predicts; checkpoints name it
    shares: tuple[str, ...] = ("3d",)  # labels whose share in a batch is logged beside the losses
    export_fields: tuple[str, ...] = ()  # of the batch, that `exported` reads
    crop_size = 128  # pixels along the side of the crop that the networks are given outside training

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.ModuleDict()  # of losses and shares, by name, once these are known; no part of a checkpoint

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What `every` source of an experiment must give, and what at least one (`some`); flags of the contract."""
        raise NotImplementedError

    @property
    def report_domains(self) -> list[str]:
        """Domains whose figures are logged one by one; an experiment must evaluate on them."""
        return list(self.hparams.report_domains)

    def estimate(self, batch: HandBatch) -> Any:
        """What the networks make of a batch."""
        raise NotImplementedError

    def losses(self, estimate: Any, batch: HandBatch) -> dict[str, Tensor]:
        """Named terms () and their weighted `total`, of an estimate against the labels of `batch`."""
        raise NotImplementedError

    def measure(self, estimate: Any, batch: HandBatch, stage: str) -> None:
        """Feed and log the figures of a stage, "val" or "test"."""
        raise NotImplementedError

    def exported(self, batch: HandBatch) -> dict[str, Tensor]:
        """What the network says of right hands, by name, joints and vertices in metres in the camera's frame.

        `predict.py export` writes it: only `export_fields` of the batch are there, and nothing may depend on values.
        """
        raise NotImplementedError

    # -- steps

    def training_step(self, batch: HandBatch, batch_idx: int) -> Tensor:
        """Total loss () of a batch."""
        total = self._step(batch, "train")[1]
        # looking at it makes a GPU wait, hence there as seldom as it is logged
        if total.device.type == "cpu" or self.global_step % self.trainer.log_every_n_steps == 0:
            check_loss(total, self.global_step, batch["key"])
        return total

    def validation_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Losses and figures of a batch."""
        self.measure(self._step(batch, "val")[0], batch, "val")

    def test_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Losses and figures of a batch."""
        self.measure(self._step(batch, "test")[0], batch, "test")

    def _step(self, batch: HandBatch, stage: str) -> tuple[Any, Tensor]:
        estimate = self.estimate(batch)
        terms = self.losses(estimate, batch)
        logged = {f"{stage}/loss_{name}": term for name, term in terms.items()}
        logged |= {f"{stage}/{label}_share": batch[f"has_{label}"].float().mean() for label in self.shares}
        size = len(batch["key"])
        if stage == "train":
            self.log_dict(logged, batch_size=size)
        else:
            self._log_means(logged, size)
        return estimate, terms["total"]

    def _log_means(self, values: dict[str, Tensor], size: int) -> None:
        """Log means over all samples of all ranks.

        As metrics: where ranks have unequal numbers of samples, numbers that Lightning averages itself come out wrong,
        as it rounds the mean of these numbers down (2.6: 7 and 6 samples make everything 13/12 as large).
        """
        for name, value in values.items():
            if name not in self.means:
                self.means[name] = MeanMetric().to(self.device)
            self.means[name].update(value.detach(), weight=size)
            where = {"on_step": False, "on_epoch": True, "add_dataloader_idx": False}
            self.log(name, self.means[name], metric_attribute=f"means.{name}", **where)

    # -- optimiser

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, warm-up and half cosine by the global step."""
        hyper = self.hparams
        optimiser = torch.optim.AdamW(self.trained(), hyper.lr, weight_decay=hyper.weight_decay, fused=True)
        return by_step(optimiser, warmup_cosine(hyper.warmup_steps, self.training_steps()))

    def trained(self) -> list[Tensor]:
        """The parameters that get gradients."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def training_steps(self) -> int:
        """Optimiser steps of the whole run, which a cosine schedule must know."""
        steps = self.trainer.estimated_stepping_batches
        if not 0 <= steps < math.inf:  # Lightning says inf or -1
            raise ValueError(
                "trainer.max_steps: expected an end for the cosine schedule, got none; set trainer.max_steps"
            )
        return int(steps)


def by_step(optimiser: torch.optim.Optimizer, factor: Callable[[int], float]) -> OptimizerLRScheduler:
    """What Lightning wants of an optimiser whose learning rate is multiplied by a factor of the global step."""
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": LambdaLR(optimiser, factor), "interval": "step"}}


def as_pictured(points: Tensor, mirrored: Tensor) -> Tensor:
    """Points (B, N, 3) in the camera's frame, mirrored back where (B,) bool says that the picture was mirrored."""
    flip = torch.where(mirrored[:, None], points.new_tensor([-1.0, 1, 1]), points.new_tensor([1.0, 1, 1]))
    return points * flip[:, None]


def rotations_as_pictured(rotations: Tensor, mirrored: Tensor) -> Tensor:
    """Rotations (B, N, 3, 3), hand -> camera, of the other hand where (B,) bool says that the picture was mirrored."""
    flip = torch.where(mirrored[:, None], rotations.new_tensor([-1.0, 1, 1]), rotations.new_tensor([1.0, 1, 1]))
    return flip[:, None, :, None] * rotations * flip[:, None, None, :]


def pixels_as_pictured(pixels: Tensor, mirrored: Tensor, width: int) -> Tensor:
    """Pixels (B, N, 2) of pictures of that width, mirrored back where (B,) bool says that they were mirrored."""
    u = torch.where(mirrored[:, None], width - 1 - pixels[..., 0], pixels[..., 0])
    return torch.stack([u, pixels[..., 1]], -1)
