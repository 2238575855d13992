"""SLURM's warning while a run is still starting: noted before anything heavy is imported, obeyed behind the first step.

Until Python says otherwise SIGUSR1 ends it, and a job that ends so is not queued again.
"""

import os
import signal
from types import FrameType

noted: list[signal.Signals] = []


def note_early_signals() -> None:
    """Note SIGUSR1 from now on, in a job of SLURM's; SafeStop takes it over."""
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, _note)


def _note(number: int, frame: FrameType | None) -> None:
    noted.append(signal.Signals(number))
