"""Calibration of conventions: files of labels read, offsets found and written, halves apart, files on disk kept."""

import json
import lzma
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from datamodules import icvl, nyu, rhd, stb
from datamodules.calibrate import BLOCKS, calibrate, halves, main, measured, report, thinned, write_convention
from datamodules.calibration_labels import Labels, layout_of, read_labels
from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from datamodules.open_convention import SETS, mean_offsets
from ops.camera import project
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.conventions import joint_convention, point_set
from ops.hand_model.fitting import fit_joints
from ops.joints import CANONICAL_JOINTS, ICVL16_CANONICAL, MODEL_JOINTS, MSRA21_CANONICAL, NYU36, NYU36_CANONICAL

REAL = Path(__file__).parents[3] / "shared" / "data"
REAL_FILES = {
    "ge": "ge_rgb3d/annotations.npz",
    "stb": "stb/B1Counting_BB.mat",
    "rhd": "rhd/test_rhd.json",
    "nyu": "nyu/joint_1_u.csv.xz",
    "icvl": "icvl/icvl_test_groundtruth_label.txt.xz",
    "msra": "msra/joint.txt",
}
MIRROR = np.array([-1.0, 1.0, 1.0])


def some_points(count, hands=3):
    draw = np.random.default_rng(0)
    return draw.uniform((-0.1, -0.1, 0.5), (0.1, 0.1, 0.7), (hands, count, 3))


def pixels(points, K):
    uv = project(torch.from_numpy(points), torch.from_numpy(K)).numpy()
    return np.concatenate([uv, 1000 * points[..., 2:]], -1)


def test_nyu_tables_are_36_points(tmp_path):
    points = some_points(36)
    for axis, values in zip("uvd", np.moveaxis(pixels(points, nyu.K), -1, 0), strict=True):
        text = "\n".join(",".join(f"{x:.6f}" for x in row) for row in values)
        (tmp_path / f"joint_1_{axis}.csv.xz").write_bytes(lzma.compress(text.encode()))
    name, labels = read_labels("nyu", tmp_path / "joint_1_u.csv.xz")
    assert name == "nyu" and labels.valid.all()
    np.testing.assert_allclose(labels.points, points, atol=1e-6)
    joints, valid = labels.canonical(layout_of("nyu"))
    assert valid.all()
    np.testing.assert_allclose(joints[:, 0], points[:, 30:32].mean(1), atol=1e-6)


def test_icvl_lines_with_names_or_without_are_left_hands(tmp_path):
    points = some_points(16)
    lines = [" ".join(f"{x:.6f}" for x in row.ravel()) for row in pixels(points, icvl.K)]
    lines[1] = f"test_seq_1/image_0001.png {lines[1]}"
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    labels = read_labels("icvl", tmp_path / "labels.txt")[1]
    np.testing.assert_allclose(labels.points, points * MIRROR, atol=1e-6)
    assert labels.canonical(layout_of("icvl"))[1].sum(1).tolist() == [15, 15, 15]


def test_msra_has_y_up_and_z_negative(tmp_path):
    points = some_points(21)
    rows = (points * (1000, -1000, -1000)).reshape(3, 63)
    (tmp_path / "joint.txt").write_text("3\n" + "\n".join(" ".join(f"{x:.4f}" for x in row) for row in rows))
    np.testing.assert_allclose(read_labels("msra", tmp_path / "joint.txt")[1].points, points, atol=1e-6)


def test_stb_ge_and_rhd_come_as_right_hands(tmp_path):
    points = some_points(21)
    scipy.io.savemat(tmp_path / "stb.mat", {"handPara": 1000 * points.transpose(2, 1, 0)})
    joints = read_labels("stb", tmp_path / "stb.mat")[1].points * MIRROR
    np.testing.assert_allclose(joints[:, 1:], points[:, list(stb.TO_CANONICAL)][:, 1:])
    np.testing.assert_allclose(joints[:, 0], 2 * points[:, 0] - joints[:, 13])  # the palm is midway
    np.savez(tmp_path / "ge.npz", joints_cm=100 * points)
    np.testing.assert_allclose(read_labels("ge", tmp_path / "ge.npz")[1].points, points * MIRROR)
    hands = [
        {"joint_cam": (1000 * p).tolist(), "hand_type": side}
        for p, side in zip(points, ("left", "right", "left"), strict=True)
    ]
    (tmp_path / "rhd.json").write_text(json.dumps({"annotations": hands}))
    found = read_labels("rhd", tmp_path / "rhd.json")[1].points
    expected = points[:, list(rhd.TO_CANONICAL)]
    np.testing.assert_allclose(found, expected * np.array([MIRROR, [1, 1, 1], MIRROR])[:, None])


