"""How fast rendered hands arrive, and how long training waits for them.

python -m benchmarks.rendered_data [--save]

- `depth_parts_128`, `rgb_224`: samples a second end to end through the DataLoader with a worker per core: parameters,
  hand layer, rendering, transfer to the training process. rgb_224 makes depth, parts and rgb.
- `sensor_depth_parts_128`: the same with sensor noise.
- `wait_share`: share of training time in which DeepHPS's small networks (configs/deephps_rendered.yaml) wait for data.
- `cuda_depth_parts_128`: where there is a CUDA device: workers draw parameters, the device renders.
"""

import argparse
import os
import statistics
import time

import torch
from rich.table import Table

from benchmarks.report import emit
from benchmarks.waiting import share_of_waiting
from datamodules.rendered import RenderedHandsData
from lightning_modules.deephps import DeepHPS

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WARM_UP = 12  # batches per worker: numba loads its cache, prefetched batches run out, memory settles
BATCHES, REPEATS = 20, 7  # batches per measurement; the median of so many measurements counts
TRAIN_STEPS, TRAIN_BATCH = 60, 128


def throughput(data: RenderedHandsData) -> float:
    """Samples a second, median of `REPEATS` stretches of an epoch; rendered wherever `data` says."""
    device = torch.device("cuda" if data.render_on == "device" else "cpu")
    batches = iter(data.train_dataloader())
    for _ in range(WARM_UP * max(data.num_workers, 1)):
        _finish(data, next(batches), device)
    rates = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(BATCHES):
            _finish(data, next(batches), device)
        rates.append(BATCHES * data.batch_size / (time.perf_counter() - start))
    return statistics.median(rates)


def _finish(data: RenderedHandsData, batch: object, device: torch.device) -> None:
    if data.render_on == "device":
        batch = data.transfer_batch_to_device(batch, device, 0)
        data.on_after_batch_transfer(batch, 0)
        torch.cuda.synchronize()


def settings(**changes: object) -> RenderedHandsData:
    """Data with a worker per core and an epoch that outlasts the measurement."""
    return RenderedHandsData(**{"batch_size": 256, "epoch_size": 10**7, "num_workers": CORES, **changes})


def wait_share() -> float:
    """Share of training time spent in waiting for the next batch, networks and workers on the same cores."""
    data = RenderedHandsData(
        {"clean": 0.75, "sensor": 0.25},
        batch_size=TRAIN_BATCH,
        epoch_size=10**6,
        num_workers=1 if not torch.cuda.is_available() else CORES - 1,
        modalities=["depth"],
        hide={"sensor": ["mesh", "parts"]},
    )
    method = DeepHPS("small", "tiny", "tiny", loss="distance")
    return share_of_waiting(method, data, TRAIN_STEPS, WARM_UP)


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    arguments = parser.parse_args()
    figures = {
        "depth_parts_128": throughput(settings()),
        "sensor_depth_parts_128": throughput(settings(domains="sensor")),
        "rgb_224": throughput(settings(image_size=224, modalities=["depth", "parts", "rgb"], batch_size=64)),
        "wait_share": wait_share(),
    }
    if torch.cuda.is_available():
        figures["cuda_depth_parts_128"] = throughput(settings(render_on="device", batch_size=1024))
    goals = {"depth_parts_128": 5000, "rgb_224": 1000, "wait_share": 0.05, "cuda_depth_parts_128": 20000}
    table = Table("figure", "measured", "goal", title=f"Rendered data, {CORES} cores")
    for name, value in figures.items():
        shown = f"{value:.3f}" if value < 1 else f"{value:,.0f}"
        table.add_row(name, shown, str(goals.get(name, "")))
    emit("rendered_data", {name: round(value, 4) for name, value in figures.items()}, table, arguments.save)


if __name__ == "__main__":
    main()
