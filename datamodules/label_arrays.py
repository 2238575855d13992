"""The labels of a split as arrays: what a protocol compares with predictions, in metres, as pictured."""

from collections.abc import Iterable

import numpy as np

from datamodules.frames import HandFrame, HandFrames
from ops.joints import NYU14_OF_36

# the points that a dataset's protocol compares, where they are not all
EVALUATED = {"nyu": NYU14_OF_36}


def label_arrays(frames: HandFrames, records: Iterable[int]) -> dict[str, np.ndarray]:
    """Labels of some records, by name; pictures are not opened (but RHD's masks, which tell the side).

    Returns:
        `keys` (N,), `joints_3d` (N, 21, 3) canonical, metres, camera frame, in the `convention` (), `visible` (N, 21)
        bool, `side` (N,) 0 left, 1 right; `points` (N, P, 3) of the dataset's protocol where it has points of its own,
        and `vertices` (N, V, 3) where the reader gives them.
    """
    read = [frames.labels(int(record)) for record in records]
    if not read:
        raise ValueError(f"{frames.dataset}/{frames.split}: no record; check the folder with datamodules.check")
    labels = {
        "keys": np.array([frame.key for frame in read]),
        "joints_3d": np.stack([frame.joints_3d for frame in read]),
        "visible": np.stack([_visible(frame) for frame in read]),
        "side": np.array([frame.side for frame in read], dtype=np.int64),
        "convention": np.array(frames.convention),
    }
    if all(frame.points is not None for frame in read):
        points = np.stack([frame.points for frame in read])
        labels["points"] = points[:, list(EVALUATED.get(frames.dataset, range(points.shape[1])))]
    if all(frame.vertices is not None for frame in read):
        labels["vertices"] = np.stack([frame.vertices for frame in read])
    return labels


def _visible(frame: HandFrame) -> np.ndarray:
    """(21,) bool: labelled, and seen where the dataset says so."""
    everything = np.ones(len(frame.joints_3d), dtype=bool)
    valid = everything if frame.joint_valid is None else frame.joint_valid
    return valid & (everything if frame.joint_visible is None else frame.joint_visible)
