"""Dexter+Object: tips in two cameras, hidden ones, the axes of the files, both counts; files that lie."""

import shutil

import numpy as np
import pytest

from benchmarks.generated.dexter_object import write_dexter_object
from datamodules.dexter_object import HIDDEN, SEQUENCES, TIPS, DexterObject
from datamodules.frames import BadFrame
from ops.joints import CANONICAL_JOINTS
from tests.datamodules.readers import check_frames, project


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dexter")
    write_dexter_object(folder, test=8)
    return folder


@pytest.fixture
def damaged(generated, tmp_path):
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    return tmp_path


def annotation(folder, sequence="Grasp1", dimensions=3):
    return folder / f"data/{sequence}/annotations/{sequence}{dimensions}D.txt"


def lines_of_tips(count, z):
    return f"{';'.join(['1, 2, ' + str(z)] * 5)}\n" * count


@pytest.mark.parametrize("camera", ["color", "depth"])
def test_generated_records_fit_their_pictures(generated, camera):
    frames = DexterObject(generated, camera).frames("test")
    read = check_frames(frames)
    assert [frame.key.split("/")[2] for frame in read] == ["Grasp1"] * 2 + ["Grasp2"] * 2 + list(SEQUENCES[2:])
    assert [CANONICAL_JOINTS[tip] for tip in TIPS] == ["thumb_tip", "index_tip", "middle_tip", "ring_tip", "little_tip"]
    for frame in read:
        hidden = frame.key.endswith(f"00000_{camera}")  # the first line of a sequence hides the little finger
        assert frame.side == 0 and np.flatnonzero(frame.joint_valid).tolist() == list(TIPS[:4] if hidden else TIPS)
        assert not frame.joints_3d[~frame.joint_valid].any()
        assert 0.4 < frame.joints_3d[frame.joint_valid, 2].min() < 0.7
    assert frames.expected == 3014 and frames.note.startswith("8 labelled frames")


def test_the_cameras_see_one_hand(generated):
    color, depth = (DexterObject(generated, camera).frames("test").labels(1) for camera in ("color", "depth"))
    # the rotation is small: apart by nearly the shift between the cameras
    apart = (color.joints_3d - depth.joints_3d)[list(TIPS)]
    np.testing.assert_allclose(apart, np.tile([0.0190, -0.0019, -0.0048], (5, 1)), atol=0.012)


def test_wrong_signs_show_as_a_projection_error(generated):
    for signs, error in (((-1, -1, 1), (0, 0.01)), ((1, 1, 1), (2, 1000)), ((-1, 1, 1), (2, 1000))):
        frames = DexterObject(generated, "depth", signs=signs).frames("test")
        apart = [np.abs(project(f) - f.joints_2d)[f.joint_valid].mean() for f in map(frames.labels, range(len(frames)))]
        assert error[0] <= np.mean(apart) <= error[1]


@pytest.mark.parametrize("total", [3014, 3145])
def test_both_published_counts_are_accepted_and_said(tmp_path, total):
    counts = [total - 5 * 500, *[500] * 5]
    for sequence, count in zip(SEQUENCES, counts, strict=True):
        for folder in ("annotations", "color"):
            (tmp_path / "data" / sequence / folder).mkdir(parents=True)
        for i in range(count):
            (tmp_path / f"data/{sequence}/color/{i}.png").touch()
        annotation(tmp_path, sequence).write_text(lines_of_tips(count, 500))
        annotation(tmp_path, sequence, 2).write_text("1,2;1,2;1,2;1,2;1,2\n" * count)
    frames = DexterObject(tmp_path).frames("test")
    assert len(frames) == frames.expected == total and frames.note.startswith(f"{total} labelled frames")
    # by number, not by name
    assert [frames.files(i)[0].name for i in (0, 2, 10)] == ["0.png", "2.png", "10.png"]


def test_frames_that_show_no_tip_are_left_out_and_counted(damaged):
    annotation(damaged).write_text(lines_of_tips(1, HIDDEN) + lines_of_tips(1, 500))
    frames = DexterObject(damaged).frames("test")
    assert len(frames) == 7 and frames.expected == 3013
    assert frames.note == "8 labelled frames, 1 of them without a visible tip are left out"
    assert frames.files(0)[0].name == "image_00001_color.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1, 2, 3; 1, 2, 3\n" * 2, r"Grasp13D\.txt, line 1: expected five fields of 3 numbers"),
        (lines_of_tips(1, "x") * 2, r"Grasp13D\.txt, line 1: expected five fields of 3 numbers"),
        ("\n", r"Grasp13D\.txt: expected lines of labels, got none"),
        ("", r"Grasp13D\.txt: the label file is empty"),
        (
            lines_of_tips(1, 500),
            r"Grasp13D\.txt: expected as many lines as in Grasp12D\.txt and a picture for each, got 1, 2 and 2",
        ),
        (lines_of_tips(3, 500), "and a picture for each, got 3, 2 and 2"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused_when_opened(damaged, text, message):
    annotation(damaged).write_text(text)
    with pytest.raises(BadFrame, match=message):
        DexterObject(damaged).frames("test")


def test_bad_records_more_pictures_and_wrong_options_are_named(damaged):
    annotation(damaged).write_text(lines_of_tips(1, "nan") + lines_of_tips(1, 500))
    frames = DexterObject(damaged).frames("test")
    frames.frame(1)
    with pytest.raises(
        BadFrame, match=r"Grasp13D\.txt, record .*image_00000_color\.png: tips: expected finite numbers"
    ):
        frames.frame(0)
    shutil.copy(damaged / "data/Pinch/depth/image_00000_depth.png", damaged / "data/Grasp1/color/image_00001_color.png")
    with pytest.raises(BadFrame, match=r"image_00001_color\.png: expected 8-bit colour, got 16 bits"):
        frames.frame(1)
    shutil.copy(damaged / "data/Pinch/color/image_00000_color.png", damaged / "data/Grasp1/color/image_00002_color.png")
    with pytest.warns(UserWarning, match="3 pictures, of which the first 2 are labelled"):
        DexterObject(damaged).frames("test")
    (damaged / "data/Grasp1/color/image_00002_color.png").unlink()
    shutil.rmtree(damaged / "data/Rigid/color")
    with pytest.raises(FileNotFoundError, match="Rigid/color: no such folder of pictures"):
        DexterObject(damaged).frames("test")
    with pytest.raises(ValueError, match=r"Dexter\+Object is a test set, got 'val'"):
        DexterObject(damaged).frames("val")
    with pytest.raises(ValueError, match=r"signs: expected three of -1 and 1, got \(1, 1, 0\)"):
        DexterObject(damaged, signs=(1, 1, 0))
    with pytest.raises(ValueError, match="camera: expected one of 'color', 'depth'"):
        DexterObject(damaged, camera="infrared")
