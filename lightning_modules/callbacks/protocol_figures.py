"""Validation and test judged by the protocols of the datasets that they run on, as papers report them."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from datamodules.batch import HandBatch
from lightning_modules.batch_predictions import BatchPredictions, SourcePrediction
from lightning_modules.evaluation_files import Hands, NotComparable, labelled_hands, predicted_hands
from lightning_modules.evaluation_pairs import feed
from lightning_modules.protocols import Protocol, protocol, result_of


class ProtocolFigures(Callback):
    """Logs `<stage>/<source>/<protocol>/mean_mm` and the protocol's other figures; a test writes all of them.

    Labels are the dataset's own, as its reader gives them, not those of the crops; figures equal those of
    `lightning_modules.evaluate` for the files of predictions and labels. Where a method does not predict what a
    protocol compares, it says so once, and nothing is logged for that source.

    Args:
        protocols: the protocol of every source that has one.
        folder: where a test writes `<source>.json`, like `evaluate --save`; None: nowhere.
        predictions: predicts; given where other callbacks want the same predictions.
    """

    def __init__(
        self, protocols: dict[str, str], folder: Path | None = None, predictions: BatchPredictions | None = None
    ) -> None:
        self.protocols, self.folder = dict(protocols), folder
        self._predictions = predictions or BatchPredictions()
        self._judges: dict[str, SourceJudge] = {}
        self._labels: dict[tuple[str, str], dict[str, Any]] = {}

    def _start(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Metrics of a new run over a split; its labels are read once."""
        for source, name in self.protocols.items():
            if (source, split) not in self._labels:
                self._labels[source, split] = trainer.datamodule.evaluation_labels(source, split)
            metric = protocol(name).to(pl_module.device)
            self._judges[source] = SourceJudge(metric, f"labels of {source}/{split}", self._labels[source, split])

    def _add(self, pl_module: LightningModule, batch: HandBatch, batch_idx: int) -> None:
        if self.protocols.keys().isdisjoint(batch["domain"]):
            return
        for share in self._predictions.of(pl_module, batch, batch_idx):
            if share.source in self._judges:
                self._judges[share.source].add(share)

    def _end(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log, on all ranks alike: what one of them cannot say, none says."""
        for source, judge in self._judges.items():
            said = [judge.seen, bool(judge.refusal), "place" in judge.metric.facts]
            counts = torch.tensor(said, dtype=torch.int64, device=pl_module.device)
            seen, refused, placeless = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
            if refused and not trainer.sanity_checking:
                rank_zero_warn(f"'{source}' is not judged by {judge.metric.name}: {judge.refusal}")
            if refused or not seen:
                continue
            if placeless:
                judge.metric.forget_place()
            figures = judge.figures()
            for name, value in figures.items():
                if isinstance(value, float):
                    exact = torch.tensor(value, dtype=torch.float64, device=pl_module.device)
                    pl_module.log(f"{stage}/{source}/{judge.metric.name}/{name}", exact, sync_dist=True, batch_size=1)
            if stage == "test" and self.folder is not None and trainer.is_global_zero:
                self._write(source, judge, figures)

    def _write(self, source: str, judge: "SourceJudge", figures: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{source}.json"
        result = result_of(judge.metric, figures, f"test on {source}", judge.where)
        path.write_text(json.dumps(result, allow_nan=False) + "\n")
        rank_zero_info(f"wrote {path}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._start(trainer, pl_module, "val")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: HandBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge a batch."""
        self._add(pl_module, batch, batch_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log."""
        self._end(trainer, pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._start(trainer, pl_module, "test")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: HandBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge a batch."""
        self._add(pl_module, batch, batch_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and write."""
        self._end(trainer, pl_module, "test")


class SourceJudge:
    """One source's protocol and labels.

    Args:
        metric: is fed.
        where: what the labels are called in errors.
        arrays: the labels (`evaluation_labels` of the datamodule).
    """

    def __init__(self, metric: Protocol, where: str, arrays: dict[str, Any]) -> None:
        self.metric, self.where = metric, where
        self.true = labelled_hands(where, arrays, metric)
        self.rows = {key: row for row, key in enumerate(self.true.keys)}
        self.seen = 0  # hands
        self.refusal = ""  # why the method's predictions cannot be judged

    def add(self, share: SourcePrediction) -> None:
        """Judge predictions of samples that the labels know."""
        if self.refusal:
            return
        device = share.prediction.joints_3d.device
        true = self.true.of([self.rows[key] for key in share.keys], device)
        what = f"predictions of {share.source}"
        try:
            predicted = predicted_hands(what, share.prediction, share.keys, self.metric)
            feed(self.metric, _with_the_mesh_of(true, predicted), true, what, self.where)
        except NotComparable as error:
            self.refusal = str(error)
        self.seen += len(share.keys)

    def figures(self) -> dict[str, Any]:
        """The protocol's figures, of all ranks."""
        with warnings.catch_warnings():
            # a rank may see nothing
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
            return self.metric.compute()


def _with_the_mesh_of(true: Hands, predicted: Hands) -> Hands:
    """Predictions whose mesh is another hand model's are judged by their joints alone."""
    meshes = predicted.vertices, true.vertices
    if None not in meshes and meshes[0].shape != meshes[1].shape:
        return predicted._replace(vertices=None)
    return predicted
