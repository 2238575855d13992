"""evaluate and compare: published predictions give published figures; files are matched by key or refused by name."""

import json
import lzma
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules import compare, evaluate
from lightning_modules.evaluation_files import evaluate_files
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import write_predictions, write_uvd
from lightning_modules.protocols import protocol
from lightning_modules.protocols.curves import area
from lightning_modules.published_rows import PublishedRow, published_protocols, published_rows
from ops.camera import project
from ops.hand_model.conventions import point_set

PIECES = Path(__file__).resolve().parents[3] / "shared" / "data"
GOLDEN = {
    "CVWW15_NYU_Prior": ("nyu", "CVWW15_NYU_Prior"),
    "IJCV16_NYU_LieX": ("nyu", "IJCV16_NYU_LieX"),
    "ICIP17_NYU_REN_4x6x6": ("nyu", "ICIP17_NYU_REN_4x6x6"),
    "CVPR18_NYU_V2V_PoseNet": ("nyu", "CVPR18_NYU_V2V_PoseNet"),
    "MURAUER n10 labelled real frames": ("nyu", "joint_pos_murauer_n10_wacv_uvd"),
    "JVCI18_ICVL_REN_9x6x6": ("icvl", "JVCI18_ICVL_REN_9x6x6"),
    "CVPR18_ICVL_V2V_PoseNet": ("icvl", "CVPR18_ICVL_V2V_PoseNet"),
}
PROTOCOL = {"nyu": "nyu-14", "icvl": "icvl-16"}


def piece(name: str) -> Path:
    path = PIECES / name
    if not path.exists():
        pytest.skip(f"the real piece {name} is not beside the repository")
    return path


