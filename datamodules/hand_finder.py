"""The hand in a depth frame without a detector: of the nearest blobs, the place that looks like a hand.

Hands come with forearms. The place with the longest outline within a hand's reach wins (fingers have far more outline
than an arm), less what lies deeper; then the centre is moved to the centroid of what lies within that reach.
"""

import math

import cv2
import numpy as np
import torch

from datamodules.depth_frames import FARTHEST, NEAREST
from ops.camera import unproject

HAND_REACH = 0.1  # metres from the centre of a hand to its farthest points, about
SURFACE_TO_CENTRE = 0.02  # metres from the visible surface's centroid to the hand's, over rendered hands
BLOB_AREA = 0.0015  # square metres: a hand that points at the camera
BLOB_DEPTH = 0.4  # metres: a forearm and a hand
BLOB_JUMP = 0.03  # metres between neighbouring pixels: another surface
DEPTH_COST = 6.0  # metres of outline that a metre of depth outweighs
ROUNDS = 5
REACH_PIXELS = 40  # of a hand's reach: fingers are 7 wide then, and more pixels say no more
COARSE_RADIUS = 30  # cells of a hand's reach in which outlines are counted
MOST_THINNED = 4  # what is nearest may be something else, and the hand behind it smaller
LEAST_AREA, MOST_AREA = 0.0025, 0.028  # square metres seen within a hand's reach: a fist from afar, a hand with its arm
MOST_OF_PICTURE = 0.5  # share of a picture: what fills more is a wall, whatever the unit
WRONG_UNITS = (8, 0.125, 1000, 0.001, 10, 0.1)  # mistaken for each other: mm, 1/8 mm, m, um, 1/10 mm


