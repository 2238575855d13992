"""Joints from a dataset's points: means of those that are named, nothing where none is."""

import numpy as np
import pytest

from datamodules.point_labels import canonical_joints, canonical_weights
from ops.joints import ICVL16_CANONICAL, MSRA21_CANONICAL, NYU36_CANONICAL


def test_a_joint_is_the_mean_of_its_points_and_0_where_it_has_none():
    points = np.array([[1, 2, 3], [3, 6, 9], [7, 7, 7]], np.float32)
    joints, labelled = canonical_joints(points, canonical_weights({0: (0, 1), 20: (2,)}, 3))
    np.testing.assert_array_equal(joints[[0, 20]], [[2, 4, 6], [7, 7, 7]])
    assert np.flatnonzero(labelled).tolist() == [0, 20] and not joints[1:20].any()
    assert joints.dtype == np.float32 and labelled.dtype == bool


def test_pixels_are_turned_into_joints_alike():
    joints, _ = canonical_joints(np.array([[10, 20], [30, 50]], np.float32), canonical_weights({4: (1, 0)}, 2))
    np.testing.assert_array_equal(joints[4], (20, 35))


@pytest.mark.parametrize(
    ("sources", "count", "labelled"),
    [(NYU36_CANONICAL, 36, 21), (ICVL16_CANONICAL, 16, 15), (MSRA21_CANONICAL, 21, 21)],
)
def test_no_joint_of_a_dataset_is_another_scale_or_twice_the_same_point(sources, count, labelled):
    weights = canonical_weights(sources, count)
    assert weights.shape == (21, count) and weights.any(1).sum() == labelled
    np.testing.assert_allclose(weights[weights.any(1)].sum(1), 1)
    assert (weights > 0).sum(0).max() == 1


def test_points_that_a_dataset_does_not_have_are_refused():
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        canonical_weights({0: (3,)}, 3)
