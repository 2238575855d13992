"""predict.py on depth frames: what it writes, and how it refuses what cannot be read."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import predict
from datamodules.batch import LEFT, RIGHT, HandBatch
from lightning_modules import predicting, restore, weights
from lightning_modules.frame_prediction import restored_parts
from lightning_modules.prediction_files import read_predictions
from lightning_modules.restore import restore_method
from ops.camera import camera_preset, project
from ops.drawing import part_colours
from ops.hand_model import open_hand
from ops.joints import CANONICAL_JOINTS, PALM, PART_NAMES
from ops.patch_restoration import PatchDictionary
from tests.toys import FlatHand

DATA = Path(__file__).parent / ".." / ".." / "shared" / "data"
NYU_FRAME = DATA / "nyu" / "depth_1_0000001.png"
NYU_LABELS = DATA / "nyu" / "nyu_test_groundtruth_label.txt.xz"


def checkpoint_of(path: Path, class_path: str = "tests.toys.FlatHand", **facts) -> Path:
    method = FlatHand()
    known = {"class_path": class_path, "init_args": {"scale": 1.0}, "hand_model": method.hand_model_id}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": method.state_dict(), "handful": known | facts}, path)
    return path


class Predict:
    """predict.py's command line in the test's folder."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(restore, "METHODS", ("tests.",))
        monkeypatch.setattr(weights, "FOLDER", folder / "weights")
        self.folder, self.monkeypatch = folder, monkeypatch
        self.checkpoint = checkpoint_of(folder / "runs" / "flat" / "first" / "checkpoints" / "best.ckpt")

    def frame(self, name: str = "frame.png", step: float = 0.001, at: int = 250) -> Path:
        """A hand-sized blob at 0.7 m before a wall, left of the middle."""
        depth = np.full((480, 640), 1.5)
        depth[180:330, at : at + 90] = 0.7
        cv2.imwrite(str(self.folder / name), (depth / step).round().astype(np.uint16))
        return self.folder / name

    def __call__(self, *arguments: object) -> None:
        self.monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
        predict.main()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """predict.py with a toy method's checkpoint under runs/."""
    return Predict(tmp_path, monkeypatch)


def joints_of(path: Path) -> tuple[dict, np.ndarray, np.ndarray]:
    document = json.loads(path.read_text())
    joints = [document["joints"][name] for name in CANONICAL_JOINTS]
    return document, np.array([j["position_m"] for j in joints]), np.array([j["pixel"] for j in joints])


def test_a_frame_gives_overlay_joints_and_mesh_beside_the_newest_best_checkpoint(run, capsys):
    run(run.frame(), "--camera", "nyu")
    folder = run.folder / "runs" / "flat" / "first" / "predictions"
    assert sorted(path.name for path in folder.iterdir()) == [
        "frame_joints.json",
        "frame_mesh.glb",
        "frame_mesh.obj",
        "frame_overlay.png",
        "frame_prediction.npz",
    ]
    assert "runs/flat/first/checkpoints/best.ckpt" in capsys.readouterr().out
    document, positions, pixels = joints_of(folder / "frame_joints.json")
    assert document["method"] == "FlatHand" and document["camera"] == "nyu" and document["side"] == "right"
    assert document["hand_model"] == open_hand().id and document["checkpoint"].endswith("best.ckpt")
    # the hand stands where the blob is; pixels are those of the original picture
    K, _ = camera_preset("nyu")
    torch.testing.assert_close(
        project(torch.tensor(positions)[None].float(), K)[0].double(), torch.tensor(pixels), atol=0.01, rtol=0
    )
    vertices = [line.split()[1:] for line in (folder / "frame_mesh.obj").read_text().splitlines() if line[0] == "v"]
    middle = np.array(vertices, float).mean(0)
    assert middle == pytest.approx([(294.5 - 320) / 588 * 0.72, (254.5 - 240) / 587 * 0.72, 0.72], abs=0.02)
    picture = cv2.imread(str(folder / "frame_overlay.png"))
    assert picture.shape == (512, 640 + 2 * 512, 3)


def test_the_prediction_file_says_what_the_other_results_say(run):
    run(run.frame(), "--camera=nyu", "--side=left", "--out=out")
    prediction, keys = read_predictions(run.folder / "out" / "frame_prediction.npz")
    _, positions, pixels = joints_of(run.folder / "out" / "frame_joints.json")
    assert keys == [str(run.folder / "frame.png")]
    assert (prediction.frame, prediction.hand_model, prediction.convention) == ("absolute", open_hand().id, "open")
    assert prediction.side.tolist() == [0] and prediction.vertices.shape == (1, 778, 3)
    np.testing.assert_allclose(prediction.joints_3d[0], positions, atol=1e-6)
    np.testing.assert_allclose(prediction.joints_2d[0], pixels, atol=1e-2)  # of the frame, not of the crop


