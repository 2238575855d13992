"""A method and a source small enough to test the command line with: one weight per joint coordinate, constant hands."""

import os
import time
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import FLAGS, HandBatch
from lightning_modules.prediction import Frame, HandPrediction
from ops.camera import project, unproject
from ops.hand_model import open_hand

K = torch.tensor([[120.0, 0, 7.5], [0, 120.0, 7.5], [0, 0, 1]])


class ToyMethod(LightningModule):
    """Learns the mean joints; `image_size` only has to agree with the pictures."""

    hand_model_id = "toy-hand"

    def __init__(
        self,
        image_size: int = 16,
        lr: float = 0.1,
        kind: Literal["plain", "fancy"] = "plain",
        fail_at_step: int | None = None,
        signal_at_step: int | None = None,
        signal: int = 0,
        noise: float = 0.0,
        pause: float = 0.0,
    ):
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr: expected a positive learning rate, got {lr:g}; set model.init_args.lr")
        self.save_hyperparameters()
        self.image_size, self.lr, self.fail_at_step = image_size, lr, fail_at_step
        self.signal_at_step, self.signal, self.noise, self.pause = signal_at_step, signal, noise, pause
        self.joints = torch.nn.Parameter(torch.zeros(21, 3))
        self.seen: list[str] = []

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: HandBatch, batch_idx: int) -> Tensor:
        if self.fail_at_step is not None and self.global_step == self.fail_at_step:
            raise RuntimeError("the power went out")
        if self.global_step == self.signal_at_step:
            os.kill(os.getpid(), self.signal)
        time.sleep(self.pause)
        assert batch["depth"].shape[-1] == self.image_size
        self.seen += batch["key"]
        loss = (self.joints + self.noise * torch.randn(21, 3) - batch["joints_3d"]).square().mean()
        self.log("train/loss", loss)
        return loss

    def _judge(self, batch: HandBatch, stage: str) -> None:
        error = 1000 * (self.joints - batch["joints_3d"]).norm(dim=-1).mean()
        for alignment in ("absolute", "root", "procrustes"):
            self.log(f"{stage}/joints_{alignment}_mm", error, batch_size=len(batch["key"]))
            self.log(f"{stage}/mean_pose_{alignment}_mm", 2 * error, batch_size=len(batch["key"]))

    def validation_step(self, batch: HandBatch, batch_idx: int) -> None:
        self._judge(batch, "val")

    def test_step(self, batch: HandBatch, batch_idx: int) -> None:
        self._judge(batch, "test")

    def predict_step(self, batch: HandBatch, batch_idx: int = 0) -> HandPrediction:
        size = len(batch["key"])
        joints = (self.joints + torch.tensor([0, 0, 0.5])).expand(size, 21, 3)
        triangle, parts = joints[:, :3], torch.full((size, 2, 2), 3, dtype=torch.uint8)
        return HandPrediction(
            joints,
            project(joints, batch["K"]),
            triangle,
            parts,
            batch["side"],
            None,
            Frame.ABSOLUTE,
            "toy-hand",
            "open",
        )


class ToyHands(Dataset):
    """Hands whose joints depend on the index alone."""

    def __init__(self, image_size: int, length: int):
        self.image_size, self.length = image_size, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> HandBatch:
        generator = torch.Generator().manual_seed(i)
        joints = torch.rand(21, 3, generator=generator) * 0.1 + torch.tensor([-0.05, -0.05, 0.45])
        size = self.image_size
        return HandBatch(
            depth=torch.full((1, size, size), 0.5),
            K=K,
            joints_3d=joints,
            joints_2d=project(joints[None], K)[0],
            joint_valid=torch.ones(21, dtype=torch.bool),
            cube_centre=torch.tensor([0, 0, 0.5]),
            cube_side=torch.tensor(0.3),
            side=torch.tensor(1),
            mirrored=torch.tensor(False),
            domain="toy",
            key=f"toy/{i}",
            **{flag: torch.tensor(flag in ("has_depth", "has_3d", "has_2d")) for flag in FLAGS},
        )


class ToyData(LightningDataModule):
    """The toy hands."""

    def __init__(self, image_size: int = 16, length: int = 8, batch_size: int = 2):
        super().__init__()
        self.image_size, self.length, self.batch_size = image_size, length, batch_size

    def _loader(self) -> DataLoader:
        return DataLoader(ToyHands(self.image_size, self.length), self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = _loader


class FlatHand(LightningModule):
    """Predicts the flat open hand around the crop's centre, fingers up, whatever it sees."""

    crop_size = 128
    source_needs: ClassVar = {"every": ["depth"], "some": []}

    def __init__(self, scale: float = 1.0):
        super().__init__()
        model = open_hand()
        vertices = torch.from_numpy(model.v_template).float()
        self.register_buffer("vertices", (vertices - vertices.mean(0)) * scale, persistent=False)
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.hand_model_id = model.id

    def predict_step(self, batch: HandBatch, batch_idx: int = 0) -> HandPrediction:
        # the open hand's fingers point along -x, its back to +y: turned so that it stands up before the camera
        turn = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
        flip = torch.where(batch["mirrored"], -1.0, 1.0)[:, None, None] * torch.tensor([1.0, 0, 0])
        flip = flip + torch.tensor([0.0, 1, 1])
        vertices = (self.vertices @ turn.T + batch["cube_centre"][:, None] + self.weight) * flip
        joints = vertices[:, ::37][:, :21]
        return HandPrediction(
            joints, None, vertices, None, batch["side"], None, Frame.ABSOLUTE, self.hand_model_id, "open"
        )


class PartsHand(FlatHand):
    """Joints without a mesh; what the crop shows is the palm, and left of its 30th pixel the thumb's tip."""

    crop_size = 72

    def predict_step(self, batch: HandBatch, batch_idx: int = 0) -> HandPrediction:
        prediction = super().predict_step(batch)
        parts = (batch["depth"][:, 0] > 0).to(torch.uint8)
        parts[..., :30] *= 4
        parts = torch.where(batch["mirrored"][:, None, None], parts.flip(-1), parts)
        return replace(prediction, vertices=None, parts=parts)


class ColourHand(FlatHand):
    """The flat hand half a metre before the middle of a photograph's crop, as bright as what it sees."""

    crop_size = 64
    source_needs: ClassVar = {"every": ["rgb"], "some": []}

    def predict_step(self, batch: HandBatch, batch_idx: int = 0) -> HandPrediction:
        size = batch["rgb"].shape[-1]
        middle = torch.full((len(batch["rgb"]), 1, 2), (size - 1) / 2)
        centre = unproject(middle, torch.full((len(middle), 1), 0.5), batch["K"])[:, 0]
        confidence = batch["rgb"].mean((1, 2, 3))
        return replace(super().predict_step(HandBatch(batch | {"cube_centre": centre})), confidence=confidence)
