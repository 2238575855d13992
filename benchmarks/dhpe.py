"""Speed of DHPE: training, the share of it that waits for data, refinement at test time, prediction; a peer's renderer.

    python -m benchmarks.dhpe [--parts ours peer waiting] [--save]

Runs in the peers' environment (`make peers`: deodr); started from another one, it starts itself there if it exists.
Networks and pictures are those of configs/dhpe_rendered.yaml on a CPU, the paper's (ResNet-50, the full pose machine,
224 pixels) on a GPU. Training is forward, losses, backward and AdamW of a batch that is there already; the share of
waiting comes from a short training with pictures rendered by workers on the same cores. An iteration of refinement is
eq. 13 with its features of what the mesh covers. Prediction includes all 50 iterations. The peer is the same method
with masks by deodr on a CPU, one picture at a time, and by nvdiffrast's own antialiasing on a GPU, where installed.
Times on a CPU are processor time of one thread, which other work on the machine disturbs less; waiting is wall-clock.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.dhpe_judged import photo_pictures
from benchmarks.peer_rasterisers import DeodrSilhouette, deodr_pixels
from benchmarks.report import emit
from benchmarks.waiting import share_of_waiting
from datamodules.batch import HandBatch
from datamodules.cropping import CropRule
from datamodules.rendered import RenderedHandsData
from lightning_modules.dhpe import DHPE
from lightning_modules.normalised_hand import NormalisedHand, picture_camera, picture_pixels
from ops.render import render

PEERS_PYTHON = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"
TRAINING_BATCH = 32
REFINED_BATCHES = (1, 32)
ITERATIONS = 5  # of refinement that are timed
REPEATS = 3
PARTS = ("ours", "peer", "waiting")
PREDICTED = {"unrefined": 0, "refined": 50}  # iterations of refinement in a prediction
TRAIN_STEPS, WARM_UP = 40, 10  # of the training whose waiting is measured


class DeodrDHPE(DHPE):
    """DHPE whose masks are deodr's, picture by picture."""

    def silhouette(self, hand: NormalisedHand, size: int) -> Tensor:
        """(B, 1, S, S) coverage in [0, 1]."""
        peer = DeodrSilhouette(self.projection.layer.faces.numpy(), size)
        pixels = picture_pixels(hand.vertices[..., :2], size)
        depth = hand.vertices[..., 2].detach() + 10  # it wants hands before a camera; along parallels any depth will do
        return torch.stack([deodr_pixels(*each, peer) for each in zip(pixels, depth, strict=True)])


class NvdiffrastDHPE(DHPE):
    """DHPE whose masks are nvdiffrast's, its own antialiasing included."""

    def silhouette(self, hand: NormalisedHand, size: int) -> Tensor:
        """(B, 1, S, S) coverage in [0, 1]."""
        camera = picture_camera(len(hand.vertices), size, hand.vertices)
        faces = self.projection.layer.faces
        return render(hand.vertices, faces, camera, size, ("silhouette",), backend="nvdiffrast-native")["silhouette"]


def peer_of(device: str) -> tuple[str, type[DHPE]] | None:
    """The peer's renderer that can be imported here, and the method with it."""
    name, method = ("nvdiffrast", NvdiffrastDHPE) if device == "cuda" else ("deodr", DeodrDHPE)
    return (name, method) if importlib.util.find_spec(name) else None


def settings(device: str) -> tuple[dict[str, str], int]:
    """Networks, and pixels along a picture's side."""
    small = {"backbone": "small", "joint_maps": "tiny"}, 96
    return small if device == "cpu" else ({"backbone": "resnet50", "joint_maps": "full"}, 224)


def batch_of(count: int, size: int, device: str) -> HandBatch:
    """Test photographs on a device."""
    pieces = list(photo_pictures(count, size))
    whole = HandBatch()
    for field, first in pieces[0].items():
        values = [piece[field] for piece in pieces]
        tensors = isinstance(first, Tensor)
        whole[field] = torch.cat(values).to(device) if tensors else [each for value in values for each in value]
    return whole


