"""A user's files, folders and videos as pictures with a hand, or errors that name them."""

import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datamodules.batch import LEFT, RIGHT
from datamodules.hand_finder import check_hand_sized, find_hand
from datamodules.sights import Asked, Input, count_inputs, each_input, list_inputs, names_of, read_sight
from ops.camera import camera_preset

K, _ = camera_preset("nyu")


def depth_with(centre_metres: float, wall: float = 1.9) -> np.ndarray:
    """A blob as large as a hand at a distance, before a wall."""
    depth = np.full((480, 640), wall)
    high, wide = (round(588 * size / centre_metres) for size in (0.16, 0.09))
    depth[240 - high // 2 : 240 + high // 2, 320 - wide // 2 : 320 + wide // 2] = centre_metres
    return depth


def video(path: Path, frames: int = 6) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), min(30 * i, 255), np.uint8))
    writer.release()
    return path


def test_folders_give_their_pictures_and_videos_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.npy", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    video(tmp_path / "d.avi")
    assert [path.name for path in list_inputs([tmp_path, tmp_path / "b.png"])] == [
        "a.JPG", "b.png", "c.npy", "d.avi", "b.png",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture or video in this folder"):
        list_inputs([tmp_path / "empty"])


def test_results_of_equal_names_are_told_apart():
    paths = [Path("one/hand.png"), Path("two/hand.png"), Path("one/hand.jpg"), Path("other.png")]
    assert names_of(paths) == ["one_hand_png", "two_hand_png", "one_hand_jpg", "other"]
    with pytest.raises(ValueError, match="results of several would be named one_hand_png"):
        names_of([Path("a/one/hand.png"), Path("b/one/hand.png")])


def test_names_of_very_many_take_no_time():
    paths = [Path(f"hands/{i}.png") for i in range(50_000)]
    began = time.perf_counter()
    assert len(names_of(paths)) == 50_000
    assert time.perf_counter() - began < 5, "counted one by one it is minutes"


def test_a_file_that_is_not_there_is_no_depth_picture_yet(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"photo\.jpg: no such file; name a photograph, a depth frame, a video"):
        read_sight(Input(tmp_path / "photo.jpg", "photo"), Asked())


@pytest.mark.parametrize("bits_and_kind", [(16, 0), (8, 0), (8, 2)], ids=["depth", "grey", "colours"])
def test_a_picture_of_too_many_pixels_is_named(tmp_path, bits_and_kind):
    path = tmp_path / "huge.png"
    chunks = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 40_000, 40_000, *bits_and_kind, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(chunks)
    with pytest.raises(ValueError, match=r"huge\.png: cannot be decoded .*make it smaller"):
        read_sight(Input(path, "huge"), Asked(camera="nyu"))


@pytest.mark.parametrize("unit", [0.0, -1.0])
def test_a_unit_of_nothing_is_refused(tmp_path, unit):
    cv2.imwrite(str(tmp_path / "frame.png"), (1000 * depth_with(0.7)).round().astype(np.uint16))
    with pytest.raises(ValueError, match="unit: expected metres per stored step"):
        read_sight(Input(tmp_path / "frame.png", "frame"), Asked(camera="nyu", unit=unit))


def test_arrays_are_known_by_their_suffix_in_capitals_too(tmp_path):
    path = tmp_path / "frame.NPY"
    with open(path, "wb") as file:
        np.save(file, depth_with(0.7))
    sight = read_sight(Input(path, "frame"), Asked(camera="nyu"))
    assert sight.modality == "depth" and sight.centre[2] == pytest.approx(0.72, abs=0.01)


def test_videos_come_frame_by_frame_and_say_which(tmp_path):
    path = video(tmp_path / "clip.avi", 6)
    frames = list(each_input([path], every=2))
    assert [frame.name for frame in frames] == ["clip_000000", "clip_000002", "clip_000004"]
    assert [round(float(frame.rgb.mean()) / 30) for frame in frames] == [0, 2, 4]
    assert count_inputs([path, Path("x.png")], every=2) == 4
    sight = read_sight(frames[1], Asked())
    assert sight.modality == "rgb" and sight.crops([sight], RIGHT, 32)["key"] == [f"{path}#clip_000002"]


def test_damaged_videos_are_named_in_their_place(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    whole = video(tmp_path / "cut.avi", 6)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    picture = tmp_path / "p.png"
    given = list(each_input([tmp_path / "text.mp4", whole, picture, tmp_path / "gone.mov"]))
    assert "text.mp4: not a video that can be read" in str(given[0])
    assert isinstance(given[-1], FileNotFoundError) and given[-2].path == picture
    cut = [item for item in given if isinstance(item, Exception) and "cut.avi" in str(item)]
    assert len(cut) == 1


@pytest.mark.parametrize(("stored", "told"), [(0.000125, 0.001), (0.001 * 8, 0.001)])
def test_a_unit_wrong_by_eight_is_recognised_by_the_hand(tmp_path, stored, told):
    away = 0.9 if stored < told else 0.2
    cv2.imwrite(str(tmp_path / "frame.png"), (depth_with(away) / told).round().astype(np.uint16))
    (given,) = each_input([tmp_path / "frame.png"])
    with pytest.raises(ValueError, match=rf"no hand found with a unit of {stored:g} m.*--unit {told:g}"):
        read_sight(given, Asked(camera="nyu", unit=stored))
    assert read_sight(given, Asked(camera="nyu", unit=told)).centre[2] == pytest.approx(away + 0.02, abs=0.01)


def test_a_wall_and_a_crumb_are_no_hands():
    wall = np.full((480, 640), 0.8, np.float32)
    with pytest.raises(ValueError, match=r"no hand found: what is found shows 3\d\d cm\^2 within 10 cm, a hand 25 to"):
        check_hand_sized(wall, K, np.array([0, 0, 0.8]), 0.001)
    crumb = np.zeros((480, 640), np.float32)
    crumb[200:230, 300:340] = 0.8
    with pytest.raises(ValueError, match="no hand found"):
        check_hand_sized(crumb, K, find_hand(crumb, K), 0.001)
    hand = depth_with(0.8).astype(np.float32)
    check_hand_sized(hand, K, find_hand(hand, K), 0.001)


def test_crops_move_with_their_centre_and_come_mirrored_for_left_hands(tmp_path):
    cv2.imwrite(str(tmp_path / "frame.png"), (1000 * depth_with(0.7)).round().astype(np.uint16))
    (given,) = each_input([tmp_path / "frame.png"])
    sight = read_sight(given, Asked(camera="nyu"))
    right, left = (sight.crops([sight], side, 64) for side in (RIGHT, LEFT))
    assert torch.equal(left["depth"].flip(-1), right["depth"]) and left["mirrored"].tolist() == [True]
    moved = sight.crops([sight], RIGHT, 64, [sight.centre + np.array([0.02, 0, 0])])
    torch.testing.assert_close(moved["cube_centre"][0] - right["cube_centre"][0], torch.tensor([0.02, 0, 0]))
    whole, crop = sight.shown(right)
    assert whole.shape == (480, 640, 3) and crop.shape == (64, 64, 3)
