"""Predictions and ground truth from files, as a protocol wants them.

Understood: the published text layout (a line per frame, u v d per point, pixels and millimetres; .txt or .txt.xz); our
.npz (predictions: `lightning_modules.prediction_files`; labels: `python -m datamodules.labels`); NYU's own
`test_predictions.mat`. Files with keys are matched by them; a file without is in the order of the keys.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
import torch
from torch import Tensor

from lightning_modules.prediction import Frame
from lightning_modules.prediction_files import read_predictions, read_uvd
from lightning_modules.protocols import (
    DexterTips,
    EvalUtil,
    FreiHAND,
    PixelsProtocol,
    PointsProtocol,
    Protocol,
    Segmentation,
)
from ops.camera import unproject
from ops.hand_model.conventions import point_set
from ops.joints import NYU14_OF_36, NYU36

MM = 0.001
_TIPS = (4, 8, 12, 16, 20)
_LABEL_FIELDS = ("points", "joints_3d", "visible", "vertices", "parts")


class Hands(NamedTuple):
    """What one file holds, N hands; None: it does not."""

    keys: list[str] | None
    points: Tensor | None = None  # (N, P, 3) metres, or (N, P, 2) pixels
    joints: Tensor | None = None  # (N, 21, 3) metres, canonical
    visible: Tensor | None = None  # (N, 21) bool
    vertices: Tensor | None = None  # (N, V, 3) metres
    parts: Tensor | None = None  # (N, H, W) labels


def read_hands(path: Path, protocol: Protocol) -> Hands:
    """A file of predictions or labels, by its ending."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a .txt, .txt.xz, .npz or .mat file")
    if path.suffix == ".npz":
        return _read_npz(path, protocol)
    if path.suffix == ".mat":
        return _read_nyu_mat(path, protocol)
    if not isinstance(protocol, PointsProtocol | PixelsProtocol):
        raise ValueError(f"{path}: protocol '{protocol.name}' has no text layout of u v d; give an .npz file")
    uvd = torch.from_numpy(read_uvd(path, len(protocol.point_names)))
    bad = ~(torch.isfinite(uvd).all(-1) & (uvd[..., 2] > 0))
    if bad.any():
        line = int(bad.any(1).nonzero()[0]) + 1
        raise ValueError(f"{path}, line {line}: expected finite pixels and depths above 0 mm, u v d per point")
    if isinstance(protocol, PixelsProtocol):
        return Hands(None, points=uvd[..., :2])
    return Hands(None, points=unproject(uvd[..., :2], uvd[..., 2] * MM, protocol.K))


def evaluate_files(predictions: Path, ground_truth: Path, protocol: Protocol) -> int:
    """Feed two files to a protocol; the number of hands compared."""
    true = read_hands(ground_truth, protocol)
    predicted = _in_order_of(true, read_hands(predictions, protocol), predictions, ground_truth)
    if isinstance(protocol, PointsProtocol | PixelsProtocol):
        pair = _both("points", predicted, true, predictions, ground_truth)
        protocol.update(*pair)
    elif isinstance(protocol, Segmentation):
        pair = _both("parts", predicted, true, predictions, ground_truth)
        protocol.update(*pair)
    else:
        pair = _both("joints", predicted, true, predictions, ground_truth)
        if isinstance(protocol, EvalUtil):
            protocol.update(*pair, true.visible)
        elif isinstance(protocol, DexterTips):
            tips = list(_TIPS)
            protocol.update(
                *(joints[:, tips] for joints in pair), None if true.visible is None else true.visible[:, tips]
            )
        elif isinstance(protocol, FreiHAND):
            protocol.update(*pair, predicted.vertices, true.vertices)
    return len(pair[0])


def _read_npz(path: Path, protocol: Protocol) -> Hands:
    with np.load(path, allow_pickle=False) as file:
        names = set(file.files)
    if "frame" in names:
        return _from_predictions(path, protocol)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in _LABEL_FIELDS if name in names}
            keys = [str(key) for key in file["keys"]] if "keys" in names else None
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); write it again") from error
    if not arrays:
        raise ValueError(
            f"{path}: expected one of {', '.join(_LABEL_FIELDS)}, got {', '.join(sorted(names)) or 'nothing'}"
        )
    return Hands(
        keys,
        points=arrays.get("points"),
        joints=arrays.get("joints_3d"),
        visible=arrays.get("visible"),
        vertices=arrays.get("vertices"),
        parts=arrays.get("parts"),
    )


