import numpy as np
import pytest

from datamodules.resampling import nearest, resample_depth, resample_rgb


def tents(scale, shift, size, limit):
    """(size, limit): the weights of a picture's pixels in each pixel of the crop."""
    reach = max(1, 1 / abs(scale))
    far = np.arange(-100, limit + 100)
    weights = np.maximum(0, 1 - np.abs(far - (np.arange(size)[:, None] - shift) / scale) / reach)
    return (weights / weights.sum(1, keepdims=True))[:, 100 : 100 + limit]


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.7, 0.31])
@pytest.mark.parametrize("mirrored", [False, True])
def test_colours_are_means_by_tents(scale, mirrored):
    picture = np.random.default_rng(0).integers(0, 256, (60, 70, 3)).astype(np.uint8)
    sign = -1 if mirrored else 1
    affine = np.array([[sign * scale, 0, 16 - sign * scale * 33.3], [0, scale, 14.2 - scale * 28]])
    expected = np.einsum(
        "yh,hwc,xw->cyx", tents(scale, affine[1, 2], 32, 60), picture, tents(sign * scale, affine[0, 2], 32, 70)
    )
    cut = resample_rgb(picture, affine, 32)
    # rows and columns are rounded each, and weights to 1/256
    assert np.abs(cut - expected).max() < 2 and abs((cut - expected).mean()) < 0.1


def test_a_picture_of_one_colour_keeps_it():
    white = np.full((50, 50, 3), 255, np.uint8)
    for scale in (3.0, 0.9, 0.51, 0.37):
        assert (
            resample_rgb(white, np.array([[scale, 0, 7.5 - 25 * scale], [0, scale, 7.5 - 25 * scale]]), 16) == 255
        ).all()


def test_depth_beyond_the_limits_is_left_out():
    depth = np.repeat(np.float32([[0.3], [0.5], [0.7]]), 3, 1)
    same = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    np.testing.assert_array_equal(resample_depth(depth, same, 3, limits=(0.4, 0.6))[:, 0], np.float32([0, 0.5, 0]))
    np.testing.assert_array_equal(resample_depth(depth, same, 3), depth)


def test_what_is_given_is_filled():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    crop = np.full((2, 2), np.nan, np.float32)
    nearest(labels, np.array([[1.0, 0, -1], [0, 1.0, -2]]), 2, crop)
    np.testing.assert_array_equal(crop, [[9, 10], [0, 0]])


FINER = np.array([[4.0, 0, 0], [0, 4.0, 0]])
NEAREST = [0] * 3 + [1] * 3 + [2] * 5 + [3]


def test_labels_are_of_the_nearest_pixel():
    assert nearest(np.arange(4, dtype=np.uint8)[None].repeat(4, 0), FINER, 12)[0].tolist() == NEAREST
    assert nearest(np.arange(4, dtype=np.uint8)[:, None].repeat(4, 1), FINER, 12)[:, 0].tolist() == NEAREST


def test_two_surfaces_are_never_blended():
    depth = np.float32([[0.5, 0.5, 0.9, 0.9]]).repeat(4, 0)
    for picture in (depth, depth.T):
        assert set(np.unique(resample_depth(picture, FINER, 13))) == {np.float32(0.5), np.float32(0.9)}
