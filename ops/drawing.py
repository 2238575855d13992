"""Drawing hands on pictures: skeletons, depth in grey, part colours, sheets of tiles. Colours are BGR (OpenCV)."""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from ops.joints import BONES, FINGERS, PART_NAMES, UNLABELLED

Picture = np.ndarray  # (H, W, 3) uint8, BGR

TRUE_COLOUR, PREDICTED_COLOUR = (90, 220, 90), (60, 130, 255)
# thumb, index, middle, ring, little; the wrist is white
FINGER_COLOURS = ((66, 105, 244), (76, 187, 252), (94, 201, 98), (215, 160, 64), (199, 98, 168))
MISSING_COLOUR = (60, 30, 20)
PALM_COLOUR, UNLABELLED_COLOUR = (200, 200, 200), (128, 128, 128)


def shade_depth(depth: np.ndarray, near: float, far: float) -> Picture:
    """Grey picture of a depth picture (H, W) in metres: near is bright, `far` and beyond dark, missing bluish."""
    brightness = np.clip((far - depth) / max(far - near, 1e-6), 0, 1)
    grey = cv2.cvtColor((40 + 200 * brightness).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    grey[depth <= 0] = MISSING_COLOUR
    return grey


def bgr_bytes(rgb: Tensor) -> Picture:
    """The picture of colours (3, H, W) in [0, 1]."""
    return np.ascontiguousarray((255 * rgb.float().cpu().numpy()).astype(np.uint8).transpose(1, 2, 0)[..., ::-1])


def enlarge(picture: Picture, factor: int) -> Picture:
    """The picture with each pixel repeated `factor` times along both sides."""
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def part_colours() -> np.ndarray:
    """(256, 3) uint8 by part label: a finger's parts get brighter towards the tip, what has no label is grey."""
    colours = np.zeros((256, 3), np.uint8)
    colours[UNLABELLED] = UNLABELLED_COLOUR
    for label, name in enumerate(PART_NAMES, start=1):
        finger = name.split("_")[0]
        if finger not in FINGERS:
            colours[label] = PALM_COLOUR
            continue
        along = [part for part in PART_NAMES if part.startswith(finger)]
        shade = 0.55 + 0.45 * along.index(name) / (len(along) - 1)
        colours[label] = np.array(FINGER_COLOURS[FINGERS.index(finger)]) * shade
    return colours


def draw_skeleton(
    picture: Picture,
    joints: np.ndarray,
    colour: tuple[int, int, int] | None = None,
    factor: int = 1,
    valid: np.ndarray | None = None,
) -> None:
    """Draw 21 joints and their bones into `picture`, enlarged by `factor` since the joints were measured.

    Args:
        picture: changed in place.
        joints: (21, 2) pixels of the picture before enlarging, canonical order.
        colour: of all bones; None gives each finger its own.
        factor: of `enlarge`.
        valid: (21,) bool: only these joints and the bones between them; None draws all.
    """
    valid = np.ones(len(joints), bool) if valid is None else valid
    # sub-pixel drawing: OpenCV takes fixed-point coordinates; far-off points would overflow them
    fraction_bits = 4
    joints = np.clip((joints + 0.5) * factor - 0.5, -1e4, 1e4)
    points = np.round(joints * 2**fraction_bits).astype(int)
    for parent, child in BONES:
        if not valid[parent] or not valid[child]:
            continue
        ink = colour or FINGER_COLOURS[(child - 1) // 4]
        cv2.line(picture, points[parent].tolist(), points[child].tolist(), ink, 1, cv2.LINE_AA, fraction_bits)
    for joint in np.flatnonzero(valid):
        ink = colour or (FINGER_COLOURS[(joint - 1) // 4] if joint else (255, 255, 255))
        cv2.circle(picture, points[joint].tolist(), 2 << fraction_bits, ink, cv2.FILLED, cv2.LINE_AA, fraction_bits)


def caption(picture: Picture, text: str, line: int = 0) -> None:
    """Write `text` into the upper left corner of `picture`, in place."""
    cv2.putText(picture, text, (4, 14 + 15 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)


def tile(pictures: list[Picture], columns: int) -> Picture:
    """Pictures of one size in rows of `columns`."""
    blank = np.zeros_like(pictures[0])
    pictures = pictures + [blank] * (-len(pictures) % columns)
    rows = [np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)]
    return np.vstack(rows)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a PNG or JPEG, whichever the path's suffix says; its folder is made.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = cv2.imwrite(str(path), picture)  # says no, rather than why
    except cv2.error as error:
        raise OSError(f"{path}: expected a name that ends in .png or .jpg") from error
    if not written:
        raise OSError(f"{path}: cannot be written; name a folder with room for it that you may write into")
