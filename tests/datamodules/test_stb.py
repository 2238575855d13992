"""STB: cameras, order, palm and wrist from files in its layout; a real stereo pair with its labels; files that lie."""

import shutil

import cv2
import numpy as np
import pytest
import scipy.io

from benchmarks.generated.hands import pose_hands, render_depth
from benchmarks.generated.stb import write_stb
from datamodules.frames import BadFrame
from datamodules.stb import (
    CAMERAS,
    COLOR_TO_DEPTH,
    COLOR_TO_DEPTH_SHIFT,
    SIZE,
    STB,
    TEST_SEQUENCES,
    TO_CANONICAL,
    TRAIN_SEQUENCES,
    wrist_from_palm,
)
from ops.joints import CANONICAL_JOINTS
from tests.datamodules.readers import check_frames, millimetres, piece, project, sides

PARTS = {"thumb": ("cmc", "mcp", "ip", "tip")} | dict.fromkeys(
    ("index", "middle", "ring", "little"), ("mcp", "pip", "dip", "tip")
)
NAMES = ("palm",) + tuple(
    f"{finger}_{part}" for finger in ("little", "ring", "middle", "index", "thumb") for part in PARTS[finger]
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stb")
    write_stb(folder, train=0, test=4)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real labels and the real pair of frame 0, where the dataset has them."""
    source, folder = piece("stb"), tmp_path_factory.mktemp("real")
    (folder / "labels").mkdir()
    (folder / "images/B1Counting").mkdir(parents=True)
    shutil.copy(source / "B1Counting_BB.mat", folder / "labels")
    for name in ("BB_left_0.png", "BB_right_0.png"):
        shutil.copy(source / name, folder / "images/B1Counting")
    return STB(folder, sequences=["B1Counting"]).frames("test")


def test_the_order_is_that_of_the_names():
    assert tuple(NAMES[i] for i in TO_CANONICAL)[1:] == CANONICAL_JOINTS[1:]


@pytest.mark.parametrize("cameras", [("BB_left", "BB_right"), ("SK_color",), ("SK_depth",), ("SK_color", "BB_left")])
def test_generated_records_fit_their_pictures(generated, cameras):
    frames = STB(generated, cameras).frames("test")
    read = check_frames(frames)
    assert len(read) == 4 * len(cameras) and frames.expected == 3000 * len(cameras)
    assert [frame.key.split("/")[-1].rsplit("_", 1)[0] for frame in read] == list(cameras) * 4
    assert {frame.side for frame in read} == {0} and frames.convention == "stb"
    assert (sides(read) == 0).all()
    for frame in read:
        # the generated palm is half way from the wrist to the ring knuckle, where the rule puts the wrist back
        np.testing.assert_allclose(frame.joints_3d[0], 2 * frame.palm - frame.joints_3d[13], atol=1e-6)
        np.testing.assert_array_equal(frame.points[0], frame.palm)


def test_the_cameras_see_one_hand(generated):
    left, right = (STB(generated, [camera]).frames("test").labels(0).joints_3d for camera in ("BB_left", "BB_right"))
    np.testing.assert_allclose(left - right, np.tile([0.120054, 0, 0], (21, 1)), atol=1e-6)
    color, depth = (STB(generated, [camera]).frames("test").labels(0).joints_3d for camera in ("SK_color", "SK_depth"))
    # the rotation is small: to first order, x + w x x + t
    turned = color + np.cross([0.00531, -0.01196, 0.00301], color) + [-0.0240381, -0.0004563, -0.0012326]
    np.testing.assert_allclose(depth, turned, atol=1e-4)
    assert np.abs(depth - color).max() > 0.015


@pytest.mark.parametrize(("camera", "least"), [("SK_depth", 0.95), ("SK_color", 0.9)])
def test_masks_from_depth_are_those_of_the_hands_that_were_drawn(generated, camera, least):
    frames = STB(generated, [camera], mask_from_depth=True).frames("test")
    read = check_frames(frames)
    assert frames.files(0)[-1].name == "SK_depth_0.png"
    for place, first in enumerate((0, 2)):
        hands = pose_hands([0, 0], len(TRAIN_SEQUENCES) + place, spread=0.02)  # as write_stb draws them
        if camera == "SK_color":
            hands = hands.moved(-COLOR_TO_DEPTH.T @ COLOR_TO_DEPTH_SHIFT, COLOR_TO_DEPTH.T)
        _, parts = render_depth(hands, CAMERAS[camera], SIZE)
        for frame, drawn in zip(read[first : first + 2], parts > 0, strict=True):
            assert (frame.mask & drawn).sum() / (frame.mask | drawn).sum() > least


def test_no_depth_no_masks(generated):
    with pytest.raises(ValueError, match="mask_from_depth: no depth was taken with BB_left; set cameras to SK_color"):
        STB(generated, ["SK_color", "BB_left"], mask_from_depth=True)
    assert "mask" not in STB(generated, ["SK_color"]).frames("test").provides


def test_training_is_all_but_the_first_actor(tmp_path):
    write_stb(tmp_path, train=10, test=2, cameras=())
    assert {STB(tmp_path).frames("test").labels(i).key.split("/")[2] for i in range(4)} == set(TEST_SEQUENCES)
    train, val = (STB(tmp_path).frames(split) for split in ("train", "val"))
    assert len(train) + len(val) == 20 and train.expected + val.expected == 30000
    seen = [frames.labels(i).key for frames in (train, val) for i in range(len(frames))]
    assert [key.split("/")[2] for key in seen] == [name for name in TRAIN_SEQUENCES for _ in range(2)]


@pytest.mark.parametrize(
    ("rule", "expected", "convention"),
    # knuckles of index to little at x = 0, 2, 4, 6 and y = 10, palm at (2, 5): by hand
    [
        ("ring", (0.0, 0.0), "stb"),
        ("middle", (2.0, -1.0), "stb-wrist-middle"),
        ("mean", (0.75, -1.25), "stb-wrist-mean"),
    ],
)
def test_the_wrist_lies_on_the_line_from_a_knuckle_through_the_palm(tmp_path, rule, expected, convention):
    joints = np.zeros((21, 3))
    joints[[5, 9, 13, 17], 0], joints[[5, 9, 13, 17], 1] = (0, 2, 4, 6), 10
    np.testing.assert_allclose(wrist_from_palm(np.array([2.0, 5.0, 0.0]), joints, rule)[:2], expected)
    write_stb(tmp_path, train=0, test=2, cameras=())
    frames = STB(tmp_path, wrist_rule=rule).frames("test")
    assert frames.convention == convention
    labels = frames.labels(0)
    np.testing.assert_array_equal(labels.joints_3d[0], wrist_from_palm(labels.palm, labels.joints_3d, rule))


def test_real_labels_have_constant_bones_of_the_stated_lengths(real):
    assert len(real) == real.expected == 3000
    lengths = {(5, 6): 34, (6, 7): 22, (7, 8): 20, (9, 10): 40, (13, 14): 37, (17, 18): 32, (1, 2): 30, (3, 4): 26}
    for index in (0, 1, 1501, 2999):
        for (a, b), length in lengths.items():
            assert millimetres(real.labels(index), a, b) == pytest.approx(length, abs=0.5)
    shown = sides([real.labels(index) for index in range(0, 3000, 100)])
    assert (shown == 0).mean() > 0.9  # a flat hand may look like either


def test_real_labels_lie_on_the_same_skin_in_both_pictures(real):
    """What lies around a joint in the left picture lies around it in the right one, to a few pixels."""
    pair = [(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), project(frame)) for frame in (real.frame(0), real.frame(1))]
    (left, at), (right, there) = pair
    assert (at - there)[:, 0].min() > 140  # pixels: a wrong sign or baseline would show
    shifts = []
    for (u, v), (x, y) in zip(at, there, strict=True):
        patch = cv2.getRectSubPix(left, (41, 41), (float(u), float(v)))
        strip = cv2.getRectSubPix(right, (41 + 60, 41), (float(x), float(y)))
        shifts.append(cv2.matchTemplate(strip, patch, cv2.TM_CCOEFF_NORMED).argmax() - 30)
    assert np.median(np.abs(shifts)) <= 3


def write_labels(folder, points):
    scipy.io.savemat(folder / "labels/B1Random_BB.mat", {"handPara": points})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: write_labels(folder, np.zeros((21, 3, 2))),
            r"'handPara' of shape \(3, 21, any\), got .*21, 3, 2",
        ),
        (lambda folder: write_labels(folder, np.zeros((3, 21, 0))), "expected labelled frames, got none"),
        (
            lambda folder: (folder / "labels/B1Random_BB.mat").write_bytes(b"MATLAB 5.0"),
            "damaged, truncated or no MATLAB",
        ),
        (lambda folder: (folder / "labels/B1Random_BB.mat").write_bytes(b""), "the label file is empty"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_when_opened(generated, tmp_path, damage, message):
    shutil.copytree(generated / "labels", tmp_path / "labels")
    damage(tmp_path)
    with pytest.raises(BadFrame, match=r"B1Random_BB\.mat.*" + message):
        STB(tmp_path).frames("test")


def test_bad_records_lost_labels_and_wrong_options_are_named(generated, tmp_path):
    shutil.copytree(generated / "labels", tmp_path / "labels")
    labels = scipy.io.loadmat(tmp_path / "labels/B1Random_BB.mat")["handPara"]
    labels[1, 3, 1] = np.nan
    write_labels(tmp_path, labels)
    frames = STB(tmp_path, ["BB_left"]).frames("test")
    frames.labels(2)
    with pytest.raises(BadFrame, match=r"B1Random_BB\.mat, record slice 1: handPara: .*rows \[3\]"):
        frames.labels(3)
    with pytest.raises(BadFrame, match=r"BB_left_0\.png"):
        frames.frame(0)
    write_labels(tmp_path, labels[..., :1])
    with pytest.raises(BadFrame, match="BB and SK labels of unequal length"):
        STB(tmp_path, ["BB_left", "SK_color"]).frames("test")
    with pytest.raises(FileNotFoundError, match=r"B2Counting_BB\.mat: no such label file"):
        STB(tmp_path).frames("train")
    with pytest.raises(ValueError, match="sequences: expected some of B2Counting"):
        STB(tmp_path, sequences=["B1Random"]).frames("val")
    with pytest.raises(ValueError, match="open SK_depth as a source of its own"):
        STB(tmp_path, ["BB_left", "SK_depth"])
    with pytest.raises(ValueError, match="wrist_rule: expected one of 'ring'"):
        STB(tmp_path, wrist_rule="thumb")
    with pytest.raises(ValueError, match="cameras: expected at least one"):
        STB(tmp_path, [])
