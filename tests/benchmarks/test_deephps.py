"""The small networks are as small as is said, counted by a counter that counts right."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from benchmarks.deephps import NETWORKS, multiply_adds
from lightning_modules.deephps import DeepHPS
from lightning_modules.networks.trunks import build_trunk

CONFIG = Path(__file__).parents[2] / "configs" / "deephps_rendered.yaml"


class Pictured(nn.Module):
    """A trunk called as the method is."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, depth, centre, side):
        return self.trunk(depth)


def test_multiply_adds_by_hand():
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64 * 64, 5))
    expected = 9 * 4 * 64 * 64 + 4 * 64 * 64 * 5
    assert multiply_adds(Pictured(layers)) == pytest.approx(expected / 1e9, rel=1e-9)


@torch.inference_mode()
def test_each_small_network_takes_at_most_a_tenth_of_a_billion_multiply_adds():
    counts = [multiply_adds(Pictured(build_trunk(trunk)).eval()) for trunk in NETWORKS["small"].values()]
    assert max(counts) <= 0.1 and counts == pytest.approx([0.020, 0.001, 0.001], rel=0.05)
    together = multiply_adds(DeepHPS(**NETWORKS["small"]).eval())
    assert sum(counts) < together <= 0.1  # all three, with their heads


def test_what_is_measured_as_small_is_what_the_default_experiment_trains():
    arguments = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]
    assert {name: arguments[name] for name in NETWORKS["small"]} == NETWORKS["small"]
