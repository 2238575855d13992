"""One latent hand for colours, depth, joints in the picture and joints in space, learnt from pairs of them.

Spurr, Song, Park, Hilliges: Cross-modal Deep Variational Hand Pose Estimation, CVPR 2018.

The idea: an encoder per modality says q(z | x), a decoder per modality says x of z, and all share one z. For a pair
(source i, target t) the bound E_q(z | x_i)[log p(x_t | z)] - KL(q(z | x_i) || N(0, 1)) is raised; pairs take turns. A
picture without labels trains the pair of it with itself. Encoder of one modality and decoder of another then translate.

What we changed: hands come mirrored to look right, so that the side that encoders are told varies only if training
flips pictures; joint 0 is the wrist, which with the palm as origin says no more and no less than the paper's palm;
prediction with z = mu, as in the release. Loss of a pair: squared error, mean over a sample's numbers and over samples,
plus `kl_weight` times the KL, summed over z: the bound for a Gaussian of variance kl_weight D / 2 for D numbers.

Letters: B batch, Z latent numbers, J joints of the table, S picture's side.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from datamodules.batch import HandBatch, check_batch
from lightning_modules import latent_space
from lightning_modules.figures import JointFigures
from lightning_modules.method import HandMethod, as_pictured, pixels_as_pictured
from lightning_modules.modalities import (
    MODALITIES,
    JointSpace,
    Modality,
    Pair,
    View,
    looks_right,
    picture_size,
    predicting_sources,
    read_pairs,
    views_of,
)
from lightning_modules.networks.cross_modal import build_decoders, build_encoders
from lightning_modules.networks.vae_encoders import EncoderSize, Gaussian
from lightning_modules.pair_estimates import Decoded, PairEstimate, Posterior, bound, labelled, squared_error
from lightning_modules.posterior import COLLAPSED, ENOUGH, PosteriorFigures, drawn, kl_loss
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.vae_figures import PaperFigures
from ops.camera import project
from ops.checks import check_choice, check_finite, check_not_negative, check_positive
from ops.hand_model import open_hand
from ops.hand_model.conventions import joint_convention

ALWAYS = ("K", "side", "mirrored", "key", "cube_centre", "cube_side")
FEWEST = 2  # samples that a training step needs of a pair: batch norm has no statistics of one


class CrossModalVAE(HandMethod):
    """The method: encoders, decoders, pairs in turn, semi-supervision, posterior checks.

    Args:
        pairs: what is trained, as `<source>-<target>` of rgb, depth, 2d, 3d.
        schedule: "in turn", one pair a step, or "jointly", all of them.
        pair_weights: of the losses of pairs by name, squared error and KL; those not named have 1.
        predict_from: sources of predictions, the first that a sample has; None: those that are trained towards 3d,
            pictures first.
        latent: Z, the release has 30.
        encoder: of pictures: resnet18, the release's, or small.
        hand_side: tell the encoders of pictures which hand it looks like (the paper's H).
        scale_invariant: joints in space in units of the sample's own bone (the paper's S), not of a usual one.
        scale: of predictions by a scale-invariant network: "given", the labels' (as the paper evaluates), or "usual".
        frame: "palm" leaves open where the hand is, "cube" predicts in the crop's cube, hence absolute.
        joints: names of the joints that are modelled; None: all 21.
        root_joints: whose mean is the palm.
        unit_bone: ends of the bone that is the unit.
        variational: False trains mu alone, without noise and KL: a direct regressor with the same networks.
        kl_weight: of the KL against a mean squared error.
        kl_warmup_steps: over which the weight grows from 0.
        free_bits: nats of a latent dimension that cost nothing.
        labelled_share: share of the training samples that keep their joints, chosen by their keys.
        use_unlabelled: whether the others' pictures train anything.
        noise_seed: of z in training; noise depends on it and the step alone.
        lr: largest learning rate of AdamW; without weight decay that is Adam.
        weight_decay: of AdamW.
        warmup_steps: steps of linear warm-up; a half cosine follows.
        convention: joint convention of the labels, and of predictions.
        report_domains: domains whose errors are logged one by one as well, as `val/<domain>/...`.
    """

    def __init__(
        self,
        pairs: tuple[str, ...] | list[str] = ("rgb-3d", "rgb-rgb"),
        schedule: Literal["in turn", "jointly"] = "in turn",
        pair_weights: dict[str, float] | None = None,
        predict_from: list[Modality] | None = None,
        latent: int = 30,
        encoder: EncoderSize = "resnet18",
        hand_side: bool = True,
        scale_invariant: bool = True,
        scale: Literal["given", "usual"] = "given",
        frame: Literal["palm", "cube"] = "palm",
        joints: list[str] | None = None,
        root_joints: tuple[str, ...] | list[str] = ("wrist", "middle_mcp"),
        unit_bone: tuple[str, ...] | list[str] = ("middle_mcp", "middle_pip"),
        variational: bool = True,
        kl_weight: float = 1e-4,
        kl_warmup_steps: int = 0,
        free_bits: float = 0.0,
        labelled_share: float = 1.0,
        use_unlabelled: bool = True,
        noise_seed: int = 0,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        convention: str = "open",
        report_domains: tuple[str, ...] | list[str] = (),
    ) -> None:
        super().__init__()
        self.pairs = read_pairs(pairs)
        check_choice("schedule", schedule, ("in turn", "jointly"))
        check_choice("scale", scale, ("given", "usual"))
        check_positive(latent=latent, kl_weight=kl_weight, labelled_share=labelled_share, lr=lr)
        check_not_negative(kl_warmup_steps=kl_warmup_steps, free_bits=free_bits)
        check_not_negative(weight_decay=weight_decay, warmup_steps=warmup_steps)
        if labelled_share > 1:
            raise ValueError(f"labelled_share: expected a share in (0, 1], got {labelled_share}")
        joint_convention(convention)
        self.pair_weights = dict(pair_weights or {})
        for name, weight in self.pair_weights.items():
            check_choice("pair_weights", name, [pair.name for pair in self.pairs])
            check_positive(**{f"pair_weights '{name}'": weight})
        self.space = JointSpace(frame, joints, root_joints, unit_bone, scale_invariant)
        self.predict_from = predicting_sources(self.pairs, predict_from)
        self.save_hyperparameters()
        self.hand_model_id = open_hand().id  # no vertices are predicted; checkpoints name one
        sources = {*(pair.source for pair in self.pairs), *self.predict_from}
        self.encoders = build_encoders(sources, latent, len(self.space.joints), encoder, hand_side)
        self.decoders = build_decoders({pair.target for pair in self.pairs}, latent, len(self.space.joints))
        self.to(memory_format=torch.channels_last)  # faster convolutions
        self.register_buffer("skipped", torch.zeros(len(self.pairs), dtype=torch.int64))  # batches, by pair
        self.figures = nn.ModuleDict({stage: JointFigures(stage, report_domains) for stage in ("val", "test")})
        palm = "stb" if list(root_joints) == ["wrist", "ring_mcp"] else "rhd"  # the palm that each labels
        self.paper_figures = nn.ModuleDict({stage: PaperFigures(stage, palm) for stage in ("val", "test")})
        self.posteriors = nn.ModuleDict({source: PosteriorFigures(latent) for source in self.encoders})
        judged = [f"{figure}_{pair.name}" for pair in self.pairs for figure in ("error", "elbo")]
        self.means = nn.ModuleDict({name: MeanMetric() for name in judged})

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What `every` source must give, and what at least one (`some`); flags of the contract."""
        every = self.predict_from if len(self.predict_from) == 1 else []
        return {"every": every, "some": [name for name in MODALITIES if any(name in pair for pair in self.pairs)]}

    export_fields, exported = property(latent_space.export_fields), latent_space.exported

    # -- what the networks say

    def encode(self, view: View, source: str, rows: Tensor, right: Tensor) -> Gaussian:
        """q(z | x) of the samples `rows` (B,) bool; `right` (B,) bool says which look like right hands."""
        return self.encoders[source](view.numbers[rows], right[rows])

    def decode(self, z: Tensor, target: str) -> Tensor:
        """A modality of z (B, Z): pictures (B, C, 128, 128) or numbers (B, D)."""
        if target not in self.decoders:
            raise ValueError(
                f"target: expected one of {', '.join(self.decoders)}, which have been trained; got {target!r}"
            )
        return self.decoders[target](z).float()

    def estimate(self, batch: HandBatch) -> PairEstimate:
        """Posteriors and decoded targets: of the step's pairs in training, of all of them else."""
        check_batch(batch, ALWAYS)
        pairs = self.pairs_of_step() if self.training else self.pairs
        sources = dict.fromkeys([*(pair.source for pair in pairs), *([] if self.training else self.predict_from)])
        views = views_of(batch, [*sources, *(pair.target for pair in pairs)], self.space)
        taking_part = self._taking_part(batch)
        fewest = FEWEST if self.training else 1
        posteriors, decoded, right = {}, {}, looks_right(batch)
        generator = torch.Generator().manual_seed(self._noise_key())
        for source in sources:
            targets = {pair: views[pair.target] for pair in pairs if pair.source == source and pair.target in views}
            rows = views[source].whole & taking_part if source in views else torch.zeros_like(taking_part)
            shared = {pair: rows & view.counted.flatten(1).any(1) for pair, view in targets.items()}
            shared = {pair: both for pair, both in shared.items() if int(both.sum()) >= fewest}
            if not shared and (self.training or not rows.any()):
                continue  # nothing to learn from it
            q = self.encode(views[source], source, rows, right)
            posteriors[source] = Posterior(q, rows)
            z = drawn(*q, generator) if self.hparams.variational else q.mu
            for pair, both in shared.items():
                of_source = both[rows]
                said = self.decode(z[of_source], pair.target)
                decoded[pair] = Decoded(said, Gaussian(q.mu[of_source], q.logvar[of_source]), both)
        if self.training:
            self._count_skipped(pairs, decoded)
        return PairEstimate(views, posteriors, decoded)

    def pairs_of_step(self) -> list[Pair]:
        """What this step trains; by the global step, so that a resumed run goes on where it was."""
        if self.hparams.schedule == "jointly":
            return self.pairs
        return [self.pairs[self.global_step % len(self.pairs)]]

    def _noise_key(self) -> int:
        rank = self.global_rank if self._trainer is not None else 0
        key = f"{self.hparams.noise_seed} {self.global_step} {rank}"
        return int.from_bytes(hashlib.blake2s(key.encode(), digest_size=7).digest())

    def _count_skipped(self, pairs: Sequence[Pair], decoded: dict[Pair, Decoded]) -> None:
        for pair in pairs:
            if pair not in decoded:
                self.skipped[self.pairs.index(pair)] += 1

    # -- semi-supervision

    def _taking_part(self, batch: HandBatch) -> Tensor:
        """(B,) bool: all samples, or in training without unlabelled ones those that keep their labels."""
        if self.training and not self.hparams.use_unlabelled:
            return labelled(batch["key"], self.hparams.labelled_share).to(batch["K"].device)
        return torch.ones(len(batch["key"]), dtype=torch.bool, device=batch["K"].device)

    def training_step(self, batch: HandBatch, batch_idx: int) -> Tensor:
        """Total loss () of a batch in which only the labelled share has joints."""
        if self.hparams.labelled_share < 1:
            kept = labelled(batch["key"], self.hparams.labelled_share).to(batch["K"].device)
            batch = HandBatch(batch | {flag: batch[flag] & kept for flag in ("has_3d", "has_2d")})
        total = super().training_step(batch, batch_idx)
        self.log("train/skipped_pairs", self.skipped.sum().float(), batch_size=1)
        return total

    # -- losses

    def losses(self, estimate: PairEstimate, batch: HandBatch) -> dict[str, Tensor]:
        """Squared error and KL of each pair and their `total`; a batch without a pair's samples changes no weight."""
        self._check_convention(batch)
        terms: dict[str, Tensor] = {}
        totals = []
        for pair, said in estimate.decoded.items():
            total = terms[pair.name] = squared_error(estimate.views[pair.target], said).mean()
            if self.hparams.variational:
                terms[f"kl_{pair.name}"] = kl_loss(*said.q, self.hparams.free_bits)
                total = total + self.kl_factor() * terms[f"kl_{pair.name}"]
            totals.append(self.pair_weights.get(pair.name, 1.0) * total)
        if not self.training:
            terms = {}  # `measure` logs them: ranks do not see the same pairs
        terms["total"] = torch.stack(totals).mean() if totals else self._nothing()
        return terms

    def _nothing(self) -> Tensor:
        """A loss () of 0 that changes no weight: a leaf of its own, as the optimiser leaves what has no gradient.

        Of several processes, the others wait for this one's gradients of the step's pairs: there they are zeros.
        """
        nothing = torch.zeros((), device=self.device, requires_grad=self.training)
        if not self.training or self._trainer is None or self.trainer.world_size == 1:
            return nothing
        modules = [
            each for pair in self.pairs_of_step() for each in (self.encoders[pair.source], self.decoders[pair.target])
        ]
        return sum((weight.sum() for module in modules for weight in module.parameters()), nothing) * 0

    def kl_factor(self) -> float:
        """The weight of the KL at this step."""
        steps = self.hparams.kl_warmup_steps
        grown = min(1.0, (self.global_step + 1) / steps) if steps and self.training else 1.0
        return self.hparams.kl_weight * grown

    def _check_convention(self, batch: HandBatch) -> None:
        foreign = set(batch.get("convention", ())) - {self.hparams.convention}
        if foreign:
            raise ValueError(
                f"batch['convention']: expected '{self.hparams.convention}', got {sorted(foreign)}; joints are learnt "
                "as they are labelled: set model.convention, and mix no other labels in"
            )

    def on_fit_start(self) -> None:
        """Refuse several processes that would wait for gradients of pairs that a step does not train."""
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy) and not strategy._ddp_kwargs.get("find_unused_parameters"):
            raise ValueError(
                "trainer.strategy: a step trains some of the encoders and decoders alone, which DDP must be told; set "
                "--trainer.strategy=ddp_find_unused_parameters_true"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose latent space is another."""
        stored = checkpoint.get("hyper_parameters", {})
        for name in ("latent", "pairs"):
            if name in stored and _plain(stored[name]) != _plain(self.hparams[name]):
                raise ValueError(
                    f"checkpoint: {name} is {_plain(stored[name])}, the model's is {_plain(self.hparams[name])}; set "
                    f"model.{name} to the checkpoint's, or begin a new run"
                )

    # -- figures

    def measure(self, estimate: PairEstimate, batch: HandBatch, stage: str) -> None:
        """Joint errors of predictions with z = mu, the bound of each pair, and what the posteriors do."""
        mu, there = self.latent_of(estimate.posteriors, len(batch["key"]))
        modelled = torch.zeros(21, dtype=torch.bool, device=mu.device)
        modelled[self.space.joints] = True
        valid = batch["joint_valid"] & modelled & there[:, None]
        logged = {}
        if "3d" in self.decoders:
            joints, known = self._joints(mu, batch)
            in_space = valid & (batch["has_3d"] & known)[:, None]
            logged |= self.figures[stage].update(joints, batch, valid=in_space)
            self.paper_figures[stage].update_joints(joints, batch["joints_3d"], in_space)
        if "2d" in self.decoders and "joints_2d" in batch:
            pixels = self.space.pixels(self.decode(mu, "2d"), picture_size(batch))
            in_picture = valid & batch["has_2d"][:, None]
            logged |= self.paper_figures[stage].update_pixels(pixels, batch["joints_2d"], in_picture)
        self.log_dict(logged, on_step=False, on_epoch=True, add_dataloader_idx=False)
        for source, posterior in estimate.posteriors.items():
            self.posteriors[source].update(*posterior.q)
        for pair in self.pairs:  # also those unseen: all ranks must reduce the same metrics
            seen = pair in estimate.decoded
            given = (estimate.views[pair.target], estimate.decoded[pair]) if seen else None
            none = torch.zeros(0, device=self.device)
            self.means[f"error_{pair.name}"].update(squared_error(*given) if given else none)
            self.means[f"elbo_{pair.name}"].update(bound(*given, self.hparams.kl_weight) if given else none)
        means = {f"{stage}/{name}": metric for name, metric in self.means.items()}
        self.log_dict(means, on_step=False, on_epoch=True, add_dataloader_idx=False)

    def on_validation_epoch_end(self) -> None:
        """Log errors as the paper measures them, and what the posteriors did."""
        self.log_dict(self.paper_figures["val"].errors_from_palm())
        self._log_posteriors("val")

    def on_test_epoch_end(self) -> None:
        """Log errors as the paper measures them, and what the posteriors did."""
        self.log_dict(self.paper_figures["test"].errors_from_palm())
        self._log_posteriors("test")

    def _log_posteriors(self, stage: str) -> None:
        latent = self.hparams.latent
        for source, metric in self.posteriors.items():
            found = metric.compute()
            metric.reset()
            if not int(found["count"]):
                continue
            divergence, active = found["kl_per_dimension"].float(), int(found["active"].sum())
            self.log(f"{stage}/kl_{source}_nats", divergence.sum())
            self.log(f"{stage}/active_units_{source}", float(active))
            self.log_dict({f"{stage}/kl_{source}/{i:02d}": value for i, value in enumerate(divergence)})
            judged = self.hparams.variational and found["count"] >= ENOUGH and not self.trainer.sanity_checking
            if judged and active < COLLAPSED * latent:
                rank_zero_warn(
                    f"posteriors of '{source}' have collapsed: {active} of {latent} latent dimensions move with the "
                    "data; lower model.kl_weight, or set model.kl_warmup_steps or model.free_bits"
                )

    # -- predictions

    def latent_of(self, posteriors: dict[str, Posterior], size: int) -> tuple[Tensor, Tensor]:
        """mu (B, Z) of each sample by the first of `predict_from` that it has, and (B,) bool, whether it has any."""
        mu = torch.zeros(size, self.hparams.latent, device=self.device)
        there = torch.zeros(size, dtype=torch.bool, device=self.device)
        for source in self.predict_from:
            if source in posteriors:
                q, rows = posteriors[source]
                mu[rows & ~there] = q.mu[~there[rows]].to(mu.dtype)
                there = there | rows
        return mu, there

    def _joints(self, mu: Tensor, batch: HandBatch) -> tuple[Tensor, Tensor]:
        """Joints (B, 21, 3), metres, camera frame, the palm at the cube's centre; (B,) bool, whose scale is known."""
        unit, known = self._units(batch)
        return self.space.metres(self.decode(mu, "3d"), unit) + batch["cube_centre"][:, None], known

    def _units(self, batch: HandBatch) -> tuple[Tensor, Tensor]:
        usual = torch.full_like(batch["cube_side"], self.space.usual_bone), torch.ones_like(batch["mirrored"])
        if self.space.frame == "cube":
            return 0.5 * batch["cube_side"], usual[1]
        if not self.space.scale_invariant or self.hparams.scale == "usual":
            return usual
        if "joints_3d" not in batch:  # a picture of one's own has no true scale
            rank_zero_warn("scale 'given': these pictures have no labels that give it; the usual bone's is taken")
            return usual
        return self.space.bone_length(batch)

    def predict_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> HandPrediction:
        """Hands as pictured. Of the frame "palm" relative to the wrist, of "cube" absolute; pixels where trained."""
        if "3d" not in self.decoders:
            raise ValueError("pairs: no pair has the target 3d, so no hand is predicted; add one such as 'rgb-3d'")
        check_batch(batch, ALWAYS)
        views = views_of(batch, self.predict_from, self.space)
        right = looks_right(batch)
        posteriors = {}
        for source, view in views.items():
            check_finite(f"batch: {source}", view.numbers)
            if view.whole.any():
                posteriors[source] = Posterior(self.encode(view, source, view.whole, right), view.whole)
        mu, there = self.latent_of(posteriors, len(batch["key"]))
        joints, known = self._joints(mu, batch)
        self._check_predictable(batch, there, known)
        mirrored, absolute = batch["mirrored"], self.space.frame == "cube"
        pixels = None
        if "2d" in self.decoders:
            pixels = self.space.pixels(self.decode(mu, "2d"), picture_size(batch))
        elif absolute:
            pixels = project(joints, batch["K"])
        joints = joints if absolute else joints - joints[:, :1]
        return HandPrediction(
            joints_3d=as_pictured(joints, mirrored),
            joints_2d=None if pixels is None else pixels_as_pictured(pixels, mirrored, picture_size(batch)),
            vertices=None,
            parts=None,
            side=batch["side"],
            confidence=None,
            frame=Frame.ABSOLUTE if absolute else Frame.ROOT_RELATIVE,
            hand_model=self.hand_model_id,
            convention=self.hparams.convention,
        )

    def _check_predictable(self, batch: HandBatch, there: Tensor, known: Tensor) -> None:
        for missing, what in (
            (~there, f"has none of {', '.join(self.predict_from)}; set model.predict_from"),
            (
                ~known,
                f"has no labelled {' to '.join(self.hparams.unit_bone)} that gives its scale; set model.scale=usual",
            ),
        ):
            if missing.any():
                raise ValueError(f"sample {batch['key'][int(missing.nonzero()[0])]}: {what}")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value