def run(monkeypatch, capsys, module, *arguments):
    """What the command prints, its last line as JSON if it is."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    module.main()
    return capsys.readouterr().out


@pytest.mark.parametrize("method", GOLDEN)
def test_published_predictions_give_the_published_figures(method):
    golden = {row["method"]: row for row in json.loads(piece("published/golden.json").read_text())}[method]
    dataset, file = GOLDEN[method]
    metric = protocol(PROTOCOL[dataset])
    labels = piece(f"{dataset}/{dataset}_test_groundtruth_label.txt.xz")
    assert evaluate_files(piece(f"published/{dataset}/{file}.txt.xz"), labels, metric) == golden["frames"]
    figures = metric.compute()
    for name in ("mean_mm", "median_mm", "per_joint_mm"):
        assert figures[name] == pytest.approx(golden[name], abs=1e-3), name
    for name in ("success_maxframe_pct", "success_meanframe_pct", "joint_pck_pct"):
        for limit, share in golden[name].items():
            assert figures[name][limit] == pytest.approx(share, abs=2e-3), (name, limit)
    assert figures["auc_joint_0_50_100pts"] == pytest.approx(golden["auc_joint_0_50_100pts"], abs=2e-5)


def test_the_first_sequence_of_icvl_alone_gives_its_figures(tmp_path):
    golden = {row["method"]: row for row in json.loads(piece("published/golden.json").read_text())}
    golden = golden["CVWW15_ICVL_Prior (seq 1 only, 702 frames)"]
    lines = lzma.decompress(piece("icvl/icvl_test_groundtruth_label.txt.xz").read_bytes()).splitlines()[:702]
    (tmp_path / "first.txt").write_bytes(b"\n".join(lines))
    metric = protocol("icvl-16")
    evaluate_files(piece("published/icvl/CVWW15_ICVL_Prior.txt.xz"), tmp_path / "first.txt", metric)
    assert metric.compute()["mean_mm"] == pytest.approx(golden["mean_mm"], abs=1e-3)
    assert metric.compute()["per_joint_mm"] == pytest.approx(golden["per_joint_mm"], abs=1e-3)


def test_nyus_own_network_in_pixels():
    metric = protocol("nyu-14-px")
    evaluate_files(piece("nyu/test_predictions.mat"), piece("nyu/nyu_test_groundtruth_label.txt.xz"), metric)
    figures = metric.compute()
    assert (figures["mean_px"], figures["median_px"]) == pytest.approx((4.7942, 4.0788), abs=1e-4)
    per_joint = [5.335, 4.149, 5.951, 4.237, 6.009, 4.523, 6.979, 5.107, 5.242, 4.157, 3.603, 4.875, 4.153, 2.797]
    assert figures["per_joint_px"] == pytest.approx(per_joint, abs=1e-3)


@pytest.mark.parametrize("name", published_protocols())
def test_published_rows_have_a_source_and_curves_their_area(name):
    rows = published_rows(name)
    assert rows and all(row.source and row.figures for row in rows)
    assert len({(row.method, row.source) for row in rows}) == len(rows)
    for row in rows:
        if row.curve_pck:
            found = area(row.curve_pck["thresholds_mm"], torch.tensor(row.curve_pck["share"]))
            assert found == pytest.approx(row.curve_auc, abs=2e-4), row.method
            # printed areas follow from the points but for curves that are cut at the top or the start
            cut = row.method in ("Mueller", "Sridhar (RGB-D)")
            printed = next(iter(row.figures.values()))
            assert abs(found - printed) < (0.015 if cut else 0.003), row.method


def test_published_rows_are_the_golden_figures():
    golden = {row["method"]: row for row in json.loads(piece("published/golden.json").read_text())}
    rows = {row.method: row for row in published_rows("nyu-14")}
    assert rows["V2V-PoseNet"].figures["mean_mm"] == golden["CVPR18_NYU_V2V_PoseNet"]["mean_mm"]
    assert rows["Lie-X"].uses_ground_truth_at_test and not rows["V2V-PoseNet"].uses_ground_truth_at_test
    curves = json.loads(piece("published_pck_curves.json").read_text())
    spurr = {row.method: row for row in published_rows("stb-eval-util")}["Spurr"]
    assert spurr.curve_pck["share"] == pytest.approx(curves["STB_spurr"]["pck"], abs=1e-5)


# -- files


def uvd_file(path, points, metric):
    uv = project(points, metric.K)
    write_uvd(path, torch.cat([uv, 1000 * points[..., 2:]], -1).numpy())
    return path


def some_points(batch, points):
    draw = torch.Generator().manual_seed(0)
    return 0.05 * torch.randn(batch, points, 3, generator=draw, dtype=torch.float64) + torch.tensor([0, 0, 0.5])


def prediction(points, name, keys, path, frame=Frame.ABSOLUTE):
    joints = torch.zeros(len(points), 21, 3)
    side = torch.ones(len(points), dtype=torch.int64)
    hands = HandPrediction(joints, None, None, None, side, None, frame, "", "nyu", points.float(), name)
    write_predictions(path, hands, keys)
    return path


@pytest.fixture
def nyu36(monkeypatch):
    """The name of a set of 36 points that holds NYU's 14."""
    return point_set("nyu-36")


def test_a_tests_predictions_are_put_in_the_order_of_their_keys(tmp_path, nyu36):
    metric = protocol("nyu-14")
    points = some_points(3, 36)
    wanted = [nyu36.points.index(name) for name in metric.point_names]
    labels = uvd_file(tmp_path / "labels.txt", points[:, wanted], metric)
    keys = [f"nyu/test/1_{i:07d}" for i in (1, 2, 3)]
    shuffled = [2, 0, 1]
    path = prediction(points[shuffled], "nyu-36", [keys[i] for i in shuffled], tmp_path / "p.npz")
    assert evaluate_files(path, labels, metric) == 3
    assert metric.compute()["mean_mm"] < 0.01  # three digits of pixels in the text


def test_keys_match_labels_and_what_is_missing_is_named(tmp_path):
    joints = some_points(2, 21).float()
    np.savez(tmp_path / "labels.npz", keys=["b", "a"], joints_3d=joints.numpy(), visible=np.ones((2, 21), bool))
    side = torch.ones(2, dtype=torch.int64)
    hands = HandPrediction(joints.flip(0), None, None, None, side, None, Frame.ROOT_RELATIVE, "", "rhd")
    write_predictions(tmp_path / "p.npz", hands, ["a", "b"])
    metric = protocol("rhd-eval-util")
    evaluate_files(tmp_path / "p.npz", tmp_path / "labels.npz", metric)
    assert metric.compute()["mean_mm"] == 0
    write_predictions(tmp_path / "q.npz", hands, ["a", "c"])
    with pytest.raises(ValueError, match=r"q\.npz: expected a prediction for each of the 2 samples .* missing b"):
        evaluate_files(tmp_path / "q.npz", tmp_path / "labels.npz", protocol("rhd-eval-util"))


