"""Asking a cluster's programs, on a machine that may have other work."""

import re
import subprocess
import time
from collections.abc import Callable


def command_output(command: list[str], environ: dict[str, str], patience: float = 300) -> str:
    """What a command prints; asked again for `patience` seconds, as a controller on a busy machine may not answer."""
    end = time.monotonic() + patience
    while (done := subprocess.run(command, env=environ, capture_output=True, text=True)).returncode:
        if time.monotonic() > end:
            raise TimeoutError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        time.sleep(1)
    return done.stdout


def job_state(job: str, environ: dict[str, str]) -> tuple[str, int]:
    """A job's state and how often it was queued again."""
    shown = command_output(["scontrol", "show", "job", job], environ)
    return re.search(r"JobState=(\w+)", shown).group(1), int(re.search(r"Restarts=(\d+)", shown).group(1))


def wait_for(there: Callable[[], object], seconds: float, what: str) -> None:
    """Until `there()` is true."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:.0f} s: no {what}")
        time.sleep(0.5)
