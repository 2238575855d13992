"""What all methods log alike."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from datamodules.batch import HandBatch
from lightning_modules.method import HandMethod
from tests.toys import ToyHands


class Weighed(HandMethod):
    hand_model_id = "toy-hand"

    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.ones(1))

    @property
    def source_needs(self):
        return {"every": [], "some": []}

    def estimate(self, batch):
        return self.weight

    def losses(self, estimate, batch):
        of = torch.tensor([float(key.rpartition("/")[2]) for key in batch["key"]])
        return {"total": (0 * estimate.sum() + of).mean()}

    def measure(self, estimate, batch, stage):
        self.log(f"{stage}/joints_root_mm", 1.0, batch_size=2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_losses_of_validation_are_means_of_samples_not_of_batches():
    loader = DataLoader(ToyHands(16, 3), batch_size=2, collate_fn=lambda rows: HandBatch(default_collate(rows)))
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (figures,) = trainer.validate(Weighed(), loader, verbose=False)
    assert figures["val/loss_total"] == pytest.approx((0 + 1 + 2) / 3)  # of batches: (0.5 + 2) / 2
