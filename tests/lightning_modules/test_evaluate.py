"""evaluate and compare: published predictions give published figures; files are matched by key or refused by name."""

import json
import lzma
import re
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from lightning_modules import compare, evaluate
from lightning_modules.evaluation_files import read_hands
from lightning_modules.evaluation_pairs import evaluate_files
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import write_predictions, write_uvd
from lightning_modules.protocols import protocol
from ops.camera import project
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.conventions import joints_in_conventions, point_set

PIECES = Path(__file__).resolve().parents[3] / "shared" / "data"
GOLDEN = {
    "CVWW15_NYU_Prior": ("nyu", "CVWW15_NYU_Prior"),
    "IJCV16_NYU_LieX": ("nyu", "IJCV16_NYU_LieX"),
    "ICIP17_NYU_REN_4x6x6": ("nyu", "ICIP17_NYU_REN_4x6x6"),
    "CVPR18_NYU_V2V_PoseNet": ("nyu", "CVPR18_NYU_V2V_PoseNet"),
    "MURAUER n10 labelled real frames": ("nyu", "joint_pos_murauer_n10_wacv_uvd"),
    "JVCI18_ICVL_REN_9x6x6": ("icvl", "JVCI18_ICVL_REN_9x6x6"),
    "CVPR18_ICVL_V2V_PoseNet": ("icvl", "CVPR18_ICVL_V2V_PoseNet"),
    "CVWW15_ICVL_Prior (seq 1 only, 702 frames)": ("icvl", "CVWW15_ICVL_Prior"),
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


@lru_cache(maxsize=2)
def true_points(dataset):
    """The test labels of a dataset: parsed once."""
    labels = piece(f"{dataset}/{dataset}_test_groundtruth_label.txt.xz")
    return read_hands(labels, protocol(PROTOCOL[dataset])).points


def golden_rows():
    return {row["method"]: row for row in json.loads(piece("published/golden.json").read_text())}


def test_every_golden_row_is_tested():
    assert set(golden_rows()) == set(GOLDEN)


@pytest.mark.parametrize("method", GOLDEN)
def test_published_predictions_give_the_published_figures(method):
    golden = golden_rows()[method]
    dataset, file = GOLDEN[method]
    metric = protocol(PROTOCOL[dataset])
    predicted = read_hands(piece(f"published/{dataset}/{file}.txt.xz"), metric).points
    assert len(predicted) == golden["frames"]
    metric.update(predicted, true_points(dataset)[: len(predicted)])  # one holds the first sequence alone
    figures = metric.compute()
    for name in ("mean_mm", "median_mm", "per_joint_mm"):
        assert figures[name] == pytest.approx(golden[name], abs=1e-3), name
    if golden["published_mm"] is not None:
        assert figures["mean_mm"] == pytest.approx(golden["published_mm"], abs=6e-4)  # printed with three digits
    for name in ("success_maxframe_pct", "success_meanframe_pct", "joint_pck_pct"):
        assert figures[name] == pytest.approx(golden[name], abs=6e-4), name  # not one frame of 8252 more or less
    assert figures["auc_joint_0_50_100pts"] == pytest.approx(golden["auc_joint_0_50_100pts"], abs=2e-5)


def test_nyus_own_network_in_pixels():
    metric = protocol("nyu-14-px")
    evaluate_files(piece("nyu/test_predictions.mat"), piece("nyu/nyu_test_groundtruth_label.txt.xz"), metric)
    figures = metric.compute()
    assert (figures["mean_px"], figures["median_px"]) == pytest.approx((4.7942, 4.0788), abs=1e-4)
    per_joint = [5.335, 4.149, 5.951, 4.237, 6.009, 4.523, 6.979, 5.107, 5.242, 4.157, 3.603, 4.875, 4.153, 2.797]
    assert figures["per_joint_px"] == pytest.approx(per_joint, abs=1e-3)


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


def test_a_tests_predictions_are_put_in_the_order_of_their_keys(tmp_path):
    metric, nyu36 = protocol("nyu-14"), point_set("nyu-36")
    points = some_points(3, 36)
    wanted = [nyu36.points.index(name) for name in metric.point_names]
    labels = uvd_file(tmp_path / "labels.txt", points[:, wanted], metric)
    keys = [f"nyu/test/1_{i:07d}" for i in (1, 2, 3)]
    shuffled = [2, 0, 1]
    path = prediction(points[shuffled], "nyu-36", [keys[i] for i in shuffled], tmp_path / "p.npz")
    assert evaluate_files(path, labels, metric) == 3
    assert metric.compute()["mean_mm"] < 0.01  # three digits of pixels in the text
    pixels = protocol("nyu-14-px")  # the same predictions, as the protocol's camera sees them
    evaluate_files(path, labels, pixels)
    assert pixels.compute()["mean_px"] < 0.01
    np.savez(tmp_path / "space.npz", keys=keys, points=points[:, wanted].numpy())  # labels in space, with keys
    pixels.reset()
    evaluate_files(path, tmp_path / "space.npz", pixels)
    assert pixels.compute()["mean_px"] < 1e-4  # predictions are kept in single precision


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
    with pytest.raises(
        ValueError, match=r"q\.npz: expected a prediction for each of the 2 samples .* missing b, not among them c"
    ):
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


def hands21(path, joints, keys, frame=Frame.ABSOLUTE, vertices=None, parts=None):
    """A prediction file of 21 joints."""
    side = torch.ones(len(joints), dtype=torch.int64)
    write_predictions(path, HandPrediction(joints, None, vertices, parts, side, None, frame, "", "open"), keys)
    return path


def labels21(path, **arrays):
    np.savez(path, **{"keys": ["a", "b"], "joints_3d": some_points(2, 21).numpy()} | arrays)
    return path


def spoilt(values, number):
    values = values.clone()
    values[1, 3, 0] = number
    return values.numpy()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"joints_3d": spoilt(some_points(2, 21), np.nan)}, r"t\.npz: joints of b: expected finite numbers, .* 1 of 2"),
        (
            {"joints_3d": 1000 * some_points(2, 21).numpy()},
            r"t\.npz: joints of a: expected metres, .* divide millimetres",
        ),
        ({"joints_3d": np.ones((2, 21, 3), int)}, r"t\.npz: joints: expected floating-point numbers, got torch.int64"),
        ({"joints_3d": some_points(2, 20).numpy()}, r"t\.npz: joints: expected \(N, 21, 3\), got \(2, 20, 3\)"),
        ({"joints_3d": np.array([{1: 2}], dtype=object)}, r"t\.npz: not an \.npz file of arrays, or a damaged one"),
        ({"joints_3d": np.zeros((0, 21, 3)), "keys": []}, r"t\.npz: expected at least one hand, got none"),
        ({"keys": ["a", "a"]}, r"t\.npz: expected each key once, got a more than once; write each sample once"),
        ({"keys": ["a", "b", "c"]}, r"t\.npz: expected as many of each, got 2 joints, 3 keys"),
        ({"visible": np.ones((2, 21), int)}, r"t\.npz: visible: expected bool, got torch.int64; write it with"),
        ({"visible": np.ones((2, 5), bool)}, r"t\.npz: visible: expected \(N, 21\), got \(2, 5\)"),
        ({"visible": np.zeros((2, 21), bool)}, r"no visible joints to measure"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(tmp_path, labels, message):
    predicted = hands21(tmp_path / "p.npz", some_points(2, 21), ["a", "b"])
    metric = protocol("rhd-eval-util")
    with pytest.raises(ValueError, match=message):
        evaluate_files(predicted, labels21(tmp_path / "t.npz", **labels), metric)
        metric.compute()


def test_damaged_files_are_refused_by_name(tmp_path):
    uvd = ("1 2 500 " * 14 + "\n") * 500
    (tmp_path / "t.txt").write_text(uvd)
    whole = hands21(tmp_path / "p.npz", some_points(2, 21), ["a", "b"])
    labels = labels21(tmp_path / "t.npz")
    (tmp_path / "cut.txt.xz").write_bytes(lzma.compress(uvd.encode())[:60])
    (tmp_path / "odd.txt.xz").write_bytes(b"no xz file")
    for name in ("cut.txt.xz", "odd.txt.xz"):
        with pytest.raises(ValueError, match=f"{name}: expected numbers, u v d per joint .* is the file whole"):
            evaluate_files(tmp_path / name, tmp_path / "t.txt", protocol("nyu-14"))
    content = whole.read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:-100])
    (tmp_path / "text.npz").write_text("no npz file")
    (tmp_path / "flipped.npz").write_bytes(bytes(b ^ 255 if 150 < i < 400 else b for i, b in enumerate(content)))
    for name in ("cut.npz", "text.npz", "flipped.npz"):
        with pytest.raises(ValueError, match=f"{name}: not .* or a damaged one .*; write it again"):
            evaluate_files(tmp_path / name, labels, protocol("rhd-eval-util"))
    scipy.io.savemat(tmp_path / "m.mat", {"pred_joint_uvconf": np.full((1, 500, 36, 3), np.nan)})
    with pytest.raises(ValueError, match=r"m\.mat: points of hand 0: expected finite numbers"):
        evaluate_files(tmp_path / "m.mat", tmp_path / "t.txt", protocol("nyu-14-px"))
    scipy.io.savemat(tmp_path / "other.mat", {"something": 1})
    with pytest.raises(ValueError, match=r"other\.mat: no array 'pred_joint_uvconf'"):
        evaluate_files(tmp_path / "other.mat", tmp_path / "t.txt", protocol("nyu-14-px"))


