"""A cross-modal VAE that was trained on rendered hands, on photographs of real ones that nothing was chosen on.

    python -m benchmarks.vae_real_pictures --ckpt <checkpoint> --pictures <Ge et al.'s real-world test set> [--save]

Pictures are cut by a cube around the labelled joints, as the rendered ones are; left hands come mirrored. Predictions
are converted to the labels' joint convention by fitted hands. Without the pictures there is nothing to measure.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.report import emit
from datamodules.batch import HandBatch
from datamodules.cropping import CropRule, crop_frames
from datamodules.ge import Ge
from lightning_modules.figures import JointFigures
from lightning_modules.restore import restore_method
from lightning_modules.vae_figures import PaperFigures
from ops.hand_model.fitting import convert_joints

IMAGE_SIZE = 128
SHOWN = ("joints_root_mm", "joints_procrustes_mm", "mean_pose_root_mm", "mean_pose_procrustes_mm")


def photographs(folder: Path) -> HandBatch:
    """All labelled pictures of the test set."""
    frames = Ge(folder).frames("test")
    batch = crop_frames([frames.frame(i) for i in range(len(frames))], CropRule(around="cube"), IMAGE_SIZE)
    return HandBatch(**batch, domain=["ge"] * len(frames), convention=[frames.convention] * len(frames))


@torch.no_grad()
def measure(checkpoint: Path, batch: HandBatch) -> dict[str, float]:
    """Errors of joints from colours, mm; of the constant pose that suits these labels best, too."""
    method = restore_method(checkpoint)
    if "rgb" not in getattr(method, "encoders", {}) or "3d" not in method.decoders:
        raise ValueError(f"checkpoint {checkpoint}: expected a cross-modal VAE from rgb to 3d, trained on both")
    method.predict_from = ["rgb"]
    said = method.predict_step(batch, 0)
    joints = convert_joints(said.joints_3d, None, said.convention, batch["convention"][0], said.side)[0].float()
    # labels come mirrored, predictions as pictured
    joints = torch.where(batch["mirrored"][:, None, None], joints * torch.tensor([-1.0, 1.0, 1.0]), joints)
    figures, paper = JointFigures("test"), PaperFigures("test")
    found = {name: float(metric.compute()) for name, metric in figures.update(joints, batch).items()}
    paper.update_joints(joints, batch["joints_3d"], batch["joint_valid"])
    found |= {name: float(value) for name, value in paper.errors_from_palm().items()}
    return {name.removeprefix("test/"): round(value, 3) for name, value in found.items() if "absolute" not in name}


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of Ge et al.'s real-world test set")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/vae_real_pictures.json")
    arguments = parser.parse_args()
    if not arguments.pictures.is_dir():
        raise SystemExit(f"vae_real_pictures: skipped: no pictures in {arguments.pictures}")
    batch = photographs(arguments.pictures)
    figures: dict[str, float | str] = measure(arguments.ckpt, batch)
    table = Table(f"{len(batch['key'])} photographs of real hands", "")
    for name, value in figures.items():
        table.add_row(name, f"{value}")
    figures |= {"checkpoint_sha256": hashlib.sha256(arguments.ckpt.read_bytes()).hexdigest()[:16]}
    emit("vae_real_pictures", figures, table, arguments.save)


if __name__ == "__main__":
    main()
