"""The predictions of a test as files, one per source: what `lightning_modules.evaluate` judges."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.batch_predictions import BatchPredictions
from lightning_modules.prediction import HandPrediction, join_predictions
from lightning_modules.prediction_files import read_predictions, write_predictions
from ops.checks import check_choice

_LARGE = ("vertices", "parts")


class TestPredictions(Callback):
    """Writes `<folder>/<source>.npz` with every prediction of a test, under the keys of its samples.

    Ranks write their shares, and the first one joins them. Vertices and part pictures are a hundred times the joints
    and left out, unless a protocol that judges them is to be used.

    Args:
        folder: where the files go; files of an earlier test of the same run are replaced.
        keep: of "vertices" and "parts" what to write beside the joints.
        predictions: predicts; given where other callbacks want the same predictions.
    """

    __test__ = False  # for pytest: not a test

    def __init__(self, folder: Path, keep: Sequence[str] = (), predictions: BatchPredictions | None = None) -> None:
        for name in keep:
            check_choice("predictions_keep", name, _LARGE)
        self.folder, self._predictions = Path(folder), predictions or BatchPredictions()
        self._left_out = dict.fromkeys(set(_LARGE) - set(keep))
        self._seen: dict[str, list[tuple[list[str], HandPrediction]]] = defaultdict(list)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test, and what one that was cut off left behind."""
        self._seen.clear()
        if trainer.is_global_zero:
            for path in self.folder.glob("*.rank*.npz"):
                path.unlink()
        trainer.strategy.barrier("no predictions of an earlier test are left")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: HandBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Predict the batch, source by source."""
        for source, keys, prediction in self._predictions.of(pl_module, batch, batch_idx):
            self._seen[source].append((keys, _on_cpu(replace(prediction, **self._left_out))))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for source, seen in self._seen.items():
            keys, predictions = zip(*seen, strict=True)
            path = self._share(source, trainer.global_rank)
            write_predictions(path, join_predictions(predictions), [key for batch in keys for key in batch])
        trainer.strategy.barrier("predictions of all ranks are written")
        if trainer.is_global_zero:
            for source in sorted({path.name.split(".rank")[0] for path in self.folder.glob("*.rank*.npz")}):
                self._join(source)

    def _share(self, source: str, rank: int) -> Path:
        return self.folder / f"{source}.rank{rank:04d}.npz"

    def _join(self, source: str) -> None:
        shares = sorted(self.folder.glob(f"{source}.rank*.npz"))
        predictions, keys = zip(*(read_predictions(path) for path in shares), strict=True)
        write_predictions(
            self.folder / f"{source}.npz", join_predictions(predictions), [k for part in keys for k in part]
        )
        for path in shares:
            path.unlink()
        print(f"wrote {self.folder / f'{source}.npz'}")


def _on_cpu(prediction: HandPrediction) -> HandPrediction:
    tensors = {field.name: getattr(prediction, field.name) for field in fields(HandPrediction)}
    return replace(prediction, **{name: value.cpu() for name, value in tensors.items() if isinstance(value, Tensor)})
