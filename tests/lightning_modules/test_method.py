"""What all methods log alike."""

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from datamodules.batch import HandBatch
from tests.lightning_modules.test_bad_step import Spoilt
from tests.toys import ToyHands


class Weighed(Spoilt):
    """A sample's loss is its number."""

    def losses(self, estimate, batch):
        of = torch.tensor([float(key.rpartition("/")[2]) for key in batch["key"]])
        return {"total": (0 * estimate.sum() + of).mean()}


def test_losses_of_validation_are_means_of_samples_not_of_batches():
    loader = DataLoader(ToyHands(16, 3), batch_size=2, collate_fn=lambda rows: HandBatch(default_collate(rows)))
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (figures,) = trainer.validate(Weighed(), loader, verbose=False)
    assert figures["val/loss_total"] == pytest.approx((0 + 1 + 2) / 3)  # of batches: (0.5 + 2) / 2
