"""Gestures and grasps as joint angles in degrees: flexion of the three joints and abduction of the first, per finger.

Hand-written tables. Gestures follow the signs that hand datasets ask their subjects for (counting, American one-hand
letters, everyday signs); grasps follow the taxonomy of Feix et al., The GRASP Taxonomy of Human Grasp Types, IEEE
Trans. Human-Machine Systems 2016. Angles are targets: the sampler adds noise, clips to the model's limits and keeps
fingers from entering one another.

A row is (first joint, second joint, third joint, abduction). For the thumb the first is palmar abduction of the CMC,
which brings it before the palm, and the last radial abduction: -50 lays it along the index, 0 is the rest pose,
stretched out sideways. A fist bends less than a real one: the open hand's last two finger bones are longer for their
palm, and its palm does not give way.
"""

import numpy as np

from ops.joints import FINGERS

Row = tuple[float, float, float, float]

_STRAIGHT: Row = (2, 3, 2, 0)
_CURLED: Row = (80, 82, 38, 0)
_THUMB_OUT: Row = (-12, 0, -5, 4)
_THUMB_SIDE: Row = (-6, -8, 0, -22)
_THUMB_ACROSS: Row = (46, 30, 42, -3)


def _hand(thumb: Row, index: Row, middle: Row, ring: Row, little: Row) -> tuple[Row, ...]:
    return thumb, index, middle, ring, little


GESTURES: dict[str, tuple[Row, ...]] = {
    "flat": _hand(_THUMB_SIDE, (2, 3, 2, -8), _STRAIGHT, (2, 3, 2, 6), (2, 3, 2, 12)),
    "spread": _hand(_THUMB_OUT, (0, 2, 2, 10), (0, 2, 2, 0), (0, 2, 2, -8), (0, 2, 2, -14)),
    "relaxed": _hand((8, 10, 12, -18), (18, 22, 13, 0), (22, 26, 15, 0), (25, 28, 16, 0), (27, 30, 18, 0)),
    "fist": _hand(_THUMB_ACROSS, _CURLED, _CURLED, _CURLED, _CURLED),
    "point": _hand(_THUMB_ACROSS, _STRAIGHT, _CURLED, _CURLED, _CURLED),
    "thumb_up": _hand(_THUMB_OUT, _CURLED, _CURLED, _CURLED, _CURLED),
    "victory": _hand(_THUMB_ACROSS, (0, 3, 2, 10), (0, 3, 2, -8), _CURLED, _CURLED),
    "two_together": _hand(_THUMB_ACROSS, (2, 3, 2, -7), _STRAIGHT, _CURLED, _CURLED),
    "three_fingers": _hand(_THUMB_ACROSS, (0, 3, 2, 8), _STRAIGHT, (0, 3, 2, -6), _CURLED),
    "three_with_thumb": _hand(_THUMB_OUT, (0, 3, 2, 8), (0, 3, 2, -4), _CURLED, _CURLED),
    "four": _hand(_THUMB_ACROSS, (0, 3, 2, 8), (0, 3, 2, 0), (0, 3, 2, -6), (0, 3, 2, -12)),
    "gun": _hand(_THUMB_OUT, _STRAIGHT, _CURLED, _CURLED, _CURLED),
    "love": _hand(_THUMB_OUT, (0, 3, 2, 6), _CURLED, _CURLED, (0, 3, 2, -10)),
    "horns": _hand(_THUMB_ACROSS, (0, 3, 2, 5), _CURLED, _CURLED, (0, 3, 2, -8)),
    "call": _hand(_THUMB_OUT, _CURLED, _CURLED, _CURLED, (0, 3, 2, -14)),
    "little_up": _hand(_THUMB_ACROSS, _CURLED, _CURLED, _CURLED, (0, 3, 2, -4)),
    "ok": _hand((31, 35, 43, 5), (52, 52, 30, 0), (22, 18, 10, 0), (12, 12, 8, -4), (4, 8, 5, -10)),
    "pinch": _hand((31, 35, 43, 5), (52, 52, 30, 0), (60, 66, 34, 0), (66, 72, 36, 0), (68, 72, 36, 0)),
    "claw": _hand((12, 25, 40, -12), (5, 65, 45, 4), (5, 65, 45, 0), (5, 65, 45, -4), (5, 62, 42, -8)),
    "beak": _hand((45, 0, 8, -27), (62, 12, 8, -4), (64, 12, 8, 0), (64, 14, 8, 3), (62, 18, 10, 6)),
    "roof": _hand(_THUMB_OUT, (80, 5, 3, 0), (80, 5, 3, 0), (80, 5, 3, 0), (80, 5, 3, 0)),
}

GRASPS: dict[str, tuple[Row, ...]] = {
    "power_cylinder": _hand((40, 5, 5, -2), (48, 58, 35, 0), (52, 62, 38, 0), (56, 62, 38, 0), (60, 60, 36, 0)),
    "power_sphere": _hand((28, 15, 18, -6), (28, 42, 28, 8), (30, 45, 30, 0), (32, 45, 30, -7), (34, 42, 28, -14)),
    "power_disk": _hand((8, 10, 20, 0), (8, 48, 34, 12), (8, 50, 36, 0), (8, 48, 34, -10), (8, 45, 32, -18)),
    "hook": _hand(_THUMB_SIDE, (12, 84, 45, 0), (12, 86, 46, 0), (14, 86, 46, 0), (16, 82, 44, 0)),
    "lateral": _hand((19, 9, 25, -10), (48, 68, 40, 0), (58, 75, 45, 0), (62, 78, 46, 0), (64, 75, 45, 0)),
    "tripod": _hand((41, 18, 40, -2), (50, 45, 25, 0), (54, 48, 26, 0), (66, 72, 36, 0), (68, 72, 36, 0)),
    "precision_disk": _hand((30, 18, 20, -10), (38, 34, 22, 9), (40, 34, 22, 0), (40, 34, 22, -8), (38, 34, 22, -15)),
    "parallel_extension": _hand((36, 7, 6, -31), (58, 10, 5, -3), (60, 10, 5, 0), (60, 10, 5, 3), (58, 12, 6, 6)),
    "writing": _hand((44, 5, 28, 2), (51, 42, 20, 0), (56, 54, 30, 0), (66, 70, 36, 0), (68, 72, 36, 0)),
    "scissors": _hand((30, 15, 20, -8), (35, 35, 20, 6), (38, 45, 26, -4), (62, 70, 36, 0), (64, 72, 36, 0)),
}


def angle_table(names: dict[str, tuple[Row, ...]]) -> np.ndarray:
    """Targets of a table as (G, 16, 2) radians: [flexion, abduction] of the model's joints, in model order."""
    # model joints: 1-3 index, 4-6 middle, 7-9 little, 10-12 ring, 13-15 thumb
    first = {"index": 1, "middle": 4, "little": 7, "ring": 10, "thumb": 13}
    table = np.zeros((len(names), 16, 2))
    for gesture, rows in enumerate(names.values()):
        for finger, (a, b, c, abduction) in zip(FINGERS, rows, strict=True):
            table[gesture, first[finger] : first[finger] + 3, 0] = a, b, c
            table[gesture, first[finger], 1] = abduction
    return np.deg2rad(table)
