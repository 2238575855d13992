"""A user's own photograph: read it upright, name its camera, cut a square out of it into the batch contract."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from datamodules.batch import FLAGS, RIGHT, HandBatch
from datamodules.frames import BadFrame
from datamodules.hand_sampler import CUBE_SIDE
from datamodules.picture_files import decode_picture
from datamodules.resampling import resample_rgb
from datamodules.transforms import as_right_hands
from datamodules.user_cameras import named_camera
from ops.camera import crop_affine, intrinsics, transform_intrinsics, unproject

BOX_SHARE = 1.5  # side of the crop over the larger side of a tight box, as in training
FILM = 28 / 36  # focal length over the longer side of a phone's main camera, where nothing is said
_SMALLEST = 16  # pixels along a side
_JPEG, _PNG, _PNG_BITS, _PNG_COLOUR = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", 24, 25  # beginnings; bytes of a PNG


class ColourPicture(NamedTuple):
    """One photograph, upright."""

    rgb: np.ndarray  # (H, W, 3) uint8
    path: Path


class Square(NamedTuple):
    """A square of the picture, pixels; it may reach beyond the edges, where nothing is seen."""

    u: float
    v: float
    side: float


def is_colour_picture(path: str | Path) -> bool:
    """Whether a file is a photograph, not depth: colours in it that no packing of depth has.

    Grey pictures of 8 bits count as photographs, of 16 bits as depth; .npy is depth.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy" or not path.is_file():
        return False
    raw = path.read_bytes()
    if raw.startswith(_JPEG):
        return True
    if raw.startswith(_PNG) and len(raw) > _PNG_COLOUR and raw[_PNG_COLOUR] == 0:  # grey: nothing to decode
        return raw[_PNG_BITS] <= 8
    try:
        picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    except BadFrame:  # whoever reads it as either says why
        return path.suffix.lower() != ".png"
    if picture.ndim == 2:
        return picture.dtype == np.uint8
    blue, _, red = (bool(picture[..., channel].any()) for channel in range(3))
    return blue and red  # NYU's depth has no red, HO-3D's no blue


def read_colour_picture(path: str | Path) -> ColourPicture:
    """Read a PNG or JPEG as its EXIF orientation says; grey becomes three channels, 16 bits eight, alpha is left out.

    Raises:
        BadFrame, FileNotFoundError: there is no such file, or it is damaged, or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a photograph (.png or .jpg)")
    picture = decode_picture(path, cv2.IMREAD_COLOR)
    if min(picture.shape[:2]) < _SMALLEST:
        raise BadFrame(f"{path}: expected at least {_SMALLEST} pixels along a side, got {picture.shape[:2]}")
    return ColourPicture(np.ascontiguousarray(picture[..., ::-1]), path)


def picture_camera(camera: str | None, focal: float | None, picture: ColourPicture) -> tuple[torch.Tensor, str]:
    """K (3, 3) of the upright picture and what is said of it.

    Args:
        camera: in one of the forms of `named_camera`.
        focal: pixels; the principal point is the picture's middle.
        picture: gives the size. Where nothing is said, a phone's main camera is assumed.
    """
    height, width = picture.rgb.shape[:2]
    middle = (width - 1) / 2, (height - 1) / 2
    if camera is not None and focal is not None:
        raise ValueError("focal: the camera says it already; leave --focal or --camera out")
    if focal is not None:
        if not (np.isfinite(focal) and focal > 0):
            raise ValueError(f"focal: expected pixels above 0, got {focal}")
        return intrinsics(focal, focal, *middle), f"focal length {focal:g} px"
    if camera is None:
        focal = FILM * max(height, width)
        return intrinsics(focal, focal, *middle), f"assumed: a phone's main camera, focal length {focal:.0f} px"
    return named_camera(camera, height, width, picture.path)


def square_around(box: tuple[float, float, float, float] | None, picture: ColourPicture) -> Square:
    """The square to cut: around a tight box (u, v, width, height) of the hand, or the whole picture.

    Raises:
        ValueError: the box is empty or lies outside the picture.
    """
    height, width = picture.rgb.shape[:2]
    if box is None:
        return Square((width - 1) / 2, (height - 1) / 2, max(height, width))
    left, top, wide, high = box
    if not (np.isfinite(box).all() and wide > 1 and high > 1):
        raise ValueError(f"box: expected u,v,width,height with sides above 1 pixel, got {box}")
    if left + wide <= 0 or top + high <= 0 or left >= width or top >= height:
        raise ValueError(f"box: {box} lies outside {picture.path}, which is {width}x{height} pixels upright")
    return Square(left + (wide - 1) / 2, top + (high - 1) / 2, BOX_SHARE * max(wide, high))


def crop_square(
    picture: ColourPicture, K: torch.Tensor, square: Square, side: int = RIGHT, image_size: int = 128
) -> HandBatch:
    """A batch of one: the square, as datasets of colour pictures are cut.

    Args:
        picture: the photograph.
        K: (3, 3) of it.
        square: what to cut.
        side: 0 left, 1 right; a left hand comes mirrored, to look like a right one.
        image_size: side of the crop, pixels.
    """
    affine = crop_affine(torch.tensor([[square.u, square.v]]), torch.tensor([square.side]), image_size)
    # no depth: the cube that the square would cover, as if around a hand of the usual size
    side_of_cube = torch.tensor([CUBE_SIDE])
    away = K[0, 0] * side_of_cube / square.side
    centre = unproject(torch.tensor([[[square.u, square.v]]]), away[:, None], K)[:, 0]
    crop = resample_rgb(picture.rgb, affine[0].double().numpy(), image_size)
    flags = {flag: torch.tensor([flag == "has_rgb"]) for flag in FLAGS}
    batch = HandBatch(
        rgb=torch.from_numpy(crop)[None].float() / 255,
        K=transform_intrinsics(K[None], affine),
        cube_centre=centre,
        cube_side=side_of_cube,
        crop=affine,
        original_size=torch.tensor([picture.rgb.shape[:2]]),
        side=torch.tensor([side]),
        mirrored=torch.tensor([False]),
        domain=["picture"],
        key=[str(picture.path)],
        **flags,
    )
    return as_right_hands(batch)
