"""Self-supervised augmentation: hands that a method has fitted come back in other shapes and from other sides.

Baek, Kim, Kim: Pushing the Envelope for RGB-based Dense 3D Hand Pose Estimation via Neural Rendering, CVPR 2019,
section 3.5: from some epoch on, each hand that is fitted gives three new instances: in its pose, of a shape within 3
standard deviations, seen from elsewhere. They are rendered; picture, mask and skeleton join the training set.

What we changed: only hands whose 2D joints are near their labels count as fitted; the set is bounded, the oldest go
first; it holds parameters alone, rendered again whenever an instance is drawn (`instance_pictures`).
"""

from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from datamodules.batch import HandBatch
from lightning_modules.instance_pictures import DOMAIN, Instances, picture_instances
from lightning_modules.normalised_hand import SIZES, HandProjection, normalised_places
from ops.checks import check_choice, check_not_negative, check_positive
from ops.joints import UNLABELLED
from ops.rotation import axis_angle_to_matrix, matrix_to_quaternion

_DISTANCE = (0.3, 1.2)  # metres from the camera, uniform
_DRAW, _SPAWN = 0, 1  # purposes of random numbers


class Fitted(Protocol):
    """The hands of the last training batch, as they were estimated."""

    parameters: Tensor  # (B, 63) of `HandProjection`
    pixels: Tensor  # (B,) mean distance of the 2D joints from their labels, in a crop of 224 pixels


class AugmentedMethod(Protocol):
    """What a method must have to be augmented so."""

    projection: HandProjection
    fitted: Fitted | None


