import numpy as np
import pytest
import torch

from datamodules.batch import check_batch
from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from datamodules.mixing import Mixture
from datamodules.rendering import HandRenderer
from datamodules.sampler import BatchKey
from datamodules.shares import InTurn
from datamodules.sources import RenderedRecords
from datamodules.transforms import as_pictured, as_right_hands, looks_right, mirror
from datamodules.wrist import closed_faces
from ops.camera import project
from ops.hand_model import HandLayer, mirror_pose, open_hand
from ops.render import face_parts, render_labels
from ops.rotation import axis_angle_to_matrix, matrix_to_axis_angle


@pytest.fixture(scope="module")
def batch():
    model = open_hand()
    renderer = HandRenderer(model, 64, ("depth", "parts", "rgb"))
    records = RenderedRecords("clean", HandSampler(CLEAN, model, left_share=0.5), 3, "train")
    return Mixture([records], InTurn([12]), renderer)[BatchKey(0, np.arange(12))]


def test_mirroring_twice_gives_the_batch_back(batch):
    rows = torch.arange(12) % 3 == 0
    twice = mirror(mirror(batch, rows), rows)
    assert twice.keys() == batch.keys()
    for name, value in batch.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            pixels = name in ("joints_2d", "K", "crop")  # numbers near 64 carry 4e-6 in float32
            torch.testing.assert_close(twice[name], value, atol=1e-5 if pixels else 1e-6, rtol=1e-5 if pixels else 1e-6)
        elif isinstance(value, torch.Tensor):
            assert torch.equal(twice[name], value)


def test_a_mirrored_batch_is_consistent_and_other_rows_stay(batch):
    rows = torch.arange(12) % 2 == 0
    seen = mirror(batch, rows)
    check_batch(seen)
    torch.testing.assert_close(project(seen["joints_3d"], seen["K"]), seen["joints_2d"], atol=0.01, rtol=0)
    assert torch.equal(seen["depth"][1], batch["depth"][1])
    assert torch.equal(seen["parts"][0], batch["parts"][0].flip(-1))
    assert torch.equal(seen["mirrored"], batch["mirrored"] ^ rows)
    # the centre of the crop, in pixels of the original picture, did not move
    bottom = torch.tensor([0.0, 0.0, 1.0]).expand(12, 1, 3)
    middle = torch.tensor([31.5, 31.5, 1.0]).expand(12, 3)
    before, after = (torch.linalg.solve(torch.cat([b["crop"], bottom], 1), middle) for b in (batch, seen))
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)


def test_a_mirror_turns_a_cameras_skew(batch):
    skewed = dict(batch) | {"K": batch["K"].clone()}
    skewed["K"][:, 0, 1] = 20  # pixels
    skewed["joints_2d"] = project(batch["joints_3d"], skewed["K"])
    assert (skewed["joints_2d"] - batch["joints_2d"]).abs().max() > 2
    seen = mirror(skewed, torch.ones(12, dtype=torch.bool))
    torch.testing.assert_close(project(seen["joints_3d"], seen["K"]), seen["joints_2d"], atol=0.01, rtol=0)


def test_left_samples_are_what_the_left_hand_model_looks_like(batch):
    left = (batch["side"] == 0).nonzero()[:, 0]
    assert 1 <= len(left) <= 11 and looks_right(batch).all()
    pictured = as_pictured(batch)
    assert not looks_right(pictured)[left].any()
    sampler = HandSampler(CLEAN, open_hand(), left_share=0.5)
    drawn = sampler.sample(3, "train", 0, np.arange(12))
    model = open_hand("left")
    layer = HandLayer(model)
    pose = mirror_pose(matrix_to_axis_angle(drawn.pose).flatten(1))
    turn = mirror_pose(matrix_to_axis_angle(drawn.global_rotation))
    hand = layer(pose, drawn.shape, axis_angle_to_matrix(turn))
    move = drawn.hand_centre * torch.tensor([-1.0, 1.0, 1.0]) - hand.vertices.mean(1)
    vertices = hand.vertices + move[:, None]
    torch.testing.assert_close(vertices[left], pictured["vertices"][left], atol=2e-5, rtol=0)  # axis-angle and back
    faces = torch.from_numpy(closed_faces(model.faces))
    labels = face_parts(torch.from_numpy(model.part_labels), faces)
    _, parts = render_labels(vertices, faces, pictured["K"], 64, labels)
    assert (parts != pictured["parts"])[left].float().mean() < 2e-3  # pixels on an edge


def test_right_hands_pass_and_left_hands_turn(batch):
    pictured = as_pictured(batch)
    again = as_right_hands(pictured)
    assert looks_right(again).all()
    assert torch.equal(again["parts"], batch["parts"])


def test_wrong_arguments_are_refused(batch):
    with pytest.raises(ValueError, match="rows: expected shape"):
        mirror(batch, torch.zeros(3, dtype=torch.bool))
