"""MSRA15: box, axes, order and people from files in its layout; real labels of its layout; files that lie."""

import shutil
import struct

import numpy as np
import pytest

from benchmarks.generated.msra15 import write_msra15
from datamodules.frames import BadFrame, held_out
from datamodules.msra15 import FAULTY, FRAMES, GESTURES, MSRA15, PEOPLE
from tests.datamodules.readers import check_frames, piece, sides


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("msra15")
    write_msra15(folder, train=8, test=4)
    return folder


def write_person(folder, person, counts=1):
    """joint.txt of all gestures of a person, a metre before the camera."""
    for gesture in GESTURES:
        place = folder / person / gesture
        place.mkdir(parents=True)
        (place / "joint.txt").write_text(f"{counts}\n" + ("0 0 -1000 " * 21 + "\n") * counts)


def test_the_box_stands_in_the_picture_and_y_and_z_are_turned(tmp_path):
    write_person(tmp_path, "P0")
    numbers = np.tile((0.0, 0.0, -400.0), (21, 1))
    numbers[1] = (12, 34, -500)  # base of the index finger
    (tmp_path / "P0/1/joint.txt").write_text("1\n" + " ".join(map(str, numbers.ravel())) + "\n")
    header = struct.pack("<6i", 320, 240, 10, 20, 12, 21)  # columns 10 and 11 of row 20
    (tmp_path / "P0/1/000000_depth.bin").write_bytes(header + struct.pack("<2f", 0, 450.5))
    frame = MSRA15(tmp_path).frames("test").frame(0)
    assert np.argwhere(frame.depth).tolist() == [[20, 11]] and frame.depth[20, 11] == np.float32(0.4505)
    np.testing.assert_allclose(frame.joints_3d[5], (0.012, -0.034, 0.5), atol=1e-7)
    np.testing.assert_allclose(frame.joints_3d[0], (0, 0, 0.4), atol=1e-7)
    np.testing.assert_array_equal(frame.points[1], frame.joints_3d[5])
    assert frame.key == "msra15/test/P0/1/000000" and frame.side == 1


def test_generated_records_fit_their_pictures(generated):
    frames = MSRA15(generated).frames("test")
    read = check_frames(frames)
    assert len(read) == 17 and frames.expected == 8499 and frames.convention == "msra"
    assert (sides(read) == 1).mean() > 0.9 and {frame.side for frame in read} == {1}
    assert read[0].cube_side == 0.2


def test_one_person_is_left_out_and_the_rest_are_trained_on(generated):
    dataset = MSRA15(generated, test_subject=7)
    train, val, test = (dataset.frames(split) for split in ("train", "val", "test"))
    people = [{frames.labels(i).key.split("/")[2] for i in range(len(frames))} for frames in (train, val, test)]
    assert people[2] == {"P7"} and people[0] == set(PEOPLE) - {"P7"} and people[1] == {"P8"}
    assert len(train) + len(val) + len(test) == 9 * 17 and test.labels(0).cube_side == 0.16
    published = sum(FRAMES.values()) - FRAMES["P7"] - sum(map(len, FAULTY.values()))
    assert sum(FRAMES.values()) == 76375 and train.expected == len(held_out(published, "train"))
    assert train.expected + val.expected == published


def test_faulty_frames_are_not_trained_on_but_tested_on(tmp_path):
    for person in PEOPLE:
        write_person(tmp_path, person, 169 if person == "P8" else 1)
    listed = [f"P8/4/{number:06d}" for number in FAULTY["P8", "4"]]

    def keys(split, **options):
        frames = MSRA15(tmp_path, **options).frames(split)
        return {frames.labels(i).key.split("/", 2)[2] for i in range(len(frames))}

    assert listed == ["P8/4/000168"]
    assert set(listed) & keys("train") == set() and "P8/4/000167" in keys("train")
    assert set(listed) <= keys("train", skip_faulty=False)
    assert set(listed) <= keys("test", test_subject=8)


