"""Predictions and ground truth from files, as a protocol wants them.

Understood are

- the published text layout: a line per frame, u v d per point, pixels and millimetres; .txt or .txt.xz;
- .npz of predictions, as every test leaves them (`lightning_modules.prediction_files`);
- .npz of labels (`python -m datamodules.labels`): `keys` (N,) and, as the protocol needs them, `points` (N, P, 3) and
  `joints_3d` (N, 21, 3), metres, camera frame, joints in canonical order, with their `convention` () and the hands'
  `side` (N,); `visible` (N, 21) bool; `vertices` (N, V, 3); `parts` (N, H, W) labels;
- NYU's own `test_predictions.mat`, for `nyu-14-px`: its array `pred_joint_uvconf`.

Whatever is wrong with a file is said here, with its name: what leaves this module is finite, of the right shape, in
metres, and each sample is there once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
import torch
from torch import Tensor

from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import UNREADABLE, read_predictions, read_uvd
from lightning_modules.protocols import DexterTips, EvalUtil, FreiHAND, PixelsProtocol, PointsProtocol, Protocol
from ops.camera import project, unproject
from ops.hand_model.conventions import point_set
from ops.joints import NYU14_OF_36, NYU36

MM = 0.001
_FARTHEST = 20.0  # metres; a hand that is farther away is one in millimetres
_LABEL_FIELDS = {
    "points": "(N, P, 3)",
    "joints_3d": "(N, 21, 3)",
    "visible": "(N, 21)",
    "vertices": "(N, V, 3)",
    "parts": "(N, H, W)",
    "side": "(N,)",
}


class NotComparable(ValueError):
    """Predictions or labels that are sound, but not of the kind that a protocol compares."""


class Hands(NamedTuple):
    """What one file holds, N hands; None: it does not."""

    keys: list[str] | None = None
    points: Tensor | None = None  # (N, P, 3) metres, or (N, P, 2) pixels
    joints: Tensor | None = None  # (N, 21, 3) metres, canonical
    visible: Tensor | None = None  # (N, 21) bool
    vertices: Tensor | None = None  # (N, V, 3) metres
    parts: Tensor | None = None  # (N, H, W) labels
    side: Tensor | None = None  # (N,) int64, 0 left, 1 right
    frame: Frame = Frame.ABSOLUTE
    convention: str = ""  # of `joints`; "": it does not say

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is there, by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}

    def of(self, rows: Sequence[int], device: torch.device | str = "cpu") -> "Hands":
        """Some of the hands, on a device."""
        keys = None if self.keys is None else [self.keys[row] for row in rows]
        chosen = torch.tensor(list(rows), dtype=torch.int64)
        return self._replace(keys=keys, **{name: value[chosen].to(device) for name, value in self.tensors.items()})


def read_hands(path: Path, protocol: Protocol) -> Hands:
    """A file of predictions or labels, by its ending; checked."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a .txt, .txt.xz, .npz or .mat file")
    if path.suffix == ".npz":
        hands = _read_npz(path, protocol)
    elif path.suffix == ".mat":
        hands = _read_nyu_mat(path, protocol)
    else:
        hands = _read_text(path, protocol)
    _check_hands(path, hands, protocol)
    return hands


def _read_text(path: Path, protocol: Protocol) -> Hands:
    if not isinstance(protocol, PointsProtocol | PixelsProtocol):
        raise ValueError(f"{path}: protocol '{protocol.name}' has no text layout of u v d; give an .npz file")
    uvd = torch.from_numpy(read_uvd(path, len(protocol.point_names)))
    bad = ~(torch.isfinite(uvd).all(-1) & (uvd[..., 2] > 0))
    if bad.any():
        line = int(bad.any(1).nonzero()[0]) + 1
        raise ValueError(
            f"{path}, line {line}: expected finite pixels and depths above 0 mm, u v d per point; "
            "predict that frame again"
        )
    if isinstance(protocol, PixelsProtocol):
        return Hands(points=uvd[..., :2])
    return Hands(points=unproject(uvd[..., :2], uvd[..., 2] * MM, protocol.K))


