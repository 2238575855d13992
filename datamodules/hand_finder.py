"""The hand in a depth frame without a detector: the nearest blob, and within it the place that looks like a hand.

Hands come with forearms. Of the nearest blob, the place with the longest outline within a hand's reach wins (fingers
have far more outline than an arm), less what lies deeper; then the centre is moved to the centroid of what lies within
that reach.
"""

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
DEPTH_COST = 3.0  # metres of outline that a metre of depth outweighs
ROUNDS = 5


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
    blob = _nearest_blob(np.where(seen, depth, 0), float(K[0, 0]))
    v, u = np.nonzero(blob)
    pixels = torch.from_numpy(np.stack([u, v], -1)).float()[None]
    points = unproject(pixels, torch.from_numpy(depth[v, u])[None], K)[0].numpy()
    if box is not None:
        centre = np.median(points, axis=0)
    else:
        centre = points[np.argmax(_hand_likeness(blob, depth, float(K[0, 0]))[v, u])]
    for _ in range(ROUNDS):
        centre = points[np.linalg.norm(points - centre, axis=1) <= HAND_REACH].mean(axis=0)
    return centre * (1 + SURFACE_TO_CENTRE / np.linalg.norm(centre))


def _box_mask(shape: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray:
    left, top, width, height = box
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    inside = (columns >= left) & (columns < left + width) & (rows >= top) & (rows < top + height)
    if width <= 0 or height <= 0 or not inside.any():
        raise ValueError(f"box: expected u,v,width,height within {shape[1]}x{shape[0]} pixels, got {box}")
    return inside


def _nearest_blob(depth: np.ndarray, focal: float) -> np.ndarray:
    """Mask (H, W) of the nearest connected surface that is large enough for a hand."""
    whole = depth > 0
    across, down = np.abs(np.diff(depth, axis=1)) < BLOB_JUMP, np.abs(np.diff(depth, axis=0)) < BLOB_JUMP
    for side, same in ((np.s_[:, :-1], across), (np.s_[:, 1:], across), (np.s_[:-1], down), (np.s_[1:], down)):
        whole[side] &= same
    count, labels = cv2.connectedComponents(whole.astype(np.uint8), connectivity=4)
    area = np.bincount(labels.ravel(), ((depth / focal) ** 2).ravel(), minlength=count)
    large = [label for label in range(1, count) if area[label] >= BLOB_AREA]
    if not large:
        raise ValueError(
            f"no hand found: nothing of at least {BLOB_AREA * 1e4:.0f} cm^2 between {NEAREST} and {FARTHEST} m; "
            "check unit and camera, or say where the hand is with --box u,v,width,height"
        )
    near = {label: float(np.percentile(depth[labels == label], 5)) for label in large}
    nearest = min(near, key=near.get)
    return (labels == nearest) & (depth < near[nearest] + BLOB_DEPTH)


def _hand_likeness(blob: np.ndarray, depth: np.ndarray, focal: float) -> np.ndarray:
    """Outline (H, W) within a hand's reach, metres, less the cost of depth."""
    typical = float(np.median(depth[blob]))
    metres = typical / focal  # per pixel
    mask = blob.astype(np.uint8)
    outline = (mask - cv2.erode(mask, np.ones((3, 3), np.uint8))).astype(np.float32)
    radius = max(round(HAND_REACH / metres), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    length = cv2.filter2D(outline, -1, disc, borderType=cv2.BORDER_CONSTANT) * metres
    return length - DEPTH_COST * (depth - depth[blob].min())
