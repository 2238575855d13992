"""What else a photograph of a hand shows: rooms behind it, things before it, its shadow. Drawn from keys, or pictures.

Backgrounds are drawn from shapes (walls, edges, boards, skin-coloured things) or cut out of a folder of pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ops.hand_model.skin import MONK_TONES

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_SHAPES = (3, 18)  # in a background
_SKIN_SHARE = 0.15  # of shapes that have the colour of skin
_STRIPED = 0.2  # share of shapes with stripes
_CELLS = 24  # across an uneven wall
_BLUR = 0.012  # standard deviation at most, of the picture's side

Rng = np.random.Generator


class PictureFolder:
    """Pictures of a folder and the folders in it, to stand behind hands.

    Args:
        folder: holds PNG, JPEG, WebP or BMP files.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"backgrounds: {self.folder} is no folder; name one that holds pictures")
        self.paths = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
        if not self.paths:
            raise FileNotFoundError(f"backgrounds: no {', '.join(_SUFFIXES)} in {self.folder}; name a folder of them")

    def crop(self, rng: Rng, size: int) -> np.ndarray:
        """A square (size, size, 3) uint8, RGB, of one of the pictures."""
        path = self.paths[int(rng.integers(len(self.paths)))]
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{path}: cannot be decoded as a picture; replace the file, or remove it")
        height, width = picture.shape[:2]
        side = max(1, int(min(height, width) * rng.uniform(0.3, 1)))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        cut = picture[top : top + side, left : left + side, ::-1]
        cut = cut[:, ::-1] if rng.random() < 0.5 else cut
        how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(cut), (size, size), interpolation=how)


def draw_background(rng: Rng, size: int) -> np.ndarray:
    """A made-up room (size, size, 3) uint8: a gradient, shapes upon it, out of focus by chance."""
    picture = _wall(rng, size)
    for _ in range(int(rng.integers(*_SHAPES))):
        _draw_shape(rng, picture, _muted(rng))
    blur = rng.uniform(0, _BLUR) * size
    return cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.3 else picture


def occlude(rng: Rng, rgb: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Lay one or two things over a picture, in place; nothing if they would hide more than half of the hand.

    Args:
        rng: what is drawn.
        rgb: (S, S, 3) uint8, changed.
        hand: (S, S) bool, where the hand is seen.

    Returns:
        (S, S) bool, what is hidden.
    """
    over = rgb.copy()
    for _ in range(int(rng.integers(1, 3))):
        _draw_shape(rng, over, _muted(rng), largest=0.35)
    hidden = (over != rgb).any(-1)
    if (hidden & hand).sum() > 0.5 * hand.sum():
        return np.zeros_like(hidden)
    rgb[hidden] = over[hidden]
    return hidden


def cast_shadow(rng: Rng, rgb: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A background that is darker where the light does not reach past hand and arm.

    Args:
        rng: where the light comes from, and how soft it is.
        rgb: (S, S, 3) uint8, the background.
        share: (S, S) float32, of hand and arm in each pixel.
    """
    size = len(share)
    shift = rng.normal(0, 0.06, 2) * size
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(share, move, (size, size)), (0, 0), rng.uniform(0.01, 0.06) * size)
    light = 1 - np.float32(rng.uniform(0.15, 0.6)) * shadow
    return (rgb * light[..., None]).astype(np.uint8)


def _wall(rng: Rng, size: int) -> np.ndarray:
    """Two colours that change into one another across the picture (size, size, 3) uint8, uneven."""
    first, second = _muted(rng), _muted(rng)
    angle, count = rng.uniform(0, 2 * np.pi), _CELLS
    steps = np.linspace(-0.5, 0.5, count)
    share = np.clip(0.5 + np.cos(angle) * steps[None] + np.sin(angle) * steps[:, None], 0, 1)[..., None]
    coarse = (1 - share) * first + share * second + rng.normal(0, rng.uniform(0, 18), (count, count, 1))
    return cv2.resize(np.clip(coarse, 0, 255).astype(np.uint8), (size, size))


def _muted(rng: Rng) -> np.ndarray:
    """A colour (3,) 0-255, mostly grey-brown as rooms are, sometimes that of skin."""
    if rng.random() < _SKIN_SHARE:
        return MONK_TONES[int(rng.integers(len(MONK_TONES)))] * 255 * rng.uniform(0.6, 1.1)
    value, saturation = rng.uniform(20, 245), rng.uniform(0, 1) ** 2
    return value * (1 - saturation * rng.uniform(0, 1, 3))  # cv2 cuts what is above 255


def _draw_shape(rng: Rng, picture: np.ndarray, colour: np.ndarray, largest: float = 0.8) -> None:
    """A turned rectangle, an ellipse or a strip, plain or striped, in place."""
    size = len(picture)
    centre, half = rng.uniform(-0.1, 1.1, 2) * size, rng.uniform(0.03, largest, 2) * size / 2
    kind, angle = rng.random(), rng.uniform(0, 180)
    if kind < 0.35:
        half[0] = 2 * size  # from edge to edge: a table's edge, a frame, a cable
        half[1] *= 0.5
    sides = [colour, colour * rng.uniform(0.4, 1.6)] if rng.random() < _STRIPED else [colour]
    for k, tone in enumerate(sides):
        extent = half * [1, 1 - 0.5 * k]
        if kind > 0.8:
            cv2.ellipse(picture, centre.astype(int), extent.astype(int) + 1, angle, 0, 360, tone.tolist(), -1)
        else:
            corners = cv2.boxPoints((tuple(map(float, centre)), tuple(map(float, 2 * extent)), float(angle)))
            cv2.fillConvexPoly(picture, np.rint(corners).astype(np.int32), tone.tolist())


def rngs(keys: Sequence[int]) -> list[Rng]:
    """A generator for each key."""
    return [np.random.Generator(np.random.SFC64(int(key))) for key in keys]
