"""The rendered domains, stated once: who the hands are, how they are held, seen and sensed. Frozen and versioned.

`clean` is what a renderer can give without end: noise-free pictures of many identities over a broad prior. `sensor` is
what a real set looks like: a finite training set of two people in smooth sequences of gestures and grasps before a
camera, with the noise of real depth cameras, and a test split of other people in broader poses. `photo` is `clean`'s
hands and poses as colour pictures show them: with a forearm, before rooms, behind things, through a camera.

A domain is fixed before any method is run on it; whoever changes one gives it a new version. Identities and poses of a
split come from keys that contain domain, version and split, so no two splits share either.
"""

from dataclasses import dataclass, replace
from typing import Literal

from datamodules.pose_prior import PoseMix

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Viewpoints:
    """From where the hand is seen: the direction hand -> camera in the hand's frame, and the roll about that line.

    With probability `whole_sphere` the direction is uniform on the sphere; else it is a normal vector of standard
    deviation `spread` per axis about the palm's normal (share `palm`) or the back's, projected onto the sphere. The
    roll is about fingers-up: uniform with probability `whole_roll`, else normal of `roll_std` radians.
    """

    whole_sphere: float
    palm: float
    spread: float
    whole_roll: float
    roll_std: float


@dataclass(frozen=True)
class Population:
    """One split of a domain."""

    identities: int
    frames: int | None  # None: without end, new at every (seed, epoch, index)
    sequence: int  # frames per sequence; 1: every frame on its own
    poses: PoseMix | None  # None: sequences that move between gestures and grasps
    viewpoints: Viewpoints

    def __post_init__(self) -> None:
        if (self.poses is None) != (self.sequence > 1):
            raise ValueError("Population: sequences have no PoseMix, single frames need one")


@dataclass(frozen=True)
class Domain:
    """A rendered source."""

    name: str
    version: int
    train: Population
    val: Population
    test: Population
    sensors: tuple[tuple[str, str], ...]  # (camera preset, noise profile), drawn with equal chance
    distance: tuple[float, float]  # metres from camera to cube centre, uniform
    centre_jitter: float  # metres: std per axis of the detected centre about the hand's centroid, cut at 2 std
    photo: bool = False  # whether pictures are photographs (`datamodules.photo`), not bare renders

    @property
    def label(self) -> str:
        """`name/version`."""
        return f"{self.name}/{self.version}"

    def split(self, split: Split) -> Population:
        """The population of a split."""
        return {"train": self.train, "val": self.val, "test": self.test}[split]


FRAMES_PER_KEYFRAME = 25  # sequences pause every 25 frames: 0.8 s of a 30 Hz camera

_BROAD_POSES = PoseMix(random=0.45, gesture=0.2, grasp=0.15, transition=0.2)
_BROAD_VIEWS = Viewpoints(whole_sphere=0.4, palm=0.5, spread=0.7, whole_roll=0.4, roll_std=0.8)
_PHOTO_VIEWS = Viewpoints(whole_sphere=0.15, palm=0.5, spread=0.6, whole_roll=0.4, roll_std=0.9)  # few along the arm
_FACING = Viewpoints(whole_sphere=0.0, palm=0.7, spread=0.35, whole_roll=0.0, roll_std=0.45)
_FACING_WIDER = Viewpoints(whole_sphere=0.1, palm=0.6, spread=0.5, whole_roll=0.05, roll_std=0.6)

CLEAN = Domain(
    name="clean",
    version=1,
    train=Population(identities=10_000, frames=None, sequence=1, poses=_BROAD_POSES, viewpoints=_BROAD_VIEWS),
    val=Population(identities=100, frames=2_000, sequence=1, poses=_BROAD_POSES, viewpoints=_BROAD_VIEWS),
    test=Population(identities=100, frames=2_000, sequence=1, poses=_BROAD_POSES, viewpoints=_BROAD_VIEWS),
    sensors=(("nyu", "none"), ("sr300", "none"), ("realsense-d435", "none")),
    distance=(0.4, 1.2),
    centre_jitter=0.008,
)

# Sizes: NYU's training set shows one subject, its test set two (one of them new); distances are NYU's test range.
SENSOR = Domain(
    name="sensor",
    version=1,
    train=Population(identities=2, frames=6_000, sequence=100, poses=None, viewpoints=_FACING),
    val=Population(identities=2, frames=1_000, sequence=100, poses=None, viewpoints=_FACING),
    test=Population(identities=20, frames=2_000, sequence=1, poses=_BROAD_POSES, viewpoints=_FACING_WIDER),
    sensors=(("nyu", "nyu"), ("sr305", "sr305")),
    distance=(0.52, 1.17),
    centre_jitter=0.008,
)

PHOTO = Domain(
    name="photo",
    version=1,
    train=replace(CLEAN.train, viewpoints=_PHOTO_VIEWS),
    val=replace(CLEAN.val, viewpoints=_PHOTO_VIEWS),
    test=replace(CLEAN.test, viewpoints=_PHOTO_VIEWS),
    sensors=(("sr300", "none"), ("realsense-d435", "none")),
    distance=(0.3, 1.2),
    centre_jitter=0.008,
    photo=True,
)

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (CLEAN, SENSOR, PHOTO)}
