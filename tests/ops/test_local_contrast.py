"""Local contrast normalisation: values by hand, what it does not see, pictures without a hand."""

import math

import pytest
import torch

from ops.local_contrast import BACKGROUND, local_contrast


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)[None, None]


def test_values_by_hand():
    # one row of three pixels; a window of 3 is a Gaussian of deviation 0.75, whose neighbours weigh exp(-8/9)
    w = math.exp(-8 / 9)
    depth = rows([0.0, 0.0, 3.0])
    picture, mean = local_contrast(depth, torch.ones_like(depth, dtype=torch.bool), kernel=3)
    means = [0.0, 3 * w / (1 + 2 * w), 3 / (1 + w)]
    torch.testing.assert_close(mean, rows(means))
    squares = [(d - m) ** 2 for d, m in zip([0, 0, 3], means, strict=True)]
    near = [(0, 1), (0, 1, 2), (1, 2)]
    weight = [[1, w, 0], [w, 1, w], [0, w, 1]]
    deviations = [math.sqrt(sum(weight[i][j] * squares[j] for j in near[i]) / sum(weight[i])) for i in range(3)]
    scale = [max(d, sum(deviations) / 3) for d in deviations]
    expected = [(d - m) / s for d, m, s in zip([0, 0, 3], means, scale, strict=True)]
    torch.testing.assert_close(picture, rows(expected))


def test_background_is_not_seen_and_reads_as_background():
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(2, 1, 12, 12, generator=generator)
    foreground = torch.zeros_like(depth, dtype=torch.bool)
    foreground[:, :, 3:9, 2:8] = True
    one = local_contrast(depth, foreground)
    other = local_contrast(torch.where(foreground, depth, 77.0), foreground)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert (one.picture[~foreground] == BACKGROUND).all()
    assert (one.picture[foreground].abs() < BACKGROUND).float().mean() > 0.95


def test_a_step_away_moves_the_mean_alone_and_a_scale_changes_nothing_seen():
    depth = torch.rand(1, 1, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    foreground = depth > 0.2
    picture, mean = local_contrast(depth, foreground)
    moved, scaled = local_contrast(depth + 5, foreground), local_contrast(3 * depth, foreground)
    torch.testing.assert_close(moved.picture, picture)
    torch.testing.assert_close(moved.mean, mean + 5)
    torch.testing.assert_close(scaled.picture, picture)


def test_what_is_subtracted_next_to_nothing_is_the_surfaces_own_depth():
    depth = torch.full((1, 1, 30, 30), 9.0)
    foreground = torch.zeros_like(depth, dtype=torch.bool)
    foreground[:, :, :, :4] = True
    depth[:, :, :10, :4], depth[:, :, 10:, :4] = 0.5, 0.8
    picture, mean = local_contrast(depth, foreground)
    torch.testing.assert_close(mean[0, 0, 2, :4], torch.full((4,), 0.5))
    assert picture[0, 0, 2, :4].abs().max() < 1e-4
    torch.testing.assert_close(mean[0, 0, 2, 29], torch.tensor(0.7))  # far from the hand: a third 0.5, the rest 0.8


def test_a_picture_without_a_hand_is_background():
    picture, mean = local_contrast(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    assert (picture == BACKGROUND).all() and (mean == 0).all()


def test_bad_input():
    depth, foreground = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="kernel: expected an odd number of pixels, got 4"):
        local_contrast(depth, foreground, kernel=4)
    with pytest.raises(ValueError, match=r"foreground: expected shape \(1, 1, 8, 8\)"):
        local_contrast(depth, foreground[..., :4])
    with pytest.raises(TypeError, match="depth: expected a floating-point tensor"):
        local_contrast(depth.int(), foreground)
