"""Weak labels: a method's own part maps, restored from rendered ones, teach it where that agrees with the joints.

Neverova, Wolf, Nebout, Taylor: Hand pose estimation through semi-supervised and weakly-supervised learning, CVIU 2017,
the second of its steps. A picture with joints and without part labels is mapped (N), the map is restored patch by patch
from a dictionary of rendered maps (N*), and N* is taken for the picture's labels if its parts lie nearer to the joints:
Q(N*) < Q(N). Else the picture is passed over in this step; equal is no better.

Mix such pictures with labelled ones by the weights of the data, one in ten in the paper.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.batch import HandBatch, rows_of
from lightning_modules.part_regions import map_quality
from ops.checks import check_choice, check_not_negative
from ops.drawing import (
    TRUE_COLOUR,
    Picture,
    caption,
    draw_skeleton,
    enlarge,
    part_colours,
    shade_depth,
    tile,
    write_picture,
)
from ops.patch_restoration import BACKENDS, WINDOW, PatchDictionary, restore
from ops.patch_restoration.vote import check_window

_COLUMNS, _FACTOR = 2, 4


class PartMethod(Protocol):
    """What a method must have to be taught so."""

    hand_model_id: str  # whose parts its labels are
    members: Tensor  # (J, 21) bool: the labels that belong to each joint

    def part_maps(self, batch: HandBatch) -> Tensor:
        """(B, S, S) uint8 part labels of the batch's pictures."""

    def joint_places(self, batch: HandBatch) -> tuple[Tensor, Tensor]:
        """Where joints are in these maps, (B, J, 2) pixels, and which of them are labelled, (B, J) bool."""

    def on_picture(self, maps: Tensor, picture: Tensor) -> Tensor:
        """Maps laid onto the pictures (B, ..., H, H) that they show: (B, H, H)."""


class Judged(NamedTuple):
    """What restoring did to the maps of B pictures."""

    maps: Tensor  # (B, S, S) N
    restored: Tensor  # (B, S, S) N*
    gain: Tensor  # (B,) pixels a joint by which parts came nearer: (Q(N) - Q(N*)) / joints

    @property
    def accepted(self) -> Tensor:
        """(B,) bool."""
        return self.gain > 0


class WeakLabels(Callback):
    """Gives restored labels to the unlabelled pictures of every training batch. No state: a resumed run is the same.

    Logs `weak/accepted_share` and `weak/gain_px`; draws rejected maps beside N and N* to pictures/rejected_step_<n>.png
    after each validation.

    Args:
        dictionary: file that `python -m datamodules.patch_dictionary` wrote.
        window: side of the window that votes on a pixel.
        backend: of the search, see `ops.patch_restoration.restore`.
        rejected_samples: rejected maps drawn after each validation; 0: none.
    """

    def __init__(
        self,
        dictionary: str,
        window: int = WINDOW,
        backend: str = "auto",
        rejected_samples: int = 8,
    ) -> None:
        check_window(window)
        check_choice("backend", backend, BACKENDS)
        check_not_negative(rejected_samples=rejected_samples)
        self.path, self.window, self.backend = Path(dictionary), window, backend
        self.rejected_samples = rejected_samples
        self._dictionary: PatchDictionary | None = None
        self._rejected: list[Picture] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the dictionary before anything is trained."""
        if stage != "fit" or self._dictionary is not None:
            return
        self._dictionary = PatchDictionary.load(self.path, pl_module.hand_model_id)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: HandBatch, batch_idx: int
    ) -> None:
        """Label what has joints and no part labels, in the batch that the training step is about to see."""
        rows = (~batch["has_parts"] & batch["has_2d"]).nonzero().flatten().tolist()
        if not rows:
            return
        unlabelled = rows_of(batch, rows)
        found = self.judge(pl_module, unlabelled)
        # others hold the batch's tensors, too
        parts, has_parts = batch["parts"].clone(), batch["has_parts"].clone()
        shown = pl_module.on_picture(found.restored, parts)
        parts[rows] = torch.where(found.accepted[:, None, None], shown, parts[rows])
        has_parts[rows] = found.accepted
        batch["parts"], batch["has_parts"] = parts, has_parts
        logged = {"weak/accepted_share": found.accepted.float().mean(), "weak/gain_px": found.gain.mean()}
        pl_module.log_dict(logged, on_step=True, on_epoch=True, batch_size=len(rows))
        for row in (~found.accepted).nonzero().flatten().tolist():
            if len(self._rejected) < self.rejected_samples:
                self._rejected.append(draw_restored(unlabelled, found, row))

    def judge(self, method: PartMethod, batch: HandBatch) -> Judged:
        """Map, restore and compare all pictures of `batch`."""
        side = batch["depth"].shape[-1]
        if side != self._dictionary.crop_size:
            raise ValueError(
                f"dictionary {self.path}: maps of crops of {self._dictionary.crop_size} pixels, but pictures here have "
                f"{side}: parts would be of another size; set data.image_size, or build it with --crop-size {side}"
            )
        with torch.no_grad():
            maps = method.part_maps(batch)
            shown = (maps > 0).flatten(1).any(1)  # a picture without a hand has nothing to restore
            restored = maps.clone()
            if shown.any():
                restored[shown] = self._restore(maps[shown])
            places, valid = method.joint_places(batch)
            before, after = (map_quality(each, places, valid, method.members) for each in (maps, restored))
            return Judged(maps, restored, (before - after) / valid.sum(1).clamp_min(1))

    def _restore(self, maps: Tensor) -> Tensor:
        return restore(maps, self._dictionary, window=self.window, backend=self.backend).maps

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the sheet of what was rejected since the last validation."""
        rejected, self._rejected = self._rejected, []
        if not rejected or trainer.fast_dev_run or not trainer.is_global_zero:
            return
        name = f"rejected_step_{trainer.global_step:07d}.png"
        write_picture(Path(trainer.default_root_dir, "pictures", name), tile(rejected, _COLUMNS))


def draw_restored(batch: HandBatch, found: Judged, row: int) -> Picture:
    """Depth with the true joints, N and N* of one picture, side by side."""
    side = found.maps.shape[-1]
    edge = (batch["depth"].shape[-1] - side) // 2
    depth = batch["depth"][row, 0, edge : edge + side, edge : edge + side].float().cpu().numpy()
    centre, half = float(batch["cube_centre"][row, 2]), float(batch["cube_side"][row]) / 2
    cells = [enlarge(shade_depth(depth, centre - half, centre + half), _FACTOR)]
    joints, valid = batch["joints_2d"][row] - edge, batch["joint_valid"][row]
    draw_skeleton(cells[0], joints.float().cpu().numpy(), TRUE_COLOUR, _FACTOR, valid.cpu().numpy())
    for maps, name in ((found.maps, "N"), (found.restored, f"N*  {float(found.gain[row]):+.2f} px")):
        cells.append(enlarge(part_colours()[maps[row].cpu().numpy()], _FACTOR))
        caption(cells[-1], name)
    return np.hstack(cells)
