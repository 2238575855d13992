"""The CUDA renderer beside nvdiffrast: silhouettes forward and backward, their gradient's slope, labels for training.

    python -m benchmarks.render_cuda [--save]

Ours is `backend="triton"`; "nvdiffrast" is its rasteriser with our antialiasing, "nvdiffrast-native" all its own. Both
are measured where nvdiffrast can be imported. Times are medians of CUDA events after warm-up.
"""

import argparse
import importlib.util
from collections.abc import Callable
from statistics import median

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.render_slopes import Scene, hand_scene, silhouette_slope
from benchmarks.report import emit
from ops.camera import PinholeCamera
from ops.hand_model import open_hand
from ops.render import render, render_labels
from ops.render.labels import face_parts

BATCH, SIZE = 256, 224  # of the comparison with nvdiffrast
LABEL_BATCH, LABEL_SIZE = 1024, 128
SLOPE_SIZES = (48, 128, 224)
SLOPE_HANDS, SLOPE_DIRECTIONS = 4, 8
REPEATS = 30


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="store the figures under benchmarks/results")
    save = parser.parse_args().save
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks.render_cuda: no CUDA device; the CPU's figures come from benchmarks.render")
    figures = {"cuda_depth_parts_128": labels_per_second()}
    scene = hand_scene(BATCH, SIZE)
    for backend in _backends():
        name = backend.replace("-", "_")
        figures[f"cuda_silhouette_fb_224_b256_ms_{name}"] = milliseconds(silhouette_step(scene, backend))
        for size in SLOPE_SIZES:
            slope = silhouette_slope(hand_scene(SLOPE_HANDS, size), SLOPE_DIRECTIONS, silhouette=_on_device(backend))
            figures[f"cuda_slope_{size}_{name}"] = slope.slope
    if "cuda_silhouette_fb_224_b256_ms_nvdiffrast_native" in figures:
        ours = figures["cuda_silhouette_fb_224_b256_ms_triton"]
        figures["cuda_speedup_over_nvdiffrast"] = figures["cuda_silhouette_fb_224_b256_ms_nvdiffrast_native"] / ours
    emit("render_cuda", figures, _table(figures), save)


def silhouette_step(scene: Scene, backend: str) -> Callable[[], Tensor]:
    """One forward and backward of a batch of silhouettes towards vertices."""
    vertices = scene.vertices.cuda().requires_grad_()
    faces, camera = scene.faces.cuda(), PinholeCamera(scene.K.cuda())
    weights = torch.randn(len(vertices), 1, scene.size, scene.size, device="cuda")

    def step() -> Tensor:
        picture = render(vertices, faces, camera, scene.size, backend=backend)["silhouette"]
        return torch.autograd.grad(picture, vertices, weights)[0]

    return step


def labels_per_second() -> float:
    """Pictures of depth and parts a second, rendered in batches on the device, without the hand layer."""
    scene = hand_scene(LABEL_BATCH, LABEL_SIZE)
    vertices, faces, K = scene.vertices.cuda(), scene.faces.cuda(), scene.K.cuda()
    parts = face_parts(torch.from_numpy(open_hand().part_labels), scene.faces).cuda()
    return 1000 * LABEL_BATCH / milliseconds(lambda: render_labels(vertices, faces, K, LABEL_SIZE, parts))


def milliseconds(step: Callable[[], object]) -> float:
    """Median time of a step on the device."""
    for _ in range(5):  # compiles kernels, fills the allocator
        step()
    times = []
    for _ in range(REPEATS):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return median(times)


def _backends() -> list[str]:
    peers = ["nvdiffrast", "nvdiffrast-native"] if importlib.util.find_spec("nvdiffrast") else []
    return ["triton", *peers]


def _on_device(backend: str) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    def silhouette(vertices: Tensor, faces: Tensor, K: Tensor, size: int) -> Tensor:
        return render(vertices.cuda(), faces.cuda(), PinholeCamera(K.cuda()), size, backend=backend)["silhouette"].cpu()

    return silhouette


def _table(figures: dict[str, float]) -> Table:
    table = Table("figure", "value", title="Renderer on CUDA")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if value < 1000 else f"{value:,.0f}")
    if len(_backends()) == 1:
        table.caption = "nvdiffrast is not installed: only ours was measured"
    return table


if __name__ == "__main__":
    main()
