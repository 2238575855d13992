"""What a depth camera does to a depth picture: ragged and lost edges, holes, range noise, quantisation.

Every random number is a hash of the sample's key and the pixel, so a picture's noise is the same wherever and however
often it is drawn. Lengths in the picture are in the sensor's own pixels and become crop pixels by the crop's scale, as
if the sensor's picture had been cropped and resized by picking the nearest pixel. The model is that of Handa et al. (A
Benchmark for RGB-D Visual Odometry, 3D Reconstruction and SLAM, ICRA 2014: lateral shift, disparity noise,
quantisation) plus lost edges and holes; its numbers come from `python -m benchmarks.sensor_fit`. Both cameras remove
flying pixels themselves, so there are none.

Order per pixel: pick the source pixel (lateral shift), lose it at an edge or in a hole, add range noise, quantise. A
lost pixel loses its label, too: labels of a real picture stand where depth is.
"""

from dataclasses import astuple, dataclass, fields

import numpy as np
import torch
from numba import njit
from torch import Tensor

from datamodules import sensor_noise_torch
from ops.render.threads import over_batch


@dataclass(frozen=True)
class SensorNoise:
    """Noise of one depth camera; all zero is none."""

    lateral: float = 0.0  # sensor pixels, std of the shift of a pixel's ray, which shows at edges
    edge_reach: float = 0.0  # sensor pixels from a depth edge within which a pixel can be lost
    edge_loss: float = 0.0  # share of those pixels that are lost
    hole_share: float = 0.0  # share of the hand covered by holes
    hole_size: float = 0.0  # sensor pixels, side of a hole
    range_floor: float = 0.0  # metres, std of range noise at no distance
    range_growth: float = 0.0  # 1/metres, std of range noise grows by this times z^2
    correlation: float = 0.0  # sensor pixels over which range noise is alike
    disparity_step: float = 0.0  # 1/metres, quantisation of 1/z: depth steps of this times z^2
    unit: float = 0.0  # metres, depth is stored as a multiple of it

    def row(self) -> tuple[float, ...]:
        """The numbers in the order of the fields, as kernels take them."""
        return astuple(self)


NOISE_FIELDS = tuple(field.name for field in fields(SensorNoise))
(LATERAL, EDGE_REACH, EDGE_LOSS, HOLE_SHARE, HOLE_SIZE, FLOOR, GROWTH, CORRELATION, STEP, UNIT) = range(10)

NOISE_PROFILES: dict[str, SensorNoise] = {
    "none": SensorNoise(),
    # PrimeSense structured light, fitted to the NYU frame
    "nyu": SensorNoise(
        lateral=0.4,
        edge_reach=1.0,
        edge_loss=0.02,
        hole_share=0.0003,
        hole_size=3.0,
        range_growth=0.0006,
        correlation=4.0,
        disparity_step=0.0029,
        unit=0.001,
    ),
    # Intel SR305 coded light, fitted to seven frames
    "sr305": SensorNoise(
        lateral=0.32,
        edge_reach=1.0,
        edge_loss=0.01,
        hole_share=0.0003,
        hole_size=3.0,
        range_floor=0.00004,
        correlation=2.0,
        unit=0.000125,
    ),
}


