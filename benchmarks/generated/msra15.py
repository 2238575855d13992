"""Files in the layout of MSRA15, with rendered open hands."""

import struct
from pathlib import Path

import numpy as np

from benchmarks.generated.hands import in_order_of, pose_hands, render_depth
from datamodules.msra15 import GESTURES, PEOPLE, SIZE, K
from ops.joints import MSRA21_CANONICAL


def write_msra15(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0) -> None:
    """Write P0 to P8 with all gestures: `test` frames of P0 and `train` of the others, at least one a gesture."""
    for person, name in enumerate(PEOPLE):
        count = test if person == 0 else (train + len(PEOPLE) - 2) // (len(PEOPLE) - 1)
        shares = [max(1, (count + len(GESTURES) - 1 - i) // len(GESTURES)) for i in range(len(GESTURES))]
        hands = pose_hands([1] * sum(shares), seed * 9 + person, distance=(0.3, 0.45), spread=0.03)
        depths, _ = render_depth(hands, K, SIZE)
        order = [MSRA21_CANONICAL[joint][0] for joint in range(21)]
        points = in_order_of(order, hands.joints) * (1000, -1000, -1000)  # y up, z towards the viewer
        ends = np.cumsum(shares)
        for gesture, start, stop in zip(GESTURES, ends - shares, ends, strict=True):
            _write_gesture(Path(folder) / name / gesture, depths[start:stop], points[start:stop])


def _write_gesture(folder: Path, depths: np.ndarray, points: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, depth in enumerate(depths):
        rows, columns = np.nonzero(depth)
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        header = struct.pack("<6i", SIZE[1], SIZE[0], left, top, right, bottom)
        box = np.ascontiguousarray(depth[top:bottom, left:right] * 1000, dtype="<f4")
        (folder / f"{i:06d}_depth.bin").write_bytes(header + box.tobytes())
    lines = [" ".join(f"{number:.4f}" for number in frame.ravel()) for frame in points]
    (folder / "joint.txt").write_text("\n".join([str(len(lines)), *lines]) + "\n")
