"""Figures as the cross-modal VAE's paper measures: from the palm, in the picture."""

import pytest
import torch

from lightning_modules.vae_figures import PaperFigures


def test_errors_from_the_palm_forget_where_the_hand_is_and_hands_without_a_palm():
    true = torch.randn(3, 21, 3, generator=torch.Generator().manual_seed(0))
    said = true + 5.0  # elsewhere, and else right
    said[0, 4, 2] += 0.01
    valid = torch.ones(3, 21, dtype=torch.bool)
    valid[2, 9] = False
    said[2] = torch.nan
    figures = PaperFigures("val")
    figures.update_joints(said, true, valid)
    found = figures.errors_from_palm()
    # one of 21 joints is 10 mm off in one of two hands
    assert found["val/eval_util_mm"].item() == pytest.approx(10 / 21 / 2, rel=1e-3)
    assert found["val/eval_util_auc_20_50"] == 1
    assert figures.errors_from_palm() == {}


def test_pixels_count_where_joints_are_labelled():
    figures = PaperFigures("test")
    true, valid = torch.zeros(1, 21, 2), torch.zeros(1, 21, dtype=torch.bool)
    valid[0, :2] = True
    said = true.clone()
    said[0, 0] = torch.tensor([3.0, 4.0])
    said[0, 5] = 100.0
    logged = figures.update_pixels(said, true, valid)
    assert logged["test/joints_2d_px"].compute() == 2.5


def test_stbs_palm_lies_towards_its_ring_finger():
    true = torch.randn(1, 21, 3, generator=torch.Generator().manual_seed(0))
    said, valid = true.clone(), torch.ones(1, 21, dtype=torch.bool)
    said[0, 13, 2] += 0.02  # the ring knuckle: STB's palm moves by half of it, and with it all others
    found = {}
    for dataset in ("rhd", "stb"):
        figures = PaperFigures("val", dataset)
        figures.update_joints(said, true, valid)
        found[dataset] = figures.errors_from_palm()["val/eval_util_mm"].item()
    assert found["rhd"] == pytest.approx(20 / 21, rel=1e-3)
    assert found["stb"] == pytest.approx((19 * 10 + 10) / 21, rel=1e-3)