def _from_predictions(path: Path, protocol: Protocol) -> Hands:
    prediction, keys = read_predictions(path)
    if prediction.frame == Frame.NORMALISED and getattr(protocol, "scale", "") != "ground truth":
        raise ValueError(f"{path}: predictions without a scale; give --scale 'ground truth' where the protocol has it")
    if prediction.frame != Frame.ABSOLUTE and isinstance(protocol, PointsProtocol):
        raise ValueError(
            f"{path}: '{protocol.name}' compares in the camera's frame, got {prediction.frame} predictions"
        )
    points = None
    if isinstance(protocol, PointsProtocol | PixelsProtocol):
        points = _own_points(path, prediction.points, prediction.point_set, protocol)
    return Hands(keys, points, prediction.joints_3d, None, prediction.vertices, prediction.parts)


def _own_points(path: Path, points: Tensor | None, name: str, protocol: Protocol) -> Tensor:
    """The protocol's points of a prediction that holds a larger set."""
    if points is None:
        raise ValueError(
            f"{path}: no points of '{protocol.name}', only the 21 joints; predict on pictures whose labels have them "
            "(a test on the dataset does)"
        )
    there = list(point_set(name).points)
    wanted = list(point_set(protocol.name).points)
    missing = [point for point in wanted if point not in there]
    if missing:
        raise ValueError(f"{path}: points '{name}' lack {', '.join(missing)}, which '{protocol.name}' compares")
    return points[:, [there.index(point) for point in wanted]]


def _read_nyu_mat(path: Path, protocol: Protocol) -> Hands:
    """NYU's own network: `pred_joint_uvconf` (1, N, 36, 3), pixels and confidence, 0 for points it does not predict."""
    if protocol.name != "nyu-14-px":
        raise ValueError(f"{path}: NYU's own predictions are pixels; evaluate them with --protocol nyu-14-px")
    try:
        content = scipy.io.loadmat(path, variable_names=["pred_joint_uvconf"])["pred_joint_uvconf"]
    except Exception as error:  # scipy and zlib each raise their own
        raise ValueError(f"{path}: no array 'pred_joint_uvconf' ({type(error).__name__}: {error})") from error
    if content.ndim != 4 or content.shape[2:] != (len(NYU36), 3):
        raise ValueError(f"{path}: pred_joint_uvconf: expected (1, N, {len(NYU36)}, 3), got {content.shape}")
    return Hands(None, points=torch.from_numpy(content[0][:, list(NYU14_OF_36), :2].astype(np.float64)))


def _in_order_of(true: Hands, predicted: Hands, predictions: Path, ground_truth: Path) -> Hands:
    """The predictions in the order of the labels."""
    if predicted.keys is None:
        return predicted
    if len(set(predicted.keys)) != len(predicted.keys):
        raise ValueError(f"{predictions}: keys occur twice; write each sample once")
    wanted = sorted(predicted.keys) if true.keys is None else true.keys
    place = {key: i for i, key in enumerate(predicted.keys)}
    missing = [key for key in wanted if key not in place]
    if missing or len(wanted) != len(place):
        raise ValueError(
            f"{predictions}: expected a prediction for each of the {len(wanted)} samples of {ground_truth}, got "
            f"{len(place)}; missing {', '.join(missing[:3]) or 'none'}; predict the whole split"
        )
    order = torch.tensor([place[key] for key in wanted])
    chosen = {name: value[order] for name, value in predicted._asdict().items() if isinstance(value, Tensor)}
    return predicted._replace(keys=list(wanted), **chosen)


def _both(name: str, predicted: Hands, true: Hands, predictions: Path, ground_truth: Path) -> tuple[Tensor, Tensor]:
    pair = getattr(predicted, name), getattr(true, name)
    for value, path in zip(pair, (predictions, ground_truth), strict=True):
        if value is None:
            raise ValueError(f"{path}: holds no {name}, which the protocol compares")
    if len(pair[0]) != len(pair[1]):
        raise ValueError(
            f"{predictions}: expected {len(pair[1])} hands as in {ground_truth}, got {len(pair[0])}; "
            "predict the same frames, each once"
        )
    return pair
