"""The report of a run, written when its training ends, and again with the figures of the test behind it."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from datamodules.batch import HandBatch
from lightning_modules.batch_predictions import BatchPredictions
from lightning_modules.callbacks.run_logs import RunCSVLogger
from lightning_modules.checkout import commit
from lightning_modules.error_gallery import ErrorGallery
from lightning_modules.report import Shown, write_report


class RunReport(Callback):
    """Writes `report.html` into the run folder; how long the run took, it keeps in checkpoints.

    Args:
        folder: of the run.
        title: of the report.
        predictions: predicts; given where other callbacks want the same predictions.
    """

    def __init__(self, folder: Path, title: str, predictions: BatchPredictions | None = None) -> None:
        self.folder, self.title = Path(folder), title
        self._predictions = predictions or BatchPredictions()
        self._seconds, self._sittings = 0.0, 0
        self._since: float | None = None  # of the sitting that goes on
        self._gallery = ErrorGallery()

    # -- time, over all sittings of a run that was stopped

    @property
    def seconds(self) -> float:
        """Of training and validation so far."""
        return self._seconds + (0.0 if self._since is None else time.monotonic() - self._since)

    def state_dict(self) -> dict[str, Any]:
        """The time so far."""
        return {"seconds": self.seconds, "sittings": self._sittings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on; the best checkpoint, which a run tests at its end, knows less than the run by then."""
        self._seconds = max(self._seconds, float(state_dict["seconds"]))
        self._sittings = max(self._sittings, int(state_dict["sittings"]))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a checkpoint's time is known by now."""
        self._since = time.monotonic()
        self._sittings += 1

    # -- the report

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it without a test."""
        self._seconds, self._since = self.seconds, None
        self._write(trainer, pl_module, {})

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the pictures of an earlier test."""
        self._gallery = ErrorGallery()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: HandBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge the first samples."""
        if trainer.is_global_zero and self._gallery.wants(batch):
            self._gallery.add(batch, self._predictions.of(pl_module, batch, batch_idx))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it with the test."""
        test = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        self._write(trainer, pl_module, test)

    def _write(self, trainer: Trainer, module: LightningModule, test: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger):
                logger.save()
        pictures = {
            f"Test: {source}": [
                Shown(f"{word}: {judged.error:.1f} mm (wrists laid on each other), {judged.key}", judged.picture)
                for word, judged in chosen.items()
            ]
            for source, chosen in self._gallery.chosen().items()
        }
        path = write_report(self.folder, self.title, self._facts(trainer, module), test, pictures)
        rank_zero_info(f"wrote {path}")

    def _facts(self, trainer: Trainer, module: LightningModule) -> dict[str, object]:
        """What the run is made of and what it took."""
        minutes, steps = self.seconds / 60, trainer.global_step
        took = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.1f} min"
        facts = {
            "method": type(module).__name__,
            "hand model": module.hand_model_id,
            "parameters": f"{sum(parameter.numel() for parameter in module.parameters()):,}",
            "steps": f"{steps:,} in {took}" + (f", {self._sittings} sittings" if self._sittings > 1 else ""),
            "steps a second": f"{steps / max(self.seconds, 1e-9):.3g}",
            "device": _device(module.device, trainer.world_size),
            "git commit": commit() or "not a git checkout",
            "written": time.strftime("%Y-%m-%d %H:%M %Z"),
        }
        checkpoints = trainer.checkpoint_callback
        if checkpoints is not None and getattr(checkpoints, "best_model_score", None) is not None:
            facts["best validation"] = f"{checkpoints.monitor} {float(checkpoints.best_model_score):.4g}"
        return facts


def _device(device: torch.device, ranks: int) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}, {ranks} ranks" if ranks > 1 else name
