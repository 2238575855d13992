"""Rendered hands on the fly: a LightningDataModule over one domain or a mixture, and a sheet of what training sees.

python -m datamodules.rendered --picture sheet.png --domain sensor --split train
"""

import argparse
import ctypes
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import lightning
import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.batch import HandBatch
from datamodules.domains import DOMAINS, SPLITS, Split
from datamodules.hand_sampler import HandSampler, join
from datamodules.rendering import MODALITIES, HandRenderer, Modality
from datamodules.sampler import BatchKey, EpochSampler, ResumableLoader
from datamodules.sheet import draw_sheet
from ops.checks import check_choice
from ops.hand_model import open_hand
from ops.joints import UNLABELLED

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
Hidable = Literal["parts", "mask", "mesh", "3d", "2d"]
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
HIDABLE: dict[Hidable, str] = {
    "parts": "parts",
    "mask": "mask",
    "mesh": "vertices",
    "3d": "joints_3d",
    "2d": "joints_2d",
}


class ParameterBatch(dict):
    """What a worker hands over when pictures are made on the device: `parameters`, `domain`, `key`."""


class RenderedHands(Dataset):
    """Batches of one split by `BatchKey`, of one domain or several.

    Args:
        samplers: one per domain.
        renderer: makes the pictures; None leaves that to the device.
        seed: of the training samples.
        split: train, val or test.
        weights: shares of the domains, kept in every batch as nearly as can be. None puts the domains one after
            another, `block` samples each.
        block: samples per domain where there are no weights.
        hide: per domain, the labels a method must not see.
    """

    def __init__(
        self,
        samplers: Sequence[HandSampler],
        renderer: HandRenderer | None,
        seed: int,
        split: Split,
        weights: Sequence[float] | None = None,
        block: int = 1,
        hide: Mapping[str, Sequence[Hidable]] | None = None,
    ) -> None:
        self.samplers = list(samplers)
        self.renderer = renderer
        self.seed, self.split = seed, split
        self.hide = hide or {}
        self._edges = None if weights is None else np.cumsum(weights) / np.sum(weights)
        self._block = block

    def __getitem__(self, key: BatchKey) -> HandBatch | ParameterBatch:
        batch = self._draw(key)
        return batch if self.renderer is None else finish_batch(batch, self.renderer, self.hide)

    def _draw(self, key: BatchKey) -> ParameterBatch:
        source, indices = self._sources(key.indices)
        drawn, order, names, keys = [], [], [], []
        for number, sampler in enumerate(self.samplers):
            (places,) = np.nonzero(source == number)
            if len(places):
                which = (self.seed, self.split, key.epoch, indices[places])
                drawn.append(sampler.sample(*which))
                order.append(places)
                names += [sampler.domain.name] * len(places)
                keys += sampler.record_names(*which)
        back = np.argsort(np.concatenate(order))
        return ParameterBatch(
            parameters=join(drawn, back), domain=[names[i] for i in back], key=[keys[i] for i in back]
        )

    def _sources(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The domain that each index belongs to, and the index within it."""
        if self._edges is None:
            return indices // self._block, indices % self._block
        return np.searchsorted(self._edges, _radical_inverse(indices), side="right"), indices


def finish_batch(
    batch: ParameterBatch, renderer: HandRenderer, hide: Mapping[str, Sequence[Hidable]] | None = None
) -> HandBatch:
    """Render the parameters of a batch where they lie, and hide what a domain does not show."""
    finished = renderer(batch["parameters"])
    finished.update(domain=batch["domain"], key=batch["key"])
    for domain, labels in (hide or {}).items():
        rows = torch.tensor([name == domain for name in batch["domain"]], device=finished["K"].device)
        for label in labels:
            finished[f"has_{label}"] = finished[f"has_{label}"] & ~rows
            if HIDABLE[label] in finished:
                finished[HIDABLE[label]][rows] = UNLABELLED if label == "parts" else 0
    return finished


class RenderedHandsData(lightning.LightningDataModule):
    """Rendered hands for training, validation and test.

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
    ) -> None:
        super().__init__()
        self.weights = {domains: 1.0} if isinstance(domains, str) else dict(domains)
        self.evaluate_on = list(self.weights) if evaluate_on is None else list(evaluate_on)
        self.batch_size, self.epoch_size = batch_size, epoch_size
        self.sizes: dict[Split, int] = {"val": val_size, "test": test_size}
        self.num_workers, self.seed, self.render_on = num_workers, seed, render_on
        self.hide = hide or {}
        self._check(modalities)
        self.model = open_hand()
        self.renderer = HandRenderer(self.model, image_size, modalities, convention)
        self._samplers = {
            name: HandSampler(DOMAINS[name], self.model, left_share) for name in {*self.weights, *self.evaluate_on}
        }

    def _check(self, modalities: Sequence[Modality]) -> None:
        for name in (*self.weights, *self.evaluate_on, *self.hide):
            check_choice("domain", name, DOMAINS)
        for name in modalities:
            check_choice("modalities", name, MODALITIES)
        for labels in self.hide.values():
            for label in labels:
                check_choice("hide", label, HIDABLE)
        check_choice("render_on", self.render_on, ("worker", "device"))
        for name, size in (("batch_size", self.batch_size), ("epoch_size", self.epoch_size)):
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        if not self.weights or min(self.weights.values()) <= 0:
            raise ValueError(f"domains: expected names with positive shares, got {self.weights}")
        for split, size in self.sizes.items():
            for name in self.evaluate_on:
                frames = DOMAINS[name].split(split).frames
                if not 1 <= size <= frames:
                    raise ValueError(
                        f"{split}_size: {name}/{split} has {frames} frames, got {size}; take 1 to {frames}"
                    )

    def train_dataloader(self) -> ResumableLoader:
        """Training batches; the loader's place in the epoch is part of Lightning's checkpoints."""
        dataset = RenderedHands(
            [self._samplers[name] for name in self.weights],
            self._worker_renderer,
            self.seed,
            "train",
            weights=list(self.weights.values()),
            hide=self.hide,
        )
        sampler = EpochSampler(self.epoch_size, self.batch_size, self._rank, self._ranks)
        return self._loader(dataset, sampler, self._batches_done if self.trainer else None)

    def val_dataloader(self) -> ResumableLoader:
        """Validation batches of all domains of `evaluate_on`, every label shown."""
        return self._evaluation("val")

    def test_dataloader(self) -> ResumableLoader:
        """Test batches of all domains of `evaluate_on`, every label shown."""
        return self._evaluation("test")

    def on_after_batch_transfer(self, batch: HandBatch | ParameterBatch, dataloader_idx: int) -> HandBatch:
        """Render on the device what the workers only drew."""
        if not isinstance(batch, ParameterBatch):
            return batch
        self.renderer.to(batch["parameters"].pose.device)
        training = self.trainer is not None and self.trainer.training
        return finish_batch(batch, self.renderer, self.hide if training else None)

    def _evaluation(self, split: Split) -> ResumableLoader:
        size = self.sizes[split]
        samplers = [self._samplers[name] for name in self.evaluate_on]
        dataset = RenderedHands(samplers, self._worker_renderer, self.seed, split, block=size)
        order = EpochSampler(size * len(samplers), self.batch_size, self._rank, self._ranks, training=False)
        return self._loader(dataset, order)

    def _loader(
        self, dataset: RenderedHands, sampler: EpochSampler, done: Callable[[], int] | None = None
    ) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            sampler,
            done,
            pack=_without_mask,
            unpack=_with_mask,
            num_workers=self.num_workers,
            worker_init_fn=_prepare_worker,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _batches_done(self) -> int:
        # processed counts a batch once its optimiser step is done: a signal in mid-step has it done again
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.processed

    @property
    def _worker_renderer(self) -> HandRenderer | None:
        return self.renderer if self.render_on == "worker" else None

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    @property
    def _ranks(self) -> int:
        return self.trainer.world_size if self.trainer else 1


