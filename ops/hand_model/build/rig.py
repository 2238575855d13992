"""The 16-joint rig that all stages share: fingers, bone directions, skinning by one matrix per bone, posing."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ops.joints import MODEL_PARENTS

# In model order, which the random streams follow as well: little stands before ring.
FINGER_JOINTS = {
    "index": (1, 2, 3),
    "middle": (4, 5, 6),
    "little": (7, 8, 9),
    "ring": (10, 11, 12),
    "thumb": (13, 14, 15),
}
TIP_FINGERS = ("thumb", "index", "middle", "ring", "little")  # order of every array of five tips
DISTAL_JOINTS = tuple(FINGER_JOINTS[finger][-1] for finger in TIP_FINGERS)
THUMB_CMC = 13


def bone_directions(joints: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Vector from each joint to the next one of its finger (16, 3), not normalised; zero for the wrist.

    Args:
        joints: (16, 3).
        tips: (5, 3), thumb to little.
    """
    directions = np.zeros((16, 3))
    for base, middle, distal in FINGER_JOINTS.values():
        directions[base] = joints[middle] - joints[base]
        directions[middle] = joints[distal] - joints[middle]
    directions[list(DISTAL_JOINTS)] = tips - joints[list(DISTAL_JOINTS)]
    return directions


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that turns direction `start` into `end`."""
    start, end = unit(start), unit(end)
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + start @ end)


def skin(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, bones: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear blend skinning with one matrix per bone, rotation or stretch, each about its joint.

    Args:
        vertices: (V, 3).
        joints: (16, 3) rest joints.
        weights: (V, 16).
        bones: (16, 3, 3) matrices in the world frame.

    Returns:
        Vertices (V, 3), joints (16, 3) and the bones' offsets (16, 3): bone j takes p to bones[j] @ p + offsets[j].
    """
    moved = joints.copy()
    for joint, parent in enumerate(MODEL_PARENTS[1:], start=1):
        moved[joint] = moved[parent] + bones[parent] @ (joints[joint] - joints[parent])
    offsets = moved - np.einsum("jab,jb->ja", bones, joints)
    blended = np.einsum("vj,jab->vab", weights, bones)
    return np.einsum("vab,vb->va", blended, vertices) + weights @ offsets, moved, offsets


def move_tips(tips: np.ndarray, bones: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Tips (5, 3) carried along by their distal bones."""
    distal = list(DISTAL_JOINTS)
    return np.einsum("tab,tb->ta", bones[distal], tips) + offsets[distal]


def local_rotations(pose: np.ndarray) -> np.ndarray:
    """Rotation matrices (16, 3, 3) of axis-angles (16, 3)."""
    return Rotation.from_rotvec(pose).as_matrix()


def world_rotations(local: np.ndarray) -> np.ndarray:
    """Each bone's rotation in the world (16, 3, 3), chained along the parents."""
    world = local.copy()
    for joint, parent in enumerate(MODEL_PARENTS[1:], start=1):
        world[joint] = world[parent] @ local[joint]
    return world


class PoseMaker:
    """Makes poses (16, 3) axis-angle from flexion and spread in degrees, about axes taken from a rest skeleton."""

    def __init__(self, directions: np.ndarray, thumb_axis: np.ndarray) -> None:
        self.axes = np.zeros((16, 3))
        for finger, joints in FINGER_JOINTS.items():
            for joint in joints:
                x, _, z = unit(directions[joint])
                self.axes[joint] = thumb_axis if finger == "thumb" else unit(np.array([z, 0, -x]))

    def pose(
        self, flexion: Mapping[str, Sequence[float]], spread: Mapping[str, float], opposition: float = 0.0
    ) -> np.ndarray:
        """Compose a pose (16, 3).

        Args:
            flexion: per finger, three angles in degrees, base to tip.
            spread: per finger, degrees about +y at its base (positive to the thumb's side).
            opposition: degrees about +x at the thumb's base.
        """
        pose = np.zeros((16, 3))
        for finger, angles in flexion.items():
            joints = list(FINGER_JOINTS[finger])
            pose[joints] = self.axes[joints] * np.deg2rad(angles)[:, None]
        for finger, angle in spread.items():
            _turn(pose, FINGER_JOINTS[finger][0], np.array([0, np.deg2rad(angle), 0]))
        if opposition:
            _turn(pose, THUMB_CMC, np.array([np.deg2rad(opposition), 0, 0]))
        return pose


def _turn(pose: np.ndarray, joint: int, rotation: np.ndarray) -> None:
    pose[joint] = (Rotation.from_rotvec(rotation) * Rotation.from_rotvec(pose[joint])).as_rotvec()
