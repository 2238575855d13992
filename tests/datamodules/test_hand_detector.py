"""Hands in photographs by a detector in a process of its own: stood in for, and where it is installed itself."""

import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules import hand_detector
from datamodules.ge import Ge
from datamodules.hand_detector import ENVIRONMENT, HandDetector
from datamodules.sights import Asked, Input, read_sight

GE = Path(__file__).parents[3] / "shared" / "data" / "ge_rgb3d"
# what is red is a left hand, and the pixel in the corner a smaller right one; a picture of green ends it
ENGINE = """#!{python}
import json, os, sys, time
import numpy as np
while line := sys.stdin.buffer.readline():
    height, width = map(int, line.split())
    rgb = np.frombuffer(sys.stdin.buffer.read(height * width * 3), np.uint8).reshape(height, width, 3)
    if (rgb[..., 1] > 200).all():
        time.sleep(60 if height == 1 else 0)
        sys.exit("green")
    v, u = np.nonzero(rgb[..., 0] > 200)
    box = [int(u.min()), int(v.min()), int(np.ptp(u)) + 1, int(np.ptp(v)) + 1] if len(u) else None
    hands = [(box, "left"), ([0, 0, 2, 2], "right")] if box else []
    print(json.dumps({{"hands": [{{"box": box, "side": side, "score": 0.9}} for box, side in hands]}}), flush=True)
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The stand-in where the detector would be installed."""
    program = tmp_path / "environment" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(ENGINE.format(python=sys.executable))
    program.chmod(0o755)
    (tmp_path / "environment" / ".done").touch()
    monkeypatch.setattr(hand_detector, "ENVIRONMENT", tmp_path / "environment")


def photo(path: Path, box: tuple[int, int, int, int] | None = None, colour: int = 2) -> Path:
    """A grey picture of 300 x 200 pixels with a red box, or full of a colour."""
    picture = np.full((200, 300, 3), 60, np.uint8)
    if box:
        picture[box[1] : box[1] + box[3], box[0] : box[0] + box[2], 2] = 255
    elif colour != 2:
        picture[..., colour] = 255
    cv2.imwrite(str(path), picture)
    return path


def test_a_photograph_is_cut_around_the_hand_that_was_detected(engine, tmp_path):
    path = photo(tmp_path / "red.png", (40, 60, 80, 30))
    with HandDetector() as detector:
        sight, again = (read_sight(Input(path, "red"), Asked(detector=detector)) for _ in range(2))
        said = read_sight(Input(path, "red"), Asked(box="10,20,30,40", detector=detector))
        right, left, both = (
            read_sight(Input(path, "red"), Asked(detector=detector, side=side)) for side in ("right", "left", "both")
        )
        grey = photo(tmp_path / "grey.png")
        with pytest.raises(ValueError, match=r"grey\.png: no hand found; .*--box"):
            read_sight(Input(grey, "grey"), Asked(detector=detector))
    assert tuple(sight.square) == (79.5, 74.5, 120) == tuple(again.square) and sight.side == "left"
    assert right.notes["detected"]["box"] == (0, 0, 2, 2) and right.square.side == 3
    assert left.notes["detected"]["box"] == both.notes["detected"]["box"] == (40, 60, 80, 30)
    found = sight.notes["detected"]
    assert [hand["side"] for hand in found["hands"]] == ["left", "right"] and found["by"].startswith("MediaPipe")
    assert found["box"] == (40, 60, 80, 30) == found["hands"][0]["box"]
    assert said.square.side == 60 and said.side is None


def test_a_detector_that_is_absent_or_ends_is_named(engine, tmp_path, monkeypatch):
    green = photo(tmp_path / "green.png", colour=1)
    with HandDetector() as detector:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"detect: the detector gave no answer \(green\).*make detector"):
                read_sight(Input(green, "green"), Asked(detector=detector))
    monkeypatch.setattr(hand_detector, "PATIENCE", 0.5)
    with HandDetector() as detector, pytest.raises(ValueError, match="detect: the detector gave no answer"):
        detector.hands(np.full((1, 4, 3), 255, np.uint8))
    monkeypatch.setattr(hand_detector, "ENVIRONMENT", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"detect: the detector is not installed .*nowhere.*: make detector"):
        HandDetector()


def test_a_detector_that_hangs_does_not_keep_the_program(engine):
    detector, outcome = HandDetector(), []

    def ask() -> None:
        try:
            detector.hands(np.full((1, 4, 3), 255, np.uint8))
        except ValueError as error:
            outcome.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    start = time.monotonic()
    detector.close()
    asking.join(10)
    assert time.monotonic() - start < 10 and "gave no answer" in outcome[0]


@pytest.mark.skipif(not (ENVIRONMENT / ".done").exists(), reason="no detector installed: make detector")
@pytest.mark.skipif(not GE.exists(), reason="no real photographs at hand")
def test_real_hands_are_found_with_their_side():
    frames = Ge(GE).frames("test")
    overlaps, sides = [], []
    with HandDetector() as detector:
        for i in range(len(frames)):
            frame = frames.frame(i)
            rays = frame.joints_3d @ frame.K.T
            pixels = rays[:, :2] / rays[:, 2:]
            for hand in detector.hands(frame.rgb)[:1]:
                overlaps.append(overlap(hand.box, (*pixels.min(0), *np.ptp(pixels, axis=0))))
                sides.append(hand.side)
    # 116 of 117, 0.88 on average
    assert len(overlaps) >= 0.97 * len(frames) and np.mean(overlaps) > 0.85
    assert set(sides) == {"left"}, "all of them are left hands"


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of boxes u, v, width, height."""
    (low, size), (other_low, other_size) = ((np.array(box[:2]), np.array(box[2:])) for box in (one, other))
    inside = np.minimum(low + size, other_low + other_size) - np.maximum(low, other_low)
    shared = np.prod(np.clip(inside, 0, None))
    return float(shared / (np.prod(size) + np.prod(other_size) - shared))