def _read_npz(path: Path, protocol: Protocol) -> Hands:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            if "frame" not in names:  # labels, else predictions
                arrays = {name: file[name] for name in ("keys", "convention", *_LABEL_FIELDS) if name in names}
    except UNREADABLE as error:
        raise ValueError(f"{path}: not an .npz file of arrays, or a damaged one ({error}); write it again") from error
    if "frame" in names:
        return predicted_hands(path, *read_predictions(path), protocol)
    return labelled_hands(path, arrays, protocol)


def labelled_hands(where: Path | str, arrays: Mapping[str, np.ndarray], protocol: Protocol) -> Hands:
    """Labels as arrays by name (see the module); `where` they are from is what errors begin with."""
    tensors = {name: torch.from_numpy(arrays[name]) for name in _LABEL_FIELDS if name in arrays}
    if not tensors:
        expected, found = ", ".join(_LABEL_FIELDS), ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(
            f"{where}: expected one of {expected}, got {found}; see python -m lightning_modules.evaluate -h"
        )
    tensors["joints"] = tensors.pop("joints_3d", None)
    points = tensors.get("points")
    if (
        isinstance(protocol, PixelsProtocol)
        and points is not None
        and points.shape[1:] == (len(protocol.point_names), 3)
    ):
        tensors["points"] = project(points.double(), protocol.K)  # labels in space, as the protocol's camera sees them
    keys = [str(key) for key in arrays["keys"]] if "keys" in arrays else None
    return Hands(keys, **tensors, convention=str(arrays.get("convention", "")))


def predicted_hands(where: Path | str, prediction: HandPrediction, keys: Sequence[str], protocol: Protocol) -> Hands:
    """Predictions as a protocol wants them; `where` they are from is what errors begin with.

    Raises:
        NotComparable: of another kind than the protocol compares.
    """
    if prediction.frame == Frame.NORMALISED and getattr(protocol, "scale", "") != "ground truth":
        raise NotComparable(
            f"{where}: predictions without a scale; give --scale 'ground truth' where the protocol has it"
        )
    points = None
    if isinstance(protocol, PointsProtocol | PixelsProtocol):
        if prediction.frame != Frame.ABSOLUTE:
            raise NotComparable(
                f"{where}: '{protocol.name}' compares in the camera's frame, got {prediction.frame} predictions; "
                "evaluate a method that predicts where the hand is"
            )
        points = _own_points(where, prediction.points, prediction.point_set, protocol)
    return Hands(
        list(keys),
        points,
        prediction.joints_3d,
        None,
        prediction.vertices,
        prediction.parts,
        prediction.side,
        Frame(prediction.frame),
        prediction.convention,
    )


def _own_points(
    where: Path | str, points: Tensor | None, name: str, protocol: PointsProtocol | PixelsProtocol
) -> Tensor:
    """The protocol's points of a prediction that holds a larger set; for pixels, as its camera sees them."""
    if points is None:
        raise NotComparable(
            f"{where}: no points of '{protocol.name}', only the 21 joints; predict on pictures whose labels have them "
            "(a test on the dataset does)"
        )
    there = list(point_set(name).points)
    missing = [point for point in protocol.point_names if point not in there]
    if missing:
        raise NotComparable(
            f"{where}: points '{name}' lack {', '.join(missing)}, which '{protocol.name}' compares; "
            "evaluate them with the protocol of their own dataset"
        )
    own = points[:, [there.index(point) for point in protocol.point_names]].double()
    return project(own, protocol.K.to(own.device)) if isinstance(protocol, PixelsProtocol) else own


def _read_nyu_mat(path: Path, protocol: Protocol) -> Hands:
    """NYU's own network: `pred_joint_uvconf` (1, N, 36, 3), pixels and confidence, 0 for points it does not predict."""
    if protocol.name != "nyu-14-px":
        raise ValueError(f"{path}: NYU's own predictions are pixels; evaluate them with --protocol nyu-14-px")
    try:
        content = scipy.io.loadmat(path, variable_names=["pred_joint_uvconf"])["pred_joint_uvconf"]
    except Exception as error:  # scipy and zlib each raise their own
        raise ValueError(
            f"{path}: no array 'pred_joint_uvconf' ({type(error).__name__}: {error}); give NYU's test_predictions.mat"
        ) from error
    if content.ndim != 4 or content.shape[2:] != (len(NYU36), 3):
        raise ValueError(
            f"{path}: pred_joint_uvconf: expected (1, N, {len(NYU36)}, 3), got {content.shape}; "
            "give NYU's test_predictions.mat"
        )
    return Hands(points=torch.from_numpy(content[0][:, list(NYU14_OF_36), :2].astype(np.float64)))


