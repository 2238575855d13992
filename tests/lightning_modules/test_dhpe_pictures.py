"""The picture of a refinement: which iterations it shows, what changes in it, and what it refuses."""

import cv2
import numpy as np
import pytest
import torch

from datamodules.batch import rows_of
from lightning_modules.dhpe import DHPE
from lightning_modules.dhpe_pictures import PANELS, refinement_picture, shown_steps, write_refinement
from tests.lightning_modules.rendered_hands import rendered_hands


@pytest.fixture(scope="module")
def method():
    torch.manual_seed(0)
    method = DHPE("small", joint_maps="small", refinement_steps=4, refinement_lr=0.1).eval()
    torch.nn.init.normal_(method.networks.estimator.weight, std=0.01)
    return method


def test_first_and_last_iterations_are_shown_and_the_early_ones_closer_together():
    assert shown_steps(50) == [0, 1, 6, 12, 22, 35, 50] and len(shown_steps(50)) == PANELS
    assert shown_steps(1) == [0, 1]


def test_panels_follow_the_hand_and_the_objective_stands_beside_them(method, tmp_path):
    one = rendered_hands(1, 64)
    write_refinement(method, one, tmp_path / "new" / "refinement.png")
    picture = cv2.imread(str(tmp_path / "new" / "refinement.png"))
    assert np.array_equal(picture, refinement_picture(method, one)), "the same each time"
    steps, side = shown_steps(4), 256
    assert picture.shape == (2 * side, 4 * side, 3) and len(steps) == 5
    panels = [picture[side * (i // 4) :, side * (i % 4) :][:side, :side] for i in range(len(steps) + 1)]
    below = [panel[24:].astype(int) for panel in panels]  # without what is written
    assert np.abs(below[0] - below[-2]).max() > 50, "the hand has moved"
    drawn = (below[-1] != 30).any(-1)
    assert drawn[:, 32:224].any(0).all(), "the objective has a value at every iteration"


def test_a_batch_of_two_and_a_method_without_iterations_are_refused(method):
    with pytest.raises(ValueError, match="batch: expected one hand to draw, got 2"):
        refinement_picture(method, rendered_hands(2, 64))
    without = DHPE("small", joint_maps="small", refinement_steps=0)
    with pytest.raises(ValueError, match="refinement_steps: expected at least 1 iteration to draw, got 0"):
        refinement_picture(without, rows_of(rendered_hands(2, 64), [0]))
