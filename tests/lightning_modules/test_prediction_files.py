"""Prediction files: what is written is read back, what is foreign is refused."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_modules.label_errors import label_errors, label_line, read_label
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import (
    read_predictions,
    read_uvd,
    write_joints,
    write_mesh,
    write_predictions,
    write_uvd,
)
from ops.camera import camera_preset, intrinsics, project

NYU_LABELS = Path(__file__).parents[2] / ".." / "shared" / "data" / "nyu" / "nyu_test_groundtruth_label.txt.xz"


def prediction(**changes) -> HandPrediction:
    generator = torch.Generator().manual_seed(0)
    joints = torch.rand(2, 21, 3, generator=generator)
    fields = {
        "joints_3d": joints,
        "joints_2d": 100 * joints[..., :2],
        "vertices": torch.rand(2, 5, 3, generator=generator),
        "parts": None,
        "side": torch.tensor([0, 1]),
        "confidence": None,
        "frame": Frame.ROOT_RELATIVE,
        "hand_model": "open:1",
        "convention": "open",
    }
    return HandPrediction(**{**fields, **changes})


def test_predictions_survive_the_file(tmp_path):
    written = prediction()
    write_predictions(tmp_path / "p.npz", written, ["a/test/1", "a/test/2"])
    read, keys = read_predictions(tmp_path / "p.npz")
    assert keys == ["a/test/1", "a/test/2"]
    assert (read.frame, read.hand_model, read.convention) == (Frame.ROOT_RELATIVE, "open:1", "open")
    assert read.parts is None and read.confidence is None
    for name in ("joints_3d", "joints_2d", "vertices", "side"):
        torch.testing.assert_close(getattr(read, name), getattr(written, name))


def test_prediction_files_need_a_key_for_each_hand_and_refuse_foreign_files(tmp_path):
    with pytest.raises(ValueError, match="keys: expected 2 different ones, got 1"):
        write_predictions(tmp_path / "p.npz", prediction(), ["same", "same"])
    np.savez(tmp_path / "foreign.npz", joints_3d=np.zeros((1, 21, 3)))
    with pytest.raises(ValueError, match="lacks keys, side, frame, hand_model, convention"):
        read_predictions(tmp_path / "foreign.npz")
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ValueError, match="not a prediction file"):
        read_predictions(tmp_path / "text.npz")


@pytest.mark.parametrize("name", ["labels.txt", "labels.txt.xz"])
def test_the_published_layout_is_u_v_d_per_joint_a_frame_a_line(tmp_path, name):
    uvd = np.arange(12).reshape(2, 2, 3) + 0.125
    write_uvd(tmp_path / name, uvd)
    opener = lzma.open if name.endswith("xz") else open
    with opener(tmp_path / name, "rt") as file:
        assert file.readline() == "0.125 1.125 2.125 3.125 4.125 5.125\n"
    np.testing.assert_allclose(read_uvd(tmp_path / name, 2), uvd)


@pytest.mark.parametrize(
    "text, message",
    [("1 2 3\n", r"expected 6 numbers a line"), ("1 2 x 4 5 6\n", "expected numbers"), ("", r"got \[\]")],
)
def test_text_of_another_layout_is_refused(tmp_path, text, message):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_uvd(tmp_path / "labels.txt", 2)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt: no such file"):
        read_uvd(tmp_path / "nowhere.txt", 2)


def test_joints_are_named_in_json(tmp_path):
    joints = torch.arange(63.0).reshape(21, 3)
    write_joints(tmp_path / "j.json", joints, joints[:, :2], {"side": "left"})
    document = json.loads((tmp_path / "j.json").read_text())
    assert document["side"] == "left" and len(document["joints"]) == 21
    assert document["joints"]["thumb_tip"] == {"position_m": [12, 13, 14], "pixel": [12, 13]}


@pytest.mark.parametrize("mirrored, face", [(False, "f 1 2 3"), (True, "f 3 2 1")])
def test_a_mesh_counts_from_one_and_a_left_hand_turns_its_faces(tmp_path, mirrored, face):
    vertices = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
    write_mesh(tmp_path / "m.obj", vertices, np.array([[0, 1, 2]]), mirrored)
    lines = (tmp_path / "m.obj").read_text().splitlines()
    assert lines[1:] == [
        "v 0.000000 0.000000 1.000000",
        "v 1.000000 0.000000 1.000000",
        "v 0.000000 1.000000 1.000000",
        face,
    ]


def test_label_errors_compare_the_joints_that_correspond(tmp_path):
    K = intrinsics(500, 500, 320, 240)
    true = torch.rand(21, 3, generator=torch.Generator().manual_seed(1)) * 0.1 + torch.tensor([0, 0, 0.6])
    uvd = torch.cat([project(true[None], K)[0], 1000 * true[:, 2:]], 1)
    write_uvd(tmp_path / "labels.txt", uvd[None].double().numpy())
    label = read_label(tmp_path / "labels.txt", "canonical-21", None, Path("mine.png"), K)
    assert label.line == 1 and label.joints == list(range(21))
    errors = label_errors(true + torch.tensor([0.003, 0, 0.004]), label)
    assert errors == pytest.approx({"absolute": 5, "root": 0, "procrustes": 0}, abs=0.01)
    with pytest.raises(ValueError, match="label line: expected 1 to 1"):
        read_label(tmp_path / "labels.txt", "canonical-21", 2, Path("mine.png"), K)
    with pytest.raises(ValueError, match="label layout: expected one of 'nyu-14'"):
        read_label(tmp_path / "labels.txt", "nyu", 1, Path("mine.png"), K)
    write_uvd(tmp_path / "labels.txt", -uvd[None].double().numpy())
    with pytest.raises(ValueError, match=r"line 1: expected finite numbers and depths above 0 mm"):
        read_label(tmp_path / "labels.txt", "canonical-21", 1, Path("mine.png"), K)


def test_a_frames_line_is_the_only_one_or_the_number_in_nyus_name():
    assert label_line(Path("mine.png"), 1) == label_line(Path("depth_1_0000123.png"), 1) == 1
    assert label_line(Path("a/depth_1_0000123.png"), 8252) == 123
    for name in ("mine.png", "depth_2_0000123.png", "depth_1_123.png"):  # NYU's labels are its first camera's
        with pytest.raises(ValueError, match=rf"{name} does not say which of 2 lines .* --label-line"):
            label_line(Path(name), 2)


@pytest.mark.skipif(not NYU_LABELS.exists(), reason="no NYU labels at hand")
def test_nyu_labels_have_twelve_joints_in_common_with_ours():
    K, _ = camera_preset("nyu")
    uvd = torch.from_numpy(read_uvd(NYU_LABELS, 14)[0]).float()
    # the label's own joints, put where the layout says they belong, have no error
    joints = torch.zeros(21, 3)
    points = torch.cat([(uvd[:, :2] - K[:2, 2]) / K[[0, 1], [0, 1]], torch.ones(14, 1)], 1) * uvd[:, 2:] / 1000
    joints[[20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2]] = points[:11]
    joints[0] = (points[11] + points[12]) / 2  # NYU labels both sides of the wrist
    label = read_label(NYU_LABELS, "nyu-14", None, Path("depth_1_0000001.png"), K)
    errors = label_errors(joints, label)
    assert label.joints[0] == 0 and len(label.joints) == 12
    assert max(errors.values()) < 0.01
