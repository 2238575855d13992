"""predict.py on photographs, and what a refinement at test time makes of them."""

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh

import predict
from datamodules.colour_pictures import read_colour_picture
from lightning_modules import predicting, restore
from lightning_modules.dhpe import DHPE
from lightning_modules.prediction_files import read_predictions
from ops.camera import project
from tests.datamodules import test_hand_detector
from tests.datamodules.test_hand_detector import engine  # noqa: F401 - a fixture
from tests.datamodules.test_sights import video
from tests.test_predict import checkpoint_of, joints_of, run  # noqa: F401 - a fixture


@pytest.fixture
def colours(run):  # noqa: F811 - the fixture
    """predict.py's command line with the checkpoint of a toy method that takes colour pictures."""
    checkpoint_of(run.folder / "runs" / "colour" / "first" / "checkpoints" / "best.ckpt", "tests.toys.ColourHand")
    return run


def photo(path: Path, height: int = 300, width: int = 400, channels: int = 3, dtype: type = np.uint8) -> Path:
    """Blue to the left, yellow to the right."""
    picture = np.zeros((height, width, 3), dtype)
    top = np.iinfo(dtype).max
    picture[:, : width // 2, 0] = top
    picture[:, width // 2 :, 1:] = top
    if channels == 4:
        picture = np.concatenate([picture, np.full((height, width, 1), top // 2, dtype)], 2)
    cv2.imwrite(str(path), picture if channels > 1 else picture[..., 1])
    return path


def test_a_photograph_gives_overlay_joints_and_meshes_by_the_method_that_takes_it(colours, capsys):
    os.utime(colours.checkpoint)  # the newest takes depth
    colours(photo(colours.folder / "photo.jpg"), "--box=150,100,100,80", "--focal=500", "--out=out")
    assert "runs/colour/first/checkpoints/best.ckpt" in capsys.readouterr().out
    document, joints, pixels = joints_of(colours.folder / "out" / "photo_joints.json")
    assert document["K"] == [[500.0, 0.0, 199.5], [0.0, 500.0, 149.5], [0.0, 0.0, 1.0]]
    assert document["method"] == "ColourHand" and 0 < document["confidence"] < 1 and "bone" in document["distance"]
    # the box's middle is (199.5, 139.5): half a metre away that is 1 cm above the axis
    middle = read_predictions(colours.folder / "out" / "photo_prediction.npz")[0].vertices[0].mean(0)
    np.testing.assert_allclose(middle, [0, -0.01, 0.5], atol=1e-4)
    K = torch.tensor(document["K"])
    np.testing.assert_allclose(project(torch.tensor(joints)[None].float(), K)[0], pixels, atol=0.05)
    mesh = trimesh.load(colours.folder / "out" / "photo_mesh.glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices.mean(0), [0, 0.01, -0.5], atol=1e-4)  # y up, z backwards
    assert mesh.volume > 0
    sheet = cv2.imread(str(colours.folder / "out" / "photo_overlay.png"))
    assert sheet.shape == (512, 400 + 2 * 512, 3)
    left, right = sheet[20, 400 + 20], sheet[20, 400 + 490]  # the crop, whose corners show what lies behind
    assert left[0] > 200 > left[2] and right[0] < 60 < right[2]


def test_detected_hands_are_of_the_side_that_the_detector_says(colours, engine):  # noqa: F811 - the fixtures
    red = test_hand_detector.photo(colours.folder / "red.png", (40, 60, 80, 30))
    for words, side in (((), "left"), (("--side=right", "--overwrite"), "right")):
        colours(red, "--detect", "--out=out", *words)
        document, _, _ = joints_of(colours.folder / "out" / "red_joints.json")
        assert document["side"] == side and document["detected"]["box"] == (
            [40, 60, 80, 30] if side == "left" else [0, 0, 2, 2]
        )
    with pytest.raises(SystemExit):
        colours(red, "--detect", "--box=1,2,30,40", "--out=again")


def test_the_camera_is_assumed_and_said_where_nothing_is(colours, capsys):
    colours(photo(colours.folder / "photo.png"), "--out=out")
    document, _, _ = joints_of(colours.folder / "out" / "photo_joints.json")
    assert document["camera"].startswith("assumed") and document["K"][0][0] == pytest.approx(400 * 28 / 36)
    assert "taken as    right hand; the whole picture; camera assumed: a phone's" in capsys.readouterr().out
    assert document["looked_at"]["box"] == "the whole picture" and document["looked_at"]["square"]["side"] == 400
    assert document["pose_is"].startswith("axis-angle, radians") and "deviations" in document["shape_is"]


def test_a_large_photograph_is_drawn_small(colours):
    colours(photo(colours.folder / "photo.jpg", 3000, 4000), "--out=out")
    assert cv2.imread(str(colours.folder / "out" / "photo_overlay.png")).shape == (720, 960 + 2 * 512, 3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("rgba.png", {"channels": 4}), ("grey.png", {"channels": 1}), ("deep.png", {"dtype": np.uint16})],
)
def test_other_kinds_of_pictures_are_read_as_colours(colours, name, settings):
    colours(photo(colours.folder / name, **settings), "--out=out")
    confidence = json.loads((colours.folder / "out" / f"{Path(name).stem}_joints.json").read_text())["confidence"]
    assert confidence == pytest.approx(0.5 * 0.75, abs=0.01)  # the square's share of the picture; alpha changes nothing


def test_a_rotated_photograph_is_read_upright(colours):
    path = photo(colours.folder / "plain.jpg")
    raw = path.read_bytes()
    tag = b"II*\0" + (8).to_bytes(4, "little") + b"\1\0" + b"\x12\1\3\0\1\0\0\0\6\0\0\0" + b"\0\0\0\0"
    exif = b"\xff\xe1" + (len(tag) + 8).to_bytes(2, "big") + b"Exif\0\0" + tag
    turned = colours.folder / "turned.jpg"
    turned.write_bytes(raw[:2] + exif + raw[2:])
    assert read_colour_picture(turned).rgb.shape == (400, 300, 3)
    top = read_colour_picture(turned).rgb[50, 150]
    assert top[2] > 200 > top[0]  # turned clockwise by the quarter: what was left is above
    colours(turned, "--out=out")
    document, _, _ = joints_of(colours.folder / "out" / "turned_joints.json")
    assert document["K"][0][2] == 149.5 and document["K"][1][2] == 199.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box=500,10,50,50"], r"box: .* lies outside"),
        (["--box=10,10,0,50"], "box: expected u,v,width,height with sides above 1 pixel"),
        (["--box=10,10,nan,50"], "box: expected u,v,width,height with sides above 1 pixel"),
        (["--focal=0"], "focal: expected pixels above 0"),
        (["--focal=500", "--camera=nyu"], "focal: the camera says it already"),
        (["--camera=nyu"], "camera 'nyu' takes pictures of 640x480"),
        (["--camera=1,2"], r"camera: expected a preset's name or fx,fy,cx,cy"),
        (["--unit=0.001"], "unit: is for depth frames"),
        (["--unit=0"], "unit: is for depth frames"),
        (["--box=10,10,50,50", "--detect"], "box: says where the hand is, and --detect looks for it"),
        (
            ["--ckpt=runs/flat/first/checkpoints/best.ckpt"],
            r"but no checkpoint takes these: .*takes depth",
        ),
    ],
)
def test_what_does_not_fit_a_photograph_is_refused(colours, capsys, arguments, message):
    with pytest.raises(SystemExit):
        colours(photo(colours.folder / "photo.png"), *arguments)
    assert re.search(message, capsys.readouterr().err)


def test_a_truncated_photograph_is_refused(colours, capsys):
    path = photo(colours.folder / "photo.jpg")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(SystemExit):
        colours(path)
    assert "the JPEG is truncated" in capsys.readouterr().err


def refining_checkpoint(path: Path, steps: int) -> Path:
    """An untrained DHPE."""
    settings = {"backbone": "small", "joint_maps": "small", "refinement_steps": steps, "crop_size": 64}
    method = DHPE(**settings)
    facts = {"class_path": "lightning_modules.dhpe.DHPE", "init_args": settings, "hand_model": method.hand_model_id}
    torch.save({"state_dict": method.state_dict(), "handful": facts}, path)
    return path


def test_a_page_slides_through_the_iterations_of_a_refinement(colours, monkeypatch):
    monkeypatch.setattr(restore, "METHODS", ("lightning_modules.", "tests."))
    pages = []
    monkeypatch.setattr(predicting, "write_page", lambda path, entries, title: pages.append(entries))
    checkpoint = refining_checkpoint(colours.folder / "dhpe.ckpt", steps=0)
    seen = photo(colours.folder / "photo.jpg"), "--box=150,100,100,80", f"--ckpt={checkpoint}", "--side=left"
    colours(*seen, "--out=plain", "--html=plain.html")
    colours(*seen, "--out=out", "--html=page.html", "--refine=5")
    (plain,), (slid,) = pages
    assert plain.joints.shape == (21, 3) and "refinement steps" not in plain.facts
    assert slid.steps_name == "iteration" and slid.numbers == (0, 1, 2, 3, 5)
    assert slid.name == "photo" and slid.facts == plain.facts
    assert slid.joints.shape == (5, 21, 3) and slid.vertices.shape == (5, 778, 3)
    np.testing.assert_allclose(slid.joints[0], plain.joints, atol=1e-5)
    document, last, _ = joints_of(colours.folder / "out" / "photo_joints.json")
    assert document["refinement_steps"] == 5 and document["side"] == "left"
    np.testing.assert_allclose(slid.joints[-1], last, atol=1e-5)
    assert np.abs(slid.joints[-1] - slid.joints[0]).max() > 1e-4


def test_a_page_of_many_has_room_for_fewer_iterations_of_each_and_of_videos_for_the_last(colours, monkeypatch):
    monkeypatch.setattr(restore, "METHODS", ("lightning_modules.", "tests."))
    monkeypatch.setattr(predict, "PAGE_MOST", 6)
    pages = []
    monkeypatch.setattr(predicting, "write_page", lambda path, entries, title: pages.append(entries))
    checkpoint = refining_checkpoint(colours.folder / "dhpe.ckpt", steps=0)
    options = f"--ckpt={checkpoint}", "--out=out", "--html=page.html", "--refine=5", "--write", "joints.json"
    colours(photo(colours.folder / "photo.jpg"), video(colours.folder / "clip.avi", 2), *options)
    ((slid, clip),) = pages
    assert slid.numbers == (0, 5)
    assert (clip.name, clip.steps_name, clip.numbers) == ("clip_000000 to clip_000001", "frame", (0, 1))
    assert clip.joints.shape == (2, 21, 3)


def test_the_picture_of_a_refinement_comes_on_request_from_a_method_that_refines(colours, capsys):
    colours.monkeypatch.setattr(restore, "METHODS", ("lightning_modules.", "tests."))
    checkpoint = refining_checkpoint(colours.folder / "dhpe.ckpt", steps=2)
    seen = photo(colours.folder / "photo.jpg"), "--box=150,100,100,80", "--out=out", "--side=left"
    colours(*seen, "--ckpt", checkpoint, "--write", "refinement.png")
    assert [path.name for path in (colours.folder / "out").iterdir()] == ["photo_refinement.png"]
    colours(*seen, "--ckpt", checkpoint, "--overwrite")
    made = {path.name for path in (colours.folder / "out").iterdir()}
    assert {"photo_refinement.png", "photo_joints.json", "photo_overlay.png"} < made, "a refined picture's unasked"
    colours(*seen, "--ckpt", checkpoint, "--refine=0", "--out=unrefined")
    assert "photo_refinement.png" not in {path.name for path in (colours.folder / "unrefined").iterdir()}
    picture = cv2.imread(str(colours.folder / "out" / "photo_refinement.png"))
    side = 4 * 64  # crops are as large as the checkpoint says
    assert picture.shape == (side, 4 * side, 3), "iterations 0, 1 and 2, and the objective"
    panel = picture[:side, :side]
    left, right = panel[40, 10], panel[40, 245]
    assert left[0] < 60 < left[2] and right[0] > 200 > right[2], "a left hand's crop is mirrored"
    with pytest.raises(SystemExit) as stopped:
        colours(*seen, "--write", "refinement.png", "overlay.png", "--overwrite")
    assert stopped.value.code == 2
    assert "refinement.png is of methods that refine at test time" in capsys.readouterr().err
    checkpoint = refining_checkpoint(colours.folder / "dhpe.ckpt", steps=0)
    with pytest.raises(SystemExit):
        colours(*seen, "--ckpt", checkpoint, "--write", "refinement.png", "--overwrite")
    assert "refinement_steps: expected at least 1 iteration to draw, got 0; give --refine N" in capsys.readouterr().err
