"""What sets of rendered hands on disk cost: writing and reading them on one core, bytes, and 5 million frames of them.

python -m benchmarks.shards [--save]

Rates are frames per second of processor time of one process, so that other programs on the machine count less. Rendered
is without writing, as `python -m benchmarks.rendered_data` measures it end to end. SynHand5M has 5 million pictures.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.table import Table

from benchmarks.report import emit
from datamodules.cropping import CropRule, crop_frames
from datamodules.domains import DOMAINS
from datamodules.hand_sampler import HandSampler
from datamodules.rendered_shards import RenderedShards
from datamodules.rendered_write import main as rendered_command
from datamodules.rendering import HandRenderer
from ops.hand_model import open_hand

FRAMES = {"clean": 2048, "sensor": 2048, "photo": 512}  # in one shard
WARM_UP, BATCH, MILLIONS = 64, 64, 5


class Costs(NamedTuple):
    """Of one domain, at 128 pixels."""

    on_the_fly: float  # frames a second
    written: float
    read: float  # at random places, cropped into batches
    bytes: float  # a frame


def measure(domain: str, folder: Path) -> Costs:
    """Render, write and read a set."""
    frames = FRAMES[domain]
    model = open_hand()
    sampler = HandSampler(DOMAINS[domain], model)
    modalities = ("depth", "parts", "rgb") if DOMAINS[domain].photo else ("depth", "parts")
    renderer = HandRenderer(model, 128, modalities)
    renderer.lean = True

    def render(start: int) -> None:
        renderer(sampler.sample(0, "train", 0, np.arange(start, start + BATCH)))

    on_the_fly = _rate(lambda: [render(start) for start in range(0, frames, BATCH)], frames, lambda: render(0))

    def write(name: str, count: int) -> None:
        rendered_command(
            ["write", str(folder / name), f"--domain={domain}", f"--count={count}", f"--shard-size={count}"]
        )

    written = _rate(lambda: write(domain, frames), frames, lambda: write(f"{domain}-warm", WARM_UP))
    shards = RenderedShards(folder / domain).frames("train")
    order = np.random.default_rng(0).permutation(frames).reshape(-1, BATCH)

    def read(rows: np.ndarray) -> None:
        for row in rows:
            crop_frames([shards.frame(int(index)) for index in row], CropRule(), 128, lean=True)

    size = sum(path.stat().st_size for path in (folder / domain / "train").iterdir())
    return Costs(on_the_fly, written, _rate(lambda: read(order), frames, lambda: read(order[:1])), size / frames)


def _rate(work: Callable[[], object], frames: int, warm_up: Callable[[], None]) -> float:
    warm_up()
    started = time.process_time()
    work()
    return frames / (time.process_time() - started)


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(
        *("domain", "rendered /s", "written /s", "read /s", "bytes a frame", "5 M: core hours", "5 M: GB"),
        title="Sets of rendered hands, 128 pixels, one core",
    )
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for domain in FRAMES:
            costs = measure(domain, Path(folder))
            hours, size = MILLIONS * 1e6 / costs.written / 3600, MILLIONS * 1e6 * costs.bytes / 1e9
            figures |= {f"{domain}_{name}": round(value, 1) for name, value in costs._asdict().items()}
            figures |= {f"{domain}_5m_core_hours": round(hours, 2), f"{domain}_5m_gb": round(size, 1)}
            table.add_row(domain, *(f"{value:,.0f}" for value in costs), f"{hours:.1f}", f"{size:.0f}")
    emit("shards", figures, table, given.save)


if __name__ == "__main__":
    main()
