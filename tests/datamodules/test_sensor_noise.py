import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.sensor_noise import NOISE_PROFILES, SensorNoise, add_sensor_noise
from datamodules.sensor_noise_torch import add_noise, gauss, hash_of, unit_of

SIZE, DISTANCE = 96, 0.8
FIT = Path(__file__).parents[2] / "benchmarks" / "results" / "sensor_fit.json"


def plane(batch=8, step=0.0):
    """A square hand in the middle of nothing; its right half lies `step` metres farther back."""
    depth = torch.zeros(batch, 1, SIZE, SIZE)
    depth[:, :, 16:80, 16:80] = DISTANCE
    depth[:, :, 16:80, 48:80] += step
    return depth, (depth[:, 0] > 0).to(torch.uint8) * 3


def sensed(noise, scale=1.0, **kwargs):
    depth, parts = plane(**kwargs)
    rows = torch.tensor([noise.row()] * len(depth))
    keys = torch.arange(len(depth)) * 977 + 5
    return add_sensor_noise(depth, parts, rows, keys, torch.full((len(depth),), scale))


@pytest.mark.parametrize("profile", ["nyu", "sr305"])
def test_the_loop_equals_its_twin(profile):
    depth, parts = plane(batch=4, step=0.03)
    depth = depth + (depth > 0) * torch.linspace(0, 0.04, SIZE)[:, None]
    rows = torch.tensor([NOISE_PROFILES[profile].row()] * 4)
    arguments = depth, parts, rows, torch.tensor([1, 2, 3, 2**32 - 1]), torch.tensor([0.55, 0.8, 1.0, 1.7])
    ours, twin = add_sensor_noise(*arguments), add_noise(*arguments)
    differ = (ours[0] - twin[0]).abs() > 1e-6
    assert differ.float().mean() < 1e-3  # a rounding on the other side of a threshold
    assert (ours[1] != twin[1]).float().mean() < 1e-3


def test_no_noise_leaves_the_picture_alone_also_among_noisy_ones():
    depth, parts = plane(batch=2)
    rows = torch.tensor([SensorNoise().row(), NOISE_PROFILES["nyu"].row()])
    for function in (add_sensor_noise, add_noise):
        noisy, labels = function(depth, parts, rows, torch.tensor([1, 2]), torch.ones(2))
        torch.testing.assert_close(noisy[0], depth[0])
        torch.testing.assert_close(labels[0], parts[0])
        assert not torch.equal(noisy[1], depth[1])


@pytest.mark.parametrize("profile", ["nyu", "sr305"])
def test_labels_stand_exactly_where_depth_is(profile):
    noisy, labels = sensed(NOISE_PROFILES[profile], step=0.02)
    torch.testing.assert_close(noisy[:, 0] > 0, labels > 0)


def test_range_noise_has_the_stated_deviation_and_is_smooth():
    noisy, _ = sensed(SensorNoise(range_floor=0.001, range_growth=0.002, correlation=4.0), batch=32)
    inside = noisy[:, 0, 20:76, 20:76] - DISTANCE
    assert abs(inside.std() / (0.001 + 0.002 * DISTANCE**2) - 1) < 0.05
    near = (inside[:, :, 1:] * inside[:, :, :-1]).mean() / inside.var()
    far = (inside[:, :, 10:] * inside[:, :, :-10]).mean() / inside.var()
    assert near > 0.7 and abs(far) < 0.1


def test_quantisation_steps_grow_with_the_square_of_depth():
    depth = torch.linspace(0.5, 1.0, SIZE).expand(1, 1, SIZE, SIZE).contiguous()
    parts = torch.ones(1, SIZE, SIZE, dtype=torch.uint8)
    row = torch.tensor([SensorNoise(disparity_step=0.05).row()])
    noisy, _ = add_sensor_noise(depth, parts, row, torch.tensor([3]), torch.ones(1))
    levels = torch.unique(noisy)
    middle = (levels[1:] + levels[:-1]) / 2
    torch.testing.assert_close(levels.diff(), 0.05 * middle**2, rtol=0.01, atol=0)
    row = torch.tensor([SensorNoise(unit=0.01).row()])
    noisy, _ = add_sensor_noise(depth, parts, row, torch.tensor([3]), torch.ones(1))
    torch.testing.assert_close(noisy, (noisy * 100).round() / 100)


def test_holes_and_lost_edges_have_the_stated_share():
    noisy, _ = sensed(SensorNoise(hole_share=0.1, hole_size=2.0), batch=64)
    assert abs((noisy[:, 0, 16:80, 16:80] == 0).float().mean() - 0.1) < 0.01
    noisy, _ = sensed(SensorNoise(edge_reach=1.0, edge_loss=0.3), batch=64, step=0.02)
    lost = noisy[:, 0] == 0
    assert abs(lost[:, 17:79, 16].float().mean() - 0.3) < 0.03  # the outline
    assert abs(lost[:, 17:79, 47].float().mean() - 0.3) < 0.03  # the nearer side of the step
    assert not lost[:, 17:79, 48].any() and not lost[:, 20:76, 20:44].any()


def test_a_shifted_ray_shows_at_edges_alone():
    noisy, _ = sensed(SensorNoise(lateral=1.0))
    assert (noisy[:, 0, 20:76, 20:76] == DISTANCE).all()
    assert (noisy[:, 0, 20:76, 15] > 0).float().mean() > 0.1
    assert (noisy[:, 0, 20:76, 16] == 0).float().mean() > 0.1


@pytest.mark.parametrize("profile", ["nyu", "sr305"])
def test_quantisation_is_that_of_the_real_frames(profile):
    figures, noise = json.loads(FIT.read_text())["figures"], NOISE_PROFILES[profile]
    assert 1000 * noise.unit == pytest.approx(figures[f"{profile}_unit_mm_real"])
    assert noise.disparity_step == pytest.approx(figures[f"{profile}_disparity_step_real"], rel=0.01)


def test_hash_is_uniform_and_gauss_is_standard():
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    h = hash_of(torch.tensor(12345), 1, y, x)
    counts = torch.histc(unit_of(h), 16, 0, 1)
    assert ((counts - 4096).abs() < 250).all()
    assert abs(gauss(h).mean()) < 0.02 and abs(gauss(h).std() - 1) < 0.01
    rows = unit_of(h)
    assert abs(np.corrcoef(rows[:, 1:].flatten(), rows[:, :-1].flatten())[0, 1]) < 0.02