def test_a_left_hand_is_the_mirror_image_of_the_right_one_in_the_mirrored_frame(run):
    frame = run.frame()
    cv2.imwrite(str(run.folder / "mirrored.png"), cv2.imread(str(frame), cv2.IMREAD_UNCHANGED)[:, ::-1])
    camera = "--camera=588,587,319.5,240"  # its principal point is the middle of the mirror
    run(frame, camera, "--out", "out")
    run("mirrored.png", camera, "--side", "left", "--out", "out")
    _, right, right_pixels = joints_of(run.folder / "out" / "frame_joints.json")
    document, left, left_pixels = joints_of(run.folder / "out" / "mirrored_joints.json")
    assert document["side"] == "left"
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-5)
    np.testing.assert_allclose(639 - left_pixels[:, 0], right_pixels[:, 0], atol=0.02)


def a_dictionary(path: Path, crop_size: int = 72) -> Path:
    """One map: the palm everywhere."""
    maps = np.full((1, 48, 48), PALM, np.uint8)
    PatchDictionary(maps, open_hand().id, 0, "clean/1", crop_size).save(path)
    return path


def test_a_method_without_a_mesh_shows_its_parts_and_what_restoring_makes_of_them(run):
    checkpoint = checkpoint_of(run.folder / "parts.ckpt", class_path="tests.toys.PartsHand")
    dictionary = a_dictionary(run.folder / "patches.safetensors")
    arguments = (run.frame(), "--camera=nyu", f"--ckpt={checkpoint}")
    run(*arguments, "--out=plain")
    run(*arguments, "--out=restored", f"--dictionary={dictionary}")
    written = {path.name for path in (run.folder / "restored").iterdir()}
    assert written == {"frame_joints.json", "frame_overlay.png", "frame_prediction.npz"}, "no mesh, no mesh.obj"
    plain, restored = (cv2.imread(str(run.folder / out / "frame_overlay.png")) for out in ("plain", "restored"))
    assert plain.shape == (504, 640 + 2 * 504, 3) and restored.shape == (504, 640 + 3 * 504, 3)
    np.testing.assert_array_equal(restored[:, : plain.shape[1]], plain)
    thumb = part_colours()[PART_NAMES.index("thumb_tip") + PALM]
    in_panel = [nearly(restored[:, 640 + i * 504 : 1144 + i * 504], thumb) for i in (1, 2)]
    assert in_panel[0] > 0.05 and in_panel[1] < in_panel[0] / 2, "the dictionary knows no thumb"
    # a hand that is wider than the dictionary's maps keeps its labels beyond them
    assert in_panel[1] > 0


def nearly(picture: np.ndarray, colour: np.ndarray) -> float:
    """Share of pixels whose hue is that of a part's colour laid over a grey one."""
    spread = picture.astype(float) - picture.min(-1, keepdims=True)
    direction = colour - colour.min()
    cosine = (spread @ direction) / np.maximum(np.linalg.norm(spread, axis=-1) * np.linalg.norm(direction), 1e-6)
    return float((cosine > 0.99).mean())


def test_parts_of_a_left_hand_are_restored_as_those_of_the_right_one(run):
    method = restore_method(checkpoint_of(run.folder / "parts.ckpt", class_path="tests.toys.PartsHand"))
    maps = torch.zeros(2, 72, 72, dtype=torch.uint8)
    maps[:, 20:50, 20:50] = PALM
    maps[0, 25:28, 22:25] = 7
    maps[1] = maps[0].flip(-1)
    rendered = np.zeros((1, 48, 48), np.uint8)
    rendered[0, 8:38, 8:38] = PALM
    rendered[0, 8:38, 8:18] = 7  # of a right hand, left in the picture
    dictionary = PatchDictionary(rendered, open_hand().id, 0, "clean/1", 72)

    def restored(row, side):
        batch = HandBatch(
            depth=torch.zeros(1, 1, 72, 72), cube_centre=torch.zeros(1, 3), mirrored=torch.tensor([False])
        )
        prediction = method.predict_step(batch | {"side": torch.tensor([side])})
        return restored_parts(replace(prediction, parts=maps[row : row + 1]), dictionary)

    right, left = restored(0, RIGHT), restored(1, LEFT)
    np.testing.assert_array_equal(left[:, ::-1], right)
    assert (right == 7).sum() > 50 and (right[20:50, 40:50] == PALM).all()
    assert (restored(1, RIGHT) != left).any(), "a left hand's map is mirrored for the dictionary"


