"""Masks from depth: a skeleton before a wall by hand, another camera beside it."""

import numpy as np

from datamodules.depth_masks import as_seen_by, mask_from_depth

K = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
SIZE = (80, 100)


def skeleton():
    """All joints on a line along x, 10 cm long, half a metre away."""
    joints = np.zeros((21, 3), np.float32)
    joints[:, 2] = 0.5
    for finger in range(5):
        joints[1 + 4 * finger : 5 + 4 * finger, 0] = (0.025, 0.05, 0.075, 0.1)
    return joints


def test_what_lies_near_the_bones_is_hand():
    depth = np.full(SIZE, 0.5, np.float32)
    depth[:, 60:] = 0.53  # behind the fingers, farther away than they reach
    depth[40, 55] = 0
    mask = mask_from_depth(depth, K, skeleton(), reach=0.0251)
    # a pixel is 5 mm: five around the line, and a half circle about the wrist at column 50
    expected = np.zeros(SIZE, bool)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    expected[35:46, 50:60] = True
    expected |= ((columns - 50) ** 2 + (rows - 40) ** 2 <= 25) & (columns < 60)
    expected[40, 55] = False
    np.testing.assert_array_equal(mask, expected)


def test_a_camera_beside_it_sees_it_shifted_and_without_gaps():
    depth = np.full(SIZE, 0.5, np.float32)
    mask = np.zeros(SIZE, bool)
    mask[30:40, 20:30] = True
    finer = np.array([[200.0, 0, 100], [0, 200, 80], [0, 0, 1]])  # twice the pixels
    seen = as_seen_by(mask, depth, K, np.eye(3), np.array([0.05, 0, 0]), finer, (160, 200))
    expected = np.zeros((160, 200), bool)
    expected[60:79, 60:79] = True  # columns 2 (20 - 50) + 100 + 200 * 0.05 / 0.5 and on
    assert not (seen & ~expected).any() and seen[62:77, 62:77].all() and seen.sum() > 0.94 * expected.sum()
    half_out = as_seen_by(mask, depth, K, np.eye(3), np.array([-0.12, 0, 0]), finer, (160, 200))
    assert 0 < half_out.sum() < 0.9 * expected.sum() and half_out[:, 0].any(), "what leaves the picture is left out"
    assert not as_seen_by(np.zeros(SIZE, bool), depth, K, np.eye(3), np.zeros(3), finer, (160, 200)).any()
