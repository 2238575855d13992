"""The latency benchmark's bookkeeping: what is timed, and that accuracy is taken at both resolutions."""

import pytest

import benchmarks.neverova as benchmark
from benchmarks.neverova import accuracy, latency, of_size
from lightning_modules.neverova import Neverova


@pytest.fixture(autouse=True)
def once(monkeypatch):
    monkeypatch.setattr(benchmark, "REPEATS", 1)


def test_all_parts_of_the_method_are_timed_at_both_resolutions():
    found = latency(of_size("small"), "cpu")
    assert set(found) == {"f_s_24", "f_s_48", "all_24", "all_48", "f_r"} and min(found.values()) > 0
    assert found["f_s_48"] > found["f_s_24"], "four times the pixels"


def test_the_papers_networks_find_fourteen_joints():
    method = of_size("paper")
    assert len(method.joints) == 14 and method.hparams.hidden == 500


def test_accuracy_is_taken_at_both_resolutions():
    small = {"widths": [2, 2, 2], "hidden": 4, "regressor_hidden": 4}
    found = accuracy(Neverova(step="regression", init_from="nothing", **small).eval(), 3)
    assert set(found) == {
        f"{name}_{side}" for name in ("per_pixel_pct", "per_class_pct", "joints_absolute_mm") for side in (24, 48)
    }
    assert found["per_class_pct_24"] != found["per_class_pct_48"]
