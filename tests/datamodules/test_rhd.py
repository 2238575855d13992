"""RHD: order, side, depth, mask and camera from files in its layout; three real pictures; files that lie."""

import json
import pickle
import shutil

import cv2
import numpy as np
import pytest

from benchmarks.generated.rhd import write_rhd
from datamodules.frames import BadFrame
from datamodules.rhd import RHD, TO_CANONICAL
from ops.joints import CANONICAL_JOINTS
from ops.safe_pickle import RefusedPickle
from tests.datamodules.readers import check_frames, millimetres, piece, project, sides

NAMES = ("wrist",) + tuple(
    f"{finger}_{part}"
    for finger in ("thumb", "index", "middle", "ring", "little")
    for part in (("tip", "ip", "mcp", "cmc") if finger == "thumb" else ("tip", "dip", "pip", "mcp"))
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rhd")
    write_rhd(folder, train=6, test=2)
    return folder


@pytest.fixture
def damaged(generated, tmp_path):
    shutil.copytree(generated / "evaluation", tmp_path / "evaluation")
    return tmp_path


def annotation(folder):
    return pickle.loads((folder / "evaluation/anno_evaluation.pickle").read_bytes())


def annotate(folder, contents):
    (folder / "evaluation/anno_evaluation.pickle").write_bytes(pickle.dumps(contents, 2))


def test_the_order_is_that_of_the_names():
    assert tuple(NAMES[i] for i in TO_CANONICAL) == CANONICAL_JOINTS


def test_generated_records_fit_their_pictures(generated):
    for split, count in (("train", 5), ("val", 1), ("test", 2)):
        frames = RHD(generated).frames(split)
        read = check_frames(frames)
        assert len(read) == count and [frame.side for frame in read] == [int(f.key[-1]) % 2 for f in read]
        assert (sides(read) == [frame.side for frame in read]).all()
        for frame in read:
            np.testing.assert_allclose(frame.palm, (frame.joints_3d[0] + frame.joints_3d[9]) / 2)
            np.testing.assert_array_equal(frame.points[list(TO_CANONICAL)], frame.joints_3d)
            assert frame.joint_visible.all()
            # what is farther than the hand is not the hand: nothing else is drawn
            np.testing.assert_array_equal(frame.mask, frame.depth > 0)
    assert RHD(generated).frames("test").expected == 2728
    assert RHD(generated).frames("train").expected + RHD(generated).frames("val").expected == 41258


def test_the_side_follows_the_mask_and_else_the_visible_joints(damaged):
    contents = annotation(damaged)
    contents[0]["uv_vis"][:21, 2] = 0  # record 0 is a left hand whose joints are all said to be hidden
    contents[0]["uv_vis"][21:, 2] = 1
    annotate(damaged, contents)
    assert RHD(damaged).frames("test").labels(0).side == 0
    visible = RHD(damaged, side_rule="visible").frames("test").labels(0)
    assert visible.side == 1
    np.testing.assert_array_equal(visible.points, contents[0]["xyz"][21:])
    cv2.imwrite(str(damaged / "evaluation/mask/00000.png"), np.ones((320, 320), np.uint8))  # a person without hands
    assert RHD(damaged).frames("test").labels(0).side == 1
    assert not RHD(damaged).frames("test").frame(0).mask.any()


def test_depth_is_red_times_256_plus_green(damaged):
    packed = np.zeros((320, 320, 3), np.uint8)
    packed[0, 0] = (99, 200, 51)  # blue, green, red
    packed[0, 1] = (0, 255, 255)
    cv2.imwrite(str(damaged / "evaluation/depth/00000.png"), packed)
    depth = RHD(damaged).frames("test").frame(0).depth
    assert depth[0, 0] == pytest.approx((51 * 256 + 200) / 65535 * 5.0)
    assert depth[0, 1] == depth[0, 2] == 0


def test_real_labels_project_onto_their_pixels(tmp_path):
    """Three records, written as the dataset writes them: the source has them in its own order, in millimetres."""
    source = piece("rhd")
    content = json.loads((source / "test_rhd.json").read_text())
    (tmp_path / "evaluation/color").mkdir(parents=True)
    anno, stated = {}, {}
    for image, label in zip(content["images"], content["annotations"], strict=True):
        record = image["id"]
        shutil.copy(source / image["file_name"], tmp_path / f"evaluation/color/{record:05d}.png")
        K = np.eye(3, dtype=np.float32)
        K[[0, 1], [0, 1]], K[:2, 2] = image["cam_param"]["focal"], image["cam_param"]["princpt"]
        xyz, uv_vis = np.zeros((42, 3), np.float32), np.zeros((42, 3), np.float32)
        stated[record] = int(label["hand_type"] == "right")
        rows = slice(21 * stated[record], 21 * stated[record] + 21)
        xyz[rows] = np.array(label["joint_cam"]) / 1000
        uv_vis[rows] = label["keypoints"]
        anno[record] = {"xyz": xyz, "uv_vis": (uv_vis), "K": K}
    annotate(tmp_path, anno)
    frames = RHD(tmp_path, side_rule="visible").frames("test")
    read = [frames.labels(index) for index in range(3)]
    for frame in read:
        assert frame.side == stated[int(frame.key[-5:])]
        np.testing.assert_allclose(project(frame), frame.joints_2d, atol=0.6)  # labels are rounded to 0.1 mm
        # an index finger's last bone is shorter than its first, and the middle knuckle is a palm's length away
        assert millimetres(frame, 7, 8) < millimetres(frame, 6, 5) < millimetres(frame, 0, 9)
        assert 80 < millimetres(frame, 0, 9) < 100 and 33 < millimetres(frame, 9, 10) < 38
    assert (sides(read) == [frame.side for frame in read]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.clear(), "expected a dict of records, got {}"),
        (lambda c: c[1].pop("K"), r"record 1, 'K': expected numbers of shape \(3, 3\), got nothing"),
        (lambda c: c[1].update(xyz=np.zeros((21, 3))), r"record 1, 'xyz': .*got shape \(21, 3\)"),
        (lambda c: c[1].update(uv_vis=np.zeros((42, 3), "S4")), "record 1, 'uv_vis': .*no numbers"),
        (lambda c: c.update(a={}), "expected picture numbers with a dict each, got 'a'"),
        (lambda c: c.update({1: [1]}), "expected picture numbers with a dict each, got 1: list"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused_when_opened(damaged, change, message):
    contents = annotation(damaged)
    change(contents)
    annotate(damaged, contents)
    with pytest.raises(BadFrame, match=r"anno_evaluation\.pickle.*" + message):
        RHD(damaged).frames("test")


@pytest.mark.parametrize(
    ("key", "row", "value", "message"),
    [
        ("xyz", (22, 1), np.nan, r"record 1: xyz: expected finite numbers, got NaN or infinity in rows \[22\]"),
        ("uv_vis", (0, 0), np.inf, "record 1: uv_vis: expected finite"),
        ("uv_vis", (0, 2), 0.5, "record 1: uv_vis: expected visibilities 0 or 1"),
        ("K", (0, 0), 0.0, "record 1: camera: expected positive focal lengths"),
    ],
)
def test_a_bad_record_is_refused_alone(damaged, key, row, value, message):
    contents = annotation(damaged)
    contents[1][key][row] = value
    annotate(damaged, contents)
    frames = RHD(damaged).frames("test")
    frames.frame(0)
    with pytest.raises(BadFrame, match=message):
        frames.frame(1)


def test_a_mask_of_other_classes_and_a_lost_picture_are_named(damaged):
    frames = RHD(damaged).frames("test")
    cv2.imwrite(str(damaged / "evaluation/mask/00001.png"), np.full((320, 320), 255, np.uint8))
    with pytest.raises(BadFrame, match=r"00001\.png: expected classes 0 to 33, got 255"):
        frames.frame(1)
    (damaged / "evaluation/color/00000.png").unlink()
    with pytest.raises(BadFrame, match=r"color/00000\.png"):
        frames.frame(0)


def test_a_pickle_that_runs_code_is_refused(damaged):
    (damaged / "evaluation/anno_evaluation.pickle").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(RefusedPickle, match=r"anno_evaluation\.pickle: refused.*'os\.system'"):
        RHD(damaged).frames("test")
    with pytest.raises(FileNotFoundError, match=r"anno_training\.pickle: no such label file"):
        RHD(damaged).frames("train")
    with pytest.raises(FileNotFoundError, match="expected training or evaluation in it, found "):
        RHD(damaged / "evaluation")