class SelfSupervisedAugmentation(Callback):
    """Adds instances to every training batch of a method. Logs `augmented/instances` in the set and `augmented/fitted`.

    A run that goes on does so identically: the set of every rank is state, and what is drawn depends on seed, rank,
    step and batch alone. With another number of ranks, all sets are dealt out anew.

    Args:
        start_epoch: the first epoch whose hands give instances.
        threshold: pixels of a crop of 224 by which the 2D joints of a fitted hand are off at most, on average.
        copies: instances that a fitted hand gives each time.
        per_batch: instances that join each batch.
        capacity: of the set, instances per rank.
        shape_range: shape parameters are uniform within this on either side of 0, standard deviations.
        turn: degrees, the view turns by up to this about each axis, either way.
        square: side of the crop over the larger side of the box around the 2D joints, as the data's rule has it.
        texture: "skin" in one of ten tones, or "picture": in the colour that the hand has in the picture.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        start_epoch: int = 20,
        threshold: float = 15.0,
        copies: int = 3,
        per_batch: int = 8,
        capacity: int = 4096,
        shape_range: float = 3.0,
        turn: float = 180.0,
        square: float = 1.5,
        texture: str = "skin",
        seed: int = 0,
    ) -> None:
        check_not_negative(start_epoch=start_epoch, shape_range=shape_range, turn=turn)
        check_positive(threshold=threshold, copies=copies, per_batch=per_batch, capacity=capacity)
        check_choice("texture", texture, ("skin", "picture"))
        if not square >= 1:
            raise ValueError(f"square: expected at least 1, which just holds the joints, got {square}")
        self.start_epoch, self.threshold = start_epoch, threshold
        self.copies, self.per_batch, self.capacity = copies, per_batch, capacity
        self.shape_range, self.turn, self.square = shape_range, turn, square
        self.texture, self.seed = texture, seed
        self.instances = Instances.empty()
        self._loaded: list[Instances] | None = None

    # -- a run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take this rank's part of what a checkpoint held."""
        if not hasattr(pl_module, "fitted") or not hasattr(pl_module, "projection"):
            raise ValueError(
                f"SelfSupervisedAugmentation: {type(pl_module).__name__} does not say which hands it fitted; "
                "leave it out"
            )
        if self._loaded is not None:
            self.instances = share_of(self._loaded, trainer.global_rank, trainer.world_size).newest(self.capacity)
            self._loaded = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: HandBatch, batch_idx: int
    ) -> None:
        """Let instances join the batch that the training step is about to see."""
        count = min(self.per_batch, self.instances.number)
        if not count:
            return
        rows = self._random(trainer, _DRAW, batch_idx).choice(self.instances.number, count, replace=False)
        drawn = self.instances.rows(torch.from_numpy(np.sort(rows)))
        made = picture_instances(drawn, pl_module.projection, batch["rgb"].shape[-1], self.square)
        batch.update(appended(batch, made))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: HandBatch, batch_idx: int
    ) -> None:
        """Let the batch's fitted hands give instances."""
        if trainer.current_epoch < self.start_epoch:
            return
        fitted = pl_module.fitted
        own = torch.tensor([name == DOMAIN for name in batch["domain"]], device=fitted.pixels.device)
        near = (fitted.pixels < self.threshold) & ~own
        self.instances = self.instances.joined(self.spawned(trainer, batch, batch_idx, fitted, near)).newest(
            self.capacity
        )
        figures = {"augmented/instances": float(self.instances.number), "augmented/fitted": near.float().mean()}
        pl_module.log_dict(figures, batch_size=len(own))

    def spawned(self, trainer: Trainer, batch: HandBatch, batch_idx: int, fitted: Fitted, chosen: Tensor) -> Instances:
        """New instances of the hands that (B,) bool chooses."""
        hands = fitted.parameters[chosen].float().cpu().repeat_interleave(self.copies, 0)
        random, count = self._random(trainer, _SPAWN, batch_idx), len(hands)
        pose, _, quaternion, _, _ = hands.split(list(SIZES.values()), 1)
        turns = torch.from_numpy(np.deg2rad(random.uniform(-self.turn, self.turn, (count, 3, 3)) * np.eye(3))).float()
        x, y, z = axis_angle_to_matrix(turns).unbind(1)
        drawn = {
            "shape": random.uniform(-self.shape_range, self.shape_range, (count, SIZES["shape"])),
            "distance": random.uniform(*_DISTANCE, (count,)),
        }
        colours = torch.full((count, 3), torch.nan)
        if self.texture == "picture":
            colours = hand_colours(batch, chosen).cpu().repeat_interleave(self.copies, 0)
        return Instances(
            pose=pose,
            shape=torch.from_numpy(drawn["shape"]).float(),
            quaternion=multiplied(matrix_to_quaternion(x @ y @ z), quaternion),
            distance=torch.from_numpy(drawn["distance"]).float(),
            colour=colours,
            seed=torch.from_numpy(random.integers(0, 2**32, count)),
        )

    def _random(self, trainer: Trainer, purpose: int, batch_idx: int) -> np.random.Generator:
        # a step may be made of several batches (accumulate_grad_batches)
        return np.random.default_rng([self.seed, purpose, trainer.global_rank, trainer.global_step, batch_idx])

    # -- state

    def state_dict(self) -> dict[str, Any]:
        """The sets of all ranks, by rank; every rank must ask."""
        sets = [self.instances]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            sets = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(sets, self.instances)
        return {"ranks": [held._asdict() for held in sets]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold the sets of all ranks until it is known which this is."""
        self._loaded = [Instances(**held) for held in state_dict["ranks"]]


def share_of(sets: list[Instances], rank: int, ranks: int) -> Instances:
    """The set of a rank: its own where there were as many ranks, else every so many of all."""
    if len(sets) == ranks:
        return sets[rank]
    together = sets[0]
    for held in sets[1:]:
        together = together.joined(held)
    return together.rows(torch.arange(rank, together.number, ranks))


def appended(batch: HandBatch, made: HandBatch) -> HandBatch:
    """The batch with samples behind its own; fields that one of them lacks are blank there."""
    before, after = len(batch["key"]), len(made["key"])
    whole = HandBatch()
    for field in dict.fromkeys([*batch, *made]):
        known = batch.get(field, made.get(field))
        if isinstance(known, list):
            whole[field] = [*batch.get(field, [""] * before), *made.get(field, [""] * after)]
            continue
        blank = UNLABELLED if field == "parts" else 0
        parts = [
            part[field] if field in part else known.new_full((count, *known.shape[1:]), blank)
            for part, count in ((batch, before), (made, after))
        ]
        whole[field] = torch.cat([parts[0], parts[1].to(parts[0].device)])
    return whole


def hand_colours(batch: HandBatch, chosen: Tensor) -> Tensor:
    """Colours (N, 3) of the hands of a batch that (B,) bool chooses: medians over their joints that lie in the picture.

    NaN where none does.
    """
    picture, valid = batch["rgb"][chosen], (batch["joint_valid"] & batch["has_2d"][:, None])[chosen]
    places = normalised_places(batch["joints_2d"][chosen], picture.shape[-1])
    inside = valid & ((places > 0) & (places < 1)).all(-1)
    colours = functional.grid_sample(picture, 2 * places[:, None] - 1, align_corners=False)[:, :, 0]  # (N, 3, 21)
    return torch.where(inside[:, None], colours, torch.nan).nanmedian(-1).values


def multiplied(left: Tensor, right: Tensor) -> Tensor:
    """Quaternions (N, 4) of turning by `right` first, then by `left`."""
    w, v = left[:, :1], left[:, 1:]
    p, q = right[:, :1], right[:, 1:]
    real = w * p - (v * q).sum(1, keepdim=True)
    return torch.cat([real, w * q + p * v + torch.linalg.cross(v, q)], 1)