def test_real_labels_of_this_layout_are_right_hands_inside_the_picture(tmp_path):
    """The 400 frames of MSRA14, whose label files are alike."""
    write_person(tmp_path, "P0")
    shutil.copy(piece("msra") / "joint.txt", tmp_path / "P0/1/joint.txt")
    frames = MSRA15(tmp_path).frames("test")
    read = [frames.labels(i) for i in range(400)]
    assert len(frames) == 400 + 16
    joints = np.stack([frame.joints_3d for frame in read])
    rays = joints @ read[0].K.T
    pixels = rays[..., :2] / rays[..., 2:]
    assert np.floor(pixels.min((0, 1))).tolist() == [28, 38] and np.floor(pixels.max((0, 1))).tolist() == [219, 175]
    assert (sides(read[::20]) == 1).mean() > 0.9


HEADER = struct.pack("<6i", 320, 240, 10, 20, 12, 21)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (HEADER[:20], "expected width 320, height 240 and a box inside them"),
        (HEADER + bytes(4), "expected 32 bytes for its box of 2 x 1, got 28"),
        (HEADER + bytes(12), "expected 32 bytes"),
        (HEADER + bytes(8), "none at all"),
        (HEADER + struct.pack("<2f", 400, np.nan), "NaN"),
        (HEADER + struct.pack("<2f", 400, -1), "negative"),
        (struct.pack("<6i", 320, 240, 12, 20, 12, 21), "a box inside them, got .*12, 20, 12, 21"),
        (struct.pack("<6i", 320, 240, 0, 0, 321, 2), "a box inside them"),
        (struct.pack(">6i", 320, 240, 10, 20, 12, 21) + bytes(8), "expected width 320"),
    ],
)
def test_damaged_depth_is_refused(tmp_path, raw, message):
    write_person(tmp_path, "P0")
    frames = MSRA15(tmp_path).frames("test")
    with pytest.raises(BadFrame, match=r"P0/1/000000_depth\.bin: no such picture"):
        frames.frame(0)
    (tmp_path / "P0/1/000000_depth.bin").write_bytes(raw)
    with pytest.raises(BadFrame, match=r"P0/1/000000_depth\.bin: .*" + message):
        frames.frame(0)


ROW = "0 0 -1000 " * 21


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the label file is empty"),
        ("\n" + ROW, "expected the number of frames"),
        ("2\n" + ROW, "got '2' and 1"),
        ("1\n" + ROW + "5", "line 2: expected 63 numbers, got 64"),
        ("1\n" + ROW.replace("0", "left", 1), "expected numbers"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_when_opened(tmp_path, text, message):
    write_person(tmp_path, "P0")
    (tmp_path / "P0/5/joint.txt").write_text(text)
    with pytest.raises(BadFrame, match=r"P0/5/joint\.txt.*" + message):
        MSRA15(tmp_path).frames("test")


def test_bad_records_lost_people_and_options_are_named(tmp_path):
    write_person(tmp_path, "P0", 2)
    (tmp_path / "P0/1/joint.txt").write_text("2\n" + ROW + "\nnan" + ROW[1:] + "\n")
    (tmp_path / "P0/2/joint.txt").write_text("1\n" + ROW.replace("-", "", 1) + "\n")
    frames = MSRA15(tmp_path).frames("test")
    with pytest.raises(BadFrame, match=r"P0/1/joint\.txt, record 1: joints: .*rows \[0\]"):
        frames.labels(1)
    with pytest.raises(BadFrame, match=r"P0/2/joint\.txt, record 0: expected points before the camera"):
        frames.labels(2)
    with pytest.raises(FileNotFoundError, match=r"P1/1/joint\.txt: no such label file"):
        MSRA15(tmp_path).frames("train")
    with pytest.raises(ValueError, match="test_subject: expected one of 0, 1"):
        MSRA15(tmp_path, test_subject=9)
    with pytest.raises(FileNotFoundError, match="expected P0 or P1"):
        MSRA15(tmp_path / "P0")