def test_what_a_protocol_does_not_compare_may_be_anything(tmp_path):
    parts = torch.ones(2, 4, 4, dtype=torch.uint8)
    said = hands21(tmp_path / "p.npz", some_points(2, 21), ["a", "b"], parts=parts)
    labels = labels21(tmp_path / "t.npz", parts=parts.numpy(), points=np.zeros((2, 36, 3)))  # a dataset's own 36
    assert evaluate_files(said, labels, protocol("segmentation")) == 2
    assert evaluate_files(said, labels, protocol("rhd-eval-util")) == 2


def test_points_behind_the_camera_and_pictures_of_another_size_are_refused(tmp_path):
    points = some_points(2, 21).numpy()
    np.savez(tmp_path / "t.npz", points=points)
    np.savez(tmp_path / "p.npz", points=points * [1, 1, -1])
    with pytest.raises(ValueError, match=r"p\.npz: points of hand 0: expected depths z above 0, got 2 of 2"):
        evaluate_files(tmp_path / "p.npz", tmp_path / "t.npz", protocol("msra-21"))
    parts = torch.ones(2, 4, 4, dtype=torch.uint8)
    said = hands21(tmp_path / "s.npz", some_points(2, 21), ["a", "b"], parts=parts, vertices=torch.rand(2, 50, 3))
    labels = labels21(tmp_path / "l.npz", parts=np.ones((2, 5, 4), np.uint8), vertices=np.zeros((2, 40, 3)))
    with pytest.raises(ValueError, match=r"s\.npz: parts: expected \(2, 5, 4\) as in .*l\.npz, got \(2, 4, 4\)"):
        evaluate_files(said, labels, protocol("segmentation"))
    with pytest.raises(ValueError, match=r"s\.npz: expected 40 vertices a hand as in .*l\.npz, got 50"):
        evaluate_files(said, labels, protocol("freihand"))
    odd = labels21(tmp_path / "o.npz", parts=np.full((2, 4, 4), 21, np.uint8))
    with pytest.raises(ValueError, match=r"s\.npz against .*o\.npz: target: expected integer labels 0 to 20"):
        evaluate_files(said, odd, protocol("segmentation"))


