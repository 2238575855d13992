"""Label files of datasets: found, read and checked. An error names the file, what was expected and the remedy."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from datamodules.frames import BadFrame

MAX_JSON_BYTES = 1 << 30  # 1 GiB: twenty times the largest file that is read whole
_CAMERA_TOLERANCE = 1e-5


def dataset_folder(dataset: str, folder: str | Path, one_of: Sequence[str]) -> Path:
    """The folder of a dataset, which holds at least one of the names `one_of`.

    Raises:
        FileNotFoundError: no such folder, or none of the names in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{dataset}: {folder}: no such folder; give the folder where the dataset was unpacked")
    if not any((folder / name).exists() for name in one_of):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{dataset}: {folder}: expected {' or '.join(one_of)} in it, found {found}; "
            "give the folder that directly holds them, as unpacked"
        )
    return folder


def label_file(path: Path) -> Path:
    """`path`, if it is a file that holds something."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such label file; unpack the dataset's annotations there")
    if not path.stat().st_size:
        raise BadFrame(f"{path}: the label file is empty; get it anew")
    return path


def read_json(path: Path) -> Any:
    """The contents of a JSON file."""
    size = label_file(path).stat().st_size
    if size > MAX_JSON_BYTES:
        raise BadFrame(f"{path}: expected at most {MAX_JSON_BYTES} bytes, got {size}; is this the right file?")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"{path}: damaged, truncated or no JSON ({error}); get the file anew") from error


def read_mat(path: Path, shapes: Mapping[str, Sequence[int | None]]) -> dict[str, np.ndarray]:
    """Arrays of numbers or text of a MATLAB file, by name; None in a shape stands for any size.

    The file's own table of contents is compared before an array is allocated.
    """
    label_file(path)
    try:
        found = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
        for name, shape in shapes.items():
            if name not in found or not _fits(found[name][0], shape):
                got = found.get(name, f"only {', '.join(sorted(found)) or 'nothing'}")
                raise BadFrame(f"{path}: expected an array '{name}' of shape {_spell(shape)}, got {got}")
            if math.prod(found[name][0]) * 8 > max(1 << 20, 1000 * path.stat().st_size):
                raise BadFrame(f"{path}: '{name}' claims shape {found[name][0]}, more than the file can hold")
            if found[name][1] in ("cell", "struct", "object", "function", "opaque"):
                raise BadFrame(f"{path}, '{name}': expected numbers or text, got an array of {found[name][1]}s")
        contents = scipy.io.loadmat(path, variable_names=list(shapes))
        return {name: contents[name] for name in shapes}
    except BadFrame:
        raise
    except Exception as error:  # scipy, zlib and struct each raise their own
        raise BadFrame(
            f"{path}: damaged, truncated or no MATLAB file ({type(error).__name__}: {error}); get it anew"
        ) from error


def number_array(
    file: Path, what: str, value: Any, shape: Sequence[int | None], dtype: type = np.float64
) -> np.ndarray:
    """`value` as an array of numbers of `shape`; None stands for any size.

    Raises:
        BadFrame: absent, of another shape, or not numbers; `what` says which label.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):  # rows of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in "fiub" or not _fits(array.shape, shape):
        got = "rows of unequal length or no numbers" if array.dtype.kind not in "fiub" else f"shape {array.shape}"
        got = "nothing" if value is None else got
        raise BadFrame(f"{file}, {what}: expected numbers of shape {_spell(shape)}, got {got}; get the file anew")
    return np.ascontiguousarray(array, dtype=dtype)


def check_finite_labels(file: Path, record: object, **labels: np.ndarray) -> None:
    """Raise unless all numbers of a record are finite."""
    for name, array in labels.items():
        if not np.isfinite(array).all():
            rows = sorted(set(np.argwhere(~np.isfinite(array))[:, 0].tolist()))
            raise BadFrame(
                f"{file}, record {record}: {name}: expected finite numbers, got NaN or infinity in rows {rows[:8]}; "
                "get the file anew, or allow bad samples"
            )


def check_before_camera(file: Path, record: object, points: np.ndarray) -> None:
    """Raise unless all points (P, 3) lie before the camera: a file with a hole in it reads as zeros."""
    nearest = float(points[:, 2].min())
    if not nearest > 0:
        raise BadFrame(
            f"{file}, record {record}: expected points before the camera (z above 0), got z = {nearest:g}; "
            "get the file anew, or check the signs of its axes"
        )


def check_camera(file: Path, record: object, K: np.ndarray) -> None:
    """Raise unless K (3, 3) is a camera matrix in pixels."""
    (fx, *_), (_, fy, _), (g, h, one) = K.tolist()
    last = abs(g) < _CAMERA_TOLERANCE and abs(h) < _CAMERA_TOLERANCE and abs(one - 1) < _CAMERA_TOLERANCE
    if not (fx > 0 and fy > 0 and last and math.isfinite(K.sum())):
        raise BadFrame(
            f"{file}, record {record}: camera: expected positive focal lengths in pixels and a last row 0 0 1, "
            f"got {K.tolist()}; get the file anew"
        )


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """K (3, 3) float64, pixels."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _fits(got: Sequence[int], want: Sequence[int | None]) -> bool:
    return len(got) == len(want) and all(b is None or a == b for a, b in zip(got, want, strict=True))


def _spell(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
