"""Ge's real-world set: the crop's camera, in both layouts; 117 real pictures; files that lie."""

import shutil

import numpy as np
import pytest
import scipy.io

from benchmarks.generated.ge import write_ge
from datamodules.frames import BadFrame
from datamodules.ge import Ge
from tests.datamodules.readers import check_frames, millimetres, piece, project, sides


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ge")
    write_ge(folder, test=4)
    return folder


@pytest.fixture
def damaged(generated, tmp_path):
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    return tmp_path


def params(folder, **changes):
    contents = {k: v for k, v in scipy.io.loadmat(folder / "params.mat").items() if not k.startswith("_")}
    scipy.io.savemat(folder / "params.mat", contents | changes)


def test_generated_records_fit_their_pictures(generated):
    frames = Ge(generated).frames("test")
    read = check_frames(frames)
    assert len(read) == 4 and frames.expected == 583
    assert {frame.side for frame in read} == {0} and (sides(read) == 0).all()
    for frame in read:
        pixels = project(frame)
        assert pixels.min() > 10 and pixels.max() < 246 and np.ptp(pixels, axis=0).max() > 150  # the box fits the hand


def test_the_camera_follows_the_box(damaged):
    """By hand: a box of 512 at (100, 50) shows the original at half size, less the corner."""
    params(damaged, bbox=np.tile([100, 50, 512, 512], (4, 1)), cam_param=np.tile([900.0, 920, 640, 360], (4, 1)))
    K = Ge(damaged).frames("test").labels(2).K
    np.testing.assert_allclose(K, [[450, 0, 270], [0, 460, 155], [0, 0, 1]])


def test_the_subset_layout_says_the_same(generated, tmp_path):
    contents = scipy.io.loadmat(generated / "params.mat")
    np.savez(
        tmp_path / "annotations.npz",
        image=np.array([path.split("/")[1] for path in contents["image_path"]]),
        bbox_xywh=contents["bbox"],
        camera_fx_fy_cx_cy=contents["cam_param"],
        joints_cm=scipy.io.loadmat(generated / "pose_gt.mat")["pose_gt"],
    )
    shutil.copytree(generated / "images", tmp_path / "images")
    subset, published = Ge(tmp_path).frames("test"), Ge(generated).frames("test")
    assert subset.expected is None and len(subset) == len(published)
    for index in range(4):
        one, other = subset.frame(index), published.frame(index)
        assert one.key == other.key
        for field in ("K", "joints_3d", "rgb"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_real_labels_project_onto_left_hands_in_their_pictures():
    frames = Ge(piece("ge_rgb3d")).frames("test")
    assert len(frames) == 117
    read = [frames.labels(index) for index in range(117)]
    pixels = np.stack([project(frame) for frame in read])
    assert pixels.min() > 0 and pixels.max() < 255, "every joint lies in its crop"
    assert (sides(read) == 0).mean() > 0.95
    # centimetres became metres: a middle finger's first bone, and a palm
    assert 35 < np.median([millimetres(frame, 9, 10) for frame in read]) < 55
    assert 70 < np.median([millimetres(frame, 0, 9) for frame in read]) < 110
    assert frames.frame(5).rgb.shape == (256, 256, 3)


def test_what_cannot_be_used_is_refused_when_opened(damaged):
    params(damaged, bbox=np.zeros((3, 4)))
    with pytest.raises(
        BadFrame, match="expected as many joints as pictures, got 4 pictures, 3 boxes, 4 cameras, 4 sets"
    ):
        Ge(damaged).frames("test")
    params(damaged, image_path=np.array(["images/0.jpg", "../../secret.jpg", "a", "b"]), bbox=np.ones((4, 4)))
    with pytest.raises(BadFrame, match=r"expected pictures in .*, got '\.\./\.\./secret\.jpg'"):
        Ge(damaged).frames("test")
    scipy.io.savemat(damaged / "pose_gt.mat", {"pose_gt": np.zeros((4, 20, 3))})
    with pytest.raises(BadFrame, match=r"pose_gt\.mat: expected an array 'pose_gt' of shape \(any, 21, 3\)"):
        Ge(damaged).frames("test")
    (damaged / "pose_gt.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"pose_gt\.mat: no such label file"):
        Ge(damaged).frames("test")
    with pytest.raises(ValueError, match="split: Ge's real-world set is a test set, got 'train'"):
        Ge(damaged).frames("train")
    (damaged / "params.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected params\.mat or annotations\.npz in it"):
        Ge(damaged)
    (damaged / "annotations.npz").write_bytes(b"PK")
    with pytest.raises(BadFrame, match=r"annotations\.npz: expected an \.npz with image"):
        Ge(damaged).frames("test")


def test_a_bad_record_is_refused_alone(damaged):
    joints = scipy.io.loadmat(damaged / "pose_gt.mat")["pose_gt"]
    joints[1, 7, 2] = np.nan
    scipy.io.savemat(damaged / "pose_gt.mat", {"pose_gt": joints})
    boxes = scipy.io.loadmat(damaged / "params.mat")["bbox"]
    boxes[2, 2] += 9
    params(damaged, bbox=boxes)
    frames = Ge(damaged).frames("test")
    frames.frame(0)
    with pytest.raises(BadFrame, match=r"record images/00001\.jpg: joints: .* rows \[7\]"):
        frames.frame(1)
    with pytest.raises(BadFrame, match=r"images/00002\.jpg: bbox: expected a square"):
        frames.frame(2)
    params(damaged, cam_param=np.zeros((4, 4)))
    with pytest.raises(BadFrame, match="camera: expected positive focal lengths"):
        frames = Ge(damaged).frames("test")
        frames.frame(0)
    (damaged / "images/00000.jpg").write_bytes((damaged / "images/00000.jpg").read_bytes()[:-900])
    with pytest.raises(BadFrame, match=r"00000\.jpg"):
        Ge(damaged).frames("test").frame(0)
