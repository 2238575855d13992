"""Poses of real hands as batches, split as said; skipped where the labels are not there."""

import pytest
import torch

import benchmarks.vae_real_poses as real_poses
from tests.datamodules.readers import PIECES


def poses(count=6):
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.rand(count, 21, 3, generator=generator) + torch.tensor([0.2, -0.1, 0.6])


def test_a_hand_is_seen_in_a_crop_of_one_pixel_wherever_it_is():
    joints = poses()
    batch = real_poses.batch_of(joints, "nyu", "nyu")
    depth = joints[..., 2:] / batch["cube_centre"][:, None, 2:]
    places = joints[..., :2] / depth - batch["cube_centre"][:, None, :2]  # where the centre's plane is met
    torch.testing.assert_close(batch["joints_2d"], places / 0.3, atol=1e-5, rtol=0)
    assert batch["has_3d"].all() and not batch["has_depth"].any()


def test_an_arm_is_trained_on_the_first_hands_and_tested_on_the_others(monkeypatch):
    hands = real_poses.batch_of(poses(), "nyu", "nyu")
    hands["joints_3d"][4:] *= torch.nan  # a run that trained on these would end as no number
    monkeypatch.setattr(real_poses, "BATCH", 2)
    source = real_poses.SOURCES["nyu"]._replace(trained=4)
    seen = []
    plain = real_poses.CrossModalVAE.measure
    monkeypatch.setattr(real_poses.CrossModalVAE, "measure", lambda self, *given: seen.append(given[1]["key"]))
    with pytest.raises(KeyError):  # nothing was measured, so there is nothing to say
        real_poses.run(source, "2D to 3D", hands, 0, steps=2)
    assert seen == [["nyu/4", "nyu/5"]]
    monkeypatch.setattr(real_poses.CrossModalVAE, "measure", plain)
    hands = real_poses.batch_of(poses(), "nyu", "nyu")
    found = real_poses.run(source, "2D to 3D", hands, 0, steps=2)
    assert set(found) == set(real_poses.COLUMNS) and found == real_poses.run(source, "2D to 3D", hands, 0, steps=2)
    with pytest.raises(ValueError, match="expected more than 6 whole hands, got 6"):
        real_poses.run(source._replace(trained=6), "2D to 3D", hands, 0)


def test_what_is_not_there_is_skipped_by_name(tmp_path, capsys):
    assert list(real_poses.tables(tmp_path, 1)) == []
    assert "skipped stb: no stb/B1Counting_BB.mat in" in capsys.readouterr().out


def test_a_run_is_made_once_and_again_with_other_settings(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(real_poses, "RESULTS", tmp_path)
    monkeypatch.setattr(real_poses, "run", lambda *given: calls.append(given) or dict.fromkeys(real_poses.COLUMNS, 7.0))
    arm = "direct, 2D to 3D"
    for _ in range(2):
        assert real_poses.kept("stb", arm, {}, 0)["joints_root_mm"] == 7
    assert len(calls) == 1
    monkeypatch.setattr(real_poses, "LR", 1e-4)
    real_poses.kept("stb", arm, {}, 0)
    real_poses.kept("stb", arm, {}, 1)
    assert len(calls) == 3 and (tmp_path / "vae_real_poses" / "stb-direct-2D-to-3D-seed1.json").is_file()


def test_real_labels_are_whole_hands_before_a_camera():
    if not PIECES.is_dir():
        pytest.skip(f"no labels of real hands in {PIECES}")
    source = real_poses.SOURCES["stb"]
    hands = real_poses.hands_of("stb", real_poses.find(PIECES, source))
    assert len(hands["key"]) == 1500 and (hands["joints_3d"][..., 2] > 0.2).all()
    assert hands["joints_2d"].abs().max() < 0.5  # inside the crop of one pixel
