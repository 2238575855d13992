"""What depth cameras see beside the hand: without it, files of depth decode twice as fast as real ones."""

import numpy as np

_GAP, _ROUND = 0.25, 0.12  # metres from the hand to the person behind it, and how far the person curves away
_STEP = 0.004  # 1/metres: a structured-light camera stores steps of about this times z^2
_WIDTH, _HEIGHT = 0.38, 0.62  # half axes of the person, as shares of the picture; the middle is at its lower edge


def before_person(depths: np.ndarray, nothing: int, seed: int) -> np.ndarray:
    """Hands before a person, in stored millimetres.

    Args:
        depths: (N, H, W) metres, 0 where no hand is.
        nothing: what is stored where nothing is.
        seed: other seeds give other clothes.

    Returns:
        (N, H, W) uint16.
    """
    draws = np.random.default_rng(seed)
    height, width = depths.shape[1:]
    v, u = np.mgrid[:height, :width].astype(np.float32) / (height, width)[0]
    x, y = (u - 0.5 * width / height) / (_WIDTH * width / height), (v - 0.95) / _HEIGHT
    radius = x**2 + y**2
    stored = np.empty(depths.shape, np.uint16)
    for picture, depth in zip(stored, depths, strict=True):
        folds = 0.01 * np.sin(40 * u + draws.uniform(0, 6)) * np.cos(25 * v + draws.uniform(0, 6))
        person = depth.max() + _GAP + _ROUND * radius + folds
        step = _STEP * person**2
        person = np.rint(person / step) * step
        seen = np.where(radius < 1, person * 1000, nothing)
        picture[:] = np.rint(np.where(depth > 0, depth * 1000, seen))
    return stored
