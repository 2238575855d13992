"""Where a photograph shows a hand, by MediaPipe's detector in a process of its own (`make detector`)."""

import json
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

ENGINE = Path(__file__).with_name("detector_engine.py")
ENVIRONMENT = Path(__file__).parent.parent / ".venv-detector"


class DetectedHand(NamedTuple):
    """A hand in a photograph."""

    box: tuple[float, float, float, float]  # u, v of the upper left corner, width, height, pixels; of its 21 joints
    side: str  # left or right
    score: float  # that it is this side's hand, in [0, 1]


class HandDetector:
    """Finds hands in photographs; threads may share it. Close it, or use it in a `with`.

    Raises:
        ValueError: the detector is not installed.
    """

    def __init__(self) -> None:
        python = ENVIRONMENT / "bin" / "python"
        if shutil.which(python) is None:
            raise ValueError(f"detect: the detector is not installed ({ENVIRONMENT} is not there): make detector")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([python, ENGINE], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._lock = threading.Lock()

    def hands(self, rgb: np.ndarray) -> list[DetectedHand]:
        """The hands of a picture (H, W, 3) uint8, the surest first.

        Raises:
            ValueError: the detector ended.
        """
        with self._lock:
            try:
                self._process.stdin.write(f"{rgb.shape[0]} {rgb.shape[1]}\n".encode() + rgb.tobytes())
                self._process.stdin.flush()
                answer = self._process.stdout.readline()
            except BrokenPipeError:
                answer = b""
        if not answer:
            raise ValueError(
                f"detect: the detector ended; {ENVIRONMENT}/bin/python {ENGINE} says why, make detector anew"
            )
        return [DetectedHand(tuple(each["box"]), each["side"], each["score"]) for each in json.loads(answer)["hands"]]

    def close(self) -> None:
        """End its process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
