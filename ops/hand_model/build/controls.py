"""What methods with a bone-wise hand need: seven shape controls, hinge axes, limits of motion, bone groups.

Controls. One unit of each is about one standard deviation among adults of one sex (hand length and breadth scatter by
5 %, Greiner 1991, "Hand anthropometry of US Army personnel"): -2..2 is natural. MakeHuman's own sliders are used where
they touch what the name says and nothing else (gap between the knuckles, girth of the fingers); its length slider
stretches single phalanges by 0 to 66 % and its weight slider hardly reaches the hand, so lengths and the palm's
thickness are scaled bone by bone through the skinning weights.
"""

from collections.abc import Mapping

import numpy as np

from ops.hand_model.build.rig import DISTAL_JOINTS, FINGER_JOINTS, TIP_FINGERS, bone_directions, skin, unit
from ops.hand_model.build.shape_space import Person, ShapeModel, ShapeSpace, stretch
from ops.hand_model.model import CONTROL_NAMES

LENGTH_STEP = 0.05  # longer, per unit: bones, palm or fingers
SIZE_STEP = 0.05  # larger in all directions
PALM_THICKNESS_STEP = 0.08  # thicker palm, per unit of mass
DIAMETER_STEP = 0.5  # of MakeHuman's slider, per unit of mass: fingers 8 % thicker
DISTANCE_STEP = 1.0  # of MakeHuman's slider: knuckles 1-2 mm further apart
TIP_GIRTH_STEP = 0.10  # thicker last phalanges

BONE_GROUPS = np.zeros(16, np.int64)
for _group, _finger in enumerate(TIP_FINGERS, start=1):
    BONE_GROUPS[list(FINGER_JOINTS[_finger])] = _group

# Range of motion in degrees from the clinical zero, (low, high). Eaton, Electronic Textbook of Hand Surgery, "Normal
# range of motion": MCP 0-45 hyperextension (20 taken) and 90 flexion, PIP 0-100, DIP 0-80, thumb MCP -10-55, IP -15-80,
# radial abduction of the thumb 0-60. Palmar abduction of the thumb (0-70) and abduction of the fingers (20 to either
# side): Greene and Heckman 1994, "The clinical measurement of joint motion" (AAOS).
FINGER_FLEXION = ((-20, 90), (0, 100), (0, 80))
FINGER_ABDUCTION = (-20, 20)
THUMB_FLEXION = ((0, 70), (-10, 55), (-15, 80))
THUMB_ABDUCTION = (0, 60)
NAIL_FLATNESS = np.cos(np.deg2rad(15))  # faces whose normals agree so well count as one patch


def shape_controls(model: ShapeModel, space: ShapeSpace) -> np.ndarray:
    """Displacements (V, 3, 7) in metres per unit, in the order of CONTROL_NAMES."""
    directions = bone_directions(space.joints, space.tips)
    palm_long = {0: np.diag([1 + LENGTH_STEP, 1, 1])}
    long = {joint: stretch(directions[joint], 1 + LENGTH_STEP, 1) for joint in range(1, 16)}
    fingers_long = {
        joint: long[joint] for joint in range(1, 13)
    }  # not the thumb: length would be the sum of two others
    tips_thick = {joint: stretch(directions[joint], 1, 1 + TIP_GIRTH_STEP) for joint in DISTAL_JOINTS}
    palm_thick = {0: np.diag([1, 1 + PALM_THICKNESS_STEP, 1])}
    diameter = DIAMETER_STEP * _slider(model, "r-hand-fingers-diameter")
    controls = {
        "length": _scaled(model, space, palm_long | long),
        "mass": _scaled(model, space, palm_thick) + diameter,
        "size": SIZE_STEP * space.mean,
        "palm_length": _scaled(model, space, palm_long),
        "finger_inter_distance": DISTANCE_STEP * _slider(model, "r-hand-fingers-distance"),
        "finger_length": _scaled(model, space, fingers_long),
        "fingertip_size": _scaled(model, space, tips_thick),
    }
    return np.stack([controls[name] for name in CONTROL_NAMES], axis=-1)


