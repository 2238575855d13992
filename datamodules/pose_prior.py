"""Hand poses within anatomical limits: random articulation with finger correlation, gestures, grasps, and transitions.

A pose is (B, 16, 2) radians, [flexion, abduction] of the model's joints about `HandModel.flexion_axes` and
`abduction_axes`, inside `HandModel.limits`. Fingers that enter one another are drawn again, then opened.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.special import ndtr

from datamodules.gestures import GESTURES, GRASPS, angle_table
from datamodules.self_contact import TOLERANCE, BoneCapsules
from datamodules.streams import Draws, Keys, keys_of
from ops.hand_model import HandModel

# The DIP cannot be bent alone; about 2/3 of the PIP's angle (Rijpkema, Girard, SIGGRAPH 1991; Lin, Wu, Huang 2000).
_DIP_OF_PIP = 2 / 3
_DIP_NOISE = np.deg2rad(6)
_NEIGHBOURS = 0.75  # correlation of neighbouring fingers' curl: enslaving falls off with distance between fingers
_ALONG_FINGER = 0.6  # correlation of MCP and PIP within a finger
_GESTURE_NOISE = np.deg2rad(7)
_ABDUCTION_NOISE = np.deg2rad(3)
_SPREAD_NOISE = np.deg2rad(5)
_FREE_ABDUCTION = np.deg2rad(60)  # beyond this MCP flexion the collateral ligaments leave no abduction
_REDRAWS = 3
# shares of the pose that are kept, (thumb, fingers), step by step from a penetrating pose to the rest pose
_OPENINGS = ((1, 1), (0.6, 1), (0.2, 1), (0.2, 0.9), (0.2, 0.8), (0.2, 0.65), (0.2, 0.5), (0.1, 0.25), (0, 0))
_FINGERS = (1, 4, 10, 7)  # first joints of index, middle, ring, little: neighbours stand side by side


@dataclass(frozen=True)
class PoseMix:
    """Shares of the kinds of pose; they sum to 1."""

    random: float
    gesture: float
    grasp: float
    transition: float  # part of the way from one gesture or grasp to another

    def __post_init__(self) -> None:
        total = self.random + self.gesture + self.grasp + self.transition
        if abs(total - 1) > 1e-9:
            raise ValueError(f"PoseMix: shares must sum to 1, got {total:g}")


class PosePrior:
    """Draws poses for one hand model.

    Args:
        model: a hand model with flexion and abduction axes and limits.

    Raises:
        ValueError: the model lacks them.
    """

    def __init__(self, model: HandModel) -> None:
        missing = [f for f in ("flexion_axes", "abduction_axes", "limits") if getattr(model, f) is None]
        if missing:
            raise ValueError(
                f"hand model '{model.name}' lacks {', '.join(missing)}, so poses within its limits cannot be drawn; "
                "use ops.hand_model.open_hand()"
            )
        self.limits = model.limits
        self.capsules = BoneCapsules.of(model)
        self._flexion = _generators(model.flexion_axes[1:])
        self._abduction = _generators(model.abduction_axes[1:])
        self._gestures = self.clip(angle_table(GESTURES))
        self._grasps = self.clip(angle_table(GRASPS))

    def clip(self, angles: np.ndarray) -> np.ndarray:
        """Angles (B, 16, 2) brought inside the limits."""
        return np.clip(angles, self.limits[..., 0], self.limits[..., 1])

    def rotations(self, angles: np.ndarray) -> np.ndarray:
        """Rotations (B, 15, 3, 3) of the finger joints: flexion, then abduction, about axes fixed to the parent."""
        rotations = np.empty((len(angles), 15, 3, 3))
        _rotate(self._flexion, self._abduction, angles, rotations)
        return rotations

    def draw(self, keys: Keys, mix: PoseMix, shape: np.ndarray) -> np.ndarray:
        """Poses (B, 16, 2) of keys (B,) for hands of `shape` (B, S), free of penetration beyond `TOLERANCE`."""
        angles = np.empty((len(keys), 16, 2))
        todo = np.arange(len(keys))
        for attempt in range(1 + _REDRAWS):
            angles[todo] = self._draw_once(Draws(keys_of(keys[todo], "pose", attempt)), mix)
            depth = self.capsules.penetration(self.rotations(angles[todo]), shape[todo])
            todo = todo[depth > TOLERANCE]
        return self.open_until_free(angles, shape, todo)

    def open_until_free(self, angles: np.ndarray, shape: np.ndarray, todo: np.ndarray | None = None) -> np.ndarray:
        """Poses moved towards rest, first the thumb alone, then every finger, until none enters another.

        Args:
            angles: (B, 16, 2) poses.
            shape: (B, S) shapes.
            todo: indices to look at; None looks at all.
        """
        todo = np.arange(len(angles)) if todo is None else todo
        opened = angles.copy()
        for thumb, fingers in _OPENINGS:
            opened[todo] = angles[todo]
            opened[todo, :13] *= fingers
            opened[todo, 13:] *= thumb
            depth = self.capsules.penetration(self.rotations(opened[todo]), shape[todo])
            todo = todo[depth > TOLERANCE]
            if not len(todo):
                break
        return opened  # at rest even the most extreme of hands, |shape| = 3 throughout, overlaps by 4 mm at most

    def keyframe(self, keys: Keys) -> np.ndarray:
        """Gestures and grasps (B, 16, 2) with noise: where a sequence pauses."""
        return self._posture(Draws(keys_of(keys, "keyframe")))

    def _draw_once(self, draws: Draws, mix: PoseMix) -> np.ndarray:
        kind = draws.choice((mix.random, mix.gesture, mix.grasp, mix.transition))
        angles = np.empty((len(kind), 16, 2))
        angles[kind == 1] = draws.only(kind == 1, lambda chosen: self._from_table(chosen, self._gestures))
        angles[kind == 2] = draws.only(kind == 2, lambda chosen: self._from_table(chosen, self._grasps))
        angles[kind == 3] = draws.only(kind == 3, self._between)
        angles[kind == 0] = draws.only(kind == 0, self._random)
        return angles

    def _between(self, draws: Draws) -> np.ndarray:
        way = draws.uniform(shape=(1, 1))
        return (1 - way) * self._posture(draws) + way * self._posture(draws)

    def _posture(self, draws: Draws) -> np.ndarray:
        table = np.concatenate([self._gestures, self._grasps])
        return self._from_table(draws, table)

    def _from_table(self, draws: Draws, table: np.ndarray) -> np.ndarray:
        chosen = table[draws.choice((1.0,) * len(table))]
        noise = draws.normal((16, 2)) * [_GESTURE_NOISE, _ABDUCTION_NOISE]
        return self.clip(chosen + noise)

    def _random(self, draws: Draws) -> np.ndarray:
        """Every finger curls on its own, but not independently: a Gaussian copula over fingers and joints."""
        low, high = self.limits[..., 0], self.limits[..., 1]
        angles = low + (high - low) * draws.uniform(shape=(16, 2))  # stays for the thumb
        curl = draws.normal((4,)) @ _correlated(4, _NEIGHBOURS).T
        second = _ALONG_FINGER * curl + np.sqrt(1 - _ALONG_FINGER**2) * draws.normal((4,))
        spread = _SPREAD_NOISE * (draws.normal((1,)) * [1, 0, -0.6, -1] + 0.6 * draws.normal((4,)))
        bent = _DIP_NOISE * draws.normal((4,))
        for i, first in enumerate(_FINGERS):
            for joint, amount in ((first, curl), (first + 1, second)):
                angles[:, joint, 0] = low[joint, 0] + (high - low)[joint, 0] * ndtr(amount[:, i])
            angles[:, first + 2, 0] = _DIP_OF_PIP * angles[:, first + 1, 0] + bent[:, i]
            freedom = np.clip(1 - angles[:, first, 0] / _FREE_ABDUCTION, 0.1, 1)
            angles[:, first, 1] = spread[:, i] * freedom
        return self.clip(angles)


def _correlated(count: int, neighbour: float) -> np.ndarray:
    """Cholesky factor of the correlation neighbour^|i - j|."""
    index = np.arange(count)
    return np.linalg.cholesky(neighbour ** np.abs(index[:, None] - index))


def _generators(axes: np.ndarray) -> np.ndarray:
    """(J, 3, 3) matrices K of K v = axis x v."""
    x, y, z = axes.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)


@njit(cache=True, nogil=True)
def _about(generator, angle, out):  # noqa: ANN001, ANN202 - numba infers
    """Rodrigues about a fixed axis into out (3, 3): I + sin K + (1 - cos) K^2; without an axis nothing turns."""
    sine, versine = np.sin(angle), 1 - np.cos(angle)
    for r in range(3):
        for c in range(3):
            square = 0.0
            for k in range(3):
                square += generator[r, k] * generator[k, c]
            out[r, c] = (1.0 if r == c else 0.0) + sine * generator[r, c] + versine * square


@njit(cache=True, nogil=True)
def _rotate(flexion, abduction, angles, rotations):  # noqa: ANN001, ANN202 - numba infers
    """Writes `PosePrior.rotations`; only the first joint of a finger abducts."""
    bent, spread = np.empty((3, 3)), np.empty((3, 3))
    for b in range(len(angles)):
        for joint in range(15):
            if joint % 3 > 0:
                _about(flexion[joint], angles[b, joint + 1, 0], rotations[b, joint])
                continue
            _about(flexion[joint], angles[b, joint + 1, 0], bent)
            _about(abduction[joint], angles[b, joint + 1, 1], spread)
            for r in range(3):
                for c in range(3):
                    turned = 0.0
                    for k in range(3):
                        turned += spread[r, k] * bent[k, c]
                    rotations[b, joint, r, c] = turned
