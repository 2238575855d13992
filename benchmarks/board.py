"""All methods side by side: same rendered test pictures, same real pictures, named protocols, time and size.

    python -m benchmarks.board [--weights weights] [--samples 500] [--real ../shared/data/ge_rgb3d] [--save]

Every file of weights is judged on every kind of picture that it was trained to read: depth on the test split of the
domain `sensor`, colours on that of `photo` and, where a folder of them is given, on the real pictures of Ge et al.
(CVPR 2019), on which nothing here is trained or chosen. Crops are those that the method was trained with; the hands are
the same. Protocols: `freihand` (Procrustes, and unaligned where a method places the hand) and `rhd-eval-util` (palm at
the origin). `ms` is one picture on one core, with all that the method does to predict it.

With --save it writes docs/board.md and its pictures; of real pictures a page alone, in runs/board/, which stays here.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import yaml
from rich.table import Table
from torch import Tensor

from benchmarks.board_pictures import Shown, draw_board, write_real_page
from benchmarks.report import commit, emit, machine
from datamodules.batch import HandBatch, rows_of
from datamodules.cropping import CropRule
from datamodules.ge import Ge
from datamodules.hand_data import HandData
from datamodules.sources import RenderedSource
from lightning_modules.method import HandMethod, as_pictured
from lightning_modules.metrics import MeanPoseError
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.protocols import protocol
from lightning_modules.restore import read_checkpoint, restore_method
from lightning_modules.weights import FOLDER
from ops.hand_model.fitting import convert_joints

DOMAINS = {"depth": "sensor", "rgb": "photo"}  # the rendered test split of each kind of picture
DOCS = Path(__file__).parent.parent / "docs"
BATCH, TIMED, PICTURED = 25, 12, 6  # samples of a batch, predictions that are timed, hands that are drawn
COLUMNS = {
    "procrustes": "Procrustes, mm",
    "palm": "palm-aligned, mm",
    "auc": "AUC 20-50",
    "absolute": "absolute, mm",
    "mesh": "mesh, Procrustes, mm",
}


class Entrant(NamedTuple):
    """A method with its weights, as one kind of picture is shown to it."""

    name: str  # of the file
    modality: str
    method: HandMethod
    crop: CropRule | None
    image_size: int


class Judged(NamedTuple):
    """What one entrant makes of one set of pictures."""

    entrant: Entrant
    pictures: str  # whose
    figures: dict[str, float | None]
    shown: Shown  # the first hands


def entrants(folder: Path) -> list[Entrant]:
    """All weights of a folder, once for each kind of picture that they read."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"weights {folder}: expected .safetensors files, got none; make weights")
    found = []
    for file in files:
        settings = yaml.safe_load(read_checkpoint(file)["config"])["data"]["init_args"]
        crop = settings.get("crop")
        for modality in DOMAINS:
            if modality in settings["modalities"]:
                method = restore_method(file)
                if hasattr(method, "predict_from"):  # of several modalities: now the one that is shown
                    method.predict_from = [modality]
                entrant = Entrant(file.stem, modality, method, crop and CropRule(**crop), settings["image_size"])
                found.append(entrant)
    return found


def rendered_batches(entrant: Entrant, samples: int) -> Iterable[HandBatch]:
    """Test batches of the domain that shows what the entrant reads."""
    domain = DOMAINS[entrant.modality]
    return HandData({domain: RenderedSource(domain)}, **_settings(entrant), test_size=samples).test_dataloader()


def real_batches(entrant: Entrant, folder: Path) -> Iterable[HandBatch]:
    """Batches of all pictures of the set of Ge et al."""
    return HandData({"ge": Ge(folder)}, **_settings(entrant)).test_dataloader()


def _settings(entrant: Entrant) -> dict[str, Any]:
    return {
        "modalities": [entrant.modality],
        "crop": entrant.crop,
        "image_size": entrant.image_size,
        "batch_size": BATCH,
        "num_workers": 0,
    }


