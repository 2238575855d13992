"""What a method predicts of a batch, source by source: once, for all callbacks that ask."""

from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule

from datamodules.batch import HandBatch, rows_of
from lightning_modules.prediction import HandPrediction


class SourcePrediction(NamedTuple):
    """Predictions of a batch's samples of one source."""

    source: str
    keys: list[str]
    prediction: HandPrediction


class BatchPredictions:
    """Predicts batches; the last one is remembered."""

    def __init__(self) -> None:
        self._batch: HandBatch | None = None
        self._predictions: list[SourcePrediction] = []

    def of(self, module: LightningModule, batch: HandBatch, batch_idx: int) -> list[SourcePrediction]:
        """Predictions of `batch`, a share for each source: labels of one share are of one convention."""
        if batch is not self._batch:
            self._predictions = list(self._predict(module, batch, batch_idx))
            self._batch = batch
        return self._predictions

    @staticmethod
    @torch.no_grad()
    def _predict(module: LightningModule, batch: HandBatch, batch_idx: int) -> list[SourcePrediction]:
        shares = []
        for source in dict.fromkeys(batch["domain"]):
            share = rows_of(batch, [i for i, name in enumerate(batch["domain"]) if name == source])
            shares.append(SourcePrediction(source, share["key"], module.predict_step(share, batch_idx)))
        return shares
