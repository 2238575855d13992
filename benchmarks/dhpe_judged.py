"""How good a DHPE checkpoint is, iteration by iteration of its refinement at test time: joints and masks.

    python -m benchmarks.dhpe_judged CHECKPOINT [--pictures 100] [--real FOLDER] [--refine 50] [--centre box]

In domain on the photo domain's test split, out of it on the real-world pictures of Ge et al. (CVPR 2019), whose joints
are compared in the convention `ge` that was calibrated on half of that set's labels.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.experiment_runs import Figures
from benchmarks.report import emit
from datamodules.batch import HandBatch
from datamodules.cropping import CropRule
from datamodules.ge import Ge
from datamodules.hand_data import HandData
from datamodules.sources import RenderedSource
from lightning_modules.dhpe import DHPE
from lightning_modules.metrics import MeanPoseError, PointError
from lightning_modules.normalised_hand import NormalisedHand, in_camera
from lightning_modules.protocols.segmentation import Segmentation
from lightning_modules.restore import restore_method

ALIGNMENTS = ("root", "procrustes")
MASK_MEASURES = ("per_pixel_pct", "per_class_pct", "mean_iou_pct", "frequency_weighted_iou_pct")  # of table 2
SHOWN = (0, 1, 2, 5, 10, 20, 30, 40, 50)  # iterations of refinement that are judged
_BATCH = 25
CENTRES = ("root", "box")  # of the crops: the knuckle's labels, as in training; the joints' box, as users give it


def photo_pictures(pictures: int, size: int, centre: str = "root") -> Iterable[HandBatch]:
    """Batches of the photo domain's test split."""
    return _test_batches(HandData({"photo": RenderedSource("photo")}, **_settings(size, centre), test_size=pictures))


def real_pictures(folder: Path, size: int, centre: str = "root") -> Iterable[HandBatch]:
    """Batches of all pictures of the set of Ge et al. in a folder."""
    return _test_batches(HandData({"ge": Ge(folder)}, **_settings(size, centre)))


def _settings(size: int, centre: str) -> dict[str, object]:
    crop = CropRule(around="square", square=1.5, centre=centre)  # the rest as configs/dhpe_*.yaml have it
    return {"modalities": ["rgb"], "crop": crop, "image_size": size, "batch_size": _BATCH, "num_workers": 0}


def _test_batches(data: HandData) -> Iterable[HandBatch]:
    return data.test_dataloader()


def judged(method: DHPE, batches: Iterable[HandBatch]) -> Figures:
    """Figures of a method in evaluation mode.

    Returns:
        `pictures`; `mean_pose_<alignment>_mm`; for `joints_<alignment>_mm` lists over the iterations SHOWN that the
        method makes; and, where pictures have masks, `<measure>` before and after refinement, two numbers each.
    """
    shown = [step for step in SHOWN if step <= method.hparams.refinement_steps]
    errors = {alignment: [PointError(alignment) for _ in shown] for alignment in ALIGNMENTS}
    constant = {alignment: MeanPoseError(alignment) for alignment in ALIGNMENTS}
    masks = [Segmentation(), Segmentation()]
    pictures = masked = 0
    for batch in batches:
        pictures += len(batch["key"])
        masked += int(batch["has_mask"].sum())
        valid = batch["joint_valid"] & batch["has_3d"][:, None]
        hands = refined_hands(method, batch, shown)
        for i, hand in enumerate(hands):
            joints = camera_joints(method, hand, batch)
            for alignment in ALIGNMENTS:
                errors[alignment][i].update(joints, batch["joints_3d"], valid)
        for alignment in ALIGNMENTS:
            constant[alignment].update(batch["joints_3d"], valid, batch["cube_centre"])
        if batch["has_mask"].any():
            for metric, hand in zip(masks, (hands[0], hands[-1]), strict=True):
                score_masks(metric, method, hand, batch)
    figures: Figures = {"pictures": pictures}
    for alignment in ALIGNMENTS:
        figures[f"joints_{alignment}_mm"] = [round(float(metric.compute()), 3) for metric in errors[alignment]]
        figures[f"mean_pose_{alignment}_mm"] = round(float(constant[alignment].compute()), 3)
    if masked:
        found = [metric.figures() for metric in masks]
        figures |= {measure: [each[measure] for each in found] for measure in MASK_MEASURES}
    return figures


def refined_hands(method: DHPE, batch: HandBatch, steps: list[int]) -> list[NormalisedHand]:
    """The hands of a batch after each of these numbers of iterations."""
    with torch.no_grad():
        estimate = method(batch["rgb"], batch["K"])
    path = method.refine(estimate, batch, keep_path=True).path
    with torch.no_grad():
        return [method.projection(path[step], estimate.hand.view) for step in steps]


def camera_joints(method: DHPE, hand: NormalisedHand, batch: HandBatch) -> torch.Tensor:
    """Joints (B, 21, 3), metres, camera frame, in the convention of the labels."""
    joints = method.projection.joints_in(hand, batch["convention"])
    return in_camera(joints, method.distance(hand, batch), batch["K"], batch["rgb"].shape[-1])


@torch.no_grad()
def score_masks(metric: Segmentation, method: DHPE, hand: NormalisedHand, batch: HandBatch) -> None:
    """Add rendered masks, cut at one half, against the true ones, as two classes that both count."""
    rows = batch["has_mask"]
    found, true = method.silhouette(hand, batch["rgb"].shape[-1]), batch["mask"]
    # label 0 would be left out: the background is class 1 here, the hand 2
    metric.update(*(1 + (mask[rows, 0] > 0.5).to(torch.uint8) for mask in (found, true)))


def main() -> None:
    """Judge a checkpoint and print its figures; nothing is kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="of DHPE, or weights of it")
    parser.add_argument("--pictures", type=int, default=100, help="of the photo domain's test split")
    parser.add_argument("--real", type=Path, help="folder of Ge et al.'s real-world test set")
    parser.add_argument("--refine", type=int, help="iterations of refinement (default: the checkpoint's)")
    parser.add_argument("--centre", choices=CENTRES, default=CENTRES[0], help="of the crops: labelled knuckle or box")
    arguments = parser.parse_args()
    method = restore_method(arguments.checkpoint)
    if arguments.refine is not None:
        method.hparams.refinement_steps = arguments.refine
    sources = {"photo": photo_pictures(arguments.pictures, method.crop_size, arguments.centre)}
    if arguments.real is not None:
        sources["real"] = real_pictures(arguments.real, method.crop_size, arguments.centre)
    figures: Figures = {}
    for name, batches in sources.items():
        figures |= {f"{name}: {figure}": value for figure, value in judged(method, batches).items()}
    table = Table("what", "figure", title=f"iterations of refinement: {', '.join(map(str, SHOWN))}")
    for name, value in figures.items():
        table.add_row(name, " ".join(f"{each:.2f}" for each in (value if isinstance(value, list) else [value])))
    emit("dhpe_judged", figures, table, save=False)


if __name__ == "__main__":
    main()
