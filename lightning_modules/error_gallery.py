"""The best, the middle and the worst of what a method predicted, source by source, as pictures."""

import math
from collections import Counter, defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.batch import HandBatch, rows_of
from lightning_modules.batch_predictions import SourcePrediction
from lightning_modules.callbacks.pictures import sample_pictures
from lightning_modules.method import as_pictured
from lightning_modules.prediction import Frame, HandPrediction
from ops.drawing import Picture


class Judged(NamedTuple):
    """A sample and how far its prediction is off."""

    error: float  # mean over joints, millimetres, wrists laid on each other
    key: str
    picture: Picture  # truth green, prediction orange


class ErrorGallery:
    """Draws and judges the first samples of every source.

    Args:
        most: samples that are looked at, of each source.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most
        self._looked_at: Counter[str] = Counter()
        self._judged: dict[str, list[Judged]] = defaultdict(list)

    def wants(self, batch: HandBatch) -> bool:
        """Whether it has not looked at enough of a source in this batch."""
        return any(self._looked_at[source] < self.most for source in batch["domain"])

    def add(self, batch: HandBatch, shares: list[SourcePrediction]) -> None:
        """Judge a batch; samples without a wrist in 3D, predicted and labelled, cannot be."""
        for source, keys, prediction in shares:
            share = rows_of(batch, [i for i, domain in enumerate(batch["domain"]) if domain == source])
            judged = map(
                Judged, _errors(share, prediction).tolist(), keys, sample_pictures(share, prediction, len(keys))
            )
            self._judged[source] += [each for each in judged if math.isfinite(each.error)]
            self._looked_at[source] += len(keys)

    def chosen(self) -> dict[str, dict[str, Judged]]:
        """Best, median and worst of each source's samples, under the source and how many there were."""
        chosen = {}
        for source, judged in self._judged.items():
            if ranked := sorted(judged, key=lambda each: each.error):
                places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
                chosen[f"{source}, {len(ranked)} samples"] = {word: ranked[i] for word, i in places.items()}
        return chosen


def _errors(batch: HandBatch, prediction: HandPrediction) -> Tensor:
    """(B,) millimetres; NaN where there is nothing to judge."""
    true, predicted = as_pictured(batch["joints_3d"], batch["mirrored"]), prediction.joints_3d.detach()
    distances = ((predicted - predicted[:, :1]) - (true - true[:, :1])).norm(dim=-1)
    valid = batch["joint_valid"] & (batch["has_3d"] & batch["joint_valid"][:, 0])[:, None]
    if prediction.frame == Frame.NORMALISED:
        valid = torch.zeros_like(valid)
    return 1000 * torch.where(valid, distances, torch.nan).nanmean(1).float().cpu()
