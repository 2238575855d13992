"""What W&B is told of a run besides metrics: configuration, commit, hand model, data; its checkpoints on request."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_modules.checkout import commit
from lightning_modules.run_folder import LAST

KEPT = ("best.ckpt", LAST)


class WandbRun(Callback):
    """Writes what a run is made of into its W&B configuration, and its checkpoints as an artifact at its end.

    Args:
        config: of the run, as its config.yaml has it; its `experiment` must be that of the W&B run that goes on.
        checkpoints: folder of the checkpoints to send; None sends none.
    """

    def __init__(self, config: dict[str, Any], checkpoints: Path | None = None) -> None:
        self.config, self.checkpoints = config, checkpoints

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the facts."""
        for run in _runs(trainer):
            other, own = run.config.get("experiment"), self.config["experiment"]
            if other not in (None, own):
                raise ValueError(
                    f"RUN_ID: the W&B run '{run.id}' belongs to experiment '{other}', this is '{own}', and both would "
                    "be logged as one; choose another RUN_ID, or --wandb=disabled"
                )
            fingerprint = getattr(trainer.datamodule, "training_fingerprint", None)  # of this project's data
            facts = {
                "commit": commit() or "unknown",
                "hand_model": getattr(pl_module, "hand_model_id", None),
                "data_fingerprint": fingerprint() if fingerprint else {},
            }
            run.config.update(self.config | facts, allow_val_change=True)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the checkpoints of a run that came to its end."""
        if self.checkpoints is None:
            return
        import wandb

        for run in _runs(trainer):
            artifact = wandb.Artifact(f"checkpoints-{run.id}", type="model")
            for path in (self.checkpoints / name for name in KEPT):
                if path.is_file():
                    artifact.add_file(str(path))
            run.log_artifact(artifact)


def _runs(trainer: Trainer) -> list[Any]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)]
