"""Draws the parameters of rendered hands: pure functions of (seed, split, epoch, index), vectorised over indices."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from datamodules.appearance import Appearance, draw_appearance
from datamodules.domains import FRAMES_PER_KEYFRAME, SPLITS, Domain, Population, Split, Viewpoints
from datamodules.pose_prior import PosePrior
from datamodules.sensor_noise import NOISE_PROFILES
from datamodules.streams import Draws, Keys, keys_of
from ops.camera import CAMERA_PRESETS
from ops.checks import check_choice
from ops.hand_model import HandModel

CUBE_SIDE = 0.3  # metres, the usual crop cube of NYU
MAX_SHAPE = 3.0  # the open hand's shape space is made for |beta| <= 3
# in the hand's frame
_FINGERS_UP = np.array([-1.0, 0.0, 0.0])
_DORSAL = np.array([0.0, 1.0, 0.0])


class HandParameters(NamedTuple):
    """All that a picture depends on. B samples, S shape components; metres, radians, camera frame."""

    pose: Tensor  # (B, 15, 3, 3) rotations of the finger joints
    shape: Tensor  # (B, S)
    global_rotation: Tensor  # (B, 3, 3) hand frame -> camera frame
    hand_centre: Tensor  # (B, 3) where the mean of the mesh's vertices goes
    cube_centre: Tensor  # (B, 3) the detected centre: hand_centre plus jitter
    camera: Tensor  # (B, 3, 3) K of the full frame, pixels
    original_size: Tensor  # (B, 2) int64 height, width of the full frame
    noise: Tensor  # (B, P) float32 rows of `sensor_noise.NOISE_PROFILES`
    noise_key: Tensor  # (B,) int64 in 0..2^32 - 1
    identity: Tensor  # (B,) int64 within the split
    side: Tensor  # (B,) int64: 0 left (drawn as its mirror image), 1 right
    appearance: Appearance  # for RGB
    photo: Tensor  # (B,) bool: seen as in a photograph, with forearm, room, occluders and a camera's faults


class HandSampler:
    """Samples of one domain.

    Args:
        domain: one of `datamodules.domains.DOMAINS`.
        model: the hand model, right, with axes and limits.
        left_share: share of samples that show a left hand; a network sees them mirrored, i.e. as right hands.
    """

    def __init__(self, domain: Domain, model: HandModel, left_share: float = 0.0) -> None:
        if not 0 <= left_share <= 1:
            raise ValueError(f"left_share: expected a share in [0, 1], got {left_share}")
        self.domain = domain
        self.left_share = left_share
        self.prior = PosePrior(model)
        self.components = model.shapedirs.shape[-1]
        presets = [CAMERA_PRESETS[camera] for camera, _ in domain.sensors]
        self._cameras = np.array([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] for fx, fy, cx, cy, *_ in presets])
        self._sizes = np.array([[height, width] for *_, width, height in presets])
        self._noise = np.array([NOISE_PROFILES[noise].row() for _, noise in domain.sensors], dtype=np.float32)

    def sample(self, seed: int, split: Split, epoch: int, indices: np.ndarray) -> HandParameters:
        """Parameters of samples `indices` (B,) of an epoch.

        The frames of `val`, `test` and of a finite `train` are the same whatever the seed; seed and epoch then only
        shuffle a finite `train`. An endless `train` is new at every (seed, epoch, index).
        """
        check_choice("split", split, SPLITS)
        population = self.domain.split(split)
        word = f"{self.domain.label}/{split}"
        frames = self.frames(seed, split, epoch, indices)
        if population.frames is None:
            keys = sequences = keys_of(word, "frame", seed, epoch, frames)
        else:
            keys = keys_of(word, "frame", frames)
            sequences = keys_of(word, "sequence", frames // population.sequence)
        identity = (keys_of("identity of", sequences) % np.uint64(population.identities)).astype(np.int64)
        shape = self.shapes(split, identity)
        state = self._states(population, sequences, frames % population.sequence, shape)
        return self._parameters(split, keys, sequences, identity, shape, state)

    def frames(self, seed: int, split: Split, epoch: int, indices: np.ndarray) -> np.ndarray:
        """Frame numbers (B,) of samples: the index itself, or the shuffled place in a finite training set.

        Raises:
            ValueError: an index beyond the end of `val` or `test`.
        """
        indices = np.asarray(indices, dtype=np.int64)
        total = self.domain.split(split).frames
        if total is None:
            return indices
        if split != "train":
            if len(indices) and indices.max() >= total:
                raise ValueError(f"{self.domain.label}/{split} has {total} frames, got index {indices.max()}")
            return indices
        passes = indices // total
        orders = {int(p): _order(seed, epoch, int(p), total) for p in np.unique(passes)}
        return np.array([orders[int(p)][i % total] for p, i in zip(passes, indices, strict=True)], dtype=np.int64)

    def record_names(self, seed: int, split: Split, epoch: int, indices: np.ndarray) -> list[str]:
        """Names `domain/version/split/record`: the frame's number, or seed-epoch-index of an endless set."""
        word = f"{self.domain.label}/{split}"
        if self.domain.split(split).frames is None:
            return [f"{word}/{seed}-{epoch}-{index}" for index in indices]
        return [f"{word}/{frame:06d}" for frame in self.frames(seed, split, epoch, indices)]

    def shapes(self, split: Split, identity: np.ndarray) -> np.ndarray:
        """Shape parameters (B, S) of identities (B,): standard normal, cut at |beta| = 3."""
        draws = Draws(keys_of(f"{self.domain.label}/{split}", "identity", identity))
        edge = ndtr(-MAX_SHAPE)
        return ndtri(draws.uniform(edge, 1 - edge, (self.components,)))

    def _states(self, population: Population, sequences: Keys, place: np.ndarray, shape: np.ndarray) -> "_State":
        if population.sequence == 1:
            angles = self.prior.draw(sequences, population.poses, shape)
            return _state(sequences, sequences, population.viewpoints, angles)
        step, part = np.divmod(place, FRAMES_PER_KEYFRAME)
        way = part / FRAMES_PER_KEYFRAME
        way = way * way * (3 - 2 * way)  # starts and stops softly
        ends = []
        for keyframe in (step, step + 1):
            keys = keys_of(sequences, keyframe)
            ends.append(_state(keys, sequences, population.viewpoints, self.prior.keyframe(keys)))
        between = [a + way.reshape(-1, *(1,) * (a.ndim - 1)) * (b - a) for a, b in zip(*ends, strict=True)]
        state = _State(*between)
        return state._replace(angles=self.prior.open_until_free(state.angles, shape))

    def _parameters(
        self, split: Split, keys: Keys, sequences: Keys, identity: np.ndarray, shape: np.ndarray, state: "_State"
    ) -> HandParameters:
        sensor = Draws(keys_of("sensor of", sequences)).choice((1.0,) * len(self._cameras))
        camera, size = self._cameras[sensor], self._sizes[sensor]
        low, high = self.domain.distance
        cube_centre = _inside_frame(state.place, low + (high - low) * state.place[:, 2], camera, size)
        draws = Draws(keys_of("detector", keys))
        jitter = self.domain.centre_jitter * np.clip(draws.normal((3,)), -2, 2)
        left = draws.uniform() < self.left_share
        people = keys_of(self.domain.label, split, identity)
        return HandParameters(
            pose=_float(self.prior.rotations(state.angles)),
            shape=_float(shape),
            global_rotation=_float(_look_at(state.direction, state.roll)),
            hand_centre=_float(cube_centre - jitter),
            cube_centre=_float(cube_centre),
            camera=_float(camera),
            original_size=torch.from_numpy(size),
            noise=torch.from_numpy(self._noise[sensor]),
            noise_key=torch.from_numpy((keys_of("noise", keys) >> np.uint64(32)).astype(np.int64)),
            identity=torch.from_numpy(identity),
            side=torch.from_numpy(np.where(left, 0, 1)),
            appearance=draw_appearance(keys, people),
            photo=torch.full((len(identity),), self.domain.photo),
        )


