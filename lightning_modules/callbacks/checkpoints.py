"""Checkpoints: best and last, and what a reader must know to build the model again."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

FACTS = "handful"
FACT_TYPES = {"class_path": str, "init_args": dict, "hand_model": str}


def run_checkpoint(folder: Path, monitor: str) -> ModelCheckpoint:
    """`checkpoints/best.ckpt` (smallest `monitor`) and `checkpoints/last.ckpt`, after every validation."""
    return RunCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor=monitor,
        save_last=True,
        enable_version_counter=False,  # one best, always under one name
        save_on_train_epoch_end=False,
    )


class RunCheckpoint(ModelCheckpoint):
    """Lightning's own writes last.ckpt only where the best one changed: hours on a plateau would be lost."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write last.ckpt after a validation that found nothing better, too."""
        super().on_validation_end(trainer, pl_module)
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


class LastStep(Callback):
    """Lets best and last see the last step, wherever it falls between two validations.

    Without it the steps after the last validation are in no checkpoint, and a run of fewer has none that is best.

    Args:
        last: the checkpoint written at the end where no validation did it.
    """

    def __init__(self, last: Path) -> None:
        self.last, self.saved_step = last, 0

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Lightning validates where it is told to stop, but not at max_steps."""
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note which step is safe."""
        self.saved_step = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what no validation saw, such as without a validation set."""
        if trainer.global_step != self.saved_step:
            trainer.save_checkpoint(self.last)


class ModelFacts(Callback):
    """Writes class, arguments and hand model of the module into its checkpoints; refuses another hand model's.

    Args:
        model_config: `class_path` and `init_args` as the configuration gave them.
    """

    def __init__(self, model_config: dict[str, Any]) -> None:
        self.model_config = model_config

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the facts: strings, numbers and lists only, so that weights_only=True loads them."""
        checkpoint[FACTS] = model_facts(self.model_config, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise if the checkpoint belongs to another hand model."""
        check_facts(checkpoint, trainer.ckpt_path or "checkpoint", pl_module.hand_model_id)


def model_facts(model_config: dict[str, Any], module: LightningModule) -> dict[str, Any]:
    """What builds `module` again: class, arguments and hand model."""
    return {
        "class_path": model_config["class_path"],
        "init_args": model_config.get("init_args") or {},
        "hand_model": module.hand_model_id,
    }


def check_facts(checkpoint: dict[str, Any], path: str | Path, hand_model: str | None = None) -> dict[str, Any]:
    """The facts of `checkpoint`; raise if it is foreign or made with another hand model than `hand_model`."""
    facts = checkpoint.get(FACTS)
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: not a checkpoint of this project (it lacks '{FACTS}'); name one that train.py wrote")
    wrong = [name for name, kind in FACT_TYPES.items() if not isinstance(facts.get(name), kind)]
    if wrong or not is_plain(facts["init_args"]):
        raise ValueError(
            f"{path}: not a checkpoint of this project ('{FACTS}': expected class_path, init_args of plain values and "
            f"hand_model, wrong: {', '.join(wrong) or 'init_args'}); name one that train.py wrote"
        )
    if hand_model is not None and facts["hand_model"] != hand_model:
        raise ValueError(
            f"{path}: made with hand model '{facts['hand_model']}', here it is '{hand_model}'; "
            "use the same hand model or train again"
        )
    return facts


def is_plain(value: object) -> bool:
    """Whether `value` is what a configuration file can say: text, numbers, nothing, lists and dictionaries of them."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)
