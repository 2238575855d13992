"""ICVL: pixels, side and points from files in its layout; its real test labels; files that lie."""

import lzma
import shutil

import numpy as np
import pytest
import torch

from benchmarks.generated.icvl import write_icvl
from datamodules.check.fit import fit_hands
from datamodules.frames import BadFrame
from datamodules.icvl import ICVL, K
from tests.datamodules.readers import check_frames, piece

LABELLED = [2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20]  # neither wrist nor knuckles


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("icvl")
    write_icvl(folder, train=8, test=4)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real label files of the test sequences, where the dataset has them."""
    source, folder = piece("icvl"), tmp_path_factory.mktemp("real")
    (folder / "Testing").mkdir()
    for name in ("test_seq_1.txt", "test_seq_2.txt"):
        (folder / "Testing" / name).write_bytes(lzma.decompress((source / f"{name}.xz").read_bytes()))
    return ICVL(folder).frames("test")


def write_lines(folder, *lines):
    (folder / "Training").mkdir(parents=True, exist_ok=True)
    (folder / "Training/labels.txt").write_text("\n".join(lines) + "\n")
    return ICVL(folder)


def line(name="201403121135/image_0000.png", points=None):
    points = np.full((16, 3), 100.0) if points is None else points
    return " ".join([name, *(f"{number}" for number in np.ravel(points))])


def sides(frames):
    joints = torch.from_numpy(np.stack([frame.joints_3d for frame in frames])).double()
    valid = torch.from_numpy(np.stack([frame.joint_valid for frame in frames]))
    return fit_hands(joints, valid).side.numpy()


def test_pixels_and_millimetres_become_metres_and_points_joints(tmp_path):
    points = np.tile((160.0, 120.0, 400.0), (16, 1))
    points[0] = (160 + 24.099, 120 - 2.4096, 500)  # a tenth and a hundredth of the focal lengths from the middle
    points[6] = (170, 121, 300)  # index tip
    frames = write_lines(tmp_path, line(), line("201403121135/image_0001.png", points)).frames("val")
    labels = frames.labels(0)
    np.testing.assert_allclose(labels.palm, (0.05, -0.005, 0.5), atol=1e-7)
    np.testing.assert_array_equal(labels.points[0], labels.palm)
    np.testing.assert_allclose(labels.joints_3d[8], (10 / K[0, 0] * 0.3, 1 / K[1, 1] * 0.3, 0.3), atol=1e-7)
    np.testing.assert_array_equal(labels.joints_2d[8], (170, 121))
    assert np.flatnonzero(labels.joint_valid).tolist() == LABELLED and labels.side == 0
    assert not labels.joints_3d[~labels.joint_valid].any()
    assert labels.key == "icvl/val/201403121135/image_0001"


def test_generated_records_fit_their_pictures(generated):
    frames = ICVL(generated).frames("test")
    read = check_frames(frames)
    assert [frame.key.split("/")[2] for frame in read] == ["test_seq_1"] * 2 + ["test_seq_2"] * 2
    assert frames.expected == 1596 and frames.convention == "icvl" and {frame.side for frame in read} == {0}
    assert all((frame.depth == 0).any() and frame.depth.max() < 1 for frame in read)  # 32001 is nothing


def test_turned_copies_can_be_left_out(generated):
    every = [ICVL(generated).frames(split) for split in ("train", "val")]
    assert [len(frames) for frames in every] == [7, 1] and sum(frames.expected for frames in every) == 331006
    kept = ICVL(generated, original_sequences_only=True).frames("train")
    assert {kept.labels(i).key.split("/")[2] for i in range(len(kept))} == {"201403121135", "201405151126"}
    assert kept.expected is None and len(kept) == 3
    check_frames(kept)


def test_real_labels_are_all_there_and_of_left_hands(real):
    assert len(real) == real.expected == 1596
    assert (real.labels(0).key, real.labels(702).key) == (
        "icvl/test/test_seq_1/image_0000",
        "icvl/test/test_seq_2/image_0000",
    )
    read = [real.labels(i) for i in range(0, 1596, 40)]
    assert (sides(read) == 0).mean() > 0.9
    z = np.stack([real.labels(i).points[:, 2] for i in range(1596)])
    np.testing.assert_allclose((z.min(), z.max()), (0.1897, 0.4528), atol=1e-4)
    bones = np.stack([np.linalg.norm(np.diff(real.labels(i).points[4:7], axis=0), axis=-1) for i in range(1596)])
    np.testing.assert_allclose(bones.mean(0) * 1000, (28.1, 18.1), atol=0.3)  # index, published order


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(), line(points=np.ones((15, 3)))], "line 2: expected 48 numbers, got 45"),
        ([line() + " 3"], "line 1: expected 48 numbers, got 49"),
        ([line().replace("100.0", "left", 1)], "line 1: expected a path and numbers"),
        ([line("/etc/passwd")], "line 1: expected a path below Depth"),
        ([line("../../image_0000.png")], "line 1: expected a path below Depth"),
        (["", ""], "no line with labels"),
    ],
)
def test_lines_that_cannot_be_used_are_refused_when_opened(tmp_path, lines, message):
    dataset = write_lines(tmp_path, *lines)
    with pytest.raises(BadFrame, match=r"Training/labels\.txt.*" + message):
        dataset.frames("train")


def test_bad_records_and_lost_files_are_named(generated, tmp_path):
    points = np.full((16, 3), 100.0)
    points[4, 1] = np.nan
    behind = np.full((16, 3), 100.0)
    behind[2, 2] = 0
    frames = write_lines(tmp_path, line(points=points), line(points=behind), line(), line()).frames("train")
    with pytest.raises(BadFrame, match=r"labels\.txt, record line 1: points: .*rows \[4\]"):
        frames.labels(0)
    with pytest.raises(BadFrame, match=r"labels\.txt, record line 2: expected points before the camera"):
        frames.labels(1)
    with pytest.raises(BadFrame, match=r"Depth/201403121135/image_0000\.png: no such picture"):
        frames.frame(2)
    with pytest.raises(FileNotFoundError, match=r"test_seq_1\.txt: no such label file"):
        ICVL(tmp_path).frames("test")
    shutil.copytree(generated / "Testing", tmp_path / "Testing")
    (tmp_path / "Testing/test_seq_2.txt").write_text("")
    with pytest.raises(BadFrame, match=r"test_seq_2\.txt: the label file is empty"):
        ICVL(tmp_path).frames("test")
    with pytest.raises(ValueError, match="split: expected one of"):
        ICVL(tmp_path).frames("Testing")
