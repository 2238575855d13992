"""Neverova's networks at inference: milliseconds a picture of f_s and f_r with part maps of 24 and of 48 pixels.

    python -m benchmarks.neverova [--ckpt runs/<experiment>/<run>/checkpoints/best.ckpt] [--save]

`paper`: the paper's sizes, 14 joints; `small`: those of configs/neverova_*.yaml, 21 joints. f_r includes the regions of
the joints' parts. With a checkpoint of the regression step, its part scores and joint errors on the target's test split
stand beside its times. The paper says 31 ms with maps of 24 pixels (12 of f_s, 18 of f_r) and 58 ms with 48 (40 of f_s)
on three GPUs of 2014.
"""

import argparse
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from benchmarks.deephps import milliseconds
from benchmarks.neverova_maps import pictures_of, scores
from benchmarks.neverova_runs import TARGET
from benchmarks.report import emit
from lightning_modules.hand_view import SIDE, HandView, label_maps, look, middle
from lightning_modules.metrics import PointError
from lightning_modules.neverova import Neverova
from lightning_modules.part_regions import nearest_parts
from lightning_modules.restore import restore_method

RESOLUTIONS = (24, 48)
# NYU's 14 of the 21 joints, as configs/neverova_nyu_regression.yaml
FOURTEEN = ("wrist", "thumb_mcp", "thumb_ip", "thumb_tip", "index_mcp", "index_pip", "index_tip", "middle_pip")
FOURTEEN += ("middle_tip", "ring_pip", "ring_tip", "little_mcp", "little_pip", "little_tip")
SIZES = {
    "paper": {"joint_parts": {joint: nearest_parts()[joint] for joint in FOURTEEN}},
    "small": {"widths": [16, 32, 64], "hidden": 128, "regressor_hidden": 128},
}
REPEATS = 60


def of_size(name: str) -> Neverova:
    """Untrained networks: no layer's time depends on what it sees."""
    return Neverova(step="regression", init_from="not read before training", **SIZES[name]).eval()


def one_view(device: str) -> HandView:
    """A hand-sized disc before the camera."""
    place = torch.arange(SIDE) - (SIDE - 1) / 2
    near = (place[:, None].square() + place.square()).sqrt() < 15
    depth = torch.where(near, 0.5 + 0.001 * place, 0.0)[None, None]
    K = torch.tensor([[[120.0, 0, 23.5], [0, 120.0, 23.5], [0, 0, 1]]])
    given = (depth, K, torch.tensor([[0, 0, 0.5]]), torch.tensor([0.2]))
    return look(*(each.to(device) for each in given))


def latency(method: Neverova, device: str) -> dict[str, float]:
    """Milliseconds of one picture: f_s and all, by resolution, and f_r."""
    method, view = method.to(device), one_view(device)
    figures = {}
    for side in RESOLUTIONS:
        method.hparams.resolution = side

        def parts(stride: int = SIDE // side) -> Tensor:
            return label_maps(method.classifier(view.picture, stride), view.foreground)

        figures[f"f_s_{side}"] = milliseconds(parts, REPEATS, device)
        figures[f"all_{side}"] = milliseconds(lambda: method(view), REPEATS, device)
    maps = parts()
    figures["f_r"] = milliseconds(lambda: method._joints(view, maps), REPEATS, device)
    return figures


def accuracy(method: Neverova, pictures: int) -> dict[str, float]:
    """Part scores and joint errors on the target's test split, by resolution of the maps."""
    figures = {}
    for side in RESOLUTIONS:
        method.hparams.resolution = side
        error, maps, parts = PointError(), [], []
        for batch in pictures_of(TARGET, pictures):
            prediction = method.predict_step(batch, 0)
            error.update(prediction.joints_3d, batch["joints_3d"], batch["joint_valid"])
            maps.append(middle(prediction.parts))
            parts.append(middle(batch["parts"]))
        found = scores(torch.cat(maps), torch.cat(parts))
        figures |= {f"{name}_{side}": found[name] for name in ("per_pixel_pct", "per_class_pct")}
        figures[f"joints_absolute_mm_{side}"] = float(error.compute())
    return figures


@torch.no_grad()  # not inference mode, whose tensors the renderer cannot tell apart by their version
def measure(checkpoint: Path | None, pictures: int) -> tuple[dict[str, float], Table]:
    """All figures, and the table of them."""
    figures: dict[str, float] = {}
    table = Table("networks", "device", "maps", "f_s, ms", "f_r, ms", "all, ms", "paper, ms", title="Neverova, batch 1")
    torch.set_num_threads(1)
    for name in SIZES:
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            found = latency(of_size(name), device)
            figures |= {f"{device}_ms_{figure}_{name}": round(value, 3) for figure, value in found.items()}
            for side, paper in zip(RESOLUTIONS, ("31", "58"), strict=True):
                times = (found[f"f_s_{side}"], found["f_r"], found[f"all_{side}"])
                said = paper if name == "paper" else ""
                table.add_row(name, device, f"{side} x {side}", *(f"{time:.2f}" for time in times), said)
    if checkpoint is not None:
        found = accuracy(restore_method(checkpoint), pictures)
        figures |= {name: round(value, 3) for name, value in found.items()}
        for side in RESOLUTIONS:
            pixel, part = (found[f"{score}_pct_{side}"] for score in ("per_pixel", "per_class"))
            error = f"{found[f'joints_absolute_mm_{side}']:.1f} mm"
            table.add_row("checkpoint", "", f"{side} x {side}", f"{pixel:.1f} / {part:.1f} %", error, "", "")
    return figures, table


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ckpt", type=Path, help="of the regression step: measures its accuracy, too")
    parser.add_argument("--pictures", type=int, default=500, help="of the test split, for accuracy")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/neverova.json")
    arguments = parser.parse_args()
    figures, table = measure(arguments.ckpt, arguments.pictures)
    emit("neverova", figures, table, arguments.save)


if __name__ == "__main__":
    main()
