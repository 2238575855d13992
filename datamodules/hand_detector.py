"""Where a photograph shows a hand, by MediaPipe's detector in a process of its own (`make detector`)."""

import contextlib
import json
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

ENGINE = Path(__file__).with_name("detector_engine.py")
ENVIRONMENT = Path(__file__).parent.parent / ".venv-detector"
NAME = "MediaPipe 0.10.21"
PATIENCE = 120  # seconds for a picture, with those it takes to start


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
        if not (ENVIRONMENT / ".done").exists():
            raise ValueError(
                f"detect: the detector is not installed ({ENVIRONMENT} is not there, or not whole): make detector"
            )
        python, pipe = ENVIRONMENT / "bin" / "python", subprocess.PIPE
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen([python, ENGINE], stdin=pipe, stdout=pipe, stderr=self._said)
        self._lock = threading.Lock()

    def hands(self, rgb: np.ndarray) -> list[DetectedHand]:
        """The hands of a picture (H, W, 3) uint8, the largest first.

        Raises:
            ValueError: the detector ended, or said nothing for PATIENCE seconds.
        """
        with self._lock:
            watch = threading.Timer(PATIENCE, self._process.kill)
            watch.start()
            try:
                self._process.stdin.write(f"{rgb.shape[0]} {rgb.shape[1]}\n".encode() + rgb.tobytes())
                self._process.stdin.flush()
                answer = json.loads(self._process.stdout.readline())
                return [DetectedHand(tuple(hand["box"]), hand["side"], hand["score"]) for hand in answer["hands"]]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"detect: the detector gave no answer ({self._last_words()}); make detector anew"
                ) from error
            finally:
                watch.cancel()

    def close(self) -> None:
        """End its process, which has nothing to save."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(OSError):  # what was not sent any more
                pipe.close()

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
