"""Hand joints from one depth picture by way of hand parts, learnt from rendered hands and carried over to real ones.

Neverova, Wolf, Nebout, Taylor: Hand pose estimation through semi-supervised and weakly-supervised learning, CVIU 2017.

The idea: f_s says which of 20 parts each pixel shows, f_r says where the joints are, each by a network of its own that
looks closely at the joint's part. Pictures with part labels can only be rendered. Three steps, each an experiment that
begins with the weights of the one before (`init_from`):

1. segmentation: f_s learns part labels of rendered hands.
2. weak: it goes on, and on one picture in ten that has joints and no part labels it learns from its own map, restored
   patch by patch from rendered maps, where that moved the parts towards the joints (`callbacks.weak_labels`).
3. regression: f_r learns joints of the pictures that the method is for, from depth and the maps of f_s.

What we changed: f_s is written densely; networks see the middle 48 x 48 pixels of the crop, whatever its scale; the
depth that normalisation subtracts is added back where the joint is seen; any table of joints, of 14 or 21.

Letters: B batch, J joints of the table, S = 48 side of what the networks see.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from datamodules.batch import HandBatch, check_batch
from lightning_modules.earlier_step import BeginsWithWeights, earlier_weights, part_of_weights
from lightning_modules.hand_view import SIDE, HandView, label_maps, look, margin, middle
from lightning_modules.losses import mean_of_valid, point_loss
from lightning_modules.method import HandMethod, as_pictured, by_step, pixels_as_pictured
from lightning_modules.networks.part_classifier import PartClassifier
from lightning_modules.networks.part_regressor import GRID, PartRegressor
from lightning_modules.part_figures import PartFigures
from lightning_modules.part_regions import (
    barycentres,
    completion,
    disc_regions,
    joint_regions,
    joint_table,
    map_quality,
    nearest_parts,
)
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.schedules import inverse_time
from ops.camera import project, unproject
from ops.checks import check_choice, check_finite, check_not_negative, check_positive
from ops.hand_model import open_hand
from ops.hand_model.conventions import joint_convention
from ops.joints import BACKGROUND, PALM, UNLABELLED

NEEDS = ("depth", "K", "cube_centre", "cube_side", "mirrored", "side")
LABELS = ("joints_3d", "joints_2d", "joint_valid", "has_3d", "has_2d", "has_parts", "convention")
DECIMETRE = 0.1  # unit of the loss, metres
DECAY = 1e-5  # per step, of the paper's learning rate
CASCADE_RADIUS = 7.0  # pixels around a joint that the cascade's second network looks at: two cells of its grid


class HandEstimate(NamedTuple):
    """What the networks say of B pictures."""

    scores: Tensor | None  # (B, 20, s, s) of f_s, before softmax; None: the method does without parts
    maps: Tensor | None  # (B, S, S) uint8 part labels of the foreground; None: likewise, or while f_s is trained
    joints: Tensor | None  # (B, J, 3) metres, camera frame; None: while f_s is trained


class Neverova(BeginsWithWeights, HandMethod):
    """The method: f_s and f_r, losses, metrics, optimisers of its steps.

    Args:
        step: what is trained: "segmentation" (f_s; also the weak step) or "regression" (f_r).
        init_from: checkpoint that training begins with, or folder of an experiment's runs, whose newest best is taken:
            f_s, and f_r where it was trained. A run that goes on does not read it.
        joint_parts: joints to find, each with its parts; None: the 21 joints, each with the part nearest to it.
        regions: where each joint's network looks closely: at its "parts"; around where a first network, that of
            `init_from`, found the joint: "cascade"; at the "whole" picture: direct regression, without parts.
        widths: channels of f_s's convolutions.
        hidden: units of f_s's hidden layers.
        resolution: pixels along a side of f_s's maps, 48 or 24 (every second one, at a quarter of the cost).
        training_resolution: of the maps that f_s learns on; 24 trains faster what may be read at 48.
        opening: side of the square by which regions are opened, pixels; 1 leaves them as they are.
        regressor_hidden: units of each joint's fully connected layer.
        optimiser: "sgd" with the paper's decay, or "adamw" with warm-up and a half cosine.
        lr: learning rate at its largest.
        weight_decay: of AdamW.
        warmup_steps: of AdamW.
        convention: joint convention of the labels that f_r learns, and of predictions.
        report_domains: domains whose figures are logged one by one as well, as `val/<domain>/...`.
    """

    shares = ("parts", "3d")
    export_fields = ("depth", "K", "cube_centre", "cube_side")
    crop_size = 72  # of its configurations, whose middle 48 the networks see

    def __init__(
        self,
        step: Literal["segmentation", "regression"] = "segmentation",
        init_from: str | None = None,
        joint_parts: dict[str, list[str]] | None = None,
        regions: Literal["parts", "cascade", "whole"] = "parts",
        widths: tuple[int, int, int] | list[int] = (32, 64, 128),
        hidden: int = 500,
        resolution: Literal[48, 24] = 48,
        training_resolution: Literal[48, 24] = 48,
        opening: int = 2,
        regressor_hidden: int = 1200,
        optimiser: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.1,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        convention: str = "open",
        report_domains: tuple[str, ...] | list[str] = (),
    ) -> None:
        super().__init__()
        check_choice("step", step, ("segmentation", "regression"))
        check_choice("regions", regions, ("parts", "cascade", "whole"))
        check_choice("resolution", resolution, (48, 24))
        check_choice("training_resolution", training_resolution, (48, 24))
        check_choice("optimiser", optimiser, ("sgd", "adamw"))
        check_positive(lr=lr)
        check_not_negative(weight_decay=weight_decay, warmup_steps=warmup_steps)
        if len(widths) != 3:
            raise ValueError(f"widths: expected 3 numbers of channels, got {list(widths)}")
        if not 1 <= opening <= SIDE:
            raise ValueError(f"opening: expected a square of 1 to {SIDE} pixels, got {opening}")
        if step == "regression" and regions != "whole" and not init_from:
            raise ValueError(
                f"init_from: regions '{regions}' need the weights of an earlier step, got none; name its checkpoint, "
                "or take regions 'whole'"
            )
        joint_convention(convention)
        self.save_hyperparameters()
        self.hand_model_id = open_hand().id  # whose parts the labels are
        table = joint_table(joint_parts or nearest_parts())
        self.joints = list(table.joints)
        self.register_buffer("members", table.members, persistent=False)
        self.register_buffer("completion", completion(table.joints), persistent=False)
        self._build_networks()
        domains, with_parts = list(report_domains), self.classifier is not None
        self.figures = nn.ModuleDict({stage: PartFigures(stage, domains, with_parts) for stage in ("val", "test")})

    def _build_networks(self) -> None:
        hyper, joints = self.hparams, len(self.joints)
        regressing = hyper.step == "regression"
        with_parts = not regressing or hyper.regions == "parts"
        self.classifier = PartClassifier(tuple(hyper.widths), hyper.hidden) if with_parts else None
        self.regressor = PartRegressor(joints, hyper.regressor_hidden) if regressing else None
        cascade = regressing and hyper.regions == "cascade"
        self.coarse = PartRegressor(joints, hyper.regressor_hidden) if cascade else None
        for frozen in (self.classifier if regressing else None, self.coarse):
            if frozen is not None:
                frozen.requires_grad_(False)

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What `every` source of an experiment must give, and what at least one (`some`); flags of the contract."""
        return {"every": ["depth", "3d"], "some": ["parts"] if self.hparams.step == "segmentation" else []}

    # -- what the networks say

    def estimate(self, batch: HandBatch) -> HandEstimate:
        """Parts and joints in the depth pictures of a batch."""
        return self(self._view(batch))

    def exported(self, batch: HandBatch) -> dict[str, Tensor]:
        """Joints (B, 21, 3), and labels (B, S, S) of the crop's middle where the method has parts."""
        said = self(look(*(batch[name] for name in self.export_fields)))
        return {"joints": self.completed(said.joints)} | ({} if said.maps is None else {"parts": said.maps})

    def forward(self, view: HandView) -> HandEstimate:
        """Parts and joints. Where parts are learnt, a joint is said to be where the barycentre of its parts is."""
        if self.training and self.hparams.step == "segmentation":
            return HandEstimate(self.classifier(view.picture, SIDE // self.hparams.training_resolution), None, None)
        scores, maps = None, None
        if self.classifier is not None:
            with torch.no_grad():
                scores = self.classifier(view.picture, SIDE // self.hparams.resolution)
                maps = label_maps(scores, view.foreground)
        return HandEstimate(scores, maps, self._joints(view, maps))

    def _joints(self, view: HandView, maps: Tensor | None) -> Tensor:
        if self.regressor is None:
            places, there = barycentres(maps, self.members)
            places = torch.where(there[..., None], places, 0.5 * (SIDE - 1))
            return self._place(view, places, torch.zeros_like(places[..., 0]))
        picture = F.avg_pool2d(view.picture, 2)
        if self.hparams.regions == "parts":
            regions = joint_regions(maps, self.members, self.hparams.opening, GRID)
        else:
            regions = torch.ones(picture.shape[0], len(self.joints), GRID, GRID, device=picture.device)
        if self.coarse is not None:
            with torch.no_grad():
                found = 0.5 * (SIDE - 1) + 0.5 * SIDE * self.coarse(picture, regions)[..., :2].float()
            regions = disc_regions(found, CASCADE_RADIUS, SIDE, GRID)
        said = self.regressor(picture, regions).float()
        return self._place(view, 0.5 * (SIDE - 1) + 0.5 * SIDE * said[..., :2], said[..., 2])

    def _place(self, view: HandView, pixels: Tensor, offset: Tensor) -> Tensor:
        """Joints (B, J, 3) seen at pixels (B, J, 2), `offset` (B, J) half cubes behind the depth subtracted there."""
        grid = (pixels.detach() + 0.5) * (2 / SIDE) - 1  # the subtracted depth is no function to learn
        # half precision is for the networks: it would move joints by millimetres
        with torch.autocast(pixels.device.type, enabled=False):
            there = F.grid_sample(view.subtracted, grid[:, None], padding_mode="border", align_corners=False)[:, 0, 0]
            return unproject(pixels, there + view.half_cube[:, None] * offset, view.K)

    # -- losses, in the order of the steps

    def losses(self, estimate: HandEstimate, batch: HandBatch) -> dict[str, Tensor]:
        """The step's term and its `total`, of an estimate against the labels of `batch`."""
        check_batch(batch, LABELS)
        if self.hparams.step == "segmentation":
            check_batch(batch, ("parts",))
            term = {"parts": part_loss(estimate.scores, middle(batch["parts"]), batch["has_parts"])}
        else:
            foreign = set(batch["convention"]) - {self.hparams.convention}
            if foreign:
                raise ValueError(
                    f"batch['convention']: expected '{self.hparams.convention}', got {sorted(foreign)}; joints are "
                    "learnt as they are labelled: set model.convention, and mix no other labels in"
                )
            valid = batch["joint_valid"] & batch["has_3d"][:, None]
            of_table = batch["joints_3d"][:, self.joints], valid[:, self.joints]
            term = {"joints": point_loss(estimate.joints, *of_table, "distance", DECIMETRE)}
        return term | {"total": sum(term.values())}

    # -- steps

    def take_weights(self, path: str) -> None:
        """Weights of an earlier step: its f_s, and its f_r, which becomes the first network of a cascade."""
        weights = earlier_weights(path, type(self), self.hand_model_id)
        regressor = "regressor" if self.coarse is None else "coarse"
        for given, taken in (("classifier", "classifier"), ("regressor", regressor)):
            network, own = getattr(self, taken), part_of_weights(weights, given)
            if network is None:
                continue
            if not own and taken == "regressor":  # f_r itself may begin anew
                continue
            if not own:
                raise ValueError(f"init_from {path}: holds no {given}; name the checkpoint of the step that has it")
            try:
                network.load_state_dict(own)
            except RuntimeError as error:
                raise ValueError(
                    f"init_from {path}: its {given} is of another size ({error}); give both steps the same widths, "
                    "hidden, regressor_hidden and joint_parts"
                ) from error

    def train(self, mode: bool = True) -> "Neverova":
        """As usual, but for the first network of a cascade, which is not trained."""
        super().train(mode)
        if self.coarse is not None:
            self.coarse.eval()
        return self

    def _view(self, batch: HandBatch) -> HandView:
        check_batch(batch, NEEDS)
        return look(batch["depth"], batch["K"], batch["cube_centre"], batch["cube_side"])

    def on_validation_epoch_end(self) -> None:
        """Log the part scores."""
        self.log_dict(self.figures["val"].part_scores())

    def on_test_epoch_end(self) -> None:
        """Log the part scores."""
        self.log_dict(self.figures["test"].part_scores())

    def measure(self, estimate: HandEstimate, batch: HandBatch, stage: str) -> None:
        """Feed and log joint errors and how well parts agree with labels and joints."""
        figures = self.figures[stage]
        found = torch.zeros(21, dtype=torch.bool, device=self.device)
        found[self.joints] = True
        valid = batch["joint_valid"] & batch["has_3d"][:, None] & found
        logged = figures.update_joints(self.completed(estimate.joints), valid, batch)
        if estimate.maps is not None:
            places, counted = self.joint_places(batch)
            quality = map_quality(estimate.maps, places, counted, self.members)
            shown = self.on_picture(estimate.maps, batch["depth"])
            logged |= figures.update_maps(shown, quality, counted.sum(1), batch)
        self.log_dict(logged, on_step=False, on_epoch=True, add_dataloader_idx=False)

    # -- predictions, and what other parts of the house ask for

    def predict_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> HandPrediction:
        """Hands as pictured: what was mirrored to look like a right hand is mirrored back.

        Joints that the table lacks stand between their neighbours.
        """
        estimate = self.estimate(batch)
        check_finite("batch['depth']", batch["depth"])  # training does not pay for this
        with torch.autocast(batch["depth"].device.type, enabled=False):
            joints = self.completed(estimate.joints)
            pixels = project(joints, batch["K"])
        mirrored, width = batch["mirrored"], batch["depth"].shape[-1]
        parts = None if estimate.maps is None else self.on_picture(estimate.maps, batch["depth"])
        return HandPrediction(
            joints_3d=as_pictured(joints, mirrored),
            joints_2d=pixels_as_pictured(pixels, mirrored, width),
            vertices=None,
            parts=None if parts is None else torch.where(mirrored[:, None, None], parts.flip(-1), parts),
            side=batch["side"],
            confidence=None,
            frame=Frame.ABSOLUTE,
            hand_model=self.hand_model_id,
            convention=self.hparams.convention,
        )

    def part_maps(self, batch: HandBatch) -> Tensor:
        """(B, S, S) uint8 maps of f_s of the middle of the batch's pictures, without gradients."""
        with torch.no_grad():
            view = self._view(batch)
            return label_maps(self.classifier(view.picture, SIDE // self.hparams.resolution), view.foreground)

    def joint_places(self, batch: HandBatch) -> tuple[Tensor, Tensor]:
        """Where the table's joints are in these maps, (B, J, 2) pixels, and which of them count, (B, J) bool."""
        places = batch["joints_2d"][:, self.joints] - margin(batch["depth"])
        return places, (batch["joint_valid"] & batch["has_2d"][:, None])[:, self.joints]

    def on_picture(self, maps: Tensor, picture: Tensor) -> Tensor:
        """Maps (B, S, S) laid onto the pictures (B, ..., H, H) whose middle they show: (B, H, H), background around."""
        edge, side = margin(picture), picture.shape[-1]
        return F.pad(maps, (edge, side - edge - SIDE) * 2, value=BACKGROUND)

    def completed(self, joints: Tensor) -> Tensor:
        """21 canonical joints (B, 21, 3) of the table's (B, J, 3)."""
        with torch.autocast(joints.device.type, enabled=False):
            return self.completion @ joints

    # -- optimiser

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The paper's SGD, or AdamW with warm-up and half cosine; schedules by the global step."""
        if self.hparams.optimiser == "sgd":
            return by_step(torch.optim.SGD(self.trained(), self.hparams.lr), inverse_time(DECAY))
        return super().configure_optimizers()


def part_loss(scores: Tensor, parts: Tensor, counted: Tensor) -> Tensor:
    """Mean negative log-likelihood () of hand pixels: of each picture, then of those that count.

    The paper takes one picture a step; so each picture weighs the same, however large its hand.

    Args:
        scores: (B, 20, s, s) before softmax; get gradients.
        parts: (B, S, S) uint8 labels, S a multiple of s: every (S / s)th pixel is learnt.
        counted: (B,) bool, pictures that have labels.
    """
    stride = parts.shape[-1] // scores.shape[-1]
    target = parts[:, ::stride, ::stride].long()
    learnt = (target != BACKGROUND) & (target != UNLABELLED)
    nll = F.cross_entropy(scores.float(), torch.where(learnt, target - PALM, -1), ignore_index=-1, reduction="none")
    pixels = learnt.sum((1, 2))
    return mean_of_valid(nll.sum((1, 2)) / pixels.clamp_min(1), counted & (pixels > 0))
