"""How close predict.py comes to its network: pictures a second of a folder against the same predictions from memory.

    python -m benchmarks.predict [--count 1000] [--ckpt weights/deephps.safetensors] [--save]

The folder holds 16-bit depth frames of 640 x 480 pixels, a rendered hand before a wall. `network` is predict_step on
crops that are ready, in the same batches, as often as a frame is cropped anew; `json` reads, finds, crops, predicts and
writes joints alone; `everything` writes overlays, meshes and prediction files as well. Wall-clock time.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.table import Table

import predict
from benchmarks.report import emit
from datamodules.batch import RIGHT
from datamodules.sights import Asked, Input, read_sight
from lightning_modules.export import example_batch
from lightning_modules.frame_prediction import ROUNDS
from lightning_modules.restore import restore_method
from ops.drawing import write_picture

GOAL = 0.8  # of the network's own pictures a second
CAMERA = "480,480,319.5,239.5"  # a cube of 0.3 m is 240 pixels wide at 0.6 m
DIFFERENT = 16  # hands; the folder repeats them


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="pictures of the folder (default: 1000)")
    parser.add_argument("--ckpt", type=Path, default=Path("weights/deephps.safetensors"), help="of a method on depth")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        frames = write_frames(Path(folder) / "frames", arguments.count, arguments.ckpt)
        figures = {"network_per_s": network_speed(arguments, frames)}
        for name, kinds in (("json", ["joints.json"]), ("everything", list(predict.KINDS))):
            figures[f"{name}_per_s"] = run_speed(arguments, frames, Path(folder) / name, kinds)
            figures[f"{name}_share"] = round(figures[f"{name}_per_s"] / figures["network_per_s"], 3)
    table = Table("", "pictures/s", "of the network's", title=f"predict.py on {arguments.count} depth frames")
    table.add_row("network", f"{figures['network_per_s']:.1f}", "1")
    for name in ("json", "everything"):
        table.add_row(name, f"{figures[f'{name}_per_s']:.1f}", f"{figures[f'{name}_share']:.2f} (goal {GOAL})")
    emit("predict", figures | {"count": arguments.count, "batch": arguments.batch}, table, arguments.save)


def write_frames(folder: Path, count: int, checkpoint: Path) -> Path:
    """A folder of frames as a camera stores them."""
    method = restore_method(checkpoint)
    hands = example_batch(method, DIFFERENT)["depth"][:, 0].numpy()
    for i in range(count):
        frame = np.full((480, 640), 1.5, np.float32)
        hand = cv2.resize(hands[i % DIFFERENT], (240, 240), interpolation=cv2.INTER_NEAREST)
        frame[120:360, 200:440] = np.where(hand > 0, hand, 1.5)
        write_picture(folder / f"{i:05d}.png", (1000 * frame).round().astype(np.uint16))
    return folder


def network_speed(arguments: argparse.Namespace, frames: Path) -> float:
    """Pictures a second of the network alone."""
    method = restore_method(arguments.ckpt)
    paths = sorted(frames.iterdir())[: arguments.batch]
    sights = [read_sight(Input(path, path.stem), Asked(camera=CAMERA)) for path in paths]
    batch = sights[0].crops(sights, RIGHT, method.crop_size)
    batches = max(1, arguments.count // len(paths))
    with torch.no_grad():
        method.predict_step(batch, 0)
        start = time.perf_counter()
        for _ in range(batches * ROUNDS):
            method.predict_step(batch, 0)
    return batches * len(paths) / (time.perf_counter() - start)


def run_speed(arguments: argparse.Namespace, frames: Path, out: Path, kinds: list[str]) -> float:
    """Pictures a second of predict.py, restoring the method included."""
    words = [
        str(frames),
        f"--camera={CAMERA}",
        f"--ckpt={arguments.ckpt}",
        f"--out={out}",
        f"--batch={arguments.batch}",
    ]
    given = predict.parse([*words, "--write", *kinds])
    start = time.perf_counter()
    predict.run(given)
    return arguments.count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
