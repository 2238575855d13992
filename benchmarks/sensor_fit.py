"""What real depth cameras do to a hand, measured on real frames and, the same way, on the rendered sensor domain.

python -m benchmarks.sensor_fit --frames ../shared/data

The numbers of `datamodules.sensor_noise.NOISE_PROFILES` were chosen so that real and rendered agree. No labels are used
and no method is run. "noise-free" are the same rendered hands before the noise: what poses and facets alone give. What
single real frames without ground truth cannot show is not claimed: how much of the true silhouette is eroded, noise
that is smooth over more than 7 pixels, and noise over time. The band of missing pixels beside a real hand lies on what
is behind it; the rendered domains put nothing there, and theirs is the gap between fingers.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.table import Table
from scipy import ndimage

from benchmarks.report import emit
from datamodules.domains import SENSOR
from datamodules.hand_sampler import HandSampler
from datamodules.rendering import HandRenderer
from ops.camera import CAMERA_PRESETS
from ops.hand_model import open_hand

HAND_DEPTH = 0.13  # metres: the hand is what is nearer than this behind the nearest point
NYU_NOTHING = 2001  # millimetres: the frame's value where nothing was measured
WINDOW = 7  # pixels, odd: side of the patches whose smooth part is taken away
CORE = 5  # pixels from the rim where the inside begins
FLYING = 0.01  # metres from both the nearest and the farthest neighbour
BAND = 40  # pixels
RENDERED = 400  # hands per camera, of which those near the sensor's own resolution count
Figures = dict[str, float]


def measure(depth: np.ndarray, hand: np.ndarray) -> Figures:
    """Statistics of one hand.

    Args:
        depth: (H, W) metres, 0 = missing.
        hand: (H, W) bool, pixels of the hand that have a depth.
    """
    filled = ndimage.binary_fill_holes(hand)
    inside = ndimage.binary_erosion(filled, iterations=3)
    rim = filled & ~ndimage.binary_erosion(filled)
    closed = ndimage.binary_closing(np.pad(filled, 4), np.ones((5, 5)))[4:-4, 4:-4]
    opened = ndimage.binary_opening(filled, np.ones((3, 3)))
    residual, correlation = _residuals(depth, ndimage.binary_erosion(hand, iterations=CORE))
    return {
        "missing_band_px": _missing_band(depth, filled),
        "hole_share": (inside & ~hand).sum() / max(inside.sum(), 1),
        "notch_share": (closed & ~filled).sum() / rim.sum(),
        "spur_share": (filled & ~opened).sum() / rim.sum(),
        "edge_roughness_px": _roughness(filled),
        "flying_share": _flying(depth, hand).sum() / rim.sum(),
        "residual_mm": 1e3 * residual,
        "residual_correlation": correlation,
    }


def _missing_band(depth: np.ndarray, filled: np.ndarray) -> float:
    """Median count of missing pixels left or right of the hand before another surface (at most `BAND` away)."""
    runs = []
    for y, x in zip(*np.nonzero(filled), strict=True):
        for step in (-1, 1):
            beside = depth[y, x + step : x + step * BAND : step] if x + step >= 0 else depth[y, :0]
            if len(beside) and not filled[y, x + step] and beside.any():
                runs.append(int(np.argmax(beside > 0)))
    return float(np.median(runs)) if runs else float("nan")


def _roughness(filled: np.ndarray) -> float:
    """Mean distance in pixels of the outline from the outline of the blurred blob."""
    smooth = ndimage.gaussian_filter(filled.astype(float), 3) > 0.5
    outline = smooth & ~ndimage.binary_erosion(smooth)
    away = ndimage.distance_transform_edt(~outline)
    rim = filled & ~ndimage.binary_erosion(filled)
    return float(away[rim].mean())


def _flying(depth: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Pixels (H, W) that hang between a nearer and a farther surface."""
    nearest = ndimage.minimum_filter(np.where(hand, depth, np.inf), 3)
    farthest = ndimage.maximum_filter(np.where(hand, depth, -np.inf), 3)
    return hand & (depth - nearest > FLYING) & (farthest - depth > FLYING)


def _residuals(depth: np.ndarray, core: np.ndarray) -> tuple[float, float]:
    """Median over patches of the std about a fitted quadric, metres, and of the correlation of adjacent residuals."""
    half = WINDOW // 2
    v, u = (grid.ravel() for grid in np.mgrid[-half : half + 1, -half : half + 1].astype(float))
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], 1)
    keep = np.eye(WINDOW**2) - basis @ np.linalg.pinv(basis)
    patches = np.lib.stride_tricks.sliding_window_view(depth, (WINDOW, WINDOW))
    centres = core[half:-half, half:-half]
    patches = patches[centres].reshape(-1, WINDOW**2)
    patches = patches[(patches > 0).all(1) & (np.ptp(patches, 1) < 0.03)]
    if not len(patches):
        return float("nan"), float("nan")
    rest = patches @ keep.T
    variance = (rest**2).sum(1) / (WINDOW**2 - basis.shape[1])
    grid = rest.reshape(-1, WINDOW, WINDOW)
    adjacent = (grid[:, :, 1:] * grid[:, :, :-1]).mean((1, 2)) / np.maximum((grid**2).mean((1, 2)), 1e-15)
    return float(np.sqrt(np.median(variance))), float(np.median(adjacent))


