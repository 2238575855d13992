"""The left hand is the right hand's mirror image, in every array and in every pose."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ops.hand_model.layer import HandLayer, mirror_pose
from ops.hand_model.model import open_hand

FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
ARRAYS = ("v_template", "shapedirs", "posedirs", "faces", "pose_mean", "pose_components", "flexion_axes", "controls")


def bent(seed=0, batch=4):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(batch, 45) * 0.5, draw(batch, 10), draw(batch, 3), draw(batch, 3)


def layer(model, **options):
    return HandLayer(model, backend="torch", **options).double()


@pytest.mark.parametrize("resolution", ["778", "native"])
@pytest.mark.parametrize("flat", [True, False])
def test_the_left_hand_in_the_mirrored_pose_is_the_mirror_image(resolution, flat):
    right = open_hand(resolution=resolution)
    pose, shape, turn, place = bent()
    straight = layer(right, flat_hand_mean=flat)(pose, shape, turn, place)
    mirrored = layer(right.mirrored(), flat_hand_mean=flat)(mirror_pose(pose), shape, mirror_pose(turn), place * FLIP)
    assert (straight.vertices[0] - straight.vertices[1]).abs().max() > 0.01  # the poses are bent
    for field in ("vertices", "joints", "skeleton"):
        assert (getattr(mirrored, field) - getattr(straight, field) * FLIP).abs().max() < 1e-12, field
    # a mirror image of a rotation: S R S
    torch.testing.assert_close(mirrored.rotations, straight.rotations * torch.outer(FLIP, FLIP), atol=1e-12, rtol=0)


def test_pose_components_mirror_with_the_hand():
    right = open_hand()
    _, shape, turn, place = bent(1)
    coefficients = torch.linspace(-2, 2, 4 * 12, dtype=torch.float64).view(4, 12)
    straight = layer(right, pose_space="pca", flat_hand_mean=False)(coefficients, shape, turn, place)
    left = layer(right.mirrored(), pose_space="pca", flat_hand_mean=False)
    mirrored = left(coefficients, shape, mirror_pose(turn), place * FLIP)
    assert (mirrored.vertices - straight.vertices * FLIP).abs().max() < 1e-12


@pytest.mark.parametrize("forgotten", ["shapedirs", "posedirs", "pose_mean"])
def test_each_array_that_is_not_mirrored_shows(forgotten):
    right = open_hand()
    # posedirs: x alone negated, the columns' signs forgotten
    kept = right.posedirs * FLIP.numpy()[:, None] if forgotten == "posedirs" else getattr(right, forgotten)
    half = replace(right.mirrored(), **{forgotten: kept})
    pose, shape, turn, place = bent(2)
    straight = layer(right, flat_hand_mean=False)(pose, shape, turn, place)
    wrong = layer(half, flat_hand_mean=False)(mirror_pose(pose), shape, mirror_pose(turn), place * FLIP)
    assert (wrong.vertices - straight.vertices * FLIP).abs().max() > 5e-4


def test_signs_of_the_pose_columns_by_hand():
    right = open_hand()
    left = right.mirrored()
    # column 9 (j - 1) + 3 r + c holds entry (r, c) of joint j: (0, 1) has one x, (1, 2) none, (0, 0) two
    for column, sign in ((1, -1), (5, 1), (0, 1), (9 * 4 + 6, -1), (9 * 14 + 8, 1)):
        np.testing.assert_array_equal(left.posedirs[:, 1, column], sign * right.posedirs[:, 1, column])
        np.testing.assert_array_equal(left.posedirs[:, 0, column], -sign * right.posedirs[:, 0, column])


def test_a_pose_mirrors_as_x_minus_y_minus_z():
    assert mirror_pose(torch.tensor([[1.0, 2.0, 3.0, -4.0, 5.0, -6.0]])).tolist() == [[1, -2, -3, -4, -5, 6]]


def test_mirroring_twice_changes_nothing():
    right = open_hand()
    twice = right.mirrored().mirrored()
    assert twice.side == "right" and right.mirrored().side == "left" and right.mirrored().id != right.id
    for field in ARRAYS:
        if getattr(right, field) is not None:
            np.testing.assert_array_equal(getattr(twice, field), getattr(right, field), err_msg=field)


def test_faces_look_outwards_on_both_sides():
    for side in ("right", "left"):
        model = open_hand(side)
        corners = model.v_template[model.faces]
        volume = np.linalg.det(corners).sum() / 6  # of the mesh, its rim closed through the origin, which is the wrist
        assert 1e-4 < volume < 1e-3  # a hand: 0.1 to 1 litre


def test_flexion_curls_both_hands_towards_the_palm():
    if open_hand().flexion_axes is None:
        pytest.skip("the open hand's file holds no flexion axes")
    for side in ("right", "left"):
        model = open_hand(side)
        pose = torch.zeros(1, 45, dtype=torch.float64)
        for joint in (1, 4, 7, 10):
            pose[0, 3 * joint - 3 : 3 * joint] = torch.tensor(model.flexion_axes[joint]) * 0.8
        moved = layer(model)(pose, torch.zeros(1, 10, dtype=torch.float64)).joints[0]
        rest = layer(model)(pose * 0, torch.zeros(1, 10, dtype=torch.float64)).joints[0]
        assert (moved[[8, 12, 16, 20], 1] < rest[[8, 12, 16, 20], 1] - 0.02).all()  # +y is out of the back
