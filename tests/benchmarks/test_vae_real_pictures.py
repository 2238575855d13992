"""Errors on photographs of real hands; skipped where there are none."""

import pytest
import torch

import benchmarks.vae_real_pictures as real_pictures
from datamodules.batch import rows_of
from lightning_modules.cross_modal_vae import CrossModalVAE
from lightning_modules.prediction import Frame, HandPrediction
from tests.datamodules.readers import PIECES


def test_labels_as_predictions_are_without_error(monkeypatch, tmp_path):
    folder = PIECES / "ge_rgb3d"
    if not folder.is_dir():
        pytest.skip(f"no photographs in {folder}")
    batch = rows_of(real_pictures.photographs(folder), range(4))
    assert batch["mirrored"].all() and batch["rgb"].shape == (4, 3, 128, 128)
    method = CrossModalVAE(["rgb-3d"], encoder="small")
    as_pictured = batch["joints_3d"] * torch.tensor([-1.0, 1, 1])
    truth = HandPrediction(
        as_pictured, None, None, None, batch["side"], None, Frame.ABSOLUTE, method.hand_model_id, convention="ge"
    )
    monkeypatch.setattr(method, "predict_step", lambda *given: truth)
    monkeypatch.setattr(real_pictures, "restore_method", lambda path: method)
    found = real_pictures.measure(tmp_path, batch)
    assert found["joints_root_mm"] < 0.1 and found["eval_util_mm"] < 0.1 and found["mean_pose_root_mm"] > 20
    monkeypatch.setattr(real_pictures, "restore_method", lambda path: CrossModalVAE(["2d-3d"]))
    with pytest.raises(ValueError, match="expected a cross-modal VAE from rgb to 3d"):
        real_pictures.measure(tmp_path, batch)
