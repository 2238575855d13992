"""A dataset without files: a blob of colour and depth at every joint, so that pixels can be held against labels."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from datamodules.frames import BadFrame, Flag, HandDataset, HandFrame, HandFrames, Split
from datamodules.streams import Draws, keys_of

K = np.array([[150.0, 0, 77], [0, 150.0, 63], [0, 0, 1]])
SIZE = (120, 160)
BLOB = 2.5  # pixels, standard deviation


def blobs(joints: np.ndarray, K: np.ndarray, size: tuple[int, int], sigma: float = BLOB) -> np.ndarray:
    """(H, W) in [0, 1]: a Gaussian at each projected joint."""
    rays = joints @ K.T
    pixels = rays[:, :2] / rays[:, 2:]
    v, u = np.mgrid[: size[0], : size[1]]
    distance = (u[..., None] - pixels[:, 0]) ** 2 + (v[..., None] - pixels[:, 1]) ** 2
    return np.exp(-distance / (2 * sigma**2)).max(-1)


def offset(ours: np.ndarray, drawn: np.ndarray) -> float:
    """How far, in pixels, the picture `ours` (H, W) lies from `drawn`, by least squares; blur does not matter."""
    down, across = np.gradient(drawn)
    slopes = np.stack([across.ravel(), down.ravel()], -1)
    return float(np.linalg.norm(np.linalg.lstsq(slopes, (drawn - ours).ravel(), rcond=None)[0]))


@lru_cache(maxsize=64)
def _picture(joints: bytes) -> np.ndarray:
    return blobs(np.frombuffer(joints, np.float32).reshape(21, 3), K, SIZE)


class FakeFrames(HandFrames):
    def __init__(self, name, split, count, provides, side, bad, grows, vertices):
        self.dataset, self.split, self.count = name, split, count
        self.provides = frozenset(provides)
        self.convention, self.expected = "open", None
        self.side, self.bad, self.grows, self.vertices = side, set(bad), grows, vertices

    def __len__(self):
        return self.count

    def size(self, epoch: int) -> int:
        return min(self.count, self.grows * (epoch + 1)) if self.grows else self.count

    def joints(self, index: int) -> np.ndarray:
        draws = Draws(keys_of(self.dataset, self.split, index))
        return (draws.uniform(-0.05, 0.05, (21, 3))[0] + [0.01, -0.02, 0.5]).astype(np.float32)

    def labels(self, index: int) -> HandFrame:
        joints = self.joints(index)
        return HandFrame(
            key=f"{self.dataset}/{self.split}/{index}",
            side=self.side,
            K=K,
            size=SIZE,
            joints_3d=joints,
            vertices=np.repeat(joints, 2, 0)[: self.vertices] if "mesh" in self.provides else None,
            hand_model=f"{self.dataset} hand" if "mesh" in self.provides else "",
            palm=joints[[0, 9]].mean(0),
        )

    def frame(self, index: int) -> HandFrame:
        if index in self.bad:
            raise BadFrame(f"{self.dataset}/{index}.png: cut off; copy it again")
        frame = self.labels(index)
        shape = _picture(frame.joints_3d.tobytes())
        near = shape > 0.5
        pictures = {
            "rgb": np.repeat((255 * shape).astype(np.uint8)[..., None], 3, 2),
            "depth": np.where(near, 0.5, 0).astype(np.float32),
            "mask": near,
            "parts": near.astype(np.uint8) * 3,
        }
        return HandFrame(**vars(frame) | {name: pictures[name] for name in pictures if name in self.provides})

    def files(self, index: int) -> Sequence[Path]:
        return ()


class FakeDataset(HandDataset):
    """See `FakeFrames`; `count` records in every split, all of them there from epoch 0 on unless it `grows`."""

    def __init__(
        self,
        name: str = "fake",
        count: int = 20,
        provides: Sequence[Flag] = ("depth", "3d", "2d"),
        side: int = 1,
        bad: Sequence[int] = (),
        grows: int = 0,
        vertices: int = 42,
    ):
        self.name = name
        self.settings = count, provides, side, bad, grows, vertices

    def frames(self, split: Split) -> FakeFrames:
        return FakeFrames(self.name, split, *self.settings)