def quantisation(values: np.ndarray) -> tuple[float, float]:
    """Unit (metres) that all depths are multiples of, and step of 1/z (1/metres) from the number of levels in use.

    The step is 0 where every multiple of the unit within the range occurs.
    """
    levels = np.unique(values[values > 0])
    unit = float(np.diff(levels).min())
    low, high = np.percentile(levels, [5, 95])
    used = ((levels >= low) & (levels <= high)).sum()
    if used > 0.9 * (high - low) / unit:
        return unit, 0.0
    return unit, float((1 / low - 1 / high) / used)


def real_frames(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """(camera, depth in metres) of the NYU frame and the SR305 frames in `folder`."""
    packed = cv2.imread(str(folder / "nyu" / "depth_1_0000001.png"), cv2.IMREAD_UNCHANGED)
    if packed is None:
        raise FileNotFoundError(
            f"{folder}: expected nyu/depth_1_0000001.png and sr305/*.png; name the folder by --frames"
        )
    millimetres = packed[..., 0].astype(int) + 256 * packed[..., 1].astype(int)
    yield "nyu", np.where(millimetres == NYU_NOTHING, 0, millimetres) * 1e-3
    for path in sorted((folder / "sr305").glob("*.png")):
        yield "sr305", cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 0.125e-3


def find_hand(depth: np.ndarray) -> np.ndarray:
    """The largest connected blob near the nearest point (H, W) bool."""
    nearest = np.percentile(depth[depth > 0], 0.5)
    labels, count = ndimage.label((depth > 0) & (depth < nearest + HAND_DEPTH))
    sizes = ndimage.sum_labels(np.ones_like(labels), labels, range(1, count + 1))
    return labels == np.argmax(sizes) + 1


def rendered_hands(camera: str, noise: bool) -> list[np.ndarray]:
    """Depth pictures (H, W) of the sensor domain as `camera` sees them, at about its own resolution."""
    sampler, renderer = HandSampler(SENSOR, open_hand()), HandRenderer(open_hand(), image_size=224)
    parameters = sampler.sample(0, "train", 0, np.arange(RENDERED))
    if not noise:
        parameters = parameters._replace(noise=torch.zeros_like(parameters.noise))
    batch = renderer(parameters)
    own = (parameters.camera[:, 0, 0] - CAMERA_PRESETS[camera][0]).abs() < 1
    fits = own & ((batch["crop"][:, 0, 0] - 1).abs() < 0.15)
    return list(batch["depth"][fits, 0].double().numpy())


def _column(pictures: list[tuple[np.ndarray, np.ndarray]]) -> Figures:
    """Medians over pictures (depth, hand) of one source."""
    each = [measure(*picture) for picture in pictures]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a statistic that no picture has stays NaN
        column = {name: float(np.nanmedian([figures[name] for figures in each])) for name in each[0]}
    unit, step = quantisation(np.concatenate([np.round(depth[hand], 6) for depth, hand in pictures]))
    return {**column, "unit_mm": 1e3 * unit, "disparity_step": step}


def main() -> None:
    """Print the measured statistics of real frames beside those of the rendered sensor domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path, default=Path("../shared/data"), help="folder with nyu/ and sr305/")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    arguments = parser.parse_args()
    real: dict[str, list[np.ndarray]] = {}
    for camera, depth in real_frames(arguments.frames):
        real.setdefault(camera, []).append(depth)
    table = Table("camera", "statistic", "real", "rendered", "noise-free")
    figures: Figures = {}
    for camera, frames in real.items():
        hands = [(depth, find_hand(depth)) for depth in frames]
        columns = {"real": _column(hands)}
        for name, noise in (("rendered", True), ("noise_free", False)):
            columns[name] = _column([(depth, depth > 0) for depth in rendered_hands(camera, noise)])
        for statistic in columns["real"]:
            table.add_row(camera, statistic, *(f"{column[statistic]:.4f}" for column in columns.values()))
            for name, column in columns.items():
                if not np.isnan(column[statistic]):
                    figures[f"{camera}_{statistic}_{name}"] = round(column[statistic], 5)
    emit("sensor_fit", figures, table, arguments.save)


if __name__ == "__main__":
    main()
