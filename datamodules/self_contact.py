"""How deep fingers enter one another or the palm: capsules around the bones, measured on the skeleton alone.

A capsule has the median radius of the skin around its bone; flesh gives way, so touching fingers may overlap a little
(`TOLERANCE`). Poses that overlap more are drawn again or opened (`datamodules.pose_prior`).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from ops.hand_model import HandModel

TOLERANCE = 0.003  # metres: how far two fingers' skins may press into one another
# a metacarpal's radius as a share of the palm's height: small, because the pads of the palm give way in a fist
_PALM_CORE = 0.2


@dataclass(frozen=True, eq=False)
class BoneCapsules:
    """19 capsules of a hand: 15 finger bones (model joints 1-15, joint to next joint or tip) and 4 metacarpals."""

    joints: np.ndarray  # (S + 1, 16, 3) rest joints: template, then metres per unit of each shape component
    tips: np.ndarray  # (S + 1, 16, 3) rest end of the bone that starts at each joint, likewise
    radii: np.ndarray  # (19,) metres, of the template
    offsets: np.ndarray  # (16, 3) metres, from a bone's line to the axis of its flesh, rest frame
    pairs: np.ndarray  # (P, 2) capsules that are tested against each other

    @staticmethod
    def of(model: HandModel) -> "BoneCapsules":
        """Capsules measured on the model's template."""
        vertices = np.concatenate([model.v_template[None], model.shapedirs.transpose(2, 0, 1)])  # (S + 1, V, 3)
        joints = np.einsum("jv,svc->sjc", model.joint_regressor, vertices)
        ends = joints.copy()
        for joint in range(1, 16):
            last = joint % 3 == 0
            ends[:, joint] = vertices[:, _tip_vertex(model, joint)] if last else joints[:, joint + 1]
        return BoneCapsules(joints, ends, *_flesh(model, joints[0], ends[0]), _pairs())

    def penetration(self, rotations: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Deepest overlap of two capsules.

        Args:
            rotations: (B, 15, 3, 3) of the finger joints relative to their parents.
            shape: (B, S) shape parameters; radii scale with the length of the middle metacarpal.

        Returns:
            (B,) metres, negative where nothing touches.
        """
        ones = np.concatenate([np.ones((len(shape), 1)), shape], 1)
        joints = np.einsum("bs,sjc->bjc", ones, self.joints)
        ends = np.einsum("bs,sjc->bjc", ones, self.tips)
        palm = np.linalg.norm(self.joints[0, 4] - self.joints[0, 0])
        growth = np.linalg.norm(joints[:, 4] - joints[:, 0], axis=-1) / palm
        return _penetration(rotations, joints, ends, self.offsets, self.radii, growth, self.pairs)


def _tip_vertex(model: HandModel, joint: int) -> int:
    # tip_vertices run thumb, index, middle, ring, little; chains run index, middle, little, ring, thumb
    return int(model.tip_vertices[{3: 1, 6: 2, 9: 4, 12: 3, 15: 0}[joint]])


def _flesh(model: HandModel, joints: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radii (19,) and the offsets (16, 3) of the flesh's axis from the bones': joints lie nearer the back of the hand.

    Measured on the skin between 20 % and 80 % of each bone; a metacarpal gets a fifth of the palm's height.
    """
    owner = model.weights.argmax(1)
    radii, offsets = np.zeros(19), np.zeros((16, 3))
    for joint in range(1, 16):
        axis = ends[joint] - joints[joint]
        relative = model.v_template[owner == joint] - joints[joint]
        along = relative @ axis / (axis @ axis)
        across = (relative - along[:, None] * axis)[(along > 0.2) & (along < 0.8)]
        offsets[joint] = (across.min(0) + across.max(0)) / 2
        radii[joint - 1] = np.median(np.linalg.norm(across - offsets[joint], axis=1))
    palm = model.v_template[owner == 0]
    middle = np.abs(palm[:, 0] - 0.7 * joints[4, 0]) < 0.02
    radii[15:] = np.ptp(palm[middle, 1]) * _PALM_CORE
    return radii, offsets


def _pairs() -> np.ndarray:
    """Bones of different fingers; and metacarpals against bones that can reach them."""
    pairs = [(a, b) for a in range(15) for b in range(a + 1, 15) if a // 3 != b // 3]
    reaching = [bone for bone in range(12) if bone % 3 > 0] + [14]  # a thumb's first two bones lie against the palm
    pairs += [(bone, palm) for bone in reaching for palm in range(15, 19)]
    return np.array(pairs)


@njit(cache=True, inline="always")
def _dot(a, b):  # noqa: ANN001, ANN202 - numba infers
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(cache=True)
def _segment_distance(start, stop, i, j):  # noqa: ANN001, ANN202 - numba infers
    """Distance of segments i and j (Ericson, Real-Time Collision Detection, 2005, section 5.1.9)."""
    p, q = (start[i, 0], start[i, 1], start[i, 2]), (start[j, 0], start[j, 1], start[j, 2])
    d1 = (stop[i, 0] - p[0], stop[i, 1] - p[1], stop[i, 2] - p[2])
    d2 = (stop[j, 0] - q[0], stop[j, 1] - q[1], stop[j, 2] - q[2])
    r = (p[0] - q[0], p[1] - q[1], p[2] - q[2])
    a, b, c, e, f = _dot(d1, d1), _dot(d1, d2), _dot(d1, r), _dot(d2, d2), _dot(d2, r)
    denominator = a * e - b * b
    s = 0.0
    if denominator > 1e-14:
        s = min(max((b * f - c * e) / denominator, 0.0), 1.0)
    t = (b * s + f) / e
    if t < 0.0:
        t, s = 0.0, min(max(-c / a, 0.0), 1.0)
    elif t > 1.0:
        t, s = 1.0, min(max((b - c) / a, 0.0), 1.0)
    gap = (r[0] + d1[0] * s - d2[0] * t, r[1] + d1[1] * s - d2[1] * t, r[2] + d1[2] * s - d2[2] * t)
    return np.sqrt(_dot(gap, gap))


@njit(cache=True, inline="always")
def _far(a, b):  # noqa: ANN001, ANN202 - numba infers
    return np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)


@njit(cache=True)
def _turn(rotation, vector, out):  # noqa: ANN001, ANN202 - numba infers
    for r in range(3):
        out[r] = rotation[r, 0] * vector[0] + rotation[r, 1] * vector[1] + rotation[r, 2] * vector[2]


@njit(cache=True)
def _penetration(rotations, joints, ends, offsets, radii, growth, pairs):  # noqa: ANN001, ANN202 - numba infers
    batch = len(rotations)
    deepest = np.empty(batch)
    start, stop, world = np.empty((19, 3)), np.empty((19, 3)), np.empty((16, 3, 3))
    origin, flesh, bone = np.empty((16, 3)), np.empty(3), np.empty(3)
    rest_bone, rest_flesh = np.empty(3), np.empty(3)
    middle, half = np.empty((19, 3)), np.empty(19)
    for i in range(batch):
        for j in range(1, 16):
            if j % 3 == 1:
                world[j] = rotations[i, j - 1]
                origin[j] = joints[i, j]
            else:
                for r in range(3):
                    for c in range(3):
                        world[j, r, c] = 0.0
                        for k in range(3):
                            world[j, r, c] += world[j - 1, r, k] * rotations[i, j - 1, k, c]
            for c in range(3):
                rest_bone[c], rest_flesh[c] = ends[i, j, c] - joints[i, j, c], offsets[j, c] * growth[i]
            _turn(world[j], rest_bone, bone)
            _turn(world[j], rest_flesh, flesh)
            for c in range(3):
                if j % 3 > 0:
                    origin[j + 1, c] = origin[j, c] + bone[c]
                start[j - 1, c] = origin[j, c] + flesh[c]
                stop[j - 1, c] = start[j - 1, c] + bone[c]
        for k in range(4):  # metacarpals of index, middle, little, ring
            start[15 + k] = joints[i, 0]
            stop[15 + k] = joints[i, 1 + 3 * k]
        for k in range(19):
            half[k] = _far(start[k], stop[k]) / 2
            middle[k] = (start[k] + stop[k]) / 2
        deepest[i] = -1.0
        for pair in range(len(pairs)):
            a, b = pairs[pair, 0], pairs[pair, 1]
            reach = (radii[a] + radii[b]) * growth[i]
            if reach - (_far(middle[a], middle[b]) - half[a] - half[b]) > deepest[i]:  # most pairs are far apart
                deepest[i] = max(deepest[i], reach - _segment_distance(start, stop, a, b))
    return deepest
