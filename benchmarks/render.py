"""The CPU renderer: silhouettes forward and backward a second, labels and RGB a second, and are the gradients right.

    python -m benchmarks.render [--threads 2] [--rounds 15] [--hands 16] [--save]

Runs in the peers' environment (`make peers`: deodr); started from another one, it starts itself there if it exists.
The open hand in random poses covers a sixth of the picture. Rounds of all contenders take turns; figures are medians.
`silhouette_fb_*` counts pictures from vertices to the gradient of vertices, projection included; deodr goes from pixels
to the gradient of pixels, OpenCV fills hard masks only. Slopes: see benchmarks/render_slopes.py. For CUDA:
benchmarks/render_cuda.py.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.peer_rasterisers import deodr_round, deodr_silhouette, opencv_round
from benchmarks.render_slopes import (
    Scene,
    depth_slope,
    fold_slope,
    hand_scene,
    our_silhouette,
    silhouette_slope,
)
from benchmarks.report import emit
from ops.hand_model import open_hand
from ops.render import face_parts, render_labels, render_labels_rgb

PEERS_PYTHON = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"
CASES = ((224, 32), (128, 64))  # side of the picture, batch
SLOPE_SIZES = (48, 128, 224)
FOLD_TOLERANCES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)  # metres
PEER_BATCH = 4  # peers go picture by picture: a few are enough


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hands", type=int, default=16, help="of each slope, with 8 directions each")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    has_deodr = importlib.util.find_spec("deodr") is not None
    if not has_deodr and PEERS_PYTHON.exists():
        os.execv(PEERS_PYTHON, [str(PEERS_PYTHON), "-m", "benchmarks.render", *sys.argv[1:]])
    torch.set_num_threads(arguments.threads)
    table = Table("what", "figure", title=f"CPU renderer, {arguments.threads} threads")
    figures: dict[str, float | int | bool] = {"threads": arguments.threads, "deodr_importable": has_deodr}
    for size, batch in CASES:
        figures |= speed(size, batch, arguments.rounds, has_deodr)
    figures |= slopes(arguments.hands, has_deodr)
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) and value < 10 else f"{value:.0f}")
    emit("render", {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}, table, arguments.save)


def speed(size: int, batch: int, rounds: int, has_deodr: bool) -> dict[str, float]:
    """Pictures a second of every contender, and ours over theirs."""
    scene = hand_scene(batch, size)
    gradient = torch.randn(batch, 1, size, size, generator=torch.Generator().manual_seed(1))
    few = Scene(scene.vertices[:PEER_BATCH], scene.faces, scene.K[:PEER_BATCH], size)
    ours = f"silhouette_fb_{size}_b{batch}"
    contenders = {
        ours: (_silhouette_round(scene, gradient), batch),
        f"labels_{size}_b{batch}": (_label_round(scene), batch),
        f"labels_rgb_{size}_b{batch}": (_colour_round(scene), batch),
        f"opencv_mask_{size}": (opencv_round(few), PEER_BATCH),
    }
    if has_deodr:
        contenders[f"deodr_fb_{size}"] = (deodr_round(few, gradient[:PEER_BATCH]), PEER_BATCH)
    seconds = _medians({name: run for name, (run, _) in contenders.items()}, rounds)
    figures = {name: count / seconds[name] for name, (_, count) in contenders.items()}
    for peer in (f"opencv_mask_{size}", f"deodr_fb_{size}"):
        if peer in figures:
            figures[f"silhouette_over_{peer}"] = figures[ours] / figures[peer]
    return figures


def slopes(hands: int, has_deodr: bool) -> dict[str, float]:
    """Slopes of the gradients, 1 being right, and how they depend on the tolerance of folds."""
    figures = {}
    for size in SLOPE_SIZES:
        found = silhouette_slope(hand_scene(hands, size, seed=1), directions=8)
        figures |= {f"slope_{size}": found.slope, f"correlation_{size}": found.correlation}
    few = hand_scene(max(1, hands // 4), 128, seed=1)
    figures["depth_slope_128"] = depth_slope(few, directions=8).slope
    if has_deodr:
        figures["deodr_slope_128"] = silhouette_slope(few, directions=8, silhouette=deodr_silhouette).slope
    bent = hand_scene(max(1, hands // 2), 48, seed=5, bend=0.5)
    for tolerance in FOLD_TOLERANCES:
        figures[f"fold_slope_48_at_{tolerance}_m"] = fold_slope(bent, directions=6, tolerance=tolerance).slope
    return figures


def _silhouette_round(scene: Scene, gradient: torch.Tensor) -> Callable[[], object]:
    vertices = scene.vertices.clone().requires_grad_()

    def run() -> object:
        picture = our_silhouette(vertices, scene.faces, scene.K, scene.size)
        return torch.autograd.grad(picture, vertices, gradient)

    return run


def _label_round(scene: Scene) -> Callable[[], object]:
    parts = face_parts(torch.from_numpy(open_hand().part_labels), scene.faces)
    return lambda: render_labels(scene.vertices, scene.faces, scene.K, scene.size, parts)


def _colour_round(scene: Scene) -> Callable[[], object]:
    parts = face_parts(torch.from_numpy(open_hand().part_labels), scene.faces)
    colours = torch.rand(scene.vertices.shape, generator=torch.Generator().manual_seed(2))
    return lambda: render_labels_rgb(scene.vertices, scene.faces, scene.K, scene.size, parts, colours)


def _medians(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taking turns so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()  # compiles, fills caches
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
