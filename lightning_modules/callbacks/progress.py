"""Progress: a rich bar on a terminal, lines in a log file: each minute, and with figures after each validation."""

import math
import sys
import time

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

EVERY = 60.0  # seconds between two lines


class ProgressLines(Callback):
    """A line each minute and after each validation, for logs of batch jobs."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = self.spoken = time.monotonic()
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Print step, time and what is left, once a minute."""
        now = time.monotonic()
        if now - self.spoken < EVERY:
            return
        self.spoken = now
        step, last = trainer.global_step, trainer.estimated_stepping_batches
        left = ""
        if math.isfinite(last) and last > step > self.first:
            minutes = (last - step) * (now - self.started) / (step - self.first) / 60
            left = f"of {last:.0f}, about {minutes:.0f} min left"
        rank_zero_info(f"step {step:>7}  {now - self.started:6.0f} s  {left}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print step, time and validation metrics."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        metrics = {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/joints")}
        figures = "  ".join(f"{name} {float(value):.4g}" for name, value in sorted(metrics.items()))
        rank_zero_info(f"step {trainer.global_step:>7}  {time.monotonic() - self.started:6.0f} s  {figures}")


def run_progress() -> Callback:
    """The progress display that fits where standard output goes."""
    return RichProgressBar() if sys.stdout.isatty() else ProgressLines()
