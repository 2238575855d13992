"""What a reader of a dataset gives: labelled pictures one by one, whole, in the contract's units and joint order.

A reader is a `HandDataset`: a folder and its options, checked when it is made. `frames(split)` opens a split: a list of
records that costs one pass over the annotation file and holds no picture. `frame(i)` reads one picture when it is asked
to, in whatever process asks. Cropping, mirroring, mixing and augmenting are the same for all readers and happen after.

Space: OpenCV camera (x right, y down, z forward), metres, pixel centres at integers. Joints are canonical.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Split = Literal["train", "val", "test"]
Flag = Literal["rgb", "depth", "mask", "parts", "mesh", "3d", "2d"]  # the batch contract's has_<flag>


@dataclass(frozen=True, eq=False)
class HandFrame:
    """One hand in one picture, as pictured (not mirrored). H W picture, V vertices, P points of the dataset itself."""

    key: str  # dataset/split/record, unique
    side: int  # 0 left, 1 right
    K: np.ndarray  # (3, 3) float64 pixels of the whole picture
    size: tuple[int, int]  # height, width of the whole picture
    joints_3d: np.ndarray | None = None  # (21, 3) float32 metres, canonical, 0 where not valid
    joint_valid: np.ndarray | None = None  # (21,) bool: labelled in 3D; None: all that joints_3d has
    joints_2d: np.ndarray | None = None  # (21, 2) float32 pixels; None: the projection of joints_3d
    joint_visible: np.ndarray | None = None  # (21,) bool: seen in the picture; None: the dataset does not say
    palm: np.ndarray | None = None  # (3,) metres: the dataset's palm point
    points: np.ndarray | None = None  # (P, 3) float32 metres: the labels in the dataset's own order, for its protocol
    vertices: np.ndarray | None = None  # (V, 3) float32 metres
    hand_model: str = ""  # id of the hand model of `vertices`
    cube_side: float = 0.3  # metres: the cube that the dataset's protocol crops
    cube_centre: np.ndarray | None = None  # (3,) float32 metres: where a detector found the hand; None: the mean joint
    cut: str = ""  # name of the `CropRule` by which the picture is cut already; "": it is whole
    depth: np.ndarray | None = None  # (H, W) float32 metres, 0 = missing
    rgb: np.ndarray | None = None  # (H, W, 3) uint8
    mask: np.ndarray | None = None  # (H, W) bool, this hand alone
    parts: np.ndarray | None = None  # (H, W) uint8: 0 background, 1 palm, 2-20 finger parts, 255 unlabelled


class HandFrames(ABC):
    """The records of one split. Cheap to pickle: workers get a copy each."""

    dataset: str  # name of the source: the batch's `domain`
    split: Split
    convention: str  # joint convention of joints_3d (ops.hand_model.conventions)
    provides: frozenset[Flag]  # what every frame has
    expected: int | None  # frames that the published split has; None: not known
    note: str = ""  # what the check command says beside the count: which of several published counts it is

    @abstractmethod
    def __len__(self) -> int:
        """Number of records."""

    def size(self, epoch: int) -> int:
        """Records that `epoch` draws from, the first so many: all, but for a set that grows while it is trained on."""
        return len(self)

    @abstractmethod
    def labels(self, index: int) -> HandFrame:
        """All of record `index` but its pictures, without opening one."""

    @abstractmethod
    def frame(self, index: int) -> HandFrame:
        """Record `index` with its pictures.

        Raises:
            BadFrame: a file is missing, cut off, of another size or kind, or a label is not finite.
        """

    @abstractmethod
    def files(self, index: int) -> Sequence[Path]:
        """The pictures of record `index`."""


def digest(frames: HandFrames, samples: int = 64) -> str:
    """What tells one copy of a dataset from another: how many records it has, and names and joints of some of them."""
    count = frames.size(0)
    found = hashlib.sha256(f"{frames.dataset} {frames.split} {frames.convention}".encode())
    for index in np.unique(np.linspace(0, count - 1, samples).astype(int)) if count else ():
        labels = frames.labels(int(index))
        found.update(labels.key.encode())
        if labels.joints_3d is not None:
            found.update(np.ascontiguousarray(labels.joints_3d, "<f4").tobytes())
    return f"{count} records, {found.hexdigest()[:12]}"


class HandSource(ABC):
    """What a mixture can draw from; one class, so that a configuration's mistake is told once."""

    name: str


class HandDataset(HandSource):
    """A dataset in a folder. Constructors check that the folder looks like the dataset and read nothing else."""

    @abstractmethod
    def frames(self, split: Split) -> HandFrames:
        """Open a split. Where no validation split is published, `val` is the end of the published training set."""


class BadFrame(ValueError):
    """A record that cannot be used; the message names the file, what was expected and the remedy."""


def held_out(total: int, split: Split, val_share: float = 0.02) -> range:
    """Records of `train` or `val` within a published training set of `total` records.

    The validation part is the last `val_share` of it, in one piece: neighbouring frames of a video are nearly equal,
    and a random choice would validate on what was trained on.
    """
    if split == "test":
        raise ValueError("split: 'test' is not part of a training set")
    if not 0 < val_share < 1:
        raise ValueError(f"val_share: expected a share in (0, 1), got {val_share}")
    edge = total - max(1, round(total * val_share))
    return range(edge) if split == "train" else range(edge, total)
