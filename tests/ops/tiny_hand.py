"""A hand in MANO's layout with few vertices and random arrays: gradients and interpreted kernels stay cheap."""

import numpy as np

from ops.hand_model import HandModel


def tiny_hand(vertices: int = 24, shapes: int = 4, seed: int = 0) -> HandModel:
    """A right hand of `vertices` random vertices; lengths are those of a hand, in metres."""
    rng = np.random.default_rng(seed)
    weights = rng.random((vertices, 16)) ** 4
    regressor = rng.random((16, vertices))
    return HandModel(
        name="tiny",
        side="right",
        v_template=rng.normal(size=(vertices, 3)) * 0.05,
        shapedirs=rng.normal(size=(vertices, 3, shapes)) * 0.003,
        posedirs=rng.normal(size=(vertices, 3, 135)) * 0.002,
        weights=weights / weights.sum(1, keepdims=True),
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        faces=np.array([[0, 1, 2], [1, 3, 2]]),
        tip_vertices=np.array([3, 7, 11, 15, 19]),
        pose_mean=rng.normal(size=45) * 0.2,
        pose_components=np.linalg.qr(rng.normal(size=(45, 45)))[0],
    )
