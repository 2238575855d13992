"""Rendered hands on the fly: a LightningDataModule over one domain or a mixture, and a sheet of what training sees.

python -m datamodules.rendered --picture sheet.png --domain sensor --split train
python -m datamodules.rendered write <folder> --domain clean --count 1000000        # a set on disk; also: verify
"""

import argparse
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from datamodules.augmentation import Augmentation
from datamodules.cropping import CropRule
from datamodules.domains import DOMAINS, SPLITS
from datamodules.hand_data import HandData
from datamodules.hand_sampler import HandSampler
from datamodules.mixing import Mixture
from datamodules.rendered_write import main as write_main
from datamodules.rendering import MODALITIES, HandRenderer, Modality
from datamodules.sampler import BatchKey
from datamodules.shares import InTurn
from datamodules.sheet import draw_sheet
from datamodules.sources import Hidable, RenderedRecords, RenderedSource
from datamodules.transforms import as_pictured
from ops.hand_model import open_hand

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class RenderedHandsData(HandData):
    """Rendered hands alone: `HandData` with a source per domain.

    Args:
        domains: name of a domain, or names with their shares in every training batch: {clean: 0.5, sensor: 0.5}.
        batch_size: samples per batch and rank.
        epoch_size: training samples per epoch, of all ranks together.
        val_size: validation samples per domain.
        test_size: test samples per domain.
        evaluate_on: domains to validate and test on, one after another; None takes those of training.
        image_size: side of the square crop, pixels.
        num_workers: processes that make batches; 0 makes them in the training process.
        seed: of the training samples; validation and test samples never change.
        modalities: pictures to make, of depth, parts, rgb.
        render_on: "worker" renders in the workers on the CPU; "device" lets workers only draw parameters and renders
            batches where the model is.
        left_share: share of left hands, which arrive mirrored, as right hands.
        hide: labels hidden from training, per domain: {sensor: [mesh, parts]} leaves joints only.
        convention: joint convention of the labels.
        backgrounds: folder of pictures to stand behind hands of the domain photo; None draws rooms.
        crop: how pictures are cut, by a cube unless this says squares.
        augment: changes of training batches; None leaves them.
        frames: of training sets that have no end, the same in every epoch; None shows new ones without end.
    """

    def __init__(
        self,
        domains: str | dict[str, float] = "clean",
        batch_size: int = 64,
        epoch_size: int = 50_000,
        val_size: int = 1_000,
        test_size: int = 2_000,
        evaluate_on: list[str] | None = None,
        image_size: int = 128,
        num_workers: int = 2,
        seed: int = 0,
        modalities: list[Modality] | tuple[Modality, ...] = ("depth", "parts"),
        render_on: Literal["worker", "device"] = "worker",
        left_share: float = 0.0,
        hide: dict[str, list[Hidable]] | None = None,
        convention: str = "open",
        backgrounds: str | None = None,
        crop: CropRule | None = None,
        augment: Augmentation | None = None,
        frames: int | None = None,
    ) -> None:
        shares = {domains: 1.0} if isinstance(domains, str) else dict(domains)
        if not shares or min(shares.values()) <= 0:
            raise ValueError(f"domains: expected names with positive shares, got {shares}")
        names = dict.fromkeys([*shares, *(evaluate_on or ())])
        super().__init__(
            {name: RenderedSource(name, left_share, frames=frames) for name in names},
            {name: share / sum(shares.values()) for name, share in shares.items()},
            evaluate_on=evaluate_on,
            batch_size=batch_size,
            epoch_size=epoch_size,
            val_size=val_size,
            test_size=test_size,
            image_size=image_size,
            num_workers=num_workers,
            seed=seed,
            modalities=modalities,
            convention=convention,
            backgrounds=backgrounds,
            crop=crop,
            render_on=render_on,
            hide=hide,
            augment=augment,
        )


def main() -> None:
    """Draw a sheet of samples, or write a set of them."""
    if sys.argv[1:2] in (["write"], ["verify"]):
        sys.exit(write_main(sys.argv[1:]))
    parser = argparse.ArgumentParser(
        description="Draw what training sees: depth, parts, mesh, joints on colours. `write --help` writes sets of it."
    )
    parser.add_argument("--picture", type=_picture_to_write, required=True, help="PNG or JPEG to write")
    parser.add_argument("--domain", choices=DOMAINS, default="clean")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--count", type=_at_least_one, default=24, help="hands on the sheet")
    parser.add_argument("--left", type=float, default=0.5, help="share of left hands, shown as the camera saw them")
    parser.add_argument("--size", type=_at_least_one, default=128, help="side of a picture, pixels")
    arguments = parser.parse_args()
    try:
        _draw(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _draw(arguments: argparse.Namespace) -> None:
    model = open_hand()
    sampler = HandSampler(DOMAINS[arguments.domain], model, arguments.left)
    records = RenderedRecords(arguments.domain, sampler, arguments.seed, arguments.split, MODALITIES)
    dataset = Mixture([records], InTurn([arguments.count]), HandRenderer(model, arguments.size, MODALITIES))
    batch = dataset[BatchKey(arguments.epoch, np.arange(arguments.count))]
    draw_sheet(as_pictured(batch), torch.from_numpy(model.faces), arguments.picture)
    left, what = int(batch["mirrored"].sum()), f"{arguments.domain}/{arguments.split}, seed {arguments.seed}"
    print(f"{arguments.count} hands of {what}, {left} of them left: {arguments.picture}")


def _picture_to_write(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in _PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(f"expected a name ending in {', '.join(_PICTURE_SUFFIXES)}, got '{text}'")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent}: no such folder; create it first")
    return path


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


if __name__ == "__main__":
    main()
