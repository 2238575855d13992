"""The speed of the cross-modal VAE is measured for both kinds of pictures."""

import pytest

import benchmarks.vae as vae
from benchmarks.vae_release import PlainVAE
from lightning_modules.cross_modal_vae import CrossModalVAE


@pytest.mark.slow
def test_training_and_prediction_of_both_modalities_are_timed(monkeypatch):
    monkeypatch.setattr(vae, "SIZES", {"small": ("small", 32)})
    monkeypatch.setattr(vae, "TRAINING_BATCH", 2)
    table, figures = vae.measure("cpu", (1,))
    wanted = {
        f"cpu_{what}_{name}_{source}"
        for name in ("small", "plain")
        for source in ("rgb", "depth")
        for what in ("training_samples_s", "predict_ms_b1")
    }
    assert set(figures) == wanted and all(value > 0 for value in figures.values())
    assert table.row_count == 4


def test_the_plain_networks_have_as_many_numbers_as_ours():
    ours = CrossModalVAE(["depth-3d", "depth-depth"], encoder="resnet18")
    counted = [sum(p.numel() for p in network.parameters()) for network in (ours, PlainVAE(1))]
    assert counted[0] == counted[1]
