"""Joint conventions: moved joints by hand, one convention per sample, datasets' own points, and refused files."""

import json

import numpy as np
import pytest
import torch

from ops.hand_model import HandLayer, conventions, open_hand
from ops.hand_model.conventions import (
    convention_names,
    convention_points,
    joint_convention,
    joints_in_conventions,
    labelled_joints,
    own_points,
    point_set,
)
from ops.joints import CANONICAL_BONE, CANONICAL_JOINTS, MODEL_JOINTS
from ops.rotation import axis_angle_to_matrix

_MIRROR = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the conventions `model`, `a` (no thumb tip, own points) and `b`."""
    offsets = np.arange(126.0).reshape(2, 21, 3) % 17 - 8
    points = [
        {"name": "palm", "joints": ["wrist", "middle_mcp"], "bone": "wrist", "offset_mm": [1, 2, 3]},
        {"name": "nail", "joints": ["index_tip"], "bone": "index_dip", "offset_mm": [0, 4, 0]},
    ]
    first = offsets[0].tolist()
    first[4] = None
    files = {
        "model": {"offsets_mm": np.zeros((21, 3)).tolist()},
        "a": {"offsets_mm": first, "points": points, "subsets": {"a-nail": [1]}},
        "b": {"offsets_mm": offsets[1].tolist()},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "source": "a test", "count": 2}))
    monkeypatch.setattr(conventions, "FOLDER", tmp_path)
    monkeypatch.setattr(conventions, "joint_convention", lambda name: joint_convention(name, tmp_path))
    return tmp_path


def hands(batch=3):
    draw = torch.Generator().manual_seed(0)
    joints = torch.randn(batch, 21, 3, generator=draw, dtype=torch.float64)
    rotations = axis_angle_to_matrix(torch.randn(batch, 16, 3, generator=draw, dtype=torch.float64))
    return joints, rotations


def test_each_sample_moves_by_its_own_convention(folder):
    joints, rotations = hands()
    moved = joints_in_conventions(joints, rotations, ["a", "model", "b"])
    torch.testing.assert_close(moved[1], joints[1], rtol=0, atol=0)
    for sample, name in ((0, "a"), (2, "b")):
        for joint, bone in enumerate(CANONICAL_BONE):
            offset = torch.from_numpy(joint_convention(name, folder).offsets[joint])
            expected = joints[sample, joint] + rotations[sample, bone] @ offset
            torch.testing.assert_close(moved[sample, joint], expected)


def test_back_and_forth_between_conventions_is_the_identity(folder):
    joints, rotations = hands()
    there = joints_in_conventions(joints, rotations, "b", given="a")
    assert (there - joints).norm(dim=-1).max() > 0.01
    torch.testing.assert_close(joints_in_conventions(there, rotations, "a", given="b"), joints)


def test_a_left_hand_is_the_mirror_image(folder):
    joints, rotations = hands()
    flip = torch.diag(_MIRROR)
    left = joints_in_conventions(joints * _MIRROR, flip @ rotations @ flip, "a", side="left")
    torch.testing.assert_close(left, joints_in_conventions(joints, rotations, "a") * _MIRROR)
    points = convention_points(joints * _MIRROR, flip @ rotations @ flip, "a-2", side="left")
    torch.testing.assert_close(points, convention_points(joints, rotations, "a-2") * _MIRROR)


def test_points_of_a_dataset_by_hand(folder):
    joints, rotations = hands()
    points = convention_points(joints, rotations, "a-2")
    palm = (joints[:, 0] + joints[:, 9]) / 2 + rotations[:, 0] @ torch.tensor([1e-3, 2e-3, 3e-3]).double()
    nail = joints[:, 8] + rotations[:, MODEL_JOINTS.index("index_dip")] @ torch.tensor([0, 4e-3, 0]).double()
    torch.testing.assert_close(points, torch.stack([palm, nail], 1))
    torch.testing.assert_close(convention_points(joints, rotations, "a-nail"), points[:, 1:])
    assert point_set("a-nail").points == ("nail",)
    in_b = joints_in_conventions(joints, rotations, "b")
    torch.testing.assert_close(convention_points(in_b, rotations, "a-2", given="b"), points)


def test_the_name_of_a_convention_gives_its_joints_as_points(folder):
    joints, rotations = hands()
    points = convention_points(joints, rotations, "b")
    torch.testing.assert_close(points, joints_in_conventions(joints, rotations, "b"))
    assert point_set("b").points == CANONICAL_JOINTS


def test_joints_that_a_convention_does_not_label_stay_and_are_named(folder):
    joints, rotations = hands(1)
    assert torch.equal(joints_in_conventions(joints, rotations, "a")[:, 4], joints[:, 4])
    labelled = labelled_joints(["a", "b"])
    assert labelled.shape == (2, 21) and not labelled[0, 4] and labelled.sum() == 41


def test_gradients_pass_through(folder):
    joints, rotations = (tensor.requires_grad_() for tensor in hands())
    assert torch.autograd.gradcheck(lambda *x: joints_in_conventions(*x, ["a", "model", "b"]), (joints, rotations))
    assert torch.autograd.gradcheck(lambda *x: convention_points(*x, "a-2", given="b"), (joints, rotations))


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_layer_and_the_conversion_of_its_joints_agree(side):
    draw = torch.Generator().manual_seed(1)
    pose, shape = 0.4 * torch.randn(2, 45, generator=draw), torch.randn(2, 10, generator=draw)
    own = HandLayer(open_hand(side), convention="model")(pose, shape)
    for name in convention_names():
        layer = HandLayer(open_hand(side), convention=name)
        converted = joints_in_conventions(own.joints, own.rotations, name, side=side)
        torch.testing.assert_close(converted, layer(pose, shape).joints, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, r: joints_in_conventions(x, r, ["a"]), "names: expected one convention for each of 3 hands, got 1"),
        (lambda x, r: joints_in_conventions(x, r, "mine"), "convention: expected one of 'a', 'b', 'model', got 'mine'"),
        (lambda x, r: joints_in_conventions(x[:, 1:], r, "a"), r"joints: expected shape \(B, 21, 3\)"),
        (lambda x, r: joints_in_conventions(x, r[:2], "a"), r"rotations: expected shape \(3, 16, 3, 3\)"),
        (lambda x, r: joints_in_conventions(x, r, "a", side="both"), "side: expected one of 'right', 'left'"),
        (lambda x, r: convention_points(x, r, "a-3"), "points: expected one of .*'a-2', 'a-nail', got 'a-3'"),
    ],
)
def test_bad_input_is_refused(folder, call, message):
    with pytest.raises(ValueError, match=message):
        call(*hands())


@pytest.mark.parametrize(
    "point",
    [
        {"name": "p", "joints": ["elbow"], "bone": "wrist", "offset_mm": [0, 0, 0]},
        {"name": "p", "joints": ["wrist"], "bone": "elbow", "offset_mm": [0, 0, 0]},
        {"name": "p", "joints": ["wrist"], "bone": "wrist", "offset_mm": [0, 0]},
        {"name": "p", "joints": ["wrist"], "bone": "wrist"},
    ],
)
def test_broken_points_are_refused(tmp_path, point):
    content = {"offsets_mm": np.zeros((21, 3)).tolist(), "source": "", "count": 1, "points": [point]}
    (tmp_path / "broken.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"broken\.json.*expected"):
        joint_convention("broken", tmp_path)


def test_a_sets_own_points_are_its_largest_set(folder):
    assert own_points("a") == "a-2" and own_points("b") == ""
