"""Poses that the builder skins: five to judge the coarse mesh by, and random ones within the fingers' limits."""

import numpy as np

from ops.hand_model.build.rig import PoseMaker

_FINGERS = ("index", "middle", "little", "ring")
_CURL_ORDER = ("index", "middle", "ring", "little")  # order of the random stream


def fist(maker: PoseMaker) -> np.ndarray:
    """A closed fist (16, 3), thumb across."""
    flexion = {
        "index": (75, 100, 60),
        "middle": (78, 100, 62),
        "ring": (80, 98, 60),
        "little": (80, 92, 58),
        "thumb": (8, 25, 45),
    }
    return maker.pose(flexion, {"index": -4, "ring": 9, "little": 16}, opposition=32)


def relaxed(maker: PoseMaker) -> np.ndarray:
    """A hand at ease (16, 3)."""
    return maker.pose(dict.fromkeys(_FINGERS, (18, 22, 14)) | {"thumb": (5, 8, 10)}, {})


def pinch(maker: PoseMaker) -> np.ndarray:
    """Thumb and index together (16, 3)."""
    flexion = {
        "index": (48, 48, 28),
        "middle": (30, 26, 14),
        "ring": (20, 20, 12),
        "little": (12, 16, 10),
        "thumb": (0, 18, 20),
    }
    return maker.pose(flexion, {"index": -5}, opposition=38)


def random_pose(maker: PoseMaker, rng: np.random.Generator) -> np.ndarray:
    """A random pose (16, 3) whose joints curl together. The order of the draws is part of the hand's definition."""
    flexion, spread = {}, {}
    for finger in _CURL_ORDER:
        curl = rng.beta(1.1, 1.3)
        flexion[finger] = (
            np.clip(90 * curl + rng.normal(0, 15), -15, 92),
            np.clip(100 * curl + rng.normal(0, 15), -3, 108),
            np.clip(62 * curl + rng.normal(0, 10), -3, 72),
        )
        spread[finger] = rng.normal(0, 6)
    flexion["thumb"] = (rng.uniform(-12, 20), rng.uniform(-5, 50), rng.uniform(-10, 70))
    return maker.pose(flexion, spread, opposition=rng.uniform(-10, 45))