@torch.no_grad()  # a method that refines differentiates inside
def predictions(entrant: Entrant, batches: Iterable[HandBatch]) -> Iterator[tuple[HandBatch, HandPrediction]]:
    """Batches with what is predicted of them."""
    for number, batch in enumerate(batches):
        yield batch, entrant.method.predict_step(batch, number)


def judge(entrant: Entrant, batches: Iterable[HandBatch], pictures: str) -> tuple[Judged, dict[str, float]]:
    """Figures of an entrant, and those of the constant pose that suits these labels best."""
    hands, palm = protocol("freihand"), protocol("rhd-eval-util")
    constant = {alignment: MeanPoseError(alignment) for alignment in ("procrustes", "root", "absolute")}
    absolute, first = True, None
    for batch, prediction in predictions(entrant, batches):
        first = first or (rows_of(batch, range(PICTURED)), prediction)
        absolute = prediction.frame == Frame.ABSOLUTE
        true = as_pictured(batch["joints_3d"], batch["mirrored"])
        joints = in_convention(prediction, batch)
        mesh = (None, None)
        if prediction.vertices is not None and bool(batch["has_mesh"].all()):
            mesh = prediction.vertices, as_pictured(batch["vertices"], batch["mirrored"])
        hands.update(joints, true, *mesh)
        palm.update(joints, true)
        for metric in constant.values():
            metric.update(batch["joints_3d"], batch["joint_valid"], batch["cube_centre"])
    by_hand, by_palm = hands.compute(), palm.compute()
    figures = {
        "procrustes": by_hand["pa_mpjpe_mm"],
        "palm": by_palm["mean_mm"],
        "auc": by_palm["auc_20_50_as_published"],
        "absolute": by_hand["mean_mm"] if absolute else None,
        "mesh": by_hand.get("pa_mpvpe_mm"),
    }
    means = {alignment: round(float(metric.compute()), 2) for alignment, metric in constant.items()}
    means["hands"] = by_hand["frames"]
    return Judged(entrant, pictures, figures, Shown(*first)), means


def in_convention(prediction: HandPrediction, batch: HandBatch) -> Tensor:
    """Predicted joints (B, 21, 3) in the convention of the labels: hands are fitted where it is another."""
    (wanted,) = set(batch["convention"])
    if prediction.convention == wanted:
        return prediction.joints_3d
    return convert_joints(prediction.joints_3d, None, prediction.convention, wanted, prediction.side)[0]


