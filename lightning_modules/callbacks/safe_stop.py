"""A run that is told to stop saves itself behind a whole step, and has SLURM queue it again.

SIGUSR1 is what slurm/train.sbatch has SLURM send before the time limit; SIGTERM is what preemption, `scancel` and
`kill` send, SIGINT is Ctrl-C. Lightning's own handlers save at once, in the middle of a step, where weights, schedule
and place in the data disagree, or not at all.
"""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lightning_modules import early_signals

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
# Ranks get a signal in different steps and must save in one: every so many steps they agree.
AGREE_EVERY = 10


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Lets a run take signals, and gives them back behind it, however it ends."""
    taken = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in taken.items():
                signal.signal(number, handler)


class Stopped(SystemExit):
    """Ends a run that was told to stop; its exit code is the shell's for the signal."""


class SafeStop(Callback):
    """Saves behind the step in which a signal came, and every `save_every` steps; stops before the next step.

    Args:
        last: the checkpoint to write.
        save_every: optimiser steps between two checkpoints besides those of validations; 0: none.
    """

    def __init__(self, last: Path, save_every: int = 0) -> None:
        if save_every < 0:
            raise ValueError(f"save_every: expected a number of steps, or 0 for none, got {save_every}")
        self.last, self.save_every = last, save_every
        self.received: signal.Signals | None = None
        self.saved_step = -1
        self._stops = self._flush = False

    # -- signals

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the signals before Lightning does: its handler would save weights that are not restored yet."""
        self._take_signals()
        if early_signals.noted:
            self.received = early_signals.noted.pop()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM back, which Lightning has wrapped by now."""
        self._take_signals()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take SIGTERM back once more: Lightning, which would end the test as if it were over, has wrapped it again."""
        self._take_signals()

    def _take_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for each in SIGNALS:
                signal.signal(each, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if number == signal.SIGINT:  # past Python's buffers: the signal may have come in the middle of a print
            os.write(2, b"\nSIGINT: saving behind this step, then stopping; once more stops at once, unsaved\n")

    # -- saving and stopping

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Save where a step is whole; a step that is validated is saved behind its validation."""
        step = trainer.global_step
        if trainer.fit_loop.epoch_loop._should_accumulate():  # gradients in the making are in no checkpoint
            return
        self._stops = self._stops or self._agreed(trainer, step)
        due = self.save_every > 0 and step % self.save_every == 0
        validated = trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
        if (self._stops or due) and step > 0 and not validated and step != self.saved_step:
            trainer.save_checkpoint(self.last)
            self._flush = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Note which step is safe, and have the rows of the steps before it written, which no later run logs again."""
        self.saved_step = trainer.global_step
        _write_logs(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Stop here rather than behind the step: its metrics are logged by now."""
        if self._flush:
            _write_logs(trainer)
            self._flush = False
        if self._stops and self.saved_step == trainer.global_step:
            self._stop(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was told to stop in its last steps leaves its test to the job that follows."""
        if self._stops or self.received:
            self._stop(trainer)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """A test behind a run is left to the job that follows, too: it begins the test anew."""
        if self.received:
            self._stop(trainer)

    def _agreed(self, trainer: Trainer, step: int) -> bool:
        if trainer.world_size == 1:
            return self.received is not None
        if step % AGREE_EVERY:
            return False
        return trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)

    def _stop(self, trainer: Trainer) -> None:
        received = self.received or signal.SIGUSR1  # another rank's, of which this one has heard by agreement
        rank_zero_info(f"{received.name}: stopped after step {trainer.global_step}, saved as {self.last}")
        if trainer.is_global_zero and (received == signal.SIGUSR1 or (received == signal.SIGTERM and is_preempted())):
            requeue()
        raise Stopped(128 + received)


def requeue(environ: dict[str, str] | os._Environ = os.environ) -> None:
    """Have SLURM queue this job, or this task of an array, once more; nothing outside SLURM."""
    if (job := _job(environ)) is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        rank_zero_warn(f"job {job} could not be queued again ({str(reason).strip()}); submit it with the same RUN_ID")


def is_preempted(environ: dict[str, str] | os._Environ = os.environ) -> bool:
    """Whether SLURM told this job to end because another needs its place.

    SLURM queues such a job again if it has to kill it; one that ends by itself in its time of grace counts as failed.
    SIGTERM comes as well from `scancel`, after which nobody wants the job back.
    """
    if (job := _job(environ)) is None:
        return False
    try:
        shown = subprocess.run(["scontrol", "show", "job", job], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        rank_zero_warn(f"job {job}: SLURM does not say whether it was preempted ({error}); it is not queued again")
        return False
    return re.search(r"JobState=RUNNING\b", shown) is not None and re.search(r"PreemptTime=\d", shown) is not None


def _job(environ: dict[str, str] | os._Environ) -> str | None:
    """The number of this job, or of this task of an array; None outside SLURM."""
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def _write_logs(trainer: Trainer) -> None:
    for logger in trainer.loggers:
        logger.save()
