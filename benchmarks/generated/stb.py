"""Files in the layout of the Stereo Hand Pose Tracking Benchmark, with rendered open hands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io

from benchmarks.generated.hands import Hands, in_order_of, pack, pose_hands, render_hands, save_picture
from datamodules.stb import (
    BASELINE,
    CAMERAS,
    COLOR_TO_DEPTH,
    COLOR_TO_DEPTH_SHIFT,
    SIZE,
    TEST_SEQUENCES,
    TO_CANONICAL,
    TRAIN_SEQUENCES,
    Camera,
)
from ops.joints import CANONICAL_JOINTS


def write_stb(
    folder: str | Path,
    train: int = 10,
    test: int = 4,
    seed: int = 0,
    cameras: Sequence[Camera] = tuple(CAMERAS),
) -> None:
    """Write `images` and `labels`; frames are shared out among a split's sequences, each has at least one.

    A split of 0 frames is left out.
    """
    for sequences, count, start in ((TRAIN_SEQUENCES, train, 0), (TEST_SEQUENCES, test, len(TRAIN_SEQUENCES))):
        for place, sequence in enumerate(sequences if count else ()):
            frames = max(1, (count + len(sequences) - 1 - place) // len(sequences))
            _write_sequence(Path(folder), sequence, frames, seed * 1_000_003 + start + place, cameras)


def _write_sequence(folder: Path, sequence: str, frames: int, seed: int, cameras: Sequence[Camera]) -> None:
    hands = pose_hands([0] * frames, seed, spread=0.02)
    # the SK labels are those of the depth camera; the same hands stand before both rigs
    views = {
        "BB_left": hands,
        "BB_right": hands.moved((-BASELINE, 0.0, 0.0)),
        "SK_color": hands.moved(-COLOR_TO_DEPTH.T @ COLOR_TO_DEPTH_SHIFT, COLOR_TO_DEPTH.T),
        "SK_depth": hands,
    }
    for camera in cameras:
        pictures = render_hands(views[camera], CAMERAS[camera], SIZE, seed)
        shown = [pack(0, 1, np.rint(depth * 1000).astype(np.uint16)) for depth in pictures.depth]
        for i, picture in enumerate(shown if camera == "SK_depth" else pictures.rgb):
            save_picture(folder / "images" / sequence / f"{camera}_{i}.png", picture)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for kind in ("BB", "SK"):
        labels = _points(hands).transpose(2, 1, 0) * 1000.0  # (3, 21, frames) millimetres
        path = folder / "labels" / f"{sequence}_{kind}.mat"
        scipy.io.savemat(path, {"handPara": labels.astype(np.float64)}, do_compression=True)  # as published


def _points(hands: Hands) -> np.ndarray:
    """STB's points (N, 21, 3): its order, and a palm between wrist and ring knuckle in place of the wrist."""
    points = in_order_of(TO_CANONICAL, hands.joints)
    points[:, 0] = (hands.joints[:, 0] + hands.joints[:, CANONICAL_JOINTS.index("ring_mcp")]) / 2
    return points
