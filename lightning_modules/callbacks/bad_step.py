"""A step whose loss or gradient is no number ends the run before it spoils the weights, and is kept to be looked at."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from lightning_modules.callbacks.checkpoints import FACTS, model_facts
from lightning_modules.checkpoint_io import SafeCheckpointIO
from lightning_modules.losses import NotFinite

BATCH, RANDOM, STEP = "batch", "random", "step"  # in a kept step's file, beside what a checkpoint has


class BadStep(Callback):
    """Stops at a gradient that is not finite; saves batch, weights and random state of a step that failed so.

    A GPU would wait for the look at every step, so there it is taken as often as steps are logged, and by the loss.

    Args:
        folder: where `step_<number>.ckpt` is written, for `python train.py replay <file>`.
        model_config: `class_path` and `init_args` as the configuration gave them.
    """

    def __init__(self, folder: Path, model_config: dict[str, Any]) -> None:
        self.folder, self.model_config = folder, model_config
        self._batch: Any = None
        self._random: torch.Tensor | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember what the step begins with."""
        self._batch, self._random = batch, torch.get_rng_state()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Raise before a gradient that is not finite reaches the weights."""
        if pl_module.device.type != "cpu" and trainer.global_step % trainer.log_every_n_steps:
            return
        if trainer.scaler is not None:  # 16-mixed scales its loss so high that gradients overflow, and skips such steps
            return
        bad = bad_gradients(pl_module)
        if bad:
            raise NotFinite(
                f"gradient: expected finite numbers, got others in {len(bad)} parameters, {bad[0]} first, at step "
                f"{trainer.global_step}; lower model.lr, set trainer.gradient_clip_val or trainer.precision=32-true"
            )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise before weights that are not finite replace a good checkpoint: on a GPU not every step is looked at."""
        bad = [name for name, weight in pl_module.named_parameters() if not bool(weight.isfinite().all())]
        if bad:
            raise NotFinite(
                f"weights: expected finite numbers, got others in {len(bad)} parameters, {bad[0]} first, at step "
                f"{trainer.global_step}; the checkpoint before is good; go on from it with a lower model.lr, or with "
                "trainer.log_every_n_steps=1, which finds the step that spoils them"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep the step, of every rank that failed; checkpoints written before stay as they are."""
        if not isinstance(exception, NotFinite) or self._batch is None:
            return
        path = self.folder / f"step_{trainer.global_step:07d}_rank{trainer.global_rank}.ckpt"
        facts = model_facts(self.model_config, pl_module)
        kept = {FACTS: facts, "state_dict": pl_module.state_dict(), BATCH: dict(self._batch), RANDOM: self._random}
        kept[STEP] = trainer.global_step
        SafeCheckpointIO().save_checkpoint(kept, path)
        exception.add_note(f"the step is kept: python train.py replay {path}")


def bad_gradients(module: torch.nn.Module) -> list[str]:
    """Names of the parameters whose gradient is not finite."""
    there = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    return [name for name, grad in there.items() if not bool(grad.isfinite().all())]