# -- checks


def _check_hands(path: Path, hands: Hands, protocol: Protocol) -> None:
    """Raise, naming the file, unless its hands are what the protocol can compare."""
    _check_counts(path, hands)
    points = len(protocol.point_names), 2 if isinstance(protocol, PixelsProtocol) else 3
    compared = compared_positions(protocol)
    shapes = {name: shape for name, shape in (("points", points), ("joints", (21, 3))) if name in compared}
    for name, shape in (shapes | {"visible": (21,), "side": ()}).items():
        tensor = hands.tensors.get(name)
        if tensor is not None and tuple(tensor.shape[1:]) != shape:
            raise ValueError(
                f"{path}: {name}: expected ({', '.join(map(str, ('N', *shape)))}), got {tuple(tensor.shape)}; "
                f"write what '{protocol.name}' compares"
            )
    if hands.vertices is not None and (hands.vertices.ndim != 3 or hands.vertices.shape[2] != 3):
        raise ValueError(f"{path}: vertices: expected (N, V, 3), got {tuple(hands.vertices.shape)}")
    if hands.visible is not None and hands.visible.dtype != torch.bool:
        raise ValueError(f"{path}: visible: expected bool, got {hands.visible.dtype}; write it with .astype(bool)")
    for name in sorted(compared & set(hands.tensors)):
        _check_positions(path, name, hands, protocol)


def compared_positions(protocol: Protocol) -> set[str]:
    """Names of the fields of `Hands` whose places a protocol compares."""
    if isinstance(protocol, PointsProtocol | PixelsProtocol):
        return {"points"}
    if isinstance(protocol, FreiHAND):
        return {"joints", "vertices"}
    return {"joints"} if isinstance(protocol, EvalUtil | DexterTips) else set()


def _check_counts(path: Path, hands: Hands) -> None:
    counts = {name: len(tensor) for name, tensor in hands.tensors.items()}
    if hands.keys is not None:
        counts["keys"] = len(hands.keys)
        if len(set(hands.keys)) != len(hands.keys):
            twice = next(key for key in hands.keys if hands.keys.count(key) > 1)
            raise ValueError(f"{path}: expected each key once, got {twice} more than once; write each sample once")
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(f"{path}: expected as many of each, got {said}; write it again")
    if 0 in counts.values():
        raise ValueError(f"{path}: expected at least one hand, got none; write it again")


def _check_positions(path: Path, name: str, hands: Hands, protocol: Protocol) -> None:
    positions = hands.tensors[name]
    if not positions.is_floating_point():
        raise ValueError(f"{path}: {name}: expected floating-point numbers, got {positions.dtype}; write metres")
    bad = ~torch.isfinite(positions).flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{path}: {name} of {_name(hands, bad)}: expected finite numbers, got NaN or infinity in {int(bad.sum())} "
            f"of {len(bad)} hands; predict or label them again"
        )
    if isinstance(protocol, PixelsProtocol):
        return
    far = positions.abs().flatten(1).amax(1) > _FARTHEST
    if far.any() and hands.frame != Frame.NORMALISED:
        raise ValueError(
            f"{path}: {name} of {_name(hands, far)}: expected metres, got numbers over {_FARTHEST:g}; "
            "divide millimetres by 1000"
        )
    if isinstance(protocol, PointsProtocol) and (behind := (positions[..., 2] <= 0).any(1)).any():
        raise ValueError(
            f"{path}: {name} of {_name(hands, behind)}: expected depths z above 0, got {int(behind.sum())} of "
            f"{len(behind)} hands at or behind the camera; write them in the camera's frame, z forward"
        )


def _name(hands: Hands, marked: Tensor) -> str:
    """The first marked hand, by key or number."""
    first = int(marked.nonzero()[0])
    return f"hand {first}" if hands.keys is None else hands.keys[first]
