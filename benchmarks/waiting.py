"""How much of its time training spends in waiting for data."""

import warnings

import lightning
from lightning.pytorch.profilers import SimpleProfiler

_NEXT, _STEP = "[_TrainingEpochLoop].train_dataloader_next", "run_training_batch"


class _Durations(SimpleProfiler):
    """Records and prints nothing: a benchmark's last line is its figures."""

    def summary(self) -> str:
        return ""


def share_of_waiting(
    method: lightning.LightningModule, data: lightning.LightningDataModule, steps: int, warm_up: int, **trainer: object
) -> float:
    """Share of training time spent in waiting for the next batch, networks and workers on the same cores.

    Args:
        method: to train.
        data: whose epoch outlasts the steps.
        steps: to train.
        warm_up: steps at the beginning that do not count.
        trainer: options of the Trainer beside.
    """
    profiler = _Durations()
    trained = lightning.Trainer(
        max_steps=steps,
        profiler=profiler,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **trainer,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on validation and more workers
        trained.fit(method, data)
    waited, worked = (sum(profiler.recorded_durations[name][warm_up:steps]) for name in (_NEXT, _STEP))
    return waited / (waited + worked)
