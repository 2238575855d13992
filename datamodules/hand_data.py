"""One LightningDataModule over any sources: datasets and rendered hands, alone or mixed."""

import ctypes
import platform
import signal
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import cv2
import lightning
import numpy as np
import torch

from datamodules.augmentation import Augmentation, augment
from datamodules.batch import HandBatch
from datamodules.cropping import CropRule
from datamodules.domains import Split
from datamodules.frames import Flag, HandFrames, HandSource, digest
from datamodules.label_arrays import label_arrays
from datamodules.mixing import Mixture, finish_batch, mesh_conflict
from datamodules.photo_scene import PictureFolder
from datamodules.rendering import MODALITIES, HandRenderer, Modality
from datamodules.sampler import EpochSampler, ResumableLoader
from datamodules.shares import InTurn, Per, Shares, Weight, check_weights
from datamodules.sources import (
    HIDABLE,
    BadSamples,
    FrameRecords,
    Hidable,
    ParameterBatch,
    RenderedRecords,
    RenderedSource,
)
from datamodules.transfer import compact, restore, unit_floats
from ops.checks import check_choice
from ops.hand_model import open_hand

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
_BAD = "bad samples"  # how workers report them; taken out again before anyone sees the batch


class HandData(lightning.LightningDataModule):
    """Hands of several sources for training, validation and test.

    Args:
        sources: datasets and rendered domains, by the name that batches carry as `domain`.
        weights: share of each source in training, {nyu: 0.9, clean: 0.1}, or shares by epoch, {augmented: {0: 0.0,
            10: 0.3}, rhd: {0: 1.0, 10: 0.7}}, summing to 1; "by size" mixes sources as if they were one set. None
            takes all sources in equal shares. Sources that are not named are for evaluation.
        per: keep the shares in every "batch", or in the "epoch".
        evaluate_on: sources to validate and test on, one after another; None takes those of training.
        batch_size: samples per batch and rank.
        epoch_size: training samples per epoch, of all ranks together; None takes all records once.
        val_size: validation samples per source, evenly spaced; None takes all.
        test_size: test samples per source, evenly spaced; None takes all.
        image_size: side of the square crop, pixels.
        num_workers: processes that make batches; 0 makes them in the training process.
        seed: of the order, jitter and rendered hands of training; validation and test samples never change.
        modalities: pictures that rendered sources make, of depth, parts, rgb.
        convention: joint convention of rendered labels.
        backgrounds: folder of pictures to stand behind hands of the domain photo; None draws rooms.
        render_on: "worker" renders in the workers on the CPU; "device" lets workers only draw parameters and renders
            batches where the model is.
        hide: labels hidden from training, per source: {sensor: [mesh, parts]} leaves joints only.
        crop: how frames of datasets are cut; rendered hands, too, where it is by squares.
        augment: changes of training batches; None leaves them.
        max_bad_samples: records of an epoch that may be unusable: they are replaced, counted and reported. Evaluation
            allows none.
    """

    def __init__(
        self,
        sources: dict[str, HandSource],
        weights: dict[str, Weight] | Literal["by size"] | None = None,
        per: Per = "batch",
        evaluate_on: list[str] | None = None,
        batch_size: int = 64,
        epoch_size: int | None = 50_000,
        val_size: int | None = 1_000,
        test_size: int | None = None,
        image_size: int = 128,
        num_workers: int = 2,
        seed: int = 0,
        modalities: list[Modality] | tuple[Modality, ...] = ("depth", "parts"),
        convention: str = "open",
        backgrounds: str | None = None,
        render_on: Literal["worker", "device"] = "worker",
        hide: dict[str, list[Hidable]] | None = None,
        crop: CropRule | None = None,
        augment: Augmentation | None = None,
        max_bad_samples: int = 0,
    ) -> None:
        super().__init__()
        if not sources:
            raise ValueError("sources: expected at least one, by name, got none")
        self.sources = dict(sources)
        self.weights = {name: 1 / len(sources) for name in sources} if weights is None else weights
        self.per = per
        self.train_on = list(self.sources if self.weights == "by size" else self.weights)
        self.evaluate_on = list(self.train_on if evaluate_on is None else evaluate_on)
        self.batch_size, self.epoch_size, self.image_size = batch_size, epoch_size, image_size
        self.sizes: dict[Split, int | None] = {"val": val_size, "test": test_size}
        self.num_workers, self.seed, self.render_on = num_workers, seed, render_on
        self.modalities, self.hide = tuple(modalities), hide or {}
        self.crop, self.augmentation = crop or CropRule(), augment
        self.bad_samples = BadSamples(max_bad_samples)
        self._check()
        self._frames: dict[tuple[str, Split], HandFrames] = {}
        rendered = {name: source for name, source in self.sources.items() if isinstance(source, RenderedSource)}
        self.model = open_hand() if rendered else None
        behind = PictureFolder(backgrounds) if backgrounds else None
        if behind and not any(source.domain.photo for source in rendered.values()):
            raise ValueError(
                "backgrounds: stand behind hands of the domain photo alone, and no source is; leave it out"
            )
        look = self.modalities, convention, behind, self.crop
        self.renderer = HandRenderer(self.model, image_size, *look) if rendered else None
        self._samplers = {name: source.sampler(self.model) for name, source in rendered.items()}

    def _check(self) -> None:
        for word, names in (("weights", self.train_on), ("evaluate_on", self.evaluate_on), ("hide", self.hide)):
            for name in names:
                check_choice(word, name, self.sources)
        for labels in self.hide.values():
            for label in labels:
                check_choice("hide", label, HIDABLE)
        for name in self.modalities:
            check_choice("modalities", name, MODALITIES)
        check_choice("render_on", self.render_on, ("worker", "device"))
        if self.weights != "by size":
            check_weights(self.weights, self.train_on)
        for name in ("batch_size", "epoch_size", "image_size"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name}: expected at least 1, got {size}")
        for split, size in self.sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"{split}_size: expected at least 1, got {size}")
            for name in self.evaluate_on:
                source = self.sources[name]
                if isinstance(source, RenderedSource):  # datasets are opened later
                    self._evaluation_size(name, split, source.domain.split(split).frames)

    # -- before a run

    def setup(self, stage: str) -> None:
        """Open what the stage reads, and refuse what its experiment cannot use."""
        if stage not in _SPLITS:
            return
        if stage == "fit":
            self._training_mixture()
        for split in _SPLITS[stage][-1:]:
            self._evaluation_mixture(split)
        module = self.trainer.lightning_module if self.trainer else None
        needs: dict[str, Sequence[Flag]] | None = getattr(module, "source_needs", None)
        if needs is not None:
            self._check_needs(needs, type(module).__name__, stage)
        for name in getattr(module, "report_domains", ()):
            check_choice("model.report_domains", name, self.evaluate_on)
        if stage == "fit":
            self._check_meshes()

    def _check_needs(self, needs: dict[str, Sequence[Flag]], method: str, stage: str) -> None:
        training = self._training_mixture().sources if stage == "fit" else []
        shown = {source.name: source.provides - set(self.hide.get(source.name, ())) for source in training}
        evaluated = {source.name: source.provides for source in self._evaluation_mixture(_SPLITS[stage][-1]).sources}
        for use, sources in (("train", shown), ("evaluate", evaluated)):
            for name, provides in sources.items():
                for flag in needs["every"]:
                    if flag not in provides:
                        raise ValueError(
                            f"source '{name}': {method} needs '{flag}' from every source to {use} on, and it gives "
                            f"{_listed(provides)}{self._hint(name, flag)}"
                        )
        for flag in needs["some"] if training else ():
            if not any(flag in provides for provides in shown.values()):
                given = "; ".join(f"'{name}' gives {_listed(provides)}" for name, provides in shown.items())
                raise ValueError(
                    f"sources: {method} needs '{flag}' from at least one to train on, but {given}; add one that has "
                    "it, or turn the loss that needs it off"
                )

    def _hint(self, name: str, flag: str) -> str:
        if flag in self.hide.get(name, ()):
            return f" (data.hide hides it); show it, or leave '{name}' out"
        if isinstance(self.sources[name], RenderedSource) and flag in MODALITIES:
            return f"; add '{flag}' to data.modalities"
        return f"; leave it out of data.weights and data.evaluate_on, or take a method that does without '{flag}'"

    def _check_meshes(self) -> None:
        """Meshes of one mixture are of one hand model."""
        meshes: dict[tuple[int, str], tuple[str, str]] = {}
        for source in self._training_mixture().sources:
            if "mesh" not in source.provides - set(self.hide.get(source.name, ())):
                continue
            if isinstance(source, RenderedRecords):
                count, model = len(self.model.v_template), self.model.id
            else:
                first = source.frames.labels(0)
                count, model = len(first.vertices), first.hand_model
            meshes[count, model] = source.name, f"'{source.name}' ({count} vertices of hand model '{model}')"
        if len(meshes) > 1:
            raise ValueError(mesh_conflict([who for _, who in meshes.values()], [*meshes.values()][-1][0]))

    def training_fingerprint(self) -> dict[str, str]:
        """Per source to train on, what changes where its samples do; checkpoints carry it."""
        found = {}
        for source in self._training_mixture().sources:
            if isinstance(source, RenderedRecords):
                rendered = self.sources[source.name]
                found[source.name] = f"{rendered.domain.label} {open_hand().id}"
                if rendered.share < 1:
                    found[source.name] += f" share {rendered.share:g}"
                if rendered.frames is not None:
                    found[source.name] += f" frames {rendered.frames}"
            else:
                found[source.name] = digest(source.frames)
        return found

    # -- what is evaluated

    @property
    def evaluated_datasets(self) -> dict[str, str]:
        """The datasets among the sources to validate and test on: name of the source to name of its reader."""
        chosen = {name: self.sources[name] for name in self.evaluate_on}
        return {name: source.name for name, source in chosen.items() if not isinstance(source, RenderedSource)}

    def evaluation_labels(self, name: str, split: Split) -> dict[str, np.ndarray]:
        """Labels of a dataset's evaluated records, as pictured and as read: the arrays of `label_arrays`."""
        records = self._records(name, split)
        if isinstance(records, RenderedRecords):
            raise ValueError(f"source '{name}': rendered, so its labels are in its batches alone; name a dataset")
        return label_arrays(records.frames, records.evaluated)

    # -- loaders

    def train_dataloader(self) -> ResumableLoader:
        """Training batches; the loader's place in the epoch is part of Lightning's checkpoints."""
        mixture = self._training_mixture()
        sampler = EpochSampler(mixture.arrangement.epoch_size, self.batch_size, self._rank, self._ranks)
        return self._loader(
            mixture, sampler, batches_done=self._batches_done if self.trainer else None, at_end=self._report_bad
        )

    def val_dataloader(self) -> ResumableLoader:
        """Validation batches of all sources of `evaluate_on`, every label shown."""
        return self._evaluation("val")

    def test_dataloader(self) -> ResumableLoader:
        """Test batches of all sources of `evaluate_on`, every label shown."""
        return self._evaluation("test")

    def on_after_batch_transfer(self, batch: HandBatch | ParameterBatch, dataloader_idx: int) -> HandBatch:
        """Render on the device what the workers only drew; augment what is trained on."""
        training = self.trainer is not None and self.trainer.training
        if isinstance(batch, ParameterBatch):
            self.renderer.to(batch["parameters"].pose.device)
            batch = finish_batch(batch, self.renderer, self.hide if training else None)
        if training and self.augmentation is not None:
            batch = augment(batch, self.augmentation, self.seed, self.trainer.global_step)
        return batch

    def _training_mixture(self) -> Mixture:
        sources = [self._records(name, "train") for name in self.train_on]
        shares = Shares(sources, self.weights, self.per, self.batch_size, self.epoch_size, self.seed)
        return Mixture(sources, shares, self._worker_renderer, self.hide)

    def _evaluation_mixture(self, split: Split) -> Mixture:
        sources = [self._records(name, split) for name in self.evaluate_on]
        sizes = [self._evaluation_size(source.name, split, source.size(0)) for source in sources]
        return Mixture(sources, InTurn(sizes), self._worker_renderer)

    def _evaluation(self, split: Split) -> ResumableLoader:
        mixture = self._evaluation_mixture(split)
        total = int(mixture.arrangement.counts(0).sum())
        return self._loader(mixture, EpochSampler(total, self.batch_size, self._rank, self._ranks, training=False))

    def _evaluation_size(self, name: str, split: Split, there: int) -> int:
        wanted = self.sizes[split]
        if there < 1:
            raise ValueError(f"source '{name}': its {split} split is empty; leave it out of data.evaluate_on")
        if wanted is not None and wanted > there:
            raise ValueError(
                f"{split}_size: {name}/{split} has {there} frames, got {wanted}; take 1 to {there}, or null for all"
            )
        return wanted or there

    def _records(self, name: str, split: Split) -> RenderedRecords | FrameRecords:
        if name in self._samplers:
            share = self.sources[name].share
            return RenderedRecords(name, self._samplers[name], self.seed, split, self.modalities, share)
        if (name, split) not in self._frames:
            self._frames[name, split] = self.sources[name].frames(split)
        frames = self._frames[name, split]
        if split == "train":
            hide = self.hide.get(name, ())
            return FrameRecords(name, frames, self.crop, self.image_size, self.seed, hide=hide, bad=self.bad_samples)
        take = self._evaluation_size(name, split, len(frames))
        return FrameRecords(name, frames, self.crop, self.image_size, take=take)

    def _loader(self, mixture: Mixture, sampler: EpochSampler, **settings: Any) -> ResumableLoader:
        # one batch is of one kind: pieces of two are put together in the workers already
        lean = self.renderer is not None and self.render_on == "worker" and len(self._samplers) == len(self.sources)
        if self.num_workers:
            if self.renderer is not None:
                self.renderer.lean = lean
            for source in mixture.sources:
                if isinstance(source, FrameRecords):
                    source.lean = not self._samplers
            cv2.setNumThreads(1)  # before the fork: in a worker, OpenCV waits for threads that did not come along
        return ResumableLoader(
            mixture,
            sampler,
            # not methods: what workers get must not take the trainer along
            pack=partial(_pack, self.bad_samples, lean and not torch.cuda.is_available()),  # pinned pictures stay whole
            unpack=partial(_unpack, self.bad_samples),
            num_workers=self.num_workers,
            worker_init_fn=_prepare_worker,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **settings,
        )

    def _report_bad(self) -> None:
        """Say, when an epoch is over, which records it did without."""
        found, self.bad_samples.found = self.bad_samples.found, {}
        if found:
            shown = "\n".join(f"  {record}: {message}" for record, message in found.items())
            warnings.warn(
                f"{len(found)} bad samples in epoch {self.bad_samples.epoch}, replaced by others "
                f"(max_bad_samples is {self.bad_samples.limit}):\n{shown}",
                stacklevel=2,
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


def _pack(bad: BadSamples, small: bool, batch: HandBatch | ParameterBatch) -> HandBatch | ParameterBatch:
    """What a worker sends: the batch, and the bad samples that it met."""
    if bad.news:
        batch[_BAD] = bad.epoch, bad.news
        bad.news = {}
    return compact(batch) if small else batch


def _unpack(bad: BadSamples, batch: HandBatch | ParameterBatch) -> HandBatch | ParameterBatch:
    """The batch as the contract wants it, of what a worker sent (`HandRenderer.lean`, `FrameRecords.lean`)."""
    if _BAD in batch:
        bad.add(*batch.pop(_BAD))
    batch = restore(batch)
    if "depth" in batch and "mask" not in batch and batch["has_mask"].any():
        batch["mask"] = ((batch["depth"] > 0) & batch["has_mask"][:, None, None, None]).float()
    if "rgb" in batch and batch["rgb"].dtype == torch.uint8:
        batch["rgb"] = unit_floats(batch["rgb"])
    return batch


def _listed(provides: frozenset[Flag]) -> str:
    return ", ".join(sorted(provides)) or "nothing"


def _prepare_worker(worker: int) -> None:
    """One thread, since a worker per core leaves no core for a worker's threads; and memory that is kept."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and SLURM reach workers, too; a run ends its step with them
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    if platform.libc_ver()[0] == "glibc":
        # else every picture's memory goes back to the system and comes again page by page: a third of the time
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)
