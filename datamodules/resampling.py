"""Crops of pictures, resampled at their pixels: colours without moire, depth without blends of two surfaces.

The map from a picture to its crop only scales and shifts, so that rows and columns are found once each, and nothing of
the picture is touched but what the crop shows.
"""

import cv2
import numpy as np
from numba import njit

# neighbours farther apart in depth than this belong to different surfaces and are never blended, metres
SURFACE_JUMP = np.float32(0.01)
_ONE = 256  # of weights of colours
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


def resample_rgb(picture: np.ndarray, affine: np.ndarray, size: int, crop: np.ndarray | None = None) -> np.ndarray:
    """A crop (3, size, size) uint8 of a picture (H, W, 3) uint8, bilinear; 0 outside the picture.

    Where the crop is coarser than the picture, the tent of the bilinear weights is as wide as a pixel of the crop: fine
    patterns become grey, not moire.

    Args:
        picture: colours.
        affine: (2, 3) pixels of the picture -> pixels of the crop, without rotation; mirrored where affine[0, 0] < 0.
        size: side of the crop, pixels.
        crop: (3, size, size) uint8 to fill; None makes it.
    """
    crop = np.empty((3, size, size), np.uint8) if crop is None else crop
    height, width = picture.shape[:2]
    rows, down, _, _ = _tents(affine[1, 1], affine[1, 2], size, height)
    columns, along, left, right = _tents(affine[0, 0], affine[0, 2], size, width)
    # rows of bytes are what a processor adds up fast, so columns become rows
    flat = np.empty((size, 3 * (right - left)), np.uint8)
    _shrink_rows(np.ascontiguousarray(picture).reshape(height, -1), 3 * left, rows, down, flat)
    turned = cv2.transpose(flat.reshape(size, -1, 3)).reshape(-1, 3 * size)
    both = np.empty((size, 3 * size), np.uint8)
    _shrink_rows(turned, 0, columns - left, along, both)
    crop[...] = both.reshape(size, size, 3).transpose(2, 1, 0)
    return crop


def resample_depth(
    depth: np.ndarray,
    affine: np.ndarray,
    size: int,
    crop: np.ndarray | None = None,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> np.ndarray:
    """Sample a depth picture at the pixels of its crop: linear on a surface, nearest across edges and holes.

    Args:
        depth: (H, W) metres, 0 = missing.
        affine: (2, 3) pixels of the picture -> pixels of the crop, without rotation; mirrored where affine[0, 0] < 0.
        size: side of the crop, pixels.
        crop: (size, size) float32 to fill; None makes it.
        limits: nearest and farthest depth that is kept, metres.

    Returns:
        (size, size) float32; 0 outside the picture and beyond the limits.
    """
    crop = np.empty((size, size), np.float32) if crop is None else crop
    depth = np.ascontiguousarray(depth, np.float32)
    _resample_depth(depth, affine[0, 0], affine[0, 2], affine[1, 1], affine[1, 2], *limits, crop)
    return crop


def nearest(picture: np.ndarray, affine: np.ndarray, size: int, crop: np.ndarray | None = None) -> np.ndarray:
    """The nearest pixels (size, size) of a picture (H, W) at those of its crop; 0 outside the picture.

    Args:
        picture: (H, W) of labels.
        affine: (2, 3) pixels of the picture -> pixels of the crop, without rotation; mirrored where affine[0, 0] < 0.
        size: side of the crop, pixels.
        crop: (size, size) of any type to fill; None makes one of the picture's.
    """
    crop = np.empty((size, size), picture.dtype) if crop is None else crop
    _nearest(picture, affine[0, 0], affine[0, 2], affine[1, 1], affine[1, 2], crop)
    return crop


@njit(**_OPTIONS)
def _tents(scale, shift, size, limit):  # noqa: ANN001, ANN202 - numba infers
    # per pixel of the crop, the places in the picture that it is made of, and their weights, of 256: 0 outside it
    reach = max(1.0, 1 / abs(scale))
    count = int(2 * reach) + 1
    places, weights = np.empty((size, count), np.int64), np.empty((size, count), np.uint16)
    tent = np.empty(count)
    for i in range(size):
        centre = (i - shift) / scale
        first = int(np.ceil(centre - reach))
        for k in range(count):
            tent[k] = max(0.0, 1 - abs(first + k - centre) / reach)
        rest = _ONE
        for k in range(count):
            weight = int(np.rint(_ONE * tent[k] / tent.sum()))
            rest -= weight
            places[i, k] = min(max(first + k, 0), limit - 1)
            weights[i, k] = weight
        weights[i, tent.argmax()] += rest  # all together must not exceed what 16 bits hold
        for k in range(count):
            if places[i, k] != first + k:
                weights[i, k] = 0
    return places, weights, places.min(), places.max() + 1


@njit(**_OPTIONS)
def _shrink_rows(picture, first, places, weights, shrunk):  # noqa: ANN001, ANN202
    # rows of `shrunk` are weighted sums of rows of `picture`, from its column `first` on
    count = shrunk.shape[1]
    total = np.empty(count, np.uint16)
    for y in range(len(shrunk)):
        total[:] = _ONE // 2  # what is cut off below then rounds
        for k in range(places.shape[1]):
            weight = weights[y, k]
            if weight > 0:
                row = picture[places[y, k], first : first + count]
                for j in range(count):
                    total[j] += weight * row[j]
        for j in range(count):
            shrunk[y, j] = total[j] >> 8


@njit(**_OPTIONS)
def _pairs(scale, shift, size, limit):  # noqa: ANN001, ANN202
    # per pixel of the crop, the two neighbours in the picture, -1 outside it, and how far it lies towards the second
    first, second, share = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.float32)
    for i in range(size):
        place = (i - shift) / scale
        low = int(np.floor(place))
        share[i] = place - low
        first[i] = low if 0 <= low < limit else -1
        second[i] = low + 1 if 0 <= low + 1 < limit else -1
    return first, second, share


