"""The camera that a user names for a picture: a preset, fx,fy,cx,cy, or fx,fy,cx,cy,width,height.

The last form says which size the numbers belong to; they are scaled to a picture of another size and the same shape.
Of four numbers that plainly belong to another size, or to the picture before it was turned, the right ones are named.
"""

from pathlib import Path

import torch

from ops.camera import CAMERA_PRESETS, camera_preset, intrinsics

_CENTRED = (0.7, 1.4)  # principal point over the picture's middle: what real lenses have, with room
_SAME_SHAPE = 0.02  # by which aspect ratios of scaled pictures may differ, and twice that for principal points
_FORMS = "a preset's name or fx,fy,cx,cy in pixels (or fx,fy,cx,cy,width,height of the size they belong to)"


def named_camera(camera: str, height: int, width: int, picture: Path) -> tuple[torch.Tensor, str]:
    """K (3, 3) of a picture and the camera's name.

    Args:
        camera: in one of the forms.
        height: of the picture, pixels.
        width: of the picture, pixels.
        picture: named in errors.

    Raises:
        ValueError: the camera belongs to another size or is none.
    """
    if "," not in camera:
        K, size = camera_preset(camera)
        if size != (height, width):
            fits = _scaled(K, size, height, width)
            hint = f"; {_option(K, size)} if it was made smaller or larger" if fits is not None else ""
            raise ValueError(
                f"camera '{camera}' takes pictures of {size[1]}x{size[0]}, {picture} is {width}x{height} upright; give "
                f"fx,fy,cx,cy of this picture{hint}"
            )
        return K, camera
    try:
        numbers = [float(number) for number in camera.split(",")]
        fx, fy, cx, cy, *size = numbers
    except ValueError as error:
        raise ValueError(f"camera: expected {_FORMS}, got '{camera}'; presets: {', '.join(CAMERA_PRESETS)}") from error
    if len(size) not in (0, 2):
        raise ValueError(f"camera: expected {_FORMS}, got {len(numbers)} numbers in '{camera}'")
    K = intrinsics(fx, fy, cx, cy)
    if not size:
        _check_belongs(K, height, width, picture)
        return K, camera
    scaled = _scaled(K, (size[1], size[0]), height, width)
    if scaled is None:
        raise ValueError(
            f"camera: its picture of {size[0]:g}x{size[1]:g} has another shape than {picture}, {width}x{height}: "
            "one is cut out of the other; give fx,fy,cx,cy of this picture"
        )
    return scaled, camera


def _scaled(K: torch.Tensor, size: tuple[float, float], height: int, width: int) -> torch.Tensor | None:
    """K of the picture resized to height x width; None where that would stretch it."""
    across, down = width / size[1], height / size[0]
    if not abs(across / down - 1) <= _SAME_SHAPE:
        return None
    # pixel centres: u' = (u + 1/2) s - 1/2
    (fx, _, cx), (_, fy, cy), _ = K.tolist()
    return intrinsics(fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5)


def _check_belongs(K: torch.Tensor, height: int, width: int, picture: Path) -> None:
    """Raise where the principal point is the middle of a picture of another size, or of this one turned."""
    cx, cy = float(K[0, 2]), float(K[1, 2])
    across, down = (cx + 0.5) / (width / 2), (cy + 0.5) / (height / 2)
    low, high = _CENTRED
    if low <= across <= high and low <= down <= high:
        return
    own = f"if the picture is a part that was cut out, say so: --camera {_numbers(K)},{width},{height}"
    if down > 0 and abs(across / down - 1) <= 2 * _SAME_SHAPE:
        factor = (across + down) / 2
        size = round(height * factor), round(width * factor)
        raise ValueError(
            f"camera: the principal point {cx:g},{cy:g} is the middle of a picture of {size[1]}x{size[0]}, but "
            f"{picture} is {width}x{height} upright: it was resized; give {_option(K, size)}; {own}"
        )
    if low <= (cx + 0.5) / (height / 2) <= high and low <= (cy + 0.5) / (width / 2) <= high:
        raise ValueError(
            f"camera: the principal point {cx:g},{cy:g} is the middle of a picture of {height}x{width}, but {picture} "
            f"is {width}x{height} upright: it was turned; give the camera of the turned picture; {own}"
        )
    if not (-width <= cx <= 2 * width and -height <= cy <= 2 * height):
        raise ValueError(f"camera: the principal point {cx:g},{cy:g} lies far outside {width}x{height} pixels")


def _option(K: torch.Tensor, size: tuple[int, int]) -> str:
    return f"--camera {_numbers(K)},{size[1]},{size[0]}"


def _numbers(K: torch.Tensor) -> str:
    return ",".join(f"{float(K[i, j]):g}" for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