def test_root_relative_predictions_are_judged_by_what_they_say(tmp_path, monkeypatch, capsys):
    joints = some_points(2, 21)
    predicted = hands21(tmp_path / "p.npz", joints - joints[:, :1], ["a", "b"], Frame.ROOT_RELATIVE)
    labels = labels21(tmp_path / "t.npz")
    arguments = ["--predictions", predicted, "--ground-truth", labels]
    out = run(monkeypatch, capsys, evaluate, "--protocol", "freihand", *arguments)
    figures = json.loads(out.splitlines()[-1])
    assert figures["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3) and figures["mean_mm"] is None
    assert "predictions are root-relative" in out
    with pytest.raises(SystemExit):
        plot = tmp_path / "plot.png"
        run(monkeypatch, capsys, evaluate, "--protocol", "dexter-tips", *arguments, "--plot", plot)
    assert "no success curve of these predictions" in " ".join(capsys.readouterr().err.split())


def test_files_of_another_kind_are_refused(tmp_path):
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


# -- joint conventions


def conventional_files(tmp_path, side=1):
    """Labels in RHD's convention and the same hands predicted in STB's."""
    drawn = HandSampler(CLEAN, open_hand()).sample(0, "test", 0, np.arange(3))
    layer = HandLayer(open_hand(), pose_space="matrix", convention="model").double()
    values = (drawn.pose, drawn.shape, drawn.global_rotation, drawn.hand_centre)
    hand = layer(*(value.double() for value in values))
    flip = torch.tensor([1.0 if side else -1.0, 1.0, 1.0])
    rhd, stb = (flip * joints_in_conventions(hand.joints, hand.rotations, name) for name in ("rhd", "stb"))
    keys, sides = ["a", "b", "c"], torch.full((3,), side)
    labels = {"keys": keys, "joints_3d": rhd.numpy(), "side": sides.numpy(), "convention": "rhd"}
    np.savez(tmp_path / "labels.npz", **labels)
    said = HandPrediction(stb, None, None, None, sides, None, Frame.ABSOLUTE, "", "stb")
    write_predictions(tmp_path / "p.npz", said, keys)
    return ["--predictions", tmp_path / "p.npz", "--ground-truth", tmp_path / "labels.npz"]


@pytest.mark.parametrize("side", [0, 1])
def test_joints_of_two_conventions_are_refused_or_converted_to_the_one_that_is_named(
    tmp_path, monkeypatch, capsys, side
):
    files = ["--protocol", "rhd-eval-util", *conventional_files(tmp_path, side)]
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, capsys, evaluate, *files)
    assert stop.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "p.npz: joints in the convention 'stb', but" in said and "labels.npz has 'rhd'" in said
    assert "--convention rhd fits hands to the predictions" in said
    unequal = protocol("rhd-eval-util")
    bare = dict(np.load(tmp_path / "labels.npz"))
    np.savez(tmp_path / "bare.npz", **{name: bare[name] for name in ("keys", "joints_3d")})
    evaluate_files(tmp_path / "p.npz", tmp_path / "bare.npz", unequal)
    assert unequal.facts["convention"] == "stb; labels do not say theirs"
    for convention, converted in (("rhd", "predictions"), ("stb", "labels")):
        out = run(monkeypatch, capsys, evaluate, *files, "--convention", convention)
        figures = json.loads(out.splitlines()[-1])
        assert figures["rules"]["convention"] == f"{convention}; {converted} converted by fitted hands"
        assert figures["mean_mm"] < 1 < 3 < unequal.compute()["mean_mm"]


def test_a_convention_is_refused_where_it_has_no_use(tmp_path):
    files = conventional_files(tmp_path)[1::2]
    with pytest.raises(ValueError, match="convention: 'segmentation' compares no joints; leave --convention out"):
        evaluate_files(*files, protocol("segmentation"), "rhd")
    labels = dict(np.load(tmp_path / "labels.npz"))
    labels.pop("side")
    np.savez(tmp_path / "sideless.npz", **labels)
    with pytest.raises(ValueError, match=r"sideless\.npz: expected joints and side \(N,\) .* to convert them to 'stb'"):
        evaluate_files(files[0], tmp_path / "sideless.npz", protocol("rhd-eval-util"), "stb")
    labels["side"] = np.ones((3, 1), int)
    np.savez(tmp_path / "odd.npz", **labels)
    with pytest.raises(ValueError, match=r"odd\.npz: side: expected \(N\), got \(3, 1\)"):
        evaluate_files(files[0], tmp_path / "odd.npz", protocol("rhd-eval-util"))
