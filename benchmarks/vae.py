"""Speed of the cross-modal VAE: training samples a second, prediction at batch 1 and 256, from RGB and depth.

    python -m benchmarks.vae [--save]

`small` are the networks of configs/vae_rendered.yaml, `release` those of the model file that the authors published, and
`plain` the same in plain PyTorch, given what its networks take. Pictures are noise of the size that the encoder takes,
since no layer's time depends on what it sees. Training is forward, losses and backward of a picture towards 3D and
towards itself, without reading data; the share of waiting for data is that of configs/vae_rendered.yaml, hands drawn by
workers on the same cores. All of it in bf16 on a GPU.
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.table import Table

from benchmarks.report import emit
from benchmarks.vae_release import PlainVAE
from benchmarks.waiting import share_of_waiting
from datamodules.batch import FLAGS, HandBatch
from datamodules.rendered import RenderedHandsData
from lightning_modules.cross_modal_vae import CrossModalVAE

SIZES = {"small": ("small", 128), "release": ("resnet18", 256)}
PLAIN_SIZE = 256
TRAINING_BATCH = 16
TRAIN_STEPS, WARM_UP = 40, 10  # of the training whose waiting is measured
PAIRS = ["rgb-3d", "rgb-2d", "rgb-rgb", "3d-3d", "2d-3d"]  # of configs/vae_rendered.yaml


def noise_batch(count: int, size: int, device: str) -> HandBatch:
    """Pictures and joints of noise, everything labelled."""
    generator = torch.Generator().manual_seed(0)
    joints = 0.12 * torch.rand(count, 21, 3, generator=generator) + torch.tensor([-0.06, -0.06, 0.54])
    batch = HandBatch(
        rgb=torch.rand(count, 3, size, size, generator=generator),
        depth=0.5 + 0.2 * torch.rand(count, 1, size, size, generator=generator),
        K=torch.eye(3).repeat(count, 1, 1),
        joints_3d=joints,
        joint_valid=torch.ones(count, 21, dtype=torch.bool),
        cube_centre=torch.tensor([0.0, 0.0, 0.6]).repeat(count, 1),
        cube_side=torch.full((count,), 0.3),
        side=torch.ones(count, dtype=torch.int64),
        mirrored=torch.zeros(count, dtype=torch.bool),
        key=[str(i) for i in range(count)],
        convention=["open"] * count,
        **{flag: torch.ones(count, dtype=torch.bool) for flag in FLAGS},
    )
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def seconds(call: Callable[[], object], repeats: int, device: str) -> float:
    """Median time of `call`, after two to warm up."""
    times = []
    for run in range(repeats + 2):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if run >= 2:
            times.append(time.perf_counter() - start)
    return median(times)


def timed(
    step: Callable[[], object], predict: Callable[[int], Callable[[], object]], device: str, batches: tuple[int, ...]
) -> list[float]:
    """Training samples a second, and milliseconds of a prediction of each of `batches`; bf16 on a GPU."""
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        found = [TRAINING_BATCH / seconds(step, 3, device)]
        for count in batches:
            with torch.inference_mode():
                found.append(1000 * seconds(predict(count), 20 if count == 1 else 3, device))
    return found


def of_method(encoder: str, size: int, source: str, device: str, batches: tuple[int, ...]) -> list[float]:
    """Times of the method from pictures of `source`."""
    method = CrossModalVAE([f"{source}-3d", f"{source}-{source}"], "jointly", encoder=encoder).to(device)
    batch = noise_batch(TRAINING_BATCH, size, device)

    def step() -> None:
        method.train().zero_grad()
        method.losses(method.estimate(batch), batch)["total"].backward()

    def predict(count: int) -> Callable[[], object]:
        shown = noise_batch(count, size, device)
        return lambda: method.eval().predict_step(shown, 0)

    return timed(step, predict, device, batches)


def of_plain(size: int, source: str, device: str, batches: tuple[int, ...]) -> list[float]:
    """Times of the release's networks without anything of ours."""
    channels = {"rgb": 3, "depth": 1}[source]
    model = PlainVAE(channels).to(device)

    def shown(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.rand(count, channels, size, size, device=device), torch.ones(count, 2, device=device)

    inputs = shown(TRAINING_BATCH)
    targets = (
        torch.rand(TRAINING_BATCH, 63, device=device),
        torch.rand(TRAINING_BATCH, channels, 128, 128, device=device),
    )

    def step() -> None:
        model.train().zero_grad()
        model.loss(*inputs, *targets).backward()

    def predict(count: int) -> Callable[[], object]:
        given = shown(count)
        return lambda: model.eval()(*given)

    return timed(step, predict, device, batches)


def measure(device: str, batches: tuple[int, ...] = (1, 256)) -> tuple[Table, dict[str, float]]:
    """Figures of all networks from both modalities."""
    table = Table("networks", "from", "training samples/s", *(f"ms at batch {count}" for count in batches))
    figures: dict[str, float] = {}
    for source in ("rgb", "depth"):
        rows = {name: of_method(encoder, size, source, device, batches) for name, (encoder, size) in SIZES.items()}
        rows["plain"] = of_plain(PLAIN_SIZE, source, device, batches)
        for name, (rate, *taken) in rows.items():
            figures[f"{device}_training_samples_s_{name}_{source}"] = round(rate, 1)
            for count, each in zip(batches, taken, strict=True):
                figures[f"{device}_predict_ms_b{count}_{name}_{source}"] = round(each, 3)
            table.add_row(name, source, f"{rate:.0f}", *(f"{each:.2f}" for each in taken))
    return table, figures


def wait_share(device: str) -> float:
    """Share of training time spent in waiting for the next batch, networks and workers on the same cores."""
    encoder, size = SIZES["small"]
    data = RenderedHandsData(
        "clean",
        modalities=["rgb"],
        image_size=size,
        batch_size=64,
        epoch_size=10**6,
        num_workers=1 if device == "cpu" else (os.cpu_count() or 2) - 1,
    )
    return share_of_waiting(
        CrossModalVAE(PAIRS, "jointly", encoder=encoder),
        data,
        TRAIN_STEPS,
        WARM_UP,
        accelerator="gpu" if device == "cuda" else "cpu",
        precision="bf16-mixed" if device == "cuda" else "32-true",
    )


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/vae.json")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table, figures = measure(device)
    figures[f"{device}_wait_share"] = share = round(wait_share(device), 4)
    table.caption = f"training waits for data {100 * share:.1f} % of its time"
    emit("vae", figures, table, arguments.save)


if __name__ == "__main__":
    main()