@njit(**_OPTIONS)
def _gather(depth, row, columns, values):  # noqa: ANN001, ANN202
    if row < 0:
        values[:] = 0
        return
    for x in range(len(columns)):
        column = columns[x]
        values[x] = depth[row, column] if column >= 0 else np.float32(0)


@njit(**_OPTIONS)
def _resample_depth(depth, scale_u, shift_u, scale_v, shift_v, near, far, crop):  # noqa: ANN001, ANN202
    size = len(crop)
    left, right, along = _pairs(scale_u, shift_u, size, depth.shape[1])
    top, bottom, down = _pairs(scale_v, shift_v, size, depth.shape[0])
    near, far = np.float32(near), np.float32(far)
    corners = np.empty((4, size), np.float32)
    for y in range(size):
        if y == 0 or top[y] != top[y - 1] or bottom[y] != bottom[y - 1]:
            _gather(depth, top[y], left, corners[0])
            _gather(depth, top[y], right, corners[1])
            _gather(depth, bottom[y], left, corners[2])
            _gather(depth, bottom[y], right, corners[3])
        lower = down[y] > np.float32(0.5)
        for x in range(size):
            a, b, c, d = corners[0, x], corners[1, x], corners[2, x], corners[3, x]
            above, below = a + along[x] * (b - a), c + along[x] * (d - c)
            blend = above + down[y] * (below - above)
            row = (c, d) if lower else (a, b)
            closest = row[1] if along[x] > np.float32(0.5) else row[0]
            one_surface = max(max(a, b), max(c, d)) - min(min(a, b), min(c, d)) < SURFACE_JUMP
            value = blend if one_surface else closest
            crop[y, x] = value if near <= value <= far else np.float32(0)


@njit(**_OPTIONS)
def _nearest(picture, scale_u, shift_u, scale_v, shift_v, crop):  # noqa: ANN001, ANN202
    size = len(crop)
    columns = np.empty(size, np.int64)
    for x in range(size):
        column = int(np.rint((x - shift_u) / scale_u))
        columns[x] = column if 0 <= column < picture.shape[1] else -1
    for y in range(size):
        row = int(np.rint((y - shift_v) / scale_v))
        if 0 <= row < picture.shape[0]:
            for x in range(size):
                crop[y, x] = picture[row, columns[x]] if columns[x] >= 0 else 0
        else:
            crop[y] = 0
