"""A user's own depth frame: read it, name its camera, crop it into the batch contract.

Depth is stored in many ways: 16-bit PNG in some unit, NYU's colour PNG (green << 8 | blue, millimetres), HO-3D's
(green << 8 | red, 1/8 mm), .npy arrays. Everything becomes metres here, 0 = missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch

from datamodules.batch import FLAGS, RIGHT, HandBatch
from datamodules.hand_sampler import CUBE_SIDE
from datamodules.picture_files import decode_picture
from datamodules.resampling import resample_depth
from datamodules.transforms import as_right_hands
from datamodules.user_cameras import named_camera
from ops.camera import CAMERA_PRESETS, cube_crop, unproject

Packing = Literal["16-bit", "nyu", "ho3d", "npy"]
# metres per stored step, unless the user says otherwise; HO-3D's is its published depth scale
UNITS: dict[Packing, float] = {"16-bit": 0.001, "nyu": 0.001, "ho3d": 0.00012498664727900177, "npy": 0.001}
CAMERA_UNITS = {"sr305": 0.000125}  # of presets whose cameras store others than millimetres
LIKELY_UNITS = (1.0, 0.01, 0.001, 0.000125, 0.0001, 0.000001)
NEAREST, FARTHEST = 0.1, 2.0  # metres: where the nearest surface of a usable frame lies
SQUARE = 0.05  # crops are square in pixels and sized by fx alone: beyond this a hand would look stretched


class DepthFrame(NamedTuple):
    """One depth picture."""

    depth: np.ndarray  # (H, W) float32 metres, 0 = missing
    packing: Packing
    path: Path
    unit: float = 0.001  # metres per stored step


def read_depth_frame(path: str | Path, unit: float | None = None) -> DepthFrame:
    """Read a depth picture of any known packing.

    Args:
        path: .png (16-bit grey, NYU's or HO-3D's packing) or .npy (H, W).
        unit: metres per stored step; None takes the packing's usual one, and metres for floating-point .npy.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: {what}; name a depth picture (.png or .npy)")
    if unit is not None and not (np.isfinite(unit) and unit > 0):
        raise ValueError(f"unit: expected metres per stored step, such as 0.001, got {unit}")
    stored, packing = _read_npy(path) if path.suffix.lower() == ".npy" else _read_png(path)
    if unit is None:
        unit = 1.0 if stored.dtype.kind == "f" else UNITS[packing]
    _check_range(path, stored, unit)
    return DepthFrame((stored * unit).astype(np.float32), packing, path, unit)


def _read_npy(path: Path) -> tuple[np.ndarray, Packing]:
    try:
        stored = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        # numpy's own words recommend to run what is in the file
        raise ValueError(f"{path}: not a readable .npy array of numbers; save it again with numpy.save") from error
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "uif":
        got = f"{stored.shape} {stored.dtype}" if isinstance(stored, np.ndarray) else type(stored).__name__
        raise ValueError(f"{path}: expected one (H, W) array of numbers, got {got}; save the depth channel alone")
    return np.nan_to_num(stored, nan=0.0, posinf=0.0, neginf=0.0), "npy"


def _read_png(path: Path) -> tuple[np.ndarray, Packing]:
    picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    if picture.ndim == 2 and picture.dtype == np.uint16:
        return picture, "16-bit"
    if picture.ndim == 2:
        raise ValueError(
            f"{path}: {picture.dtype} grey holds too few depth steps (256 over the whole range); "
            "export the raw 16-bit depth instead of a preview"
        )
    if picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
        blue, green, red = (picture[..., i].astype(np.uint16) for i in range(3))
        if green.any() and not red.any():
            return green << 8 | blue, "nyu"
        if green.any() and not blue.any():
            return green << 8 | red, "ho3d"
    raise ValueError(
        f"{path}: a colour picture ({picture.shape} {picture.dtype}), neither NYU's packing (red = 0) nor HO-3D's "
        "(blue = 0); give the depth picture that belongs to it"
    )


