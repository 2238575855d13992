from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datamodules.domains import CLEAN, SENSOR
from datamodules.gestures import GESTURES, GRASPS, angle_table
from datamodules.pose_prior import PoseMix, PosePrior
from datamodules.self_contact import TOLERANCE
from datamodules.streams import Draws, keys_of
from ops.hand_model import open_hand

COUNT = 1500


@pytest.fixture(scope="module")
def prior():
    return PosePrior(open_hand())


@pytest.fixture(scope="module")
def shape():
    return np.clip(np.random.default_rng(0).normal(size=(COUNT, 10)), -3, 3)


def test_table_angles_lie_within_the_limits_and_stand_at_the_right_joints(prior):
    table = np.concatenate([angle_table(GESTURES), angle_table(GRASPS)])
    np.testing.assert_allclose(prior.clip(table), table, atol=1e-12)
    point = angle_table(GESTURES)[list(GESTURES).index("point")]
    assert point[1:4, 0].max() < 0.1  # index straight
    assert point[[4, 7, 10], 0].min() > 1.3  # the others curled


def test_rotations_equal_composed_axis_angles(prior):
    model = open_hand()
    angles = prior.draw(keys_of("rotations", np.arange(3)), PoseMix(1, 0, 0, 0), np.zeros((3, 10)))
    ours = prior.rotations(angles)
    for joint in range(1, 16):
        flexion = Rotation.from_rotvec(angles[:, joint, :1] * model.flexion_axes[joint])
        abduction = Rotation.from_rotvec(angles[:, joint, 1:] * model.abduction_axes[joint])
        np.testing.assert_allclose(ours[:, joint - 1], (abduction * flexion).as_matrix(), atol=1e-6)


@pytest.mark.parametrize("mix", [PoseMix(1, 0, 0, 0), PoseMix(0, 1, 0, 0), PoseMix(0, 0, 1, 0), PoseMix(0, 0, 0, 1)])
def test_drawn_poses_keep_limits_and_fingers_apart(prior, shape, mix):
    angles = prior.draw(keys_of("limits", np.arange(COUNT)), mix, shape)
    assert (angles >= prior.limits[..., 0] - 1e-9).all() and (angles <= prior.limits[..., 1] + 1e-9).all()
    deepest = prior.capsules.penetration(prior.rotations(angles), shape)
    assert (deepest > TOLERANCE).mean() <= 0.002


def test_random_articulation_correlates_fingers_and_joints(prior):
    angles = prior._random(Draws(keys_of("random", np.arange(4000))))
    index, middle, little = angles[:, 1, 0], angles[:, 4, 0], angles[:, 7, 0]
    near, far = np.corrcoef(index, middle)[0, 1], np.corrcoef(index, little)[0, 1]
    assert near > 0.6 and near > far + 0.15
    ratio = angles[:, 3, 0] / angles[:, 2, 0].clip(0.3)
    assert abs(np.median(ratio[angles[:, 2, 0] > 0.6]) - 2 / 3) < 0.03


def test_penetration_is_measured_where_fingers_cross(prior):
    apart, crossed = np.zeros((1, 16, 2)), np.zeros((1, 16, 2))
    crossed[0, 1, 1], crossed[0, 4, 1] = -0.35, 0.35  # index and middle swing into one another
    none = np.zeros((1, 10))
    assert prior.capsules.penetration(prior.rotations(apart), none)[0] < 0
    assert prior.capsules.penetration(prior.rotations(crossed), none)[0] > 0.008


def test_poses_are_opened_no_more_than_needed(prior):
    free = prior.clip(angle_table({"spread": GESTURES["spread"]}))
    np.testing.assert_array_equal(prior.open_until_free(free, np.zeros((1, 10))), free)
    tight = free.copy()
    tight[0, 1:13, 0] = prior.limits[1:13, 0, 1]  # every finger bent as far as it goes: tips in the palm
    opened = prior.open_until_free(tight, np.zeros((1, 10)))
    assert 0.4 < opened[0, 4, 0] / tight[0, 4, 0] < 1


def test_a_model_without_axes_is_refused():
    with pytest.raises(ValueError, match=r"lacks flexion_axes.*open_hand"):
        PosePrior(replace(open_hand(), flexion_axes=None))


def test_shares_must_sum_to_one():
    with pytest.raises(ValueError, match="sum to 1"):
        PoseMix(0.5, 0.5, 0.5, 0)


def test_domains_are_stated_with_valid_mixes():
    assert SENSOR.train.poses is None and SENSOR.train.sequence > 1
    assert CLEAN.train.poses == CLEAN.test.poses
