"""One process against two of half the batch."""

import pytest
import torch
from torch import nn

from benchmarks.ranks import ARMS, ONE, STEPS, UNEVEN, Arm, EvenTerms, differences, run


def test_differences_are_the_largest_ones():
    one = Arm([2.0, 1.0], {"w": torch.tensor([1.0, 2.0])}, {"val/a": 10.0, "val/b": 0.0}, 2)
    other = Arm([2.0, 1.1], {"w": torch.tensor([1.0, 2.5])}, {"val/a": 11.0, "val/b": 0.0}, 2)
    assert differences(one, one) == {"loss": 0, "metric": 0, "weight": 0}
    assert differences(other, one) == pytest.approx({"loss": 0.1, "metric": 0.1, "weight": 0.5})


def test_no_normalisation_over_the_batch_is_left():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.BatchNorm2d(4)), nn.Flatten(), nn.BatchNorm1d(16))
    EvenTerms().setup(None, network, "fit")
    pictures = torch.rand(3, 1, 4, 4)
    torch.testing.assert_close(network(pictures)[:1], network(pictures[:1]))


@pytest.mark.slow
def test_two_processes_of_half_the_batch_learn_what_one_learns(tmp_path):
    one, two = (run(tmp_path, arm, ARMS[arm]) for arm in (ONE, "2 processes, half the batch"))
    far = differences(two, one)
    assert len(two.losses) == two.steps == STEPS
    # sums of float32 in another order, through a few steps of AdamW, which divides small gradients by small numbers
    assert far["loss"] < 1e-3 and far["metric"] < 1e-3
    assert run(tmp_path, "uneven", UNEVEN).steps == STEPS
