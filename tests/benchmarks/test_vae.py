"""The speed of the cross-modal VAE is measured for both kinds of pictures."""

import benchmarks.vae as vae


def test_training_and_prediction_of_both_modalities_are_timed(monkeypatch):
    monkeypatch.setattr(vae, "SIZES", {"small": ("small", 32)})
    monkeypatch.setattr(vae, "TRAINING_BATCH", 2)
    table, figures = vae.measure("cpu", (1,))
    wanted = {
        f"cpu_{what}_small_{source}" for source in ("rgb", "depth") for what in ("training_samples_s", "predict_ms_b1")
    }
    assert set(figures) == wanted and all(value > 0 for value in figures.values())
    assert table.row_count == 2