def _radical_inverse(index: np.ndarray) -> np.ndarray:
    """Van der Corput's sequence (B,): the bits of the index mirrored at the binary point."""
    bits = (index[:, None] >> np.arange(32)) & 1
    return bits @ 0.5 ** np.arange(1, 33)


def _without_mask(batch: HandBatch | ParameterBatch) -> HandBatch | ParameterBatch:
    """Workers send no mask where depth says the same: fresh shared memory costs more than a comparison."""
    if "depth" in batch:
        del batch["mask"]
    return batch


def _with_mask(batch: HandBatch | ParameterBatch) -> HandBatch | ParameterBatch:
    if "depth" in batch:
        batch["mask"] = ((batch["depth"] > 0) & batch["has_mask"][:, None, None, None]).float()
    return batch


def _prepare_worker(worker: int) -> None:
    """One thread, since a worker per core leaves no core for a worker's threads; and memory that is kept."""
    torch.set_num_threads(1)
    if platform.libc_ver()[0] == "glibc":
        # else every picture's memory goes back to the system and comes again page by page: a third of the time
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)


def main() -> None:
    """Draw a sheet of samples."""
    parser = argparse.ArgumentParser(description="Draw what training sees: depth, parts, mask, joints and mesh.")
    parser.add_argument("--picture", type=_picture_to_write, required=True, help="PNG or JPEG to write")
    parser.add_argument("--domain", choices=DOMAINS, default="clean")
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--count", type=_at_least_one, default=24, help="hands on the sheet")
    parser.add_argument("--size", type=_at_least_one, default=128, help="side of a picture, pixels")
    arguments = parser.parse_args()
    try:
        _draw(arguments)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _draw(arguments: argparse.Namespace) -> None:
    model = open_hand()
    dataset = RenderedHands(
        [HandSampler(DOMAINS[arguments.domain], model)],
        HandRenderer(model, arguments.size),
        arguments.seed,
        arguments.split,
        block=arguments.count,
    )
    batch = dataset[BatchKey(arguments.epoch, np.arange(arguments.count))]
    draw_sheet(batch, torch.from_numpy(model.faces), arguments.picture)
    print(
        f"{arguments.count} hands of {arguments.domain}/{arguments.split}, seed {arguments.seed}: {arguments.picture}"
    )


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
