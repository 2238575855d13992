"""HO-3D: OpenGL's axes, MANO's order, both versions, records whose labels are pickles; files that lie."""

import pickle
import shutil

import cv2
import numpy as np
import pytest

from benchmarks.generated.ho3d import write_ho3d
from datamodules.frames import BadFrame
from datamodules.ho3d import HO3D, TO_CANONICAL
from ops.joints import CANONICAL_JOINTS, FINGERS, MODEL_JOINTS
from ops.safe_pickle import RefusedPickle
from tests.datamodules.readers import check_frames, sides
from tests.ops.python2_pickle import write


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ho3d")
    write_ho3d(folder, train=3, test=2)
    return folder


@pytest.fixture
def damaged(generated, tmp_path):
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    return tmp_path


def meta_file(folder, part="train", record="ABF10/meta/0000.pkl"):
    return folder / part / record


def test_the_order_is_that_of_the_names():
    names = MODEL_JOINTS + tuple(f"{finger}_tip" for finger in FINGERS)
    assert tuple(names[i] for i in TO_CANONICAL) == CANONICAL_JOINTS


def test_generated_records_fit_their_pictures(generated):
    for split, count in (("train", 2), ("val", 1)):
        read = check_frames(HO3D(generated).frames(split))
        assert len(read) == count and all(frame.joint_valid.all() for frame in read)
        assert {frame.side for frame in read} == {1} and (sides(read) == 1).all()
    test = check_frames(HO3D(generated).frames("test"))
    for frame in test:
        assert frame.joint_valid.tolist() == [True] + [False] * 20
        assert frame.joints_3d[0].any() and not frame.joints_3d[1:].any() and frame.points.shape == (1, 3)


def test_axes_turn_from_opengl_to_opencv(generated):
    frame = HO3D(generated).frames("train").labels(0)
    labels = pickle.loads(meta_file(generated).read_bytes())["handJoints3D"]
    np.testing.assert_allclose(frame.joints_3d[0], labels[0] * [1, -1, -1], rtol=1e-6)
    assert labels[0, 2] < 0 < frame.joints_3d[0, 2]


def test_depth_is_red_plus_256_times_green(damaged):
    packed = np.zeros((480, 640, 3), np.uint8)
    packed[0, 0] = (99, 10, 200)  # blue, green, red
    cv2.imwrite(str(damaged / "train/ABF10/depth/0000.png"), packed)
    depth = HO3D(damaged).frames("train").frame(0).depth
    assert depth[0, 0] == pytest.approx((200 + 2560) * 0.00012498664727900177) and depth[0, 1] == 0


def test_versions_differ_by_their_colour_files_and_counts(generated, tmp_path):
    write_ho3d(tmp_path, train=2, test=1, version="v2")
    for folder, suffix, counts in ((generated, ".jpg", (83325, 20137)), (tmp_path, ".png", (66034, 11524))):
        frames = {split: HO3D(folder).frames(split) for split in ("train", "val", "test")}
        assert {split[0].files(0)[0].suffix for split in [[f] for f in frames.values()]} == {suffix}
        assert (frames["train"].expected + frames["val"].expected, frames["test"].expected) == counts
    with pytest.raises(BadFrame, match=r"0000\.jpg: no such picture"):
        HO3D(tmp_path, version="v3").frames("train").frame(0)
    (tmp_path / "train/ABF10/rgb/0000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected one picture, \.png .* found 0; unpack the pictures"):
        HO3D(tmp_path).frames("train")


def test_the_evaluation_keeps_its_files_order_and_training_is_sorted(damaged):
    for part, sequence, count in (("evaluation", "SM1", 2), ("train", "ABF10", 3)):
        (damaged / f"{part}.txt").write_text("".join(f"{sequence}/{i:04d}\n" for i in reversed(range(count))))
    assert [HO3D(damaged).frames("test").labels(i).key[-4:] for i in range(2)] == ["0001", "0000"]
    assert [HO3D(damaged).frames("train").labels(i).key[-4:] for i in range(2)] == ["0000", "0001"]


def test_records_written_by_python_2_are_read(damaged):
    labels = pickle.loads(meta_file(damaged).read_bytes())
    write(meta_file(damaged), labels)
    frame = HO3D(damaged).frames("train").labels(0)
    np.testing.assert_allclose(frame.points * [1, -1, -1], labels["handJoints3D"], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"handJoints3D": None}, r"handJoints3D: expected numbers of shape \(21, 3\), got nothing"),
        ({"handJoints3D": np.zeros(3)}, r"handJoints3D: expected numbers of shape \(21, 3\), got shape \(3,\)"),
        ({"handJoints3D": np.full((21, 3), np.nan)}, "handJoints3D: joints: expected finite numbers"),
        ({"camMat": None}, r"camMat: expected numbers of shape \(3, 3\), got nothing"),
        ({"camMat": np.zeros((3, 3))}, "camera: expected positive focal lengths"),
    ],
)
def test_a_bad_record_is_refused_alone(damaged, changes, message):
    frames = HO3D(damaged).frames("train")
    labels = pickle.loads(meta_file(damaged).read_bytes())
    meta_file(damaged).write_bytes(pickle.dumps(labels | changes))
    frames.frame(1)
    with pytest.raises(BadFrame, match=r"meta/0000\.pkl.*" + message):
        frames.frame(0)


def test_labels_that_are_no_labels_are_refused(damaged):
    frames, file = HO3D(damaged).frames("train"), meta_file(damaged)
    for data, error, message in (
        (b"cos\nsystem\n(S'touch canary'\ntR.", RefusedPickle, r"0000\.pkl: refused.*'os\.system'"),
        (file.read_bytes()[:-50], BadFrame, r"0000\.pkl: damaged, truncated or no pickle"),
        (pickle.dumps([1, 2]), BadFrame, r"0000\.pkl: expected a dict of labels, got a list"),
        (b"", BadFrame, r"0000\.pkl: the label file is empty"),
        (pickle.dumps(b"x" * (1 << 20)), BadFrame, r"0000\.pkl: expected at most 1048576 bytes"),
    ):
        file.write_bytes(data)
        with pytest.raises(error, match=message):
            frames.frame(0)
    file.unlink()
    with pytest.raises(BadFrame, match=r"0000\.pkl: no such label file"):
        frames.frame(0)


def test_lists_that_cannot_be_used_are_refused_when_opened(damaged):
    for text, message in (
        ("\n", "expected lines 'sequence/frame', got none"),
        ("ABF10/0000\n../../etc/passwd\n", r"line 2: expected 'sequence/frame', got '\.\./\.\./etc/passwd'"),
        ("\xff\xfe", "line 1: expected 'sequence/frame'"),
    ):
        (damaged / "train.txt").write_text(text, encoding="latin1")
        with pytest.raises(BadFrame, match=r"train\.txt.*" + message):
            HO3D(damaged).frames("train")
    (damaged / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt: no such label file"):
        HO3D(damaged).frames("train")
    with pytest.raises(ValueError, match="version: expected one of 'v2', 'v3', None"):
        HO3D(damaged, version="v4")