def _check_range(path: Path, stored: np.ndarray, unit: float) -> None:
    seen = stored[stored > 0]
    if seen.size == 0:
        raise ValueError(f"{path}: no depth at all (every pixel is 0); check the camera or the export")
    near = float(np.percentile(seen[:: max(1, seen.size // 10_000)], 1))
    if not NEAREST <= near * unit <= FARTHEST:
        fitting = [u for u in LIKELY_UNITS if NEAREST <= near * u <= FARTHEST]
        hint = " or ".join(f"--unit {u:g} ({near * u:.2f} m)" for u in fitting) or "check the file"
        raise ValueError(
            f"{path}: with a unit of {unit:g} m the nearest surface is at {near * unit:.4g} m, expected {NEAREST} to "
            f"{FARTHEST} m; try {hint}"
        )


def frame_camera(camera: str | None, frame: DepthFrame) -> tuple[torch.Tensor, str]:
    """K (3, 3) of the frame and the camera's name.

    Args:
        camera: in one of the forms of `named_camera`; None is known only for NYU's packing.
        frame: the camera must be that of its size.
    """
    height, width = frame.depth.shape
    if camera is None and frame.packing == "nyu":
        camera = "nyu"
    if camera is None:
        raise ValueError(f"camera: unknown for {frame.path}; give one of {', '.join(CAMERA_PRESETS)} or fx,fy,cx,cy")
    K, name = named_camera(camera, height, width, frame.path)
    fx, fy = float(K[0, 0]), float(K[1, 1])
    if abs(fx / fy - 1) > SQUARE:
        raise ValueError(
            f"camera: expected square pixels, fx and fy within {SQUARE:.0%} of each other, got fx={fx:g}, fy={fy:g}; "
            "resize the picture so that they are square, and give the camera of that"
        )
    return K, name


def parse_box(text: str | None) -> tuple[float, float, float, float] | None:
    """The rectangle "u,v,width,height", pixels."""
    if text is None:
        return None
    try:
        left, top, width, height = (float(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"box: expected u,v,width,height in pixels, got '{text}'") from error
    return left, top, width, height


def crop_depth_frames(
    frames: Sequence[DepthFrame],
    K: torch.Tensor,
    cube_centres: np.ndarray,
    side: int = RIGHT,
    image_size: int = 128,
    reach: float | None = None,
) -> HandBatch:
    """The squares that cover the cubes around `cube_centres`, as the rendered sources make them.

    Args:
        frames: B depth pictures.
        K: (B, 3, 3) of them.
        cube_centres: (B, 3) metres, camera frame.
        side: 0 left, 1 right; left hands come mirrored, to look like right ones.
        image_size: side of the crops, pixels.
        reach: metres; what lies farther from a centre is left out (a forearm, which rendered hands lack).
    """
    count, half = len(frames), CUBE_SIDE / 2
    centres = torch.as_tensor(cube_centres, dtype=torch.float32)
    cube_sides = torch.full((count,), CUBE_SIDE)
    affine, crop_K = cube_crop(centres, cube_sides, K, image_size)
    maps, distances = affine.double().numpy(), centres[:, 2].tolist()
    crops = [
        resample_depth(frame.depth, crop, image_size, limits=(z - half, z + half))
        for frame, crop, z in zip(frames, maps, distances, strict=True)
    ]
    depth = torch.from_numpy(np.stack(crops))
    if reach is not None:
        v, u = torch.meshgrid(torch.arange(image_size), torch.arange(image_size), indexing="ij")
        pixels = torch.stack([u, v], -1).reshape(1, -1, 2).float().expand(count, -1, -1)
        points = unproject(pixels, depth.reshape(count, -1), crop_K)
        near = (points - centres[:, None]).norm(dim=-1).reshape(depth.shape) <= reach
        depth = depth * near
    flags = {flag: torch.full((count,), flag == "has_depth") for flag in FLAGS}
    batch = HandBatch(
        depth=depth[:, None],
        K=crop_K,
        cube_centre=centres,
        cube_side=cube_sides,
        crop=affine,
        original_size=torch.tensor([frame.depth.shape for frame in frames]),
        side=torch.full((count,), side),
        mirrored=torch.zeros(count, dtype=torch.bool),
        domain=["frame"] * count,
        key=[str(frame.path) for frame in frames],
        **flags,
    )
    return as_right_hands(batch)
