"""Weights of an earlier experiment, for methods that begin with some."""

from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_modules.callbacks.checkpoints import check_facts
from lightning_modules.restore import read_checkpoint
from lightning_modules.run_folder import newest_best


def earlier_weights(path: str | Path, method: type, hand_model: str) -> dict[str, Tensor]:
    """The state of a checkpoint of the same method and hand model; tensors and plain types only are read.

    Args:
        path: a file that train.py wrote, or an experiment's folder, runs/<experiment>, whose newest best is taken.
        method: the class that will take the weights over.
        hand_model: id that the checkpoint must have been made with.
    """
    path = Path(path)
    if path.is_dir():
        path = newest_best(path.parent, path.name)
    elif not path.exists():
        raise FileNotFoundError(
            f"init_from {path}: no such checkpoint and no such folder of runs; train the step before (--config "
            f"configs/{path.name}.yaml, if that is its name), or name its checkpoint"
        )
    checkpoint = read_checkpoint(path)
    facts = check_facts(checkpoint, path, hand_model)
    class_path = f"{method.__module__}.{method.__qualname__}"
    if facts["class_path"] != class_path:
        raise ValueError(f"init_from {path}: of {facts['class_path']}, expected {class_path}; name its earlier step")
    return checkpoint["state_dict"]


def part_of_weights(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of the submodule `name`, under its own names; empty where there are none."""
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


class BeginsWithWeights:
    """Mixed into a method with the argument `init_from`, before its base: training begins with those weights.

    A run that goes on has its own. The method says `take_weights(path)`.
    """

    goes_on = False

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note that a run goes on: its weights are not those that it began with."""
        self.goes_on = True

    def on_fit_start(self) -> None:
        """Take over the weights that training begins with."""
        if self.hparams.init_from and not self.goes_on:
            self.take_weights(self.hparams.init_from)