def add_sensor_noise(depth: Tensor, parts: Tensor, noise: Tensor, keys: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Depth pictures and labels as a sensor gives them.

    Args:
        depth: (B, 1, H, W) float32 metres, 0 = nothing.
        parts: (B, H, W) uint8, 0 where depth is 0.
        noise: (B, P) float32 rows of `SensorNoise`.
        keys: (B,) int64 in 0..2^32 - 1.
        scale: (B,) float32, picture pixels per sensor pixel.

    Returns:
        depth and parts, both 0 where a pixel was lost; the pictures themselves where no row has noise. On the CPU by a
        fused loop, elsewhere by its readable twin in torch; they differ only where rounding puts a number on the other
        side of a threshold.
    """
    if depth.device.type != "cpu":  # no look at the numbers: that would wait for the device
        return sensor_noise_torch.add_noise(depth, parts, noise, keys, scale)
    if not bool(noise.any()):
        return depth, parts
    noisy_depth, noisy_parts = torch.zeros_like(depth), torch.zeros_like(parts)
    arrays = [
        depth[:, 0].contiguous().numpy(),
        parts.contiguous().numpy(),
        noise.contiguous().numpy(),
        keys.numpy().astype(np.uint32),
        scale.numpy(),
        noisy_depth[:, 0].numpy(),
        noisy_parts.numpy(),
    ]
    over_batch(lambda start, stop: _noise_kernel(start, stop, *arrays), len(depth))
    return noisy_depth, noisy_parts


# What the numbers are for: part of every hash.
_SHIFT_X, _SHIFT_Y, _EDGE, _HOLE, _RANGE = 1, 2, 3, 4, 5
DEPTH_EDGE = 0.01  # metres: a step between neighbouring pixels that counts as an edge
_KEY_STEP, _PURPOSE_STEP, _ROW_STEP, _COLUMN_STEP = 0x9E3779B9, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F
_M1, _M2 = 0x7FEB352D, 0x846CA68B  # the 32-bit mixer "lowbias32" of Wellons' hash-prospector
_WORD = 0xFFFFFFFF


@njit(cache=True, inline="always")
def hash_kernel(key: int, purpose: int, y: int, x: int) -> int:
    """`sensor_noise_torch.hash_of`; also used by other kernels, whose cached machine code does not notice a change."""
    h = (key * _KEY_STEP + purpose * _PURPOSE_STEP + y * _ROW_STEP + x * _COLUMN_STEP) & _WORD
    h = ((h ^ (h >> 16)) * _M1) & _WORD
    h = ((h ^ (h >> 15)) * _M2) & _WORD
    return h ^ (h >> 16)


@njit(cache=True, inline="always")
def unit_kernel(h: int) -> float:
    """`sensor_noise_torch.unit_of`."""
    return np.float32(h >> 8) * np.float32(2.0**-24)


@njit(cache=True, inline="always")
def _gauss(h):  # noqa: ANN001, ANN202 - numba infers
    """Nearly normal: the sum of four bytes, standardised (variance 4 (256^2 - 1) / 12)."""
    total = (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
    return np.float32(total - 510) * np.float32(0.006765949)


@njit(cache=True, nogil=True)
def _noise_kernel(start, stop, depth, parts, noise, keys, scale, noisy, labels):  # noqa: ANN001, ANN202 - numba infers
    for b in range(start, stop):
        if np.all(noise[b] == 0):
            noisy[b], labels[b] = depth[b], parts[b]
        else:
            _noise_picture(depth[b], parts[b], noise[b], np.int64(keys[b]), scale[b], noisy[b], labels[b])


@njit(cache=True, nogil=True)
def _noise_picture(depth, parts, noise, key, scale, noisy, labels):  # noqa: ANN001, ANN202 - numba infers
    height, width = depth.shape
    shift = noise[LATERAL] * scale
    reach = np.int64(np.ceil(noise[EDGE_REACH] * scale - np.float32(0.5)))
    hole = max(noise[HOLE_SIZE] * scale, np.float32(1))
    top, bottom, left, right = _box(depth, np.int64(4 * shift) + 1)  # four bytes sum to at most 3.45 std
    for y in range(top, bottom):
        for x in range(left, right):
            sy = y + np.int64(np.rint(shift * _gauss(hash_kernel(key, _SHIFT_Y, y, x))))
            sx = x + np.int64(np.rint(shift * _gauss(hash_kernel(key, _SHIFT_X, y, x))))
            sy, sx = min(max(sy, 0), height - 1), min(max(sx, 0), width - 1)
            z = depth[sy, sx]
            if z == 0:
                continue
            if abs(depth[y, x] - z) < DEPTH_EDGE:  # the same surface: the shift shows at edges alone
                sy, sx, z = y, x, depth[y, x]
            if unit_kernel(hash_kernel(key, _HOLE, np.int64(y / hole), np.int64(x / hole))) < noise[HOLE_SHARE]:
                continue
            if unit_kernel(hash_kernel(key, _EDGE, y, x)) < noise[EDGE_LOSS] and _near_edge(depth, sy, sx, z, reach):
                continue
            z += (noise[FLOOR] + noise[GROWTH] * z * z) * _smooth_gauss(key, y, x, noise[CORRELATION] * scale)
            noisy[y, x] = _quantise(z, noise[STEP], noise[UNIT])
            labels[y, x] = parts[sy, sx]


@njit(cache=True, nogil=True)
def _box(depth, margin):  # noqa: ANN001, ANN202 - numba infers
    """Rows and columns of the hand with a margin: the background has no noise."""
    height, width = depth.shape
    top, bottom, left, right = height, 0, width, 0
    for y in range(height):
        for x in range(width):
            if depth[y, x] > 0:
                top, bottom = min(top, y), y + 1
                left, right = min(left, x), max(right, x + 1)
    return max(top - margin, 0), min(bottom + margin, height), max(left - margin, 0), min(right + margin, width)


@njit(cache=True, inline="always")
def _near_edge(depth, y, x, z, reach):  # noqa: ANN001, ANN202 - numba infers
    """Whether, within `reach` pixels up, down, left or right, there is nothing or a surface that lies farther back."""
    height, width = depth.shape
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        for distance in range(1, reach + 1):
            ny, nx = y + dy * distance, x + dx * distance
            if ny < 0 or ny >= height or nx < 0 or nx >= width:
                break
            other = depth[ny, nx]
            if other == 0 or other - z > DEPTH_EDGE:
                return True
    return False


@njit(cache=True, inline="always")
def _smooth_gauss(key, y, x, cell):  # noqa: ANN001, ANN202 - numba infers
    """Standard normal that varies over `cell` pixels: hashed values on a grid, blended at constant variance."""
    if cell <= 1:
        return _gauss(hash_kernel(key, _RANGE, y, x))
    fy, fx = np.float32(y) / cell, np.float32(x) / cell
    iy, ix = np.int64(fy), np.int64(fx)
    fy, fx = fy - np.float32(iy), fx - np.float32(ix)
    one = np.float32(1)
    top = (one - fx) * _gauss(hash_kernel(key, _RANGE, iy, ix)) + fx * _gauss(hash_kernel(key, _RANGE, iy, ix + 1))
    low = (one - fx) * _gauss(hash_kernel(key, _RANGE, iy + 1, ix)) + fx * _gauss(
        hash_kernel(key, _RANGE, iy + 1, ix + 1)
    )
    variance = ((one - fx) * (one - fx) + fx * fx) * ((one - fy) * (one - fy) + fy * fy)
    return ((one - fy) * top + fy * low) / np.sqrt(variance)


@njit(cache=True, inline="always")
def _quantise(z, step, unit):  # noqa: ANN001, ANN202 - numba infers
    if step > 0:
        z = np.float32(1) / (step * max(np.rint(np.float32(1) / (z * step)), np.float32(1)))
    if unit > 0:
        z = np.rint(z / unit) * unit
    return z