def seconds(call: Callable[[], object], device: str) -> float:
    """Median time of `call`, after one to warm up."""
    times, clock = [], time.perf_counter if device == "cuda" else time.process_time
    for run in range(REPEATS + 1):
        start = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if run:
            times.append(clock() - start)
    return median(times)


def training_step(method: DHPE, batch: HandBatch, device: str) -> Callable[[], None]:
    """Forward, losses, backward, AdamW; in half precision on a GPU."""
    optimiser = torch.optim.AdamW(method.train().parameters(), 1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            total = method.losses(method.estimate(batch), batch)["total"]
        total.backward()
        optimiser.step()

    return step


def iteration_ms(method: DHPE, batch: HandBatch, device: str) -> float:
    """Of refinement: what more of them cost, without what is done once."""
    with torch.no_grad():
        estimate = method.eval()(batch["rgb"], batch["K"])

    def refine(steps: int) -> float:
        method.hparams.refinement_steps = steps
        return seconds(lambda: method.refine(estimate, batch), device)

    return 1000 * (refine(2 * ITERATIONS) - refine(ITERATIONS)) / ITERATIONS


def measure(device: str, label: str, kind: type[DHPE]) -> dict[str, float]:
    """All figures but the share of waiting, of a method whose figures end in `label`."""
    networks, size = settings(device)
    whole = batch_of(max(TRAINING_BATCH, *REFINED_BATCHES), size, device)
    figures: dict[str, float] = {}
    torch.manual_seed(0)
    method = kind(**networks).to(device)
    step = training_step(method, first(whole, TRAINING_BATCH), device)
    figures[f"{device}_training_steps_s_b{TRAINING_BATCH}_{label}"] = 1 / seconds(step, device)
    for count in REFINED_BATCHES:
        taken = iteration_ms(method, first(whole, count), device)
        figures[f"{device}_refinement_ms_iteration_b{count}_{label}"] = taken
    one = first(whole, 1)
    for what, iterations in PREDICTED.items():
        method.hparams.refinement_steps = iterations
        with torch.inference_mode():
            taken = seconds(lambda: method.predict_step(one, 0), device)
        figures[f"{device}_prediction_ms_b1_{what}_{label}"] = 1000 * taken
    return figures


def first(batch: HandBatch, count: int) -> HandBatch:
    """The first so many samples."""
    return HandBatch({field: value[:count] for field, value in batch.items()})


def wait_share(device: str) -> float:
    """Share of training time spent in waiting for the next batch, networks and workers on the same cores."""
    networks, size = settings(device)
    data = RenderedHandsData(
        "photo",
        modalities=["rgb"],
        crop=CropRule(around="square", square=1.5, centre="root"),
        image_size=size,
        batch_size=TRAINING_BATCH,
        epoch_size=10**6,
        num_workers=1 if device == "cpu" else (os.cpu_count() or 2) - 1,
    )
    return share_of_waiting(
        DHPE(**networks),
        data,
        TRAIN_STEPS,
        WARM_UP,
        accelerator="gpu" if device == "cuda" else "cpu",
        precision="bf16-mixed" if device == "cuda" else "32-true",
    )


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/dhpe.json")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if peer_of(device) is None and device == "cpu" and PEERS_PYTHON.exists():
        os.execv(PEERS_PYTHON, [str(PEERS_PYTHON), "-m", "benchmarks.dhpe", *sys.argv[1:]])
    if device == "cpu":
        torch.set_num_threads(1)
    figures: dict[str, float] = {}
    if "ours" in arguments.parts:
        figures |= measure(device, "ours", DHPE)
    if "peer" in arguments.parts and (peer := peer_of(device)):
        figures |= measure(device, *peer)
    if "waiting" in arguments.parts:
        figures[f"{device}_wait_share"] = wait_share(device)
    figures = {name: round(value, 4) for name, value in figures.items()}
    table = Table("what", "figure")
    for name, value in figures.items():
        table.add_row(name, f"{value:g}")
    emit("dhpe", figures, table, arguments.save)


if __name__ == "__main__":
    main()
