"""The fit of joints: seconds for 10,000 hands, and how far the fitted joints stay from their labels.

    python -m benchmarks.fitting [--hands 10000] [--noise 0.003] [--save]

Labels are joints of the clean domain's training hands in the convention `open`, with normal noise on every coordinate.
"""

import argparse
import time

import numpy as np
import torch
from rich.table import Table

from benchmarks.report import emit
from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from ops.camera import camera_preset, project
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.fitting import fit_joints, fit_joints_2d

_HANDS_2D = 500
_MM = 1000


def labels(hands: int) -> torch.Tensor:
    """(B, 21, 3) metres, camera frame."""
    model = open_hand()
    layer, sampler = HandLayer(model, pose_space="matrix"), HandSampler(CLEAN, model)
    joints = []
    for rows in np.array_split(np.arange(hands), max(1, hands // 1000)):
        drawn = sampler.sample(0, "train", 0, rows)
        joints.append(layer(drawn.pose, drawn.shape, drawn.global_rotation, drawn.hand_centre).joints)
    return torch.cat(joints)


def measure(hands: int, noise: float) -> dict[str, float]:
    """Seconds of wall clock and CPU, and errors in mm and pixels."""
    true = labels(hands)
    given = true + noise * torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    fit_joints(given[:10])  # warms up
    figures: dict[str, float] = {"hands": hands}
    for name, target in (("exact", true), ("noisy", given)):
        wall, cpu = time.perf_counter(), time.process_time()
        fit = fit_joints(target)
        figures[f"{name}_seconds"] = time.perf_counter() - wall
        figures[f"{name}_cpu_seconds"] = time.process_time() - cpu
        figures[f"{name}_residual_mm"] = float(fit.errors.mean()) * _MM
        figures[f"{name}_from_truth_mm"] = float((fit.points - true).norm(dim=-1).mean()) * _MM
    K, _ = camera_preset("nyu")
    pixels = project(true[:_HANDS_2D], K)
    wall = time.perf_counter()
    fit = fit_joints_2d(pixels, K)
    figures["picture_seconds_per_1000"] = (time.perf_counter() - wall) * 1000 / len(pixels)
    figures["picture_residual_px"] = float(fit.errors.mean())
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=int, default=10_000)
    parser.add_argument("--noise", type=float, default=0.003, help="metres, of each coordinate of a label")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/fitting.json")
    options = parser.parse_args()
    figures = measure(options.hands, options.noise)
    table = Table(title=f"fit of {options.hands} hands to 21 joints")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:g}")
    emit("fitting", figures, table, options.save)


if __name__ == "__main__":
    main()
