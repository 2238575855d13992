"""Progress: a rich bar on a terminal, one line per validation in a log file."""

import sys
import time

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info


class ProgressLines(Callback):
    """One line after each validation, for logs of batch jobs."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = time.monotonic()

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