def find_hand(depth: np.ndarray, K: torch.Tensor, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Centre (3,) of the hand, metres, camera frame.

    Args:
        depth: (H, W) metres, 0 = missing.
        K: (3, 3) pixels.
        box: u, v of the upper left corner, width and height of a rectangle that holds the hand, pixels; None searches
            the whole picture.
    """
    seen = (depth >= NEAREST) & (depth <= FARTHEST)
    if box is not None:
        seen &= _box_mask(depth.shape, box)
    depth, K = _thinned(np.where(seen, depth, np.float32(0)), K)
    focal = float(K[0, 0])
    blobs = _near_blobs(depth, focal)
    nearest = min(depth[blob].min() for blob in blobs)
    candidates = [_hand_likeness(blob, depth, focal) - DEPTH_COST * (depth - nearest) for blob in blobs]
    best = int(np.argmax([likeness[blob].max() for likeness, blob in zip(candidates, blobs, strict=True)]))
    v, u = np.nonzero(blobs[best])
    pixels = torch.from_numpy(np.stack([u, v], -1)).float()[None]
    points = unproject(pixels, torch.from_numpy(depth[v, u])[None], K)[0].numpy()
    centre = np.median(points, axis=0) if box is not None else points[np.argmax(candidates[best][v, u])]
    for _ in range(ROUNDS):
        # at least the nearest point: the median of a hollow shape may have none within reach
        distance = np.linalg.norm(points - centre, axis=1)
        centre = points[distance <= max(HAND_REACH, distance.min())].mean(axis=0)
    return centre * (1 + SURFACE_TO_CENTRE / np.linalg.norm(centre))


def _thinned(depth: np.ndarray, K: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """The nearest of each n x n pixels: a hand that is as near as the nearest still reaches over REACH_PIXELS.

    n is 1, 2 or 4 and divides the picture's sides: a mirrored picture gives the mirrored one.
    """
    coarse = depth[::4, ::4]
    coarse = coarse[coarse > 0]
    nearest = float(np.percentile(coarse, 1)) if coarse.size else NEAREST
    wanted = min(float(K[0, 0]) * HAND_REACH / nearest / REACH_PIXELS, MOST_THINNED)
    step = 1
    while 2 * step <= wanted and not (depth.shape[0] % (2 * step) or depth.shape[1] % (2 * step)):
        step *= 2
    if step == 1:
        return depth, K
    far = np.where(depth > 0, depth, np.float32(np.inf))
    cells = np.minimum.reduce([far[v::step, u::step] for v in range(step) for u in range(step)])
    to_cells = torch.tensor([[1, 0, (1 - step) / 2], [0, 1, (1 - step) / 2], [0, 0, step]]) / step  # of a cell's middle
    return np.where(np.isinf(cells), np.float32(0), cells), to_cells @ K


def check_hand_sized(depth: np.ndarray, K: torch.Tensor, centre: np.ndarray, unit: float) -> None:
    """Raise where what lies around a found centre cannot be a hand; name the unit in which it would be one.

    Args:
        depth: (H, W) metres, 0 = missing.
        K: (3, 3) pixels.
        centre: (3,) metres, camera frame.
        unit: metres per stored step that `depth` was read with.
    """
    area = _area_around(depth, K, centre)
    if LEAST_AREA <= area <= MOST_AREA:
        return
    found = f"what is found shows {1e4 * area:.0f} cm^2 within {100 * HAND_REACH:.0f} cm, a hand"
    found += f" {1e4 * LEAST_AREA:.0f} to {1e4 * MOST_AREA:.0f}"
    likely = [factor * unit for factor in WRONG_UNITS if _has_hand(depth * factor, K)]
    if likely:
        hint = " or ".join(f"--unit {value:g}" for value in likely)
        raise ValueError(f"no hand found with a unit of {unit:g} m: {found}; with {hint} one would be there")
    raise ValueError(f"no hand found: {found}; check the camera, and --box u,v,width,height of the hand")


def _has_hand(depth: np.ndarray, K: torch.Tensor) -> bool:
    seen = depth[depth > 0]
    if seen.size == 0 or not NEAREST <= np.percentile(seen, 1) <= FARTHEST:
        return False
    try:
        centre = find_hand(depth, K)
    except ValueError:  # it says why this is not the unit
        return False
    near = np.abs(depth - centre[2]) < HAND_REACH
    return near.mean() < MOST_OF_PICTURE and LEAST_AREA <= _area_around(depth, K, centre) <= MOST_AREA


def _area_around(depth: np.ndarray, K: torch.Tensor, centre: np.ndarray) -> float:
    """Square metres of the surface within a hand's reach of a centre."""
    pixel = (K.double().numpy() @ centre)[:2] / centre[2]
    radius = math.ceil(HAND_REACH / max(centre[2] - HAND_REACH, NEAREST / 2) * float(K[0, 0]))
    (left, top), (right, bottom) = np.maximum(np.rint(pixel).astype(int) + [[-radius], [radius + 1]], 0)
    step = max(1, radius // REACH_PIXELS)
    v, u = np.nonzero(depth[top:bottom:step, left:right:step])
    v, u = v * step + top, u * step + left
    z = depth[v, u].astype(float)
    x = (u - float(K[0, 2])) * z / float(K[0, 0])
    y = (v - float(K[1, 2])) * z / float(K[1, 1])
    within = np.linalg.norm(np.stack([x, y, z], -1) - centre, axis=1) <= HAND_REACH
    return float((z[within] ** 2).sum() * step**2 / float(K[0, 0] * K[1, 1]))


def _box_mask(shape: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    left, top, width, height = box
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = (columns >= left) & (columns < left + width) & (rows >= top) & (rows < top + height)
    if width <= 0 or height <= 0 or not inside.any():
        raise ValueError(f"box: expected u,v,width,height within {shape[1]}x{shape[0]} pixels, got {box}")
    return inside


def _near_blobs(depth: np.ndarray, focal: float) -> list[np.ndarray]:
    """Masks (H, W) of connected surfaces large enough for a hand, no farther than an arm behind the nearest."""
    whole = depth > 0
    across, down = np.abs(np.diff(depth, axis=1)) < BLOB_JUMP, np.abs(np.diff(depth, axis=0)) < BLOB_JUMP
    for side, same in ((np.s_[:, :-1], across), (np.s_[:, 1:], across), (np.s_[:-1], down), (np.s_[1:], down)):
        whole[side] &= same
    count, labels = cv2.connectedComponents(whole.astype(np.uint8), connectivity=4)
    area = np.bincount(labels.ravel(), ((depth / focal) ** 2).ravel(), minlength=count)
    large = [labels == label for label in range(1, count) if area[label] >= BLOB_AREA]
    if not large:
        raise ValueError(
            f"no hand found: nothing of at least {BLOB_AREA * 1e4:.0f} cm^2 between {NEAREST} and {FARTHEST} m; "
            "check unit and camera, and --box u,v,width,height of the hand"
        )
    near = min(float(np.percentile(depth[blob], 5)) for blob in large)
    return [blob & (depth < near + BLOB_DEPTH) for blob in large if (depth[blob] < near + BLOB_DEPTH).any()]


def _hand_likeness(blob: np.ndarray, depth: np.ndarray, focal: float) -> np.ndarray:
    """Length (H, W) of the blob's outline within a hand's reach of each pixel, metres."""
    metres = float(np.median(depth[blob])) / focal  # per pixel
    mask = blob.astype(np.uint8)
    outline = (mask - cv2.erode(mask, np.ones((3, 3), np.uint8))).astype(np.float32)
    radius = max(HAND_REACH / metres, 1)
    coarse = max(1, int(radius / COARSE_RADIUS))
    height, width = (-(-side // coarse) for side in outline.shape)
    outline = cv2.copyMakeBorder(
        outline, 0, height * coarse - len(outline), 0, width * coarse - outline.shape[1], cv2.BORDER_CONSTANT
    )
    cells = cv2.resize(outline, (width, height), interpolation=cv2.INTER_AREA) * coarse**2  # outline pixels in each
    side = 2 * max(round(radius / coarse), 1) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.float32)
    lengths = cv2.filter2D(cells, -1, disc, borderType=cv2.BORDER_CONSTANT) * metres
    return cv2.resize(lengths, (width * coarse, height * coarse))[: len(mask), : mask.shape[1]]
