"""What makes a continued run the same run: random numbers go on, ranks and data have to be as they were."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lightning_modules.callbacks.run_logs import RunCSVLogger

RUN = "handful_run"
# What may change of the data's options: none of them changes which samples are trained on.
FREE = {"num_workers", "val_size", "test_size", "evaluate_on", "folder"}


class RunState(Callback):
    """Writes ranks, data and random states into checkpoints; refuses to go on with other ranks or other data.

    Args:
        data_config: `class_path` and `init_args` of the data as the configuration gave them.
    """

    def __init__(self, data_config: dict[str, Any]) -> None:
        self.data_config = data_config
        self._random: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that died before its first checkpoint begins anew, and so do its logs; before, no path is known."""
        if trainer.ckpt_path is None:
            for logger in trainer.loggers:
                if isinstance(logger, RunCSVLogger):
                    logger.keep_before(0)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state: tensors and plain values only, so that weights_only=True loads them."""
        checkpoint[RUN] = self._facts(trainer) | {"random": _of_all_ranks(random_state(), trainer)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise if the run that goes on would not be the run that was stopped."""
        if trainer.state.fn != TrainerFn.FITTING:  # what is only judged has no samples and no rows to go on with
            return
        path = trainer.ckpt_path or "checkpoint"
        if RUN not in checkpoint:
            rank_zero_warn(
                f"{path}: does not say with which ranks and data it was made; the run may not go on as it was"
            )
            return
        check_continuation(checkpoint[RUN], self._facts(trainer), str(path))
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger):
                logger.keep_before(checkpoint["global_step"])
        self._random = checkpoint[RUN]["random"][trainer.global_rank]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the run begins; random numbers go on only now: setting up a run takes some, too."""
        begins = f"goes on from {trainer.ckpt_path} at step" if trainer.ckpt_path else "begins at step"
        rank_zero_info(f"run {Path(trainer.default_root_dir).name}: {begins} {trainer.global_step}")
        if self._random is not None:
            set_random_state(self._random)
            self._random = None

    def _facts(self, trainer: Trainer) -> dict[str, Any]:
        fingerprint = getattr(trainer.datamodule, "training_fingerprint", None)  # of this project's data
        return {
            "ranks": trainer.world_size,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "data": self.data_config,
            "fingerprint": fingerprint() if fingerprint else {},
        }


def check_continuation(stored: dict[str, Any], here: dict[str, Any], path: str) -> None:
    """Raise if `here` trains on other samples than the run in whose checkpoint the facts `stored` stand."""
    remedies = {
        "ranks": "ask for as many processes (nodes x devices) as it had",
        "accumulate_grad_batches": "set trainer.accumulate_grad_batches as it was",
        "data": "give the data's options it began with",
        "fingerprint": "give the copy of the data it began with",
    }
    for fact, remedy in remedies.items():
        before, now = _flat(stored[fact], fact), _flat(here[fact], fact)
        for name in dict.fromkeys([*before, *now]):
            if name.rpartition(".")[2] not in FREE and before.get(name) != now.get(name):
                raise ValueError(
                    f"{path}: made with {name}={before.get(name)}, here it is {now.get(name)}: the run would not go on "
                    f"with the samples that are left; {remedy}, or start a new run under another RUN_ID"
                )


def random_state() -> dict[str, Any]:
    """States of the generators of Python, NumPy and torch."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what `random_state` gave."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count() and state["cuda"]:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])


def _of_all_ranks(state: dict[str, Any], trainer: Trainer) -> list[dict[str, Any]]:
    if trainer.world_size == 1:
        return [state]
    states: list[dict[str, Any]] = [{}] * trainer.world_size
    torch.distributed.all_gather_object(states, state)
    return states


def _flat(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {key: item for inner, each in value.items() for key, item in _flat(each, f"{name}.{inner}").items()}
    return {name: value}
