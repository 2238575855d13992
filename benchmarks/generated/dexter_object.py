"""Files in the layout of Dexter+Object, with rendered open hands and one hidden tip in every fifth line."""

from pathlib import Path

import numpy as np

from benchmarks.generated.hands import pose_hands, project, render_hands, save_picture
from datamodules.dexter_object import CAMERAS, HIDDEN, SEQUENCES, TIPS, TO_COLOR, TO_COLOR_SHIFT

_SIGNS = (-1, -1, 1)  # of the files' axes against OpenCV's
_CORNERS = "; 0, 0, 0; 0, 0, 0; 0, 0, 0"


def write_dexter_object(folder: str | Path, train: int = 0, test: int = 6, seed: int = 0) -> None:
    """Write `data`; frames are shared out among six sequences, each of which has at least one; no training part."""
    if train:
        raise ValueError(f"train: the set is a test set, expected 0, got {train}")
    for place, sequence in enumerate(SEQUENCES):
        frames = max(1, (test + len(SEQUENCES) - 1 - place) // len(SEQUENCES))
        _write_sequence(Path(folder) / "data" / sequence, frames, seed * 1_000_003 + place)


def _write_sequence(folder: Path, frames: int, seed: int) -> None:
    hands = pose_hands([0] * frames, seed, spread=0.03)
    color = render_hands(hands.moved(TO_COLOR_SHIFT, TO_COLOR), *CAMERAS["color"], seed).rgb
    depth = render_hands(hands, *CAMERAS["depth"], seed).depth
    for i in range(frames):
        save_picture(folder / "color" / f"image_{i:05d}_color.png", color[i])
        save_picture(folder / "depth" / f"image_{i:05d}_depth.png", np.rint(depth[i] * 1000).astype(np.uint16))
    tips = hands.joints[:, list(TIPS)].astype(np.float64)
    pixels = project(tips, CAMERAS["depth"][0])
    labels = tips * 1000 * _SIGNS
    labels[::5, 4, 2] = HIDDEN
    annotations = folder / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    for dimensions, rows, tail in ((2, pixels, "; 0, 0" * 3), (3, labels, _CORNERS)):
        lines = ("; ".join(", ".join(f"{value:.6f}" for value in tip) for tip in row) + tail + "\n" for row in rows)
        (annotations / f"{folder.name}{dimensions}D.txt").write_text("".join(lines))
