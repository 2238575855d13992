"""predict.py on many inputs: folders, videos, bad files among good ones, both sides, pages, weights that come along."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh

from lightning_modules import frame_prediction, predicting, restore, weights
from lightning_modules.weights import convert
from tests.datamodules.test_sights import video
from tests.test_predict import checkpoint_of, joints_of, run  # noqa: F401 - a fixture
from tests.test_predict_photos import colours, photo, refining_checkpoint  # noqa: F401 - a fixture


def said(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}_joints.json").read_text())


def code_of(run, *arguments: object) -> int:  # noqa: F811
    """The exit code."""
    try:
        run(*arguments)
    except SystemExit as stop:
        return stop.code
    return 0


def test_a_folder_gives_what_its_pictures_give_alone_and_names_what_is_bad(colours, capsys):  # noqa: F811
    folder = colours.folder / "inputs"
    folder.mkdir()
    for i, at in enumerate((200, 300, 400)):
        colours.frame(f"inputs/frame{i}.png", at=at)
    photo(folder / "photo.jpg")
    (folder / "broken.png").write_bytes((folder / "frame0.png").read_bytes()[:2000])
    cv2.imwrite(str(folder / "wall.png"), np.full((480, 640), 900, np.uint16))
    assert code_of(colours, folder, "--camera=nyu", "--out=one", "--batch=2", "--focal=500") == 1
    told = capsys.readouterr()
    assert "broken.png: the PNG is truncated" in told.err
    assert "not sure    wall: probably no hand" in told.out
    # the camera is no photograph's: sizes differ, and a focal length was given as well
    assert "skipped     focal: the camera says it already" in told.err
    assert "wrote       results of 4 pictures to one; skipped 2" in told.out
    colours(folder / "photo.jpg", "--out=two")
    for i in range(3):
        colours(folder / f"frame{i}.png", "--camera=nyu", "--out=two")
        together, alone = (joints_of(colours.folder / out / f"frame{i}_joints.json")[1] for out in ("one", "two"))
        np.testing.assert_allclose(together, alone, atol=1e-5)
    names = {path.name for path in (colours.folder / "one").iterdir()}
    assert len(names) == 4 * 5


def test_depth_and_photographs_go_to_methods_that_take_them(colours, capsys):  # noqa: F811
    frame, picture = colours.frame(), photo(colours.folder / "photo.jpg")
    assert (
        code_of(colours, frame, picture, "--camera=588,588,320,240,640,480", "--out=out", "--write", "joints.json") == 0
    )
    assert [said(colours.folder / "out", name)["method"] for name in ("frame", "photo")] == ["FlatHand", "ColourHand"]
    assert {path.suffix for path in (colours.folder / "out").iterdir()} == {".json"}
    out = capsys.readouterr().out
    assert out.count("checkpoint  runs/") == 2
    flat = colours.checkpoint
    assert code_of(colours, frame, picture, f"--ckpt={flat}", "--camera=588,588,320,240,640,480", "--out=o") == 1
    assert "photo.jpg: a photograph (8 bits" in capsys.readouterr().err


def test_the_picture_of_a_refinement_is_left_out_among_many_where_the_method_does_not_refine(run, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(restore, "METHODS", ("lightning_modules.", "tests."))
    folder = run.folder / "runs" / "dhpe" / "first" / "checkpoints"
    folder.mkdir(parents=True)
    refining_checkpoint(folder / "best.ckpt", steps=0)
    both = run.frame(), photo(run.folder / "photo.jpg"), "--camera=588,588,320,240,640,480", "--refine=1"
    assert code_of(run, *both, "--out=out", "--write", "joints.json", "refinement.png") == 0
    assert sorted(path.name for path in (run.folder / "out").iterdir()) == [
        "frame_joints.json",
        "photo_joints.json",
        "photo_refinement.png",
    ]
    assert f"refinement.png of {Path(*run.checkpoint.parts[-5:])}: FlatHand does not refine" in capsys.readouterr().out
    assert code_of(run, *both, "--out=o", "--write", "refinement.png") == 1, "nothing would be written of the frame"
    assert "skipped     " in capsys.readouterr().err


def test_nothing_is_replaced_among_many_unless_asked(run, capsys):  # noqa: F811
    frames = [run.frame(f"{i}.png") for i in range(2)]
    assert code_of(run, *frames, "--camera=nyu", "--out=out") == 0
    kept = (run.folder / "out" / "0_joints.json").stat().st_mtime_ns
    assert code_of(run, *frames, "--camera=nyu", "--out=out") == 2
    told = capsys.readouterr().err
    assert told.count("there already") == 2 and "none of the inputs could be predicted" in told
    assert (run.folder / "out" / "0_joints.json").stat().st_mtime_ns == kept
    assert code_of(run, *frames, "--camera=nyu", "--out=out", "--overwrite") == 0
    assert (run.folder / "out" / "0_joints.json").stat().st_mtime_ns > kept


def test_a_video_gives_its_frames_and_a_page_with_a_slider(colours):  # noqa: F811
    clip = video(colours.folder / "clip.avi", 6)
    colours(clip, "--every=3", "--out=out", "--html=page.html", "--write", "joints.json")
    assert sorted(path.name for path in (colours.folder / "out").iterdir()) == [
        "clip_000000_joints.json",
        "clip_000003_joints.json",
    ]
    page = (colours.folder / "page.html").read_text()
    assert 'max="1"' in page and "clip_000000 to clip_000003" in page and "<script src=" not in page
    assert "<output>3 of 3</output>" in page, "frames are counted as the video's"
    assert code_of(colours, clip, "--out=o", "--html=page.html") == 2


def test_a_videos_left_and_right_hands_are_apart_on_a_page_with_the_facts_of_all_frames(colours, monkeypatch):  # noqa: F811
    pages = []
    monkeypatch.setattr(predicting, "write_page", lambda path, entries, title: pages.append(entries))

    def confidence(method, prediction, batch, seen):
        of_left = torch.tensor([(0.9, 0.1, 0.8, 0.2)[int(key[-1])] for key in batch["key"]])
        return torch.where(batch["mirrored"], of_left, 0.5), "heat maps"

    monkeypatch.setattr(frame_prediction, "confidence_of", confidence)
    clip = video(colours.folder / "clip.avi", 4)
    colours(clip, "--side=both", "--out=out", "--html=page.html", "--write", "joints.json")
    (entries,) = pages
    assert [(entry.facts["side"], entry.numbers) for entry in entries] == [("left", (0, 2)), ("right", (1, 3))]
    for entry, said_of_all in zip(entries, (set(), {"confidence"}), strict=True):
        assert {"confidence"} & set(entry.facts) == said_of_all, "left hands' differ"
        for vertices in entry.vertices:
            assert trimesh.Trimesh(vertices, entry.faces, process=False).volume > 0, "not inside out"


def test_of_both_sides_the_more_likely_is_given(run, monkeypatch):  # noqa: F811
    frame = run.frame()

    def confidence(method, prediction, batch, seen):
        return torch.where(batch["mirrored"], 0.9, 0.4), "depth"

    monkeypatch.setattr(frame_prediction, "confidence_of", confidence)
    run(frame, "--camera=nyu", "--side=both", "--out=out")
    document = said(run.folder / "out", "frame")
    assert document["side"] == "left" and document["sides_compared"] == {"right": 0.4, "left": 0.9}
    run(frame, "--camera=nyu", "--side=left", "--out=left")
    assert said(run.folder / "left", "frame")["joints"] == document["joints"]


def test_what_is_probably_no_hand_is_said(colours, capsys):  # noqa: F811
    dark = colours.folder / "dark.png"
    cv2.imwrite(str(dark), np.full((200, 200, 3), 20, np.uint8))
    colours(dark, "--out=out")
    assert "not sure    dark: probably no hand" in capsys.readouterr().out
    document = said(colours.folder / "out", "dark")
    assert document["hand_seen"] is False and document["confidence_by"] == "heat maps"
    assert document["pose"] is None and document["shape"] is None
    colours(photo(colours.folder / "photo.png"), "--box=150,100,100,80", "--out=out")
    assert said(colours.folder / "out", "photo")["hand_seen"] is True


def test_weights_that_come_along_are_taken_where_nothing_was_trained(run, capsys):  # noqa: F811
    (run.folder / "runs" / "flat" / "first" / "config.yaml").write_text("seed_everything: 0\n")
    convert(run.checkpoint, weights.FOLDER / "flat.safetensors")
    run.checkpoint.unlink()
    run(run.frame(), "--camera=nyu", "--write", "joints.json")
    assert f"checkpoint  {weights.FOLDER / 'flat.safetensors'}" in capsys.readouterr().out
    assert said(run.folder / "predictions", "frame")["method"] == "FlatHand"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every=0"], "every: expected at least 1"),
        (["--labels=l.txt"], "labels: belong to one frame"),
        (["--html=p.html", "--every=1"], "html: a page holds at most 60 pictures, got 70"),
    ],
)
def test_options_that_do_not_fit_many_pictures_are_refused(run, capsys, arguments, message):  # noqa: F811
    clip = video(run.folder / "long.avi", 70)
    assert code_of(run, clip, *arguments) == 2
    assert message in capsys.readouterr().err