def _scaled(model: ShapeModel, space: ShapeSpace, changed: Mapping[int, np.ndarray]) -> np.ndarray:
    """Displacements (V, 3) when some bones of the mean hand are multiplied by a matrix."""
    bones = np.tile(np.eye(3), (16, 1, 1))
    for joint, matrix in changed.items():
        bones[joint] = matrix
    vertices, _, _ = skin(space.mean, space.joints, model.region.weights, bones)
    return vertices - space.mean


def _slider(model: ShapeModel, name: str) -> np.ndarray:
    """Displacements (V, 3) of one MakeHuman slider, the mean of its two halves, on the average adult."""
    more, less = (model.hand(Person(local={name: value}))[0] for value in (1.0, -1.0))
    return (more - less) / 2


def nail_normal(vertices: np.ndarray, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Outward normal (3,) of a nail: the largest flat patch among the triangles of the last phalanx.

    Args:
        vertices: (V, 3).
        triangles: (F, 3).
        weights: (V,) skinning weights of the last phalanx.
    """
    corners = vertices[triangles[(weights[triangles] > 0.9).all(1)]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    directions = normals / areas[:, None]
    agreeing = directions @ directions.T > NAIL_FLATNESS
    return unit(normals[agreeing[(agreeing @ areas).argmax()]].sum(0))


def hinge_axes(directions: np.ndarray, thumb_nail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flexion and abduction axes, each (16, 3), unit or zero, in the rest frame of the right hand.

    A finger bone flexes about the horizontal at right angles to itself, so fanned fingers have fanned axes; so does the
    thumb's base, whose "flexion" is palmar abduction and whose "abduction" is radial. The thumb's other joints curl
    away from its nail. Abduction (knuckles and the thumb's base alone) turns about the normal of bone and flexion axis.

    Args:
        directions: (16, 3) bone directions at rest.
        thumb_nail: (3,) outward normal of the thumb's nail at rest.
    """
    flexion, abduction = np.zeros((16, 3)), np.zeros((16, 3))
    for joint in range(1, 16):
        bone = unit(directions[joint])
        back = thumb_nail if joint in FINGER_JOINTS["thumb"][1:] else np.array([0.0, 1.0, 0.0])
        flexion[joint] = unit(np.cross(back, bone))
    for base, _, _ in FINGER_JOINTS.values():
        abduction[base] = np.cross(unit(directions[base]), flexion[base])
    return flexion, abduction


def joint_limits(joints: np.ndarray, directions: np.ndarray, flexion: np.ndarray, abduction: np.ndarray) -> np.ndarray:
    """Limits (16, 2, 2) in radians from the rest pose: [flexion, abduction][low, high].

    The clinical zero is the bone in line with the one before it, for the thumb's base the index metacarpal; what the
    rest pose is already bent is taken off. Fingers count abduction from their fan at rest.

    Args:
        joints: (16, 3) rest joints.
        directions: (16, 3) bone directions at rest.
        flexion: (16, 3) flexion axes.
        abduction: (16, 3) abduction axes.
    """
    limits = np.zeros((16, 2, 2))
    index_metacarpal = joints[FINGER_JOINTS["index"][0]] - joints[0]
    for finger, chain in FINGER_JOINTS.items():
        is_thumb = finger == "thumb"
        before = index_metacarpal if is_thumb else joints[chain[0]] - joints[0]
        for joint, degrees in zip(chain, THUMB_FLEXION if is_thumb else FINGER_FLEXION, strict=True):
            limits[joint, 0] = np.deg2rad(degrees) - _bend(before, directions[joint], flexion[joint])
            before = directions[joint]
        limits[chain[0], 1] = np.deg2rad(THUMB_ABDUCTION if is_thumb else FINGER_ABDUCTION)
    base = FINGER_JOINTS["thumb"][0]
    limits[base, 1] -= _bend(index_metacarpal, directions[base], abduction[base])
    return limits


def _bend(before: np.ndarray, after: np.ndarray, axis: np.ndarray) -> float:
    """Signed angle about `axis` from one direction to the next, radians."""
    return float(np.arctan2(np.cross(before, after) @ axis, before @ after - (before @ axis) * (after @ axis)))