def test_the_command_prints_a_table_and_json_and_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    metric = protocol("msra-21")
    labels = uvd_file(tmp_path / "labels.txt", some_points(2, 21), metric)
    predicted = uvd_file(tmp_path / "predicted.txt.xz", some_points(2, 21) + torch.tensor([0, 0.003, 0.004]), metric)
    arguments = ["--protocol", "msra-21", "--predictions", predicted, "--ground-truth", labels]
    kept = tmp_path / "figures.json"
    out = run(monkeypatch, capsys, evaluate, *arguments, "--save", kept, "--plot", tmp_path / "plot.png")
    figures = json.loads(out.splitlines()[-1])
    assert figures["mean_mm"] == pytest.approx(5, abs=0.01) and len(figures["per_joint_mm"]) == 21
    assert {"median_mm", "success_maxframe_pct"} <= set(figures) and figures == json.loads(kept.read_text())
    assert "none, camera frame" in out and (tmp_path / "plot.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, evaluate, *arguments, "--save", kept)
    assert "there already" in capsys.readouterr().err
    out = run(monkeypatch, capsys, compare, "--run", kept, "--format", "markdown")
    first = out.splitlines()[2]
    assert first.startswith("| this run: figures |") and "| Pose-REN |" in out  # 5 mm is better than all


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ("1 2 500 " * 14, "1 2 500 " * 13, r"p\.txt: expected 42 numbers a line"),
        ("1 2 500 " * 14 + "\n" + "1 2 500 " * 14, "1 2 500 " * 14, r"p\.txt: expected 2 hands as in .*, got 1"),
        ("1 2 500 " * 14, "1 2 nan " * 14, r"p\.txt, line 1: expected finite pixels and depths above 0"),
        ("1 2 0 " * 14, "1 2 500 " * 14, r"t\.txt, line 1: expected finite pixels and depths above 0"),
    ],
)
def test_text_that_cannot_be_compared_is_refused(tmp_path, monkeypatch, capsys, labels, predicted, message):
    (tmp_path / "t.txt").write_text(labels)
    (tmp_path / "p.txt").write_text(predicted)
    arguments = ["--protocol", "nyu-14", "--predictions", tmp_path / "p.txt", "--ground-truth", tmp_path / "t.txt"]
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, capsys, evaluate, *arguments)
    assert stop.value.code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_files_of_another_kind_are_refused(tmp_path, nyu36):
    metric, points = protocol("nyu-14"), some_points(1, 36)
    labels = uvd_file(tmp_path / "t.txt", some_points(1, 14), metric)
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file"):
        evaluate_files(tmp_path / "none.txt", labels, metric)
    bare = prediction(points, "nyu-36", ["k"], tmp_path / "relative.npz", Frame.ROOT_RELATIVE)
    with pytest.raises(ValueError, match=r"'nyu-14' compares in the camera's frame, got root-relative"):
        evaluate_files(bare, labels, metric)
    icvl = prediction(some_points(1, 16), "icvl-16", ["k"], tmp_path / "icvl.npz")
    with pytest.raises(ValueError, match=r"points 'icvl-16' lack F1_KNU3_A"):
        evaluate_files(icvl, labels, metric)
    with pytest.raises(ValueError, match="has no text layout"):
        evaluate_files(labels, labels, protocol("freihand"))
    np.savez(tmp_path / "odd.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match=r"odd\.npz: expected one of points, joints_3d"):
        evaluate_files(tmp_path / "odd.npz", labels, metric)
    with pytest.raises(ValueError, match="protocol"):
        compare.comparison({"a": {"protocol": "nyu-14", "rules": {}}, "b": {"protocol": "icvl-16", "rules": {}}})
    assert PublishedRow._fields[0] == "method"
