"""Does a frame keep what `HandFrame` promises? A reader's mistake is found here, not in a loss that is NaN."""

import numpy as np

from datamodules.frames import Flag, HandFrame

# field -> shape (None: the picture's height and width, a number of its own where the letter is), dtype
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "K": (3, 3),
    "joints_3d": (21, 3),
    "joint_valid": (21,),
    "joints_2d": (21, 2),
    "joint_visible": (21,),
    "palm": (3,),
    "points": ("P", 3),
    "vertices": ("V", 3),
    "depth": ("H", "W"),
    "rgb": ("H", "W", 3),
    "mask": ("H", "W"),
    "parts": ("H", "W"),
}
_DTYPES = {"K": np.float64, "rgb": np.uint8, "mask": np.bool_, "parts": np.uint8} | dict.fromkeys(
    ("joint_valid", "joint_visible"), np.bool_
)  # all others are float32
_FIELDS: dict[Flag, str] = {
    "rgb": "rgb",
    "depth": "depth",
    "mask": "mask",
    "parts": "parts",
    "mesh": "vertices",
    "3d": "joints_3d",
}
PICTURES = ("rgb", "depth", "mask", "parts")


def broken_promises(frame: HandFrame, provides: frozenset[Flag], pictures: bool = True) -> list[str]:
    """What `frame` does otherwise than `HandFrame` and its source's `provides` say; empty: nothing.

    Args:
        frame: from `HandFrames.frame`, or from `labels` with `pictures=False`.
        provides: of its source.
        pictures: whether the pictures must be there.
    """
    broken = [problem for name in _SHAPES if (problem := _problem(frame, name))]
    due = [name for flag, name in _FIELDS.items() if flag in provides and (pictures or name not in PICTURES)]
    broken += [
        f"{name} is missing, which every frame of the source has" for name in due if getattr(frame, name) is None
    ]
    if "2d" in provides and frame.joints_2d is None and frame.joints_3d is None:
        broken.append("joints_2d is missing and there is no joints_3d to project, which every frame of the source has")
    if frame.side not in (0, 1):
        broken.append(f"side: expected 0 (left) or 1 (right), got {frame.side}")
    return broken or _nothing_labelled(frame)


def _problem(frame: HandFrame, name: str) -> str | None:
    """What is wrong with one field."""
    array = getattr(frame, name)
    if array is None:
        return None
    height, width = frame.size
    shape = tuple({"H": height, "W": width}.get(size, size) for size in _SHAPES[name])
    got = np.shape(array)
    fits = len(got) == len(shape) and all(isinstance(s, str) or s == g for s, g in zip(shape, got, strict=True))
    if not fits:
        return f"{name}: expected shape {shape}, got {got}"
    dtype = _DTYPES.get(name, np.float32)
    if array.dtype != dtype and name != "palm":
        return f"{name}: expected {np.dtype(dtype)}, got {array.dtype}"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return f"{name}: expected finite numbers, got {int((~np.isfinite(array)).sum())} NaN or infinite"
    if name == "depth" and array.min() < 0:
        return f"depth: expected metres of at least 0, got {array.min():g}"
    return None


def _nothing_labelled(frame: HandFrame) -> list[str]:
    if frame.joints_3d is not None and not valid_joints(frame).any():
        return ["no joint is labelled"]
    return []


def valid_joints(frame: HandFrame) -> np.ndarray:
    """(21,) bool: which joints are labelled in 3D."""
    if frame.joints_3d is None:
        return np.zeros(21, bool)
    return np.ones(21, bool) if frame.joint_valid is None else frame.joint_valid