def milliseconds(entrant: Entrant, batch: HandBatch) -> float:
    """Median time to predict one picture on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for number in range(TIMED + 2):
        one = rows_of(batch, [number % len(batch["key"])])
        start = time.perf_counter()
        for _ in predictions(entrant, [one]):
            times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return 1000 * median(times[2:])


def board(found: list[Entrant], samples: int, real: Path | None) -> tuple[list[Judged], dict[str, Any]]:
    """Everything judged, and what belongs to no entrant: the constant pose by set of pictures."""
    judged, constants = [], {}
    for entrant in found:
        sets = {f"{DOMAINS[entrant.modality]} (rendered)": rendered_batches(entrant, samples)}
        if real is not None and entrant.modality == "rgb":
            sets["Ge et al. (real)"] = real_batches(entrant, real)
        for pictures, batches in sets.items():
            print(f"{entrant.name} on {pictures}", flush=True)
            result, constants[pictures] = judge(entrant, batches, pictures)
            judged.append(result)
    return judged, constants


def cells(judged: Judged, speed: dict[tuple[str, str], float]) -> list[str]:
    """A row of the table."""
    digits = {name: 2 if name == "auc" else 1 for name in COLUMNS}
    figures = {name: judged.figures[name] for name in COLUMNS}
    shown = ["" if value is None else f"{value:.{digits[name]}f}" for name, value in figures.items()]
    entrant = judged.entrant
    parameters = sum(p.numel() for p in entrant.method.parameters()) / 1e6
    return [entrant.name, *shown, f"{speed[entrant.name, entrant.modality]:.0f}", f"{parameters:.2f}"]


def markdown(judged: list[Judged], constants: dict[str, Any], speed: dict[tuple[str, str], float]) -> str:
    """docs/board.md."""
    head = ["weights", *COLUMNS.values(), "ms", "parameters, M"]
    lines = [
        "# The board: all methods side by side",
        "",
        f"Made by `python -m benchmarks.board --save`, commit {commit()}, on {machine()['cpu']}, one core. Weights and "
        "what they were trained on: [weights/](../weights). Same hands for all, crops as each method wants them; "
        "protocols `freihand` (Procrustes; absolute) and `rhd-eval-util` (palm at the origin, AUC of 21.05 to 50 mm): "
        "[evaluation.md](evaluation.md). No figure where a method has no mesh or does not say where the hand is.",
    ]
    for pictures in dict.fromkeys(each.pictures for each in judged):
        rows = [each for each in judged if each.pictures == pictures]
        means = constants[pictures]
        count = f"{means['hands']} hands"
        lines += ["", f"## {pictures}, {count}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(cells(row, speed)) + " |" for row in rows]
        constant = [
            f"{means['procrustes']:.1f}",
            f"{means['root']:.1f} (wrist-aligned)",
            "",
            f"{means['absolute']:.1f}",
        ]
        lines += ["| " + " | ".join(["constant pose", *constant, *[""] * (len(head) - 5)]) + " |"]
        if "rendered" in pictures:
            picture = board_picture(pictures)
            lines += ["", f"![inputs with true joints, then what each method predicts]({picture.name})"]
    return "\n".join(lines) + "\n"


def board_picture(pictures: str) -> Path:
    """The file of the drawings of a set of rendered pictures."""
    return DOCS / f"board_{pictures.split()[0]}.png"


def save(judged: list[Judged], constants: dict[str, Any], speed: dict[tuple[str, str], float]) -> None:
    """docs/board.md with its pictures, and the page of real pictures."""
    (DOCS / "board.md").write_text(markdown(judged, constants, speed))
    for pictures in constants:
        shown = {each.entrant.name: each.shown for each in judged if each.pictures == pictures}
        if "rendered" in pictures:
            draw_board(board_picture(pictures), shown)
        else:
            page = Path("runs/board/real.html")
            page.parent.mkdir(parents=True, exist_ok=True)
            write_real_page(page, shown)
            print(f"wrote {page}", file=sys.stderr)  # a benchmark's last line is its figures


def main() -> None:
    """Judge, print, and write the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=FOLDER, help="folder of .safetensors (default: weights/)")
    parser.add_argument("--samples", type=int, default=500, help="rendered test hands of each domain")
    parser.add_argument("--real", type=Path, help="folder of the real-world set of Ge et al.; none: no real pictures")
    parser.add_argument("--save", action="store_true", help="write docs/board.md, its pictures, and the JSON")
    arguments = parser.parse_args()
    try:
        found = entrants(arguments.weights)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    judged, constants = board(found, arguments.samples, arguments.real)
    speed = {}
    for entrant in found:
        speed[entrant.name, entrant.modality] = milliseconds(entrant, next(iter(rendered_batches(entrant, PICTURED))))
    table = Table("pictures", "weights", *COLUMNS.values(), "ms", "parameters, M", title="board")
    figures: dict[str, float | None] = {}
    for each in judged:
        table.add_row(each.pictures, *cells(each, speed))
        where = f"{each.entrant.name}_{each.pictures.split()[0].lower()}"
        figures |= {f"{where}_{name}": value for name, value in each.figures.items()}
        figures[f"{where}_ms"] = round(speed[each.entrant.name, each.entrant.modality], 2)
    emit("board", figures, table, arguments.save)  # before what it draws makes the checkout another
    if arguments.save:
        save(judged, constants, speed)


if __name__ == "__main__":
    main()
