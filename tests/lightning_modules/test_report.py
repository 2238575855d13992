"""The report of a run: what stands in it after training, after a test, and when a run went on."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.batch import HandBatch
from lightning_modules.batch_predictions import SourcePrediction
from lightning_modules.error_gallery import ErrorGallery
from lightning_modules.prediction import Frame
from lightning_modules.report import DIAGRAMS, Shown, diagrams, read_metrics, write_report
from tests.browser import browser, reason_to_skip
from tests.lightning_modules.test_page import HOSTILE, decoded, read
from tests.toys import ToyHands, ToyMethod


def batch_of(count):
    samples = [ToyHands(16, count)[i] for i in range(count)]
    return HandBatch(
        **{
            name: torch.stack([s[name] for s in samples])
            if isinstance(first, torch.Tensor)
            else [s[name] for s in samples]
            for name, first in samples[0].items()
        }
    )


def share_of(batch, offsets_mm):
    """Predictions off by so much in all joints but the wrist."""
    prediction = ToyMethod().predict_step(batch)
    off = torch.tensor(offsets_mm)[:, None, None] / 1000 * torch.tensor([0.0, 0, 1])
    joints = batch["joints_3d"] + torch.cat([torch.zeros(len(off), 1, 3), off.expand(-1, 20, 3)], 1)
    return SourcePrediction("toy", batch["key"], replace(prediction, joints_3d=joints + 0.2))  # wrists are aligned


def test_best_median_and_worst_are_those_by_root_aligned_error():
    batch, gallery = batch_of(5), ErrorGallery()
    gallery.add(batch, [share_of(batch, [30.0, 10.0, 50.0, 20.0, 40.0])])
    (heading, chosen), *rest = gallery.chosen().items()
    assert heading == "toy, 5 samples" and rest == []
    assert {word: judged.key for word, judged in chosen.items()} == {
        "best": "toy/1", "median": "toy/0", "worst": "toy/2"
    }  # fmt: skip
    assert [judged.error for judged in chosen.values()] == pytest.approx(
        [200 / 21, 600 / 21, 1000 / 21],
        abs=1e-3,  # float32 at half a metre
    )
    assert chosen["best"].picture.ndim == 3


def test_mirrored_labels_are_turned_back_and_what_cannot_be_judged_is_left_out():
    batch, gallery = batch_of(3), ErrorGallery()
    share = share_of(batch, [10.0, 10.0, 10.0])
    mirrored = HandBatch(
        batch | {"mirrored": torch.ones(3, dtype=torch.bool), "has_3d": torch.tensor([True, True, False])}
    )
    mirrored["joints_3d"] = batch["joints_3d"] * torch.tensor([-1.0, 1, 1])
    mirrored["joint_valid"] = batch["joint_valid"].clone()
    mirrored["joint_valid"][1, 0] = False  # no wrist
    gallery.add(mirrored, [share])
    assert [judged.error for judged in gallery.chosen()["toy, 1 samples"].values()] == pytest.approx(
        [200 / 21] * 3, abs=1e-3
    )


def test_normalised_predictions_have_no_millimetres_and_enough_is_enough():
    batch, gallery = batch_of(4), ErrorGallery(most=6)
    share = share_of(batch, [1.0] * 4)
    gallery.add(batch, [share._replace(prediction=replace(share.prediction, frame=Frame.NORMALISED))])
    assert gallery.chosen() == {} and gallery.wants(batch)
    gallery.add(batch, [share])
    assert not gallery.wants(batch)


def test_every_metric_but_the_tests_is_in_one_diagram():
    names = ("train/loss_total", "train/loss", "val/loss_prior", "val/joints_root_mm", "val/sensor/mean_pose_root_mm")
    names += ("val/mean_iou_pct", "val/success_joint_20mm", "test/joints_root_mm", "train/mesh_share", "lr-AdamW")
    drawn = dict(diagrams({name: np.array([[1.0, 0.5], [2, 0.4]]) for name in names}))
    shown = {title: [trace["name"] for trace in figure["data"]] for title, figure in drawn.items()}
    assert shown == {
        "Losses": ["train/loss", "train/loss_total", "val/loss_prior"],
        "Errors on validation, mm": ["val/joints_root_mm", "val/sensor/mean_pose_root_mm"],
        "Scores on validation, %": ["val/mean_iou_pct"],
        "Other figures": ["lr-AdamW", "val/success_joint_20mm"],
    }
    assert [trace["visible"] for trace in drawn["Losses"]["data"]] == [True, True, "legendonly"]
    assert len(DIAGRAMS) == 4


def test_losses_over_decades_are_drawn_on_a_logarithmic_axis():
    def axis(values):
        return dict(diagrams({"train/loss": np.stack([np.arange(3), values], 1)}))["Losses"]["layout"]["yaxis"]["type"]

    assert axis(np.array([100.0, 10, 1])) == "log"
    assert axis(np.array([3.0, 2, 1])) == axis(np.array([100.0, 1, -1])) == "linear"


def test_a_run_leaves_a_report_with_its_curves_tables_pictures_and_facts(train):
    cli = train("fit", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=2", run_id="a")
    elements, figures = read(cli.folder / "report.html")
    text = "".join(elements.texts.values())
    assert "toy/a" in text and "ToyMethod" in text and "toy-hand" in text and "commit" in text
    losses = next(trace for trace in figures[0]["data"] if trace["name"] == "train/loss")
    metrics = read_metrics(cli.folder / "metrics.csv")["train/loss"]
    assert np.allclose(decoded(losses["x"]), [0, 1, 2, 3]) and np.allclose(decoded(losses["y"]), metrics[:, 1])
    assert "Test errors, mm" in text and "absolute" in text and "mean pose" in text
    assert "Test: toy, 8 samples" in text and "worst: " in text and "Validation, step 4" in text
    assert sum(tag == "img" for tag, _ in elements.tags) == 4
    assert "tests.toys.ToyMethod" in text  # the configuration


def test_a_run_that_went_on_reports_all_of_it(train):
    train("fit", "--trainer.log_every_n_steps=1", "--trainer.max_steps=2", "--test_after_fit=false", run_id="b")
    cli = train("fit", "--trainer.log_every_n_steps=1", run_id="b")
    elements, figures = read(cli.folder / "report.html")
    losses = next(trace for trace in figures[0]["data"] if trace["name"] == "train/loss")
    metrics = read_metrics(cli.folder / "metrics.csv")["train/loss"]
    assert np.allclose(decoded(losses["x"]), metrics[:, 0]) and np.allclose(decoded(losses["y"]), metrics[:, 1])
    assert metrics[:2, 0].tolist() == [0, 1] and metrics[-1, 1] < metrics[0, 1]  # the first sitting's are there
    assert "4 in 0.0 min, 2 sittings" in "".join(elements.texts.values())


def test_a_report_can_be_left_out(train):
    cli = train("fit", "--report=false", "--trainer.max_steps=1", "--test_after_fit=false")
    assert not (cli.folder / "report.html").exists()


def write_example(folder):
    """A run's folder with all that a report may show, and names that would be markup."""
    rows = "\n".join(f"{step},{math.exp(-step / 100):.4f},{20 - step / 10:.2f}" for step in range(0, 100, 10))
    (folder / "metrics.csv").write_text(f"step,train/loss_total,val/joints_root_mm\n{rows}\n")
    (folder / "config.yaml").write_text(f"experiment: '{HOSTILE}'\n")
    (folder / "figures").mkdir()
    figures = {"protocol": HOSTILE, "frames": 4, "mean_mm": 10.26, "auc": None, "joints": ["a"]}
    (folder / "figures" / "nyu.json").write_text(json.dumps(figures))
    test = {"test/joints_root_mm": 12.34, "test/sensor/joints_root_mm": float("nan"), "test/mean_iou_pct": 55.55}
    picture = np.full((64, 64, 3), 128, np.uint8)
    return write_report(folder, HOSTILE, {"method": HOSTILE}, test, {HOSTILE: [Shown(HOSTILE, picture)]})


def test_what_stands_in_a_report_is_text_and_numbers_are_short(tmp_path):
    elements, _ = read(write_example(tmp_path))
    assert [tag for tag, _ in elements.tags].count("script") == 3
    assert not [a for _, a in elements.tags if "onerror" in a or a.get("src") == "x"]
    text = elements.texts[None]
    assert "12.3" in text and "55.5" in text and "10.3" in text and "nan" not in text.lower()


@pytest.mark.slow
def test_a_report_draws_its_curves_in_a_browser(tmp_path):
    if reason := reason_to_skip():
        pytest.skip(reason)
    pytest.importorskip("selenium")
    path = write_example(tmp_path)
    with browser(420, 800) as window:
        window.open(path)
        assert window.errors() == [] and window.requests() == []
        window.run("document.querySelector('.diagrams').scrollIntoView()")  # what is out of sight is not drawn
        lines = "return document.querySelectorAll('.plot .scatterlayer .js-line').length"
        window.wait(lambda: window.run(lines) == 2, "a curve in each of two diagrams")
        assert window.run("return document.documentElement.scrollWidth <= innerWidth")
