"""The latent space's command line: pictures of every kind, scores, and what it refuses."""

import sys

import cv2
import numpy as np
import pytest
import torch

import latent
from datamodules.batch import HandBatch
from lightning_modules.callbacks.checkpoints import FACTS
from lightning_modules.cross_modal_vae import CrossModalVAE
from lightning_modules.latent_space import agreement, reject_scores
from lightning_modules.modalities import views_of
from lightning_modules.networks.vae_encoders import Gaussian

ARGUMENTS = {"pairs": ["rgb-3d", "rgb-2d", "rgb-rgb"], "encoder": "small", "latent": 4}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    method = CrossModalVAE(**ARGUMENTS)
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    facts = {"class_path": "lightning_modules.cross_modal_vae.CrossModalVAE", "init_args": ARGUMENTS}
    torch.save({"state_dict": method.state_dict(), FACTS: facts | {"hand_model": method.hand_model_id}}, path)
    return path


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["latent.py", *map(str, words)])
    latent.main()


@pytest.mark.parametrize("what", ["sample", "translate", "interpolate"])
def test_pictures_show_eight_points_in_every_modality(checkpoint, tmp_path, monkeypatch, what):
    out = tmp_path / "sheet.png"
    call(monkeypatch, what, "--ckpt", checkpoint, "--out", out)
    assert cv2.imread(str(out)).shape == (3 * 128, 8 * 128, 3)
    assert (tmp_path / "sheet.gif").exists() == (what == "interpolate")


def test_a_strip_goes_from_the_first_hand_to_the_second(checkpoint, tmp_path, monkeypatch):
    sheets = {}
    for what in ("translate", "interpolate"):
        call(monkeypatch, what, "--ckpt", checkpoint, "--out", tmp_path / f"{what}.png")
        sheets[what] = np.split(cv2.imread(str(tmp_path / f"{what}.png")), 8, axis=1)
    hands, strip = sheets["translate"], sheets["interpolate"]
    assert (strip[0] == hands[0]).all() and (strip[-1] == hands[1]).all() and (hands[0] != hands[1]).any()


def test_scores_of_hands_and_of_what_is_none_are_printed(checkpoint, monkeypatch, capsys):
    call(monkeypatch, "reject", "--ckpt", checkpoint)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    kinds, scores = ("hands", "noise", "blank"), ("reconstruction", "relative", "norm")
    assert [tuple(line[:2]) for line in lines] == [(kind, score) for kind in kinds for score in scores]


def test_what_reconstructs_itself_is_a_hand_and_what_shows_nothing_is_none():
    method = CrossModalVAE(**ARGUMENTS).eval()
    batch = latent.test_hands("clean", method)
    view = views_of(batch, ["rgb"], method.space)["rgb"]
    method.decoders["rgb"].forward = lambda z: view.target
    assert reject_scores(method, batch, "rgb")["reconstruction"].max() == 0
    method.decoders["rgb"].forward = lambda z: view.target + 0.1
    said = reject_scores(method, batch, "rgb")
    torch.testing.assert_close(said["reconstruction"], torch.full((8,), 0.01))
    torch.testing.assert_close(said["relative"], 0.01 / view.target.flatten(1).var(1, correction=0))
    blank = HandBatch(batch | {"rgb": torch.full_like(batch["rgb"], 0.5)})
    assert reject_scores(method, blank, "rgb")["relative"].min() > 1


def test_pictures_of_ones_own_are_interpolated_translated_and_scored(checkpoint, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    own = [tmp_path / f"{name}.png" for name in "ab"]
    for path in own:
        cv2.imwrite(str(path), rng.integers(0, 255, (90, 120, 3), np.uint8))
    out = tmp_path / "own.png"
    call(monkeypatch, "interpolate", "--ckpt", checkpoint, "--pictures", *own, "--out", out)
    assert cv2.imread(str(out)).shape == (3 * 128, 8 * 128, 3)
    capsys.readouterr()
    call(monkeypatch, "reject", "--ckpt", checkpoint, "--pictures", *own)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[-2:]] == [str(path) for path in own]
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "interpolate", "--ckpt", checkpoint, "--pictures", own[0], "--out", out)
    assert "--pictures: expected two to interpolate between, got 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "sample", "--ckpt", checkpoint, "--pictures", *own, "--out", out)
    assert "--pictures: sample shows points of the prior" in capsys.readouterr().err


def test_depth_frames_of_ones_own_are_scored_as_depth_whatever_from_says(tmp_path, monkeypatch, capsys):
    arguments = ARGUMENTS | {"pairs": ["depth-3d", "depth-depth"]}
    method, path = CrossModalVAE(**arguments), tmp_path / "best.ckpt"
    facts = {"class_path": "lightning_modules.cross_modal_vae.CrossModalVAE", "init_args": arguments}
    torch.save({"state_dict": method.state_dict(), FACTS: facts | {"hand_model": method.hand_model_id}}, path)
    frame = np.zeros((240, 320), np.uint16)
    frame[90:150, 140:180] = 600  # millimetres: 15 by 10 cm
    cv2.imwrite(str(tmp_path / "frame.png"), frame)
    words = ("--pictures", tmp_path / "frame.png", "--camera", "240,240,160,120", "--unit", "0.001")
    call(monkeypatch, "reject", "--ckpt", path, *words)
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith(f"{tmp_path / 'frame.png'}: reconstruction") and len(said) == 11


def test_what_modalities_say_of_the_same_points_is_compared(checkpoint, monkeypatch, capsys):
    call(monkeypatch, "agree", "--ckpt", checkpoint)
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(said) == {"others_mm", "2d_px", "others_2d_px", "rgb_mm", "labels_2d_px"}
    assert float(said["labels_2d_px"]) < 3  # perspective alone


def test_decoders_and_encoders_that_know_one_hand_agree():
    method = CrossModalVAE(**ARGUMENTS | {"latent": 63, "pairs": ["3d-3d", "3d-2d"]}).eval()
    method.decoders["3d"].forward = lambda z: z
    method.decoders["2d"].forward = lambda z: (0.3 * z.unflatten(1, (21, 3))[..., :2] + 0.1).flatten(1)
    method.encoders["3d"].forward = lambda x, right: Gaussian(x, torch.zeros_like(x))
    found = agreement(method, torch.randn(16, 63, generator=torch.Generator().manual_seed(0)))
    assert found["3d_mm"] < 1e-3 < 10 < found["others_mm"]
    assert found["2d_px"] < 1e-3 < 1 < found["others_2d_px"]


def test_bad_input_ends_with_code_2_and_a_remedy(checkpoint, tmp_path, monkeypatch, capsys):
    for words, message in (
        (("translate", "--from", "depth"), "source: expected one of 'rgb', got 'depth'"),
        (("reject", "--from", "3d"), "expected a modality of pictures"),
        (("sample", "--out", tmp_path / "nowhere" / "a.png"), "cannot be written"),
    ):
        with pytest.raises(SystemExit, match="2"):
            call(monkeypatch, *words, "--ckpt", checkpoint)
        assert message in capsys.readouterr().err
