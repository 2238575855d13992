"""A dataset of a few frames, whose files tests spoil one by one."""

from pathlib import Path

import cv2
import numpy as np

from datamodules.check.fit import hand_bends
from datamodules.frames import BadFrame, HandDataset, HandFrame, HandFrames

HEIGHT, WIDTH, FOCAL = 120, 160, 150.0
K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])


def write_toy(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Right hands half a metre away, the depth picture a wall one centimetre before each hand's nearest joint."""
    generator = np.random.default_rng(seed)
    hands = hand_bends().numpy()
    joints = []
    for index in range(count):
        hand = hands[index % len(hands)]
        joints.append(hand - hand.mean(0) + [*generator.uniform(-0.03, 0.03, 2), 0.5])
        wall = round(1000 * (joints[-1][:, 2].min() - 0.01))
        cv2.imwrite(str(folder / f"{index}.png"), np.full((HEIGHT, WIDTH), wall, np.uint16))
    np.save(folder / "joints.npy", np.stack(joints).astype(np.float32))
    return folder


class Toy(HandDataset):
    """The toy.

    Args:
        folder: where it lies.
        side: stated for all hands, 0 or 1.
        order: "right" or "reversed".
        flip: axes whose sign is wrong.
        count: frames that the split should have.
        note: to the count.
    """

    name = "toy"

    def __init__(
        self, folder: Path, side: int = 1, order: str = "right", flip: str = "", count: int | None = 6, note: str = ""
    ) -> None:
        if not (folder / "joints.npy").is_file():
            raise FileNotFoundError(f"{folder}: expected joints.npy of the toy; unpack it there")
        if side not in (0, 1):
            raise ValueError(f"side: expected 0 or 1, got {side}")
        self.arguments = (folder, side, order, flip, count, note)

    def frames(self, split: str) -> "ToyFrames":
        if split == "val":
            raise FileNotFoundError("val.txt: no such file")
        return ToyFrames(split, *self.arguments)


class ToyFrames(HandFrames):
    """The toy's only split."""

    dataset, convention = "toy", "open"
    provides = frozenset({"depth", "3d", "2d"})

    def __init__(
        self, split: str, folder: Path, side: int, order: str, flip: str, count: int | None, note: str
    ) -> None:
        self.note = note
        self.split, self.folder, self.side, self.expected = split, folder, side, count
        self.joints = np.load(folder / "joints.npy")
        self.joints_2d = (self.joints / self.joints[..., 2:]) @ K.T.astype(np.float32)
        if order == "reversed":
            self.joints, self.joints_2d = (x[:, [0, *range(20, 0, -1)]] for x in (self.joints, self.joints_2d))
        for axis in flip:
            self.joints[..., "xyz".index(axis)] *= -1

    def __len__(self) -> int:
        return len(self.joints)

    def labels(self, index: int) -> HandFrame:
        return HandFrame(
            key=f"toy/{self.split}/{index}",
            side=self.side,
            K=K,
            size=(HEIGHT, WIDTH),
            joints_3d=self.joints[index],
            joints_2d=self.joints_2d[index, :, :2],
        )

    def frame(self, index: int) -> HandFrame:
        from dataclasses import replace

        (path,) = self.files(index)
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if depth is None:
            raise BadFrame(f"{path}: cut off; get it anew")
        return replace(self.labels(index), depth=depth.astype(np.float32) / 1000)

    def files(self, index: int) -> list[Path]:
        return [self.folder / f"{index}.png"]
