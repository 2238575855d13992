"""The fit of joints: seconds for 10,000 hands, and how far the fitted joints stay from their labels.

    python -m benchmarks.fitting [--hands 10000] [--noise 0.003] [--save]

Labels are joints of the clean domain's training hands in the convention `open`: exact, with normal noise on every
coordinate, and as pixels of NYU's camera.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.table import Table

from benchmarks.report import emit
from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from ops.camera import camera_preset, project
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.fitting import JointFit, fit_joints, fit_joints_2d

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
    """Seconds of wall clock and CPU for all hands, and errors in mm and pixels."""
    true = labels(hands)
    given = true + noise * torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    K, _ = camera_preset("nyu")
    pixels = project(true, K)
    fit_joints(given[:10])  # warms up
    fit_joints_2d(pixels[:10], K)
    figures: dict[str, float] = {"hands": hands}
    for name, fit in (("exact", lambda: fit_joints(true)), ("noisy", lambda: fit_joints(given))):
        found = timed(figures, name, fit)
        figures[f"{name}_residual_mm"] = float(found.errors.mean()) * _MM
        figures[f"{name}_from_truth_mm"] = float((found.points - true).norm(dim=-1).mean()) * _MM
    found = timed(figures, "picture", lambda: fit_joints_2d(pixels, K))
    figures["picture_residual_px"] = float(found.errors.mean())
    figures["picture_cost"] = float(found.cost.mean())
    relative = (found.points - found.points[:, :1]) - (true - true[:, :1])
    figures["picture_from_truth_root_mm"] = float(relative.norm(dim=-1).mean()) * _MM
    return {name: round(value, 3) for name, value in figures.items()}


def timed(figures: dict[str, float], name: str, fit: Callable[[], JointFit]) -> JointFit:
    """The fit, with its seconds added to the figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = fit()
    figures[f"{name}_seconds"] = time.perf_counter() - wall
    figures[f"{name}_cpu_seconds"] = time.process_time() - cpu
    return found


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