def test_points_of_a_dataset_hang_on_the_bones_they_move_with():
    points = layout_of("nyu").points
    for name, joint, bone in (
        ("F4_KNU3_A", "index_tip", "index_dip"),
        ("F4_KNU2_A", "index_dip", "index_pip"),
        ("F4_KNU2_B", "index_pip", "index_pip"),
        ("F1_KNU1_B", "little_mcp", "little_mcp"),
        ("TH_KNU3_A", "thumb_tip", "thumb_ip"),
        ("PALM_1", "wrist", "wrist"),
    ):
        row = NYU36.index(name)
        assert points.weights[row, CANONICAL_JOINTS.index(joint)] == 1 and points.weights[row].sum() == 1
        assert MODEL_JOINTS[points.bones[row]] == bone
    for convention, sources in (("icvl", ICVL16_CANONICAL), ("msra", MSRA21_CANONICAL)):
        points = layout_of(convention).points
        assert all(points.weights[row, joint] == 1 for joint, (row,) in sources.items())
    np.testing.assert_allclose(layout_of("nyu").points.weights.sum(1), 1)


def test_halves_are_blocks_and_do_not_meet():
    first, second = halves(100)
    assert first.tolist()[:11] == [*range(10), 20] and second.tolist()[:11] == [*range(10, 20), 30]
    assert sorted([*first, *second]) == list(range(100))
    assert [len(rows) for rows in halves(2 * BLOCKS - 1)] == [2 * BLOCKS - 1] * 2


def synthetic(hands=16):
    """Labels of hands in NYU's points at known offsets, as the calibration reads them."""
    draw = np.random.default_rng(3)
    points = layout_of("nyu").points
    posed = fit_joints(torch.from_numpy(_postures(draw, hands)), points="model")
    offsets = draw.uniform(-0.006, 0.006, points.offsets.shape)
    turned = posed.rotations[:, points.bones.tolist()] @ torch.from_numpy(offsets)[..., None]
    values = (torch.from_numpy(points.weights) @ posed.joints + turned.squeeze(-1)).numpy()
    return Labels(values, np.ones(values.shape[:2], dtype=bool), "synthetic")


def _postures(draw, hands):
    drawn = HandSampler(CLEAN, open_hand()).sample(0, "val", 0, draw.permutation(500)[:hands])
    layer = HandLayer(open_hand(), pose_space="matrix", convention="model")
    return layer(drawn.pose, drawn.shape, drawn.global_rotation, drawn.hand_centre).joints.double().numpy()


def test_a_calibration_fits_what_the_bare_hand_does_not():
    labels, layout = synthetic(), layout_of("nyu")
    points, offsets = calibrate(labels, layout, rounds=4, quiet=True)
    figures = report(labels, layout, points, offsets)
    assert set(figures) == {"no offsets", "21 joints", "36 points"}
    assert figures["no offsets"]["mean_mm"] > 2
    assert figures["21 joints"]["mean_mm"] < 1 and figures["36 points"]["mean_mm"] < 1
    assert len(figures["36 points"]["per_point_mm"]) == 36


def test_errors_are_measured_by_hand():
    joints = torch.from_numpy(some_points(21))
    fit = fit_joints(joints, points="model")
    moved = fit._replace(points=joints + torch.tensor([3e-3, 4e-3, 0]), errors=torch.full((3, 21), 5e-3).double())
    figures = measured(joints, torch.ones(3, 21, dtype=torch.bool), moved)
    assert figures["mean_mm"] == pytest.approx(5) and figures["per_point_mm"] == [5.0] * 21
    assert figures["root_mm"] == pytest.approx(0, abs=1e-9) and figures["procrustes_mm"] == pytest.approx(0, abs=1e-9)