@pytest.mark.parametrize(
    "class_path, crop_size, message",
    [
        ("tests.toys.FlatHand", 72, "the method predicts no part map to restore; leave --dictionary out"),
        ("tests.toys.PartsHand", 96, "its maps are of crops of 96 pixels, but the method sees 72"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(run, capsys, class_path, crop_size, message):
    checkpoint = checkpoint_of(run.folder / "some.ckpt", class_path=class_path)
    dictionary = a_dictionary(run.folder / "patches.safetensors", crop_size)
    with pytest.raises(SystemExit) as stop:
        run(run.frame(), "--camera=nyu", f"--ckpt={checkpoint}", f"--dictionary={dictionary}", "--out=out")
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_results_are_not_replaced_unasked(run, capsys):
    arguments = (run.frame(), "--camera=nyu", "--out=out")
    run(*arguments)
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2 and "give --overwrite or another --out" in capsys.readouterr().err
    run(*arguments, "--overwrite")


def bad_checkpoint(run: Predict, what: str) -> Path:
    path = run.folder / f"{what}.ckpt"
    if what == "text":
        path.write_text("no")
    elif what == "foreign":
        torch.save({"state_dict": {}, "epoch": 3}, path)
    elif what == "code":
        torch.save({"handful": Path("anything")}, path)
    elif what == "class":
        checkpoint_of(path, class_path="os.path.join")
    elif what == "hand":
        checkpoint_of(path, hand_model="mano-right:1234")
    elif what == "no weights":
        torch.save({"handful": torch.load(run.checkpoint, weights_only=True)["handful"]}, path)
    elif what == "empty facts":
        torch.save({"state_dict": {}, "handful": {}}, path)
    elif what == "arguments":
        checkpoint_of(path, init_args={"scale": 1.0, "forgotten": 2})
    elif what == "gone":
        checkpoint_of(path, class_path="tests.toys.FlatFoot")
    elif what == "gone module":
        checkpoint_of(path, class_path="tests.feet.FlatFoot")
    elif what == "imported":
        checkpoint_of(path, class_path="tests.toys.LightningModule", init_args={})
    elif what == "no method":
        checkpoint_of(path, class_path="tests.toys.ToyData", init_args={})
    elif what == "weights":
        checkpoint_of(path)
        checkpoint = torch.load(path, weights_only=True)
        torch.save({**checkpoint, "state_dict": {"weight": torch.zeros(4)}}, path)
    return path


@pytest.mark.parametrize(
    "what, message",
    [
        ("missing", "missing.ckpt: no such file"),
        ("text", "cannot be read"),
        ("code", "cannot be read"),
        ("foreign", "not a checkpoint of this project"),
        ("class", "'os.path.join' is not a method of this project"),
        ("imported", "'tests.toys.LightningModule' is not a method of this project"),
        ("no method", "'tests.toys.ToyData' is not a method of this project"),
        ("no weights", "expected weights under 'state_dict'; name one"),
        ("empty facts", "wrong: class_path, init_args, hand_model); name one"),
        ("arguments", "unexpected keyword argument 'forgotten'); use the code it was trained with"),
        ("gone", "there is no method 'tests.toys.FlatFoot'"),
        ("gone module", "there is no method 'tests.feet.FlatFoot'"),
        ("hand", "made with hand model 'mano-right:1234'"),
        ("weights", "its weights do not fit"),
    ],
)
def test_bad_checkpoints_are_refused(run, capsys, what, message):
    with pytest.raises(SystemExit) as stop:
        run(run.frame(), "--camera=nyu", f"--ckpt={bad_checkpoint(run, what)}", "--out=out")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and f"{what}.ckpt" in error and "Traceback" not in error


def test_a_checkpoint_runs_no_code(tmp_path):
    """Whatever a module of ours imports is reachable by name through it; only methods that it defines are built."""
    mark = tmp_path / "mark"
    popen = {"class_path": "subprocess.Popen"}
    for class_path, init_args in (
        ("lightning_modules.restore.instantiate_class", {"args": ["touch", str(mark)], "init": popen}),
        ("lightning_modules.cli.LightningCLI", {"args": []}),
        ("lightning_modules.callbacks.run_logs.RunCSVLogger", {"folder": str(tmp_path)}),
        ("lightning_modules.restore.importlib.import_module", {"name": "antigravity"}),
        ("lightning_modules.restore.restore_method", {"path": str(mark)}),
    ):
        path = checkpoint_of(tmp_path / "attack.ckpt", class_path=class_path, init_args=init_args)
        with pytest.raises(ValueError, match=r"attack.ckpt: .*(is not a|there is no) method"):
            restore_method(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.png", "--camera=nyu"], "nowhere.png: no such file"),
        (["frame.png"], "camera: unknown for frame.png; give one of nyu"),
        (["frame.png", "--camera=0,0,320,240"], "positive focal lengths"),
        (["frame.png", "--camera=500,250,320,240"], "expected square pixels, fx and fy within 5%"),
        (["frame.png", "--camera=nyu", "--unit=1"], "try --unit 0.001 (0.70 m)"),
        (["frame.png", "--camera=nyu", "--box=1,2,3"], "box: expected u,v,width,height"),
        (["frame.png", "--camera=nyu", "--refine=0"], "refine: is for photographs"),
        (["frame.png", "--camera=nyu", "--labels=nowhere.txt", "--out=o"], "nowhere.txt: no such file"),
    ],
)
def test_bad_input_is_refused_with_exit_code_2(run, capsys, arguments, message):
    run.frame()
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_bad_picture_costs_no_import_of_the_methods(run, monkeypatch):
    run.frame()
    monkeypatch.setitem(sys.modules, "lightning_modules.predicting", None)  # importing it raises
    with pytest.raises(SystemExit) as stop:
        run("frame.png", "--camera=nyu", "--unit=1")
    assert stop.value.code == 2


def test_after_ctrl_c_the_bar_is_gone(run, monkeypatch):
    stopped = []

    def interrupted(bar):  # just as it appears
        raise KeyboardInterrupt

    monkeypatch.setattr(predicting.Progress, "start", interrupted)
    monkeypatch.setattr(predicting.Progress, "stop", lambda bar: stopped.append(bar))
    with pytest.raises(SystemExit) as stop:
        run(run.frame(), "--camera=nyu", "--out=out")
    assert stop.value.code == 130 and len(stopped) == 1


def test_a_folder_is_no_page(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run(run.frame(), "--camera=nyu", "--out=out", "--html=.", "--overwrite")
    assert stop.value.code == 2 and not (run.folder / "out").exists()
    assert "html: expected a file to write, got the folder ." in capsys.readouterr().err


def write_labels(path: Path, lines: int) -> Path:
    path.write_text("320 240 700 " * 21 + "\n" + ("320 240 700 " * 20 + "320 240 800\n") * (lines - 1))
    return path


def test_the_wrong_line_of_labels_is_not_taken_silently(run, capsys):
    write_labels(run.folder / "labels.txt", 3)
    options = ("--camera=nyu", "--labels=labels.txt", "--label-layout=canonical-21", "--out=out")
    with pytest.raises(SystemExit):
        run(run.frame(), *options)
    assert "frame.png does not say which of 3 lines" in capsys.readouterr().err
    assert not (run.folder / "out").exists(), "labels are checked before anything is predicted"
    with pytest.raises(SystemExit):
        run(run.frame("depth_1_0000004.png"), *options)
    assert "label line: expected 1 to 3 (labels.txt), got 4" in capsys.readouterr().err
    run(run.frame("depth_1_0000002.png"), *options)
    assert "line 2 of labels.txt" in capsys.readouterr().out
    run(run.frame(), *options, "--label-line=3")
    assert "line 3 of labels.txt" in capsys.readouterr().out


def test_without_any_checkpoint_the_remedy_is_named(run, capsys):
    run.checkpoint.unlink()
    with pytest.raises(SystemExit):
        run(run.frame(), "--camera=nyu")
    assert "no best checkpoint under runs/; train one (make train)" in capsys.readouterr().err


def test_a_checkpoint_of_train_py_is_restored(train, monkeypatch):
    monkeypatch.setattr(restore, "METHODS", ("tests.",))
    cli = train("fit", "--test_after_fit=false", "--model.lr=0.125")
    method = restore_method(cli.folder / "checkpoints" / "best.ckpt")
    assert method.lr == 0.125 and not method.training
    torch.testing.assert_close(method.joints, cli.model.joints)


@pytest.mark.skipif(not NYU_FRAME.exists(), reason="no real NYU frame at hand")
def test_a_real_nyu_frame_needs_no_option_and_is_judged_by_its_labels(run, capsys):
    run(NYU_FRAME, "--out=out", f"--labels={NYU_LABELS}", "--label-layout=nyu-14")
    said = capsys.readouterr().out
    assert "line 1 of " in said
    assert "errors over 12 joints of layout nyu-14" in said and "procrustes" in said and "little_tip" in said
