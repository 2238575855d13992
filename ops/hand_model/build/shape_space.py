"""The shape space: hands sampled from MakeHuman's targets, unbent, varied bone by bone, and their principal components.

MakeHuman's targets alone are 98 % overall size, so every sample is also stretched per bone by 2-3.5 % (the scatter of
published hand measures within one sex; artists' targets and this scatter are no anthropometric data).
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ops.hand_model.build.makehuman import ROOT, read_target
from ops.hand_model.build.region import Region
from ops.hand_model.build.rig import FINGER_JOINTS, bone_directions, move_tips, rotation_between, skin, unit

SAMPLES = 1500
COMPONENTS = 10
_TARGETS = f"{ROOT}targets/"
_MACROS = re.compile(rf"{_TARGETS}macrodetails/((height|proportions)/)?[^/]+\.target\.gz")
LOCAL_SPREADS = {  # standard deviation of each slider, in the order of the random stream
    "r-hand-scale": 0.06,
    "r-hand-fingers-length": 0.10,
    "r-hand-fingers-diameter": 0.45,
    "r-hand-fingers-distance": 0.3,
    "measure-wrist-circ": 0.5,
}


@dataclass(frozen=True)
class Person:
    """MakeHuman's sliders, each in 0..1 (local ones in -1..1); the defaults are its average adult."""

    gender: float = 0.5  # 1 male
    old: float = 0.2
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5
    proportions: float = 0.5
    race: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)  # african, asian, caucasian
    local: Mapping[str, float] = field(default_factory=dict)

    def factors(self) -> dict[str, float]:
        """Weight of each word in a macro target's name; a target counts with the product of its words."""
        factors = {"male": self.gender, "female": 1 - self.gender, "young": 1 - self.old, "old": self.old}
        factors |= _anchors(self.muscle, "minmuscle", "averagemuscle", "maxmuscle")
        factors |= _anchors(self.weight, "minweight", "averageweight", "maxweight")
        factors |= _anchors(self.height, "minheight", "averageheight", "maxheight")
        factors |= _anchors(self.proportions, "uncommonproportions", "averageproportions", "idealproportions")
        return factors | dict(zip(("african", "asian", "caucasian"), self.race, strict=True)) | {"universal": 1.0}


def _anchors(value: float, low: str, middle: str, high: str) -> dict[str, float]:
    """Linear interpolation between named anchors at 0, 1/2 and 1."""
    return {low: max(0.0, 1 - 2 * value), middle: 1 - abs(2 * value - 1), high: max(0.0, 2 * value - 1)}


