"""Files in the layout of Ge et al.'s real-world test set, with rendered open hands."""

from pathlib import Path

import numpy as np
import scipy.io

from benchmarks.generated.hands import pose_hands, project, render_hands, save_picture
from datamodules.ge import SIZE
from datamodules.label_files import camera_matrix

_CAMERA = (923.648, 923.759, 640.047, 362.336)  # of the published pictures, before they were cut


def write_ge(folder: str | Path, train: int = 0, test: int = 4, seed: int = 0) -> None:
    """Write `images`, `params.mat` and `pose_gt.mat`; the set has no training part, so `train` must be 0."""
    if train:
        raise ValueError(f"train: the set is a test set, expected 0, got {train}")
    folder = Path(folder)
    hands = pose_hands([0] * test, seed, distance=(0.4, 0.5), spread=0.03)
    boxes = np.array([_box(joints) for joints in hands.joints], dtype=np.int32)
    for i, (x, y, width, _) in enumerate(boxes):
        fx, fy, cx, cy = np.subtract(_CAMERA, (0, 0, x, y)) * SIZE[1] / width
        one = hands._replace(vertices=hands.vertices[i : i + 1], sides=hands.sides[i : i + 1])
        picture = render_hands(one, camera_matrix(fx, fy, cx, cy), SIZE, seed * 1_000_003 + i).rgb[0]
        save_picture(folder / "images" / f"{i:05d}.jpg", picture)
    params = {
        "image_path": np.array([f"images/{i:05d}.jpg" for i in range(test)]),
        "bbox": boxes,
        "cam_param": np.tile(_CAMERA, (test, 1)),
        "pose_root": hands.joints[:, 0] * 100,
        "pose_scale": np.full(test, 5.0),
    }
    scipy.io.savemat(folder / "params.mat", params, do_compression=True)
    scipy.io.savemat(folder / "pose_gt.mat", {"pose_gt": hands.joints * 100}, do_compression=True)  # centimetres


def _box(joints: np.ndarray) -> tuple[int, int, int, int]:
    """A square (x, y, w, h) around a hand in the picture before it was cut."""
    pixels = project(joints, camera_matrix(*_CAMERA))
    low, high = pixels.min(0), pixels.max(0)
    side = int(1.3 * (high - low).max())
    x, y = ((low + high) / 2 - side / 2).astype(int)
    return int(x), int(y), side, side