class _State(NamedTuple):
    """What moves along a sequence."""

    angles: np.ndarray  # (B, 16, 2)
    direction: np.ndarray  # (B, 3) hand -> camera, hand frame, any length
    roll: np.ndarray  # (B,)
    place: np.ndarray  # (B, 3) in [0, 1]: across, down, away


def _state(keys: Keys, sequences: Keys, viewpoints: Viewpoints, angles: np.ndarray) -> _State:
    """A state per key (B,); the side of the hand that faces the camera stays throughout a sequence (B,)."""
    side = Draws(keys_of("facing", sequences))
    facing = np.where(side.uniform(shape=(1,)) < viewpoints.palm, -_DORSAL, _DORSAL)
    anywhere = side.uniform(shape=(1,)) < viewpoints.whole_sphere
    draws = Draws(keys_of("view", keys))
    normal = draws.normal((3,))
    direction = np.where(anywhere, normal, facing + viewpoints.spread * normal)
    free = draws.uniform() < viewpoints.whole_roll
    roll = np.where(free, draws.uniform(-np.pi, np.pi), viewpoints.roll_std * draws.normal())
    return _State(angles, direction, roll, draws.uniform(shape=(3,)))


def _look_at(direction: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotations (B, 3, 3) hand frame -> camera frame of a camera in `direction`, fingers up, then rolled."""
    forward = -direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    across = np.cross(forward, _FINGERS_UP)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    down = np.cross(forward, across)
    upright = np.stack([across, down, forward], 1)
    cosine, sine, zero, one = np.cos(roll), np.sin(roll), np.zeros_like(roll), np.ones_like(roll)
    rows = [cosine, -sine, zero, sine, cosine, zero, zero, zero, one]
    return np.stack(rows, -1).reshape(-1, 3, 3) @ upright


def _inside_frame(place: np.ndarray, z: np.ndarray, camera: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Cube centres (B, 3) at depth z (B,) whose square crop lies inside the frame."""
    focal = camera[:, 0, 0]
    half = focal * CUBE_SIDE / z / 2
    extent = size[:, ::-1]  # width, height
    pixel = half[:, None] - 0.5 + place[:, :2] * np.maximum(extent - 2 * half[:, None], 0)
    ray = (pixel - camera[:, :2, 2]) / np.stack([camera[:, 0, 0], camera[:, 1, 1]], -1)
    return np.concatenate([ray * z[:, None], z[:, None]], 1)


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, number: int, total: int) -> np.ndarray:
    """The order of a finite training set in its pass `number` within an epoch."""
    return np.argsort(Draws(keys_of("order", seed, epoch, number, np.arange(total))).uniform(), kind="stable")


def join(several: Sequence[HandParameters], order: np.ndarray) -> HandParameters:
    """Parameters of several draws one after another, then sorted so that place i holds sample `order[i]`."""

    def joined(parts: tuple[Tensor, ...] | tuple[Appearance, ...]) -> Tensor | Appearance:
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)[order]
        return type(parts[0])(*map(joined, zip(*parts, strict=True)))

    return joined(tuple(several))


def rows_of_parameters(parameters: HandParameters, rows: Tensor) -> HandParameters:
    """Some samples, in the order of rows (R,)."""

    def chosen(field: Tensor | Appearance) -> Tensor | Appearance:
        return field[rows] if isinstance(field, Tensor) else type(field)(*map(chosen, field))

    return HandParameters(*map(chosen, parameters))


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