def test_the_command_writes_a_convention_and_keeps_what_is_there(tmp_path, capsys):
    np.savez(tmp_path / "ge.npz", joints_cm=100 * _postures(np.random.default_rng(0), 21) * MIRROR)
    out = tmp_path / "mine.json"
    command = ["ge", str(tmp_path / "ge.npz"), "--rounds", "2", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert json.loads(printed[-1])["convention"] == "ge"
    found = joint_convention("mine", tmp_path)
    assert found.count == 11 and "ge.npz: 11 of 21 hands" in found.source and found.labelled.all()
    assert np.abs(found.offsets).max() < 0.002  # labels are the model's own joints
    written = out.read_text()
    assert main(command) == 2 and out.read_text() == written
    assert "exists; give --force" in capsys.readouterr().err
    write_convention(out, {"name": "mine"}, force=True)
    assert json.loads(out.read_text()) == {"name": "mine"}


@pytest.mark.parametrize(
    "dataset, file, content, message",
    [
        ("ge", "none.npz", None, "no such label file"),
        ("ge", "ge.npz", b"nothing", r"ge\.npz: expected an \.npz with joints_cm"),
        ("icvl", "a.txt", b"1 2 3\n", "expected 48 numbers a line"),
        ("icvl", "a.txt.xz", b"no xz", "expected 48 numbers a line"),
        ("nyu", "joint_1.csv", b"1", "expected the file of u"),
        ("rhd", "a.json", b"[]", "expected a JSON object with a list of annotations"),
        ("mano", "a.json", b"[]", "dataset .* expected one of 'nyu'"),
        ("msra", "joint.txt", b"", "label file is empty"),
    ],
)
def test_bad_files_are_refused(tmp_path, capsys, dataset, file, content, message):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    assert main([dataset, str(tmp_path / file), "--out", str(tmp_path / "out.json")]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "out.json").exists()


def test_the_open_convention_is_the_mean_of_the_measured_sets():
    mean, weights = mean_offsets()
    np.testing.assert_allclose(joint_convention("open").offsets, mean, atol=6e-6)
    assert joint_convention("open").count == sum(joint_convention(name).count for name in SETS)
    knuckle, wrist = CANONICAL_JOINTS.index("index_mcp"), CANONICAL_JOINTS.index("wrist")
    pip = CANONICAL_JOINTS.index("index_pip")
    for joint, voters in ((knuckle, SETS), (wrist, set(SETS) - {"stb"}), (pip, set(SETS) - {"nyu"})):
        votes = [joint_convention(name) for name in voters]
        shares = np.array([vote.count / (vote.count + 10) for vote in votes])
        expected = shares @ np.stack([vote.offsets[joint] for vote in votes]) / shares.sum()
        np.testing.assert_allclose(mean[joint], expected)
    counts = {name: joint_convention(name).count for name in SETS}
    assert weights == {name: round(count / (count + 10), 2) for name, count in counts.items()}


def test_committed_conventions_name_their_source_and_points():
    for name in (*SETS, "icvl"):
        convention = joint_convention(name)
        assert convention.count > 0 and convention.source
    sizes = {"nyu-36": 36, "nyu-14": 14, "icvl-16": 16, "msra-21": 21}
    assert {name: len(point_set(name).points) for name in sizes} == sizes
    assert not joint_convention("icvl").labelled[0] and joint_convention("nyu").labelled.all()
    assert [NYU36[row] for row in NYU36_CANONICAL[0]] == ["PALM_1", "PALM_2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_FILES)
def test_committed_offsets_come_out_again(name, tmp_path):
    file = REAL / REAL_FILES[name]
    if not file.exists():
        pytest.skip(f"no labels of {name} beside the project: {file.name}")
    labels = thinned(read_labels(name, file)[1], 600)
    rows = halves(len(labels.points))[0]
    first = Labels(labels.points[rows], labels.valid[rows], labels.source)
    points, offsets = calibrate(first, layout_of(name), rounds=30, quiet=True)
    stored = joint_convention(name)
    np.testing.assert_allclose(np.nan_to_num(offsets), stored.offsets, atol=2e-4)
    for own in stored.point_sets.values():
        if len(own.points) == len(points.points):
            np.testing.assert_allclose(points.offsets, own.offsets, atol=2e-4)
