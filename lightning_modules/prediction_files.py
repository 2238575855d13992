"""Predictions as files: .npz with sample keys, the published text layout, joints as JSON, a mesh as .obj."""

import json
import lzma
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_modules.prediction import HandPrediction
from ops.checks import check_choice, check_shape
from ops.joints import CANONICAL_JOINTS

_TENSORS = ("joints_3d", "joints_2d", "vertices", "parts", "side", "confidence", "points", "rotations", "shape")
_FACTS = ("frame", "hand_model", "convention")
_LATER_FACTS = ("point_set",)  # files without them are older
# what numpy, zipfile and zlib raise for an .npz file that is damaged, cut off or no such file
UNREADABLE = (
    ValueError,
    TypeError,
    OSError,
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_predictions(path: str | Path, prediction: HandPrediction, keys: Sequence[str]) -> None:
    """Write B predictions and the keys of their samples (dataset/split/record) to an .npz file."""
    if len(keys) != len(prediction.joints_3d) or len(set(keys)) != len(keys):
        raise ValueError(f"keys: expected {len(prediction.joints_3d)} different ones, got {len(set(keys))}")
    tensors = {name: getattr(prediction, name) for name in _TENSORS}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
    facts = {name: np.array(str(getattr(prediction, name))) for name in _FACTS + _LATER_FACTS}
    with open(path, "wb") as file:
        np.savez_compressed(file, keys=np.array(keys), **arrays, **facts)


def read_predictions(path: str | Path) -> tuple[HandPrediction, list[str]]:
    """What `write_predictions` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except UNREADABLE as error:
        raise ValueError(f"{path}: not a prediction file, or a damaged one ({error}); write it again") from error
    missing = [name for name in ("keys", "joints_3d", "side", *_FACTS) if name not in arrays]
    if missing:
        raise ValueError(f"{path}: not a prediction file, it lacks {', '.join(missing)}")
    tensors = {name: torch.from_numpy(arrays[name]) if name in arrays else None for name in _TENSORS}
    facts = {name: str(arrays[name]) for name in _FACTS + _LATER_FACTS if name in arrays}
    return HandPrediction(**tensors, **facts), [str(key) for key in arrays["keys"]]


def write_uvd(path: str | Path, uvd: np.ndarray) -> None:
    """Write the published text layout: a line per frame, u v d per joint; pixels and millimetres.

    Args:
        path: text file; .xz compresses it.
        uvd: (N, J, 3).
    """
    lines = [" ".join(f"{number:.3f}" for number in frame.ravel()) for frame in uvd]
    with _open_text(path, "wt") as file:
        file.write("\n".join(lines) + "\n")


def read_uvd(path: str | Path, joints: int) -> np.ndarray:
    """Frames (N, `joints`, 3) of the published text layout, pixels and millimetres; .xz is understood."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; expected lines of u v d per joint")
    try:
        with _open_text(path, "rt") as file:
            rows = [np.array(line.split(), dtype=float) for line in file if line.strip()]
    except (ValueError, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path}: expected numbers, u v d per joint ({error}); is the file whole?") from error
    lengths = {len(row) for row in rows}
    if lengths != {3 * joints}:
        raise ValueError(f"{path}: expected {3 * joints} numbers a line ({joints} joints), got {sorted(lengths)}")
    return np.stack(rows).reshape(-1, joints, 3)


def _open_text(path: str | Path, mode: str) -> object:
    return lzma.open(path, mode) if str(path).endswith(".xz") else open(path, mode)


def write_joints(path: str | Path, joints_3d: Tensor, pixels: Tensor, facts: dict[str, object]) -> None:
    """Write named joints of one hand as JSON.

    Args:
        path: the file.
        joints_3d: (21, 3) metres, camera frame.
        pixels: (21, 2) of the original picture.
        facts: camera, side, model and so on, written beside the joints.
    """
    check_shape("joints_3d", joints_3d, (21, 3))
    check_shape("pixels", pixels, (21, 2))
    joints = {
        name: {"position_m": [round(x, 6) for x in point], "pixel": [round(x, 3) for x in pixel]}
        for name, point, pixel in zip(CANONICAL_JOINTS, joints_3d.tolist(), pixels.tolist(), strict=True)
    }
    document = {"frame_of_reference": "camera: x right, y down, z forward; metres", **facts, "joints": joints}
    Path(path).write_text(json.dumps(document, indent=2) + "\n")


def write_mesh(path: str | Path, vertices: Tensor, faces: np.ndarray, mirrored: bool = False) -> None:
    """Write a mesh as Wavefront .obj, in the camera's frame, or binary glTF .glb, whose y points up and z backwards.

    Args:
        path: the file; its suffix says which.
        vertices: (V, 3) metres, camera frame.
        faces: (F, 3) of the right hand.
        mirrored: the vertices are a left hand's: corners are written in reverse, so that normals point outwards.
    """
    check_shape("vertices", vertices, ("V", 3))
    check_choice("mesh file", Path(path).suffix, (".obj", ".glb"))
    corners = faces[:, ::-1] if mirrored else faces
    if Path(path).suffix == ".glb":
        import trimesh  # half a second that only this pays

        upright = vertices.double().numpy() * [1, -1, -1]
        trimesh.Trimesh(upright, corners, process=False).export(path)
        return
    lines = ["# metres, camera frame: x right, y down, z forward"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (corners + 1).tolist()]  # .obj counts from 1
    Path(path).write_text("\n".join(lines) + "\n")
