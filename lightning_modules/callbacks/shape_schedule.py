"""When the mask counts: the lambda of DHPE's shape loss, by instance (eq. 12), constant, or by the epoch.

Baek, Kim, Kim: Pushing the Envelope for RGB-based Dense 3D Hand Pose Estimation via Neural Rendering, CVPR 2019: where
the skeleton is still far off, the mask pulls the mesh anywhere; so an instance's mask counts once its skeleton is near.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules.dhpe_losses import hierarchical_gate
from ops.checks import check_choice, check_positive

Schedule = Literal["hierarchical", "constant", "ramp"]


class ShapeMethod(Protocol):
    """What a method must have to be scheduled so."""

    # pixels (B,) of the 2D joints' mean distance in a crop of 224, has_mask (B,) -> lambda (B,)
    shape_schedule: Callable[[Tensor, Tensor], Tensor] | None


class HierarchicalShapeLoss(Callback):
    """Sets the method's lambda. Logs of the hands with masks in an epoch `shape/active_share`, the mean of lambda, and
    `shape/near_share`, how many are within the threshold.

    What an epoch has seen so far is state: one that is cut in the middle ends with the shares of all its hands.

    Args:
        schedule: "hierarchical": 1 for hands whose 2D joints are off by less than `threshold` pixels on average, else
            0; "constant": always 1; "ramp": from 0 to 1 over `ramp_epochs`, the same for all hands.
        threshold: pixels of a crop of 224, whatever the picture's size.
        ramp_epochs: epochs until a ramp is at 1.
    """

    def __init__(self, schedule: Schedule = "hierarchical", threshold: float = 15.0, ramp_epochs: float = 20.0) -> None:
        check_choice("schedule", schedule, get_args(Schedule))
        check_positive(threshold=threshold, ramp_epochs=ramp_epochs)
        self.schedule: Schedule = schedule
        self.threshold, self.ramp_epochs = threshold, ramp_epochs
        self.epoch = 0
        self.sums = torch.zeros(3)  # over the hands of the epoch so far: of lambda, of being near, of being there

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Become the method's schedule."""
        if not hasattr(pl_module, "shape_schedule"):
            raise ValueError(
                f"HierarchicalShapeLoss: {type(pl_module).__name__} has no shape loss to schedule; leave it out"
            )

        def weights(pixels: Tensor, has_mask: Tensor) -> Tensor:
            epochs = epochs_done(trainer) if stage == "fit" else self.ramp_epochs
            found = self.weights(pixels, epochs)
            if pl_module.training:
                self._count(trainer.current_epoch, found[has_mask], pixels[has_mask])
            return found

        pl_module.shape_schedule = weights

    def weights(self, pixels: Tensor, epochs: float) -> Tensor:
        """Lambda (B,) of hands whose 2D joints are `pixels` (B,) off, after so many epochs."""
        if self.schedule == "hierarchical":
            return hierarchical_gate(pixels, self.threshold)
        weight = 1.0 if self.schedule == "constant" else min(1.0, epochs / self.ramp_epochs)
        return torch.full_like(pixels, weight)

    def _count(self, epoch: int, weights: Tensor, pixels: Tensor) -> None:
        if epoch != self.epoch:
            self.epoch, self.sums = epoch, torch.zeros(3)
        near = hierarchical_gate(pixels, self.threshold)
        added = torch.stack([weights.sum(), near.sum(), torch.ones_like(near).sum()])
        self.sums = self.sums.to(added.device) + added

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's shares, of all ranks."""
        active, near, seen = pl_module.all_gather(self.sums.to(pl_module.device)).reshape(-1, 3).sum(0)
        shares = {"shape/active_share": active / seen.clamp_min(1), "shape/near_share": near / seen.clamp_min(1)}
        pl_module.log_dict(shares, on_step=False, on_epoch=True)

    def state_dict(self) -> dict[str, Any]:
        """The epoch and its sums, of an average rank."""
        sums = self.sums.cpu()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, sums)
            sums = torch.stack(parts).mean(0)
        return {"epoch": self.epoch, "sums": sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the middle of an epoch."""
        self.epoch, self.sums = state_dict["epoch"], state_dict["sums"]


def epochs_done(trainer: Trainer) -> float:
    """Epochs that a training has done, the one it is in by its batches."""
    return trainer.current_epoch + max(trainer.fit_loop.batch_idx, 0) / trainer.num_training_batches