class ShapeModel:
    """Gives the hand of a person: vertices (V, 3), joints (16, 3), tips (5, 3), unbent to the rest pose, metres."""

    def __init__(self, archive: zipfile.ZipFile, region: Region) -> None:
        self.region = region
        self.ids = region.needed_ids
        self._archive = archive
        self._macros = {_words(path): self._target(path) for path in archive.namelist() if _is_adult_macro(path)}
        self._locals = {
            name: tuple(self._target(f"{_TARGETS}hands/{name}-{end}.target.gz") for end in ("decr", "incr"))
            for name in LOCAL_SPREADS
        }
        _, joints, tips = region.split(self._points(Person()))
        self.relaxed_directions = bone_directions(joints, tips)
        self.rest_directions = _unbent(self.relaxed_directions)

    def hand(self, person: Person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices, joints and tips of this person's hand in the rest pose."""
        vertices, joints, tips = self.region.split(self._points(person))
        directions = bone_directions(joints, tips)
        turns = [rotation_between(directions[j], self.rest_directions[j]) for j in range(1, 16)]
        bones = np.stack([np.eye(3), *turns])
        vertices, joints, offsets = skin(vertices, joints, self.region.weights, bones)
        return vertices, joints, move_tips(tips, bones, offsets)

    def _target(self, path: str) -> np.ndarray:
        return read_target(self._archive.read(path), len(self.region.body))[self.ids]

    def _points(self, person: Person) -> np.ndarray:
        points = self.region.body[self.ids].copy()
        factors = person.factors()
        for words, displacements in self._macros.items():
            weight = np.prod([factors[word] for word in words])
            if weight:
                points += weight * displacements
        for name, value in person.local.items():
            decrease, increase = self._locals[name]
            points += max(-value, 0) * decrease + max(value, 0) * increase
        return points


def _words(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")[-1].removesuffix(".target.gz").split("-"))


def _is_adult_macro(path: str) -> bool:
    return bool(_MACROS.fullmatch(path)) and not {"baby", "child"} & set(_words(path))


def _unbent(relaxed: np.ndarray) -> np.ndarray:
    """Bone directions of the rest pose (16, 3): MakeHuman's hand is relaxed, 16-36 degrees of flexion, ours is flat.

    Fingers keep their fan and drop by 6, 8, 10 degrees below the palm's plane, base to tip; the thumb is lifted by 18
    degrees about the hand's length.
    """
    rest = relaxed.copy()
    for finger, joints in FINGER_JOINTS.items():
        for k, joint in enumerate(joints):
            x, _, z = unit(relaxed[joint])
            if finger == "thumb":
                rest[joint] = _about_x(18) @ relaxed[joint]
            else:
                drop, fan = np.deg2rad((6, 8, 10)[k]), np.arctan2(z, -x)
                rest[joint] = [-np.cos(fan) * np.cos(drop), -np.sin(drop), np.sin(fan) * np.cos(drop)]
    return rest


def _about_x(degrees: float) -> np.ndarray:
    """Rotation about -x, which lifts +z towards +y."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def sample_person(rng: np.random.Generator) -> Person:
    """A random adult. The order of the draws is part of the hand's definition."""
    gender = float(np.clip(rng.choice([0.1, 0.9]) + rng.normal(0, 0.1), 0, 1))
    old = float(rng.beta(1.2, 3))
    muscle, weight, height, proportions = (
        float(np.clip(rng.normal(0.5, spread), 0, 1)) for spread in (0.18, 0.18, 0.045, 0.2)
    )
    race = tuple(rng.dirichlet([0.6] * 3))
    local = {name: rng.normal(0, spread) for name, spread in LOCAL_SPREADS.items()}
    return Person(gender, old, muscle, weight, height, proportions, race, local)


def sample_stretch(rng: np.random.Generator, directions: np.ndarray) -> np.ndarray:
    """Random stretch of every bone (16, 3, 3): palm along x, y, z; fingers along and across the bone."""

    def factor(spread: float) -> float:
        return float(np.exp(rng.normal(0, spread)))

    length, girth = factor(0.025), factor(0.03)
    palm_length, palm_breadth, palm_thickness = factor(0.02), factor(0.03), factor(0.035)
    lengths = {finger: length * factor(0.03) for finger in FINGER_JOINTS}
    girths = {finger: girth * factor(0.02) for finger in FINGER_JOINTS}
    bones = np.zeros((16, 3, 3))
    bones[0] = np.diag([palm_length, palm_thickness, palm_breadth])
    for finger, joints in FINGER_JOINTS.items():
        for joint in joints:
            bones[joint] = stretch(directions[joint], lengths[finger] * factor(0.02), girths[finger])
    return bones


def stretch(direction: np.ndarray, along: float, across: float) -> np.ndarray:
    """Matrix (3, 3) that scales by `along` in a direction and by `across` at right angles to it."""
    axis = unit(direction)
    return across * np.eye(3) + (along - across) * np.outer(axis, axis)


@dataclass(frozen=True)
class ShapeSpace:
    """Means and principal components of the sampled hands (V vertices, S samples)."""

    plain_mean: np.ndarray  # (V, 3) mean before the stretch: it fixes the quads' diagonals
    plain_directions: np.ndarray  # (16, 3) bone directions of that mean: the axes of the training poses
    mean: np.ndarray  # (V, 3)
    components: np.ndarray  # (V, 3, 10) metres per standard deviation
    joints: np.ndarray  # (16, 3) mean
    tips: np.ndarray  # (5, 3) mean
    sample_vertices: np.ndarray  # (S, V, 3)
    sample_joints: np.ndarray  # (S, 16, 3)


def build_shape_space(model: ShapeModel, samples: int = SAMPLES) -> ShapeSpace:
    """Sample hands, stretch them, and take the principal components."""
    rng, stretch_rng = np.random.default_rng(0), np.random.default_rng(1)
    hands = [model.hand(sample_person(rng)) for _ in range(samples)]
    plain = np.array([vertices for vertices, _, _ in hands]).astype(np.float32).astype(np.float64)
    plain_mean = plain.mean(0)
    plain_directions = bone_directions(*(np.mean([hand[part] for hand in hands], 0) for part in (1, 2)))
    stretched = []
    for vertices, (_, joints, tips) in zip(plain, hands, strict=True):
        bones = sample_stretch(stretch_rng, bone_directions(joints, tips))
        vertices, joints, offsets = skin(vertices, joints, model.region.weights, bones)
        stretched.append((vertices, joints, move_tips(tips, bones, offsets)))
    vertices, joints, tips = (np.array(part) for part in zip(*stretched, strict=True))
    mean = vertices.mean(0)
    return ShapeSpace(
        plain_mean=plain_mean,
        plain_directions=plain_directions,
        mean=mean,
        components=principal_components(vertices, COMPONENTS),
        joints=joints.mean(0),
        tips=tips.mean(0),
        sample_vertices=vertices,
        sample_joints=joints,
    )


def principal_components(samples: np.ndarray, count: int) -> np.ndarray:
    """Principal components (V, 3, count) of samples (S, V, 3), each one standard deviation long.

    The sign is fixed: positive moves the point furthest along -x (the middle fingertip) outwards.
    """
    mean = samples.mean(0)
    _, values, rows = np.linalg.svd((samples - mean).reshape(len(samples), -1), full_matrices=False)
    components = (values[:count, None] * rows[:count]).reshape(count, *mean.shape) / np.sqrt(len(samples) - 1)
    tip = mean[:, 0].argmin()
    components *= np.where(components[:, tip, 0] > 0, -1.0, 1.0)[:, None, None]
    return np.ascontiguousarray(np.moveaxis(components, 0, -1))
