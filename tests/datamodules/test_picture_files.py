"""Strict decoding: channels and bytes by hand, and every kind of damage refused by the file's name."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from datamodules.frames import BadFrame
from datamodules.picture_files import read_depth16, read_grey, read_packed_depth, read_rgb

SIZE = (6, 8)


def saved(path, picture):
    assert cv2.imwrite(str(path), picture)
    return path


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(1, np.iinfo(dtype).max, shape).astype(dtype)


def test_red_comes_first(tmp_path):
    bgr = np.zeros((*SIZE, 3), np.uint8)
    bgr[2, 3] = (1, 2, 3)
    rgb = read_rgb(saved(tmp_path / "a.png", bgr), SIZE)
    assert rgb[2, 3].tolist() == [3, 2, 1] and rgb.sum() == 6


def test_depth_is_unpacked_from_the_bytes_of_two_channels(tmp_path):
    bgr = np.zeros((*SIZE, 3), np.uint8)
    bgr[1, 2] = (0xD1, 0x07, 0)  # NYU: green is the high byte, blue the low one
    assert read_packed_depth(saved(tmp_path / "nyu.png", bgr), SIZE, low=2, high=1)[1, 2] == 0x07D1 == 2001
    bgr[1, 2] = (0, 0x01, 0x2C)  # STB and HO-3D: red is the low byte, green the high one
    assert read_packed_depth(saved(tmp_path / "stb.png", bgr), SIZE, low=0, high=1)[1, 2] == 300


def test_depth_of_16_bits_and_labels_of_8_come_as_they_are(tmp_path):
    depth, labels = noise(SIZE, np.uint16), noise(SIZE)
    np.testing.assert_array_equal(read_depth16(saved(tmp_path / "d.png", depth), SIZE), depth)
    np.testing.assert_array_equal(read_grey(saved(tmp_path / "l.png", labels), SIZE), labels)
    np.testing.assert_array_equal(read_grey(saved(tmp_path / "c.png", np.stack([labels] * 3, -1)), SIZE), labels)


def test_depth_that_says_nothing_becomes_0_and_must_not_be_all(tmp_path):
    depth = np.full(SIZE, 32001, np.uint16)
    depth[0, :3] = (0, 29999, 30000)
    read = read_depth16(saved(tmp_path / "a.png", depth), SIZE, nothing_from=30000)
    assert read[0, 1] == 29999 and np.count_nonzero(read) == 1
    depth[0, 1] = 0
    with pytest.raises(BadFrame, match=r"a\.png: no depth at all"):
        read_depth16(saved(tmp_path / "a.png", depth), SIZE, nothing_from=30000)
    with pytest.raises(BadFrame, match=r"b\.png: no depth at all"):
        read_packed_depth(saved(tmp_path / "b.png", np.full((*SIZE, 3), (9, 0, 0), np.uint8)), SIZE, low=0, high=1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_every_cut_is_found(tmp_path, name):
    path = saved(tmp_path / name, noise((*SIZE, 3)))
    raw = path.read_bytes()
    for end in range(len(raw) - 2):
        path.write_bytes(raw[:end])
        with pytest.raises(BadFrame, match=rf"{name}: .*(truncated|empty|neither PNG nor JPEG)"):
            read_rgb(path, SIZE)


def test_what_a_phone_appends_to_a_photograph_is_let_be_and_a_cut_one_still_found(tmp_path):
    path = saved(tmp_path / "a.jpg", noise((*SIZE, 3)))
    plain, raw = read_rgb(path, SIZE), path.read_bytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(raw)) + raw  # with an end mark of its own
    raw = raw[:2] + thumbnail + raw[2:]
    path.write_bytes(raw + bytes(10_000))  # a short video
    np.testing.assert_array_equal(read_rgb(path, SIZE), plain)
    for end in range(len(thumbnail) + 70, len(raw) - 2):
        path.write_bytes(raw[:end])
        with pytest.raises(BadFrame, match=r"a\.jpg: the JPEG is truncated"):
            read_rgb(path, SIZE)


def test_every_spoilt_byte_of_a_png_is_found(tmp_path):
    path = saved(tmp_path / "a.png", noise((*SIZE, 3)))
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
        with pytest.raises(BadFrame, match=r"a\.png: "):
            read_rgb(path, SIZE)


def test_a_png_that_claims_to_be_huge_is_refused(tmp_path):
    raw = saved(tmp_path / "a.png", noise((*SIZE, 3))).read_bytes()
    header = struct.pack(">II", 1 << 20, 1 << 20) + raw[24:29]
    header = b"IHDR" + header
    path = tmp_path / "huge.png"
    path.write_bytes(raw[:12] + header + struct.pack(">I", zlib.crc32(header)) + raw[33:])
    with pytest.raises(BadFrame, match=r"huge\.png: cannot be decoded"):
        read_rgb(path, SIZE)


@pytest.mark.parametrize(
    ("reader", "picture", "message"),
    [
        (read_depth16, noise(SIZE), "expected 16-bit grey, got 8 bits in 1 channels"),
        (read_depth16, noise((*SIZE, 3)), "expected 16-bit grey, got 8 bits in 3 channels"),
        (read_rgb, noise(SIZE), "expected 8-bit colour, got 8 bits in 1 channels"),
        (read_rgb, noise((*SIZE, 4)), "got 8 bits in 4 channels"),
        (read_rgb, noise((*SIZE, 3), np.uint16), "got 16 bits in 3 channels"),
        (read_grey, noise((*SIZE, 3)), "expected 8-bit grey, got 8 bits in 3 channels"),
        (read_grey, noise((8, 6)), "expected 8 x 6 pixels, got 6 x 8; use the pictures in their published size"),
        (lambda p, s: read_packed_depth(p, s, 0, 1), noise(SIZE, np.uint16), "packed into 8-bit colour, got 16 bits"),
    ],
)
def test_pictures_of_another_kind_are_refused(tmp_path, reader, picture, message):
    path = saved(tmp_path / "a.png", picture)
    with pytest.raises(BadFrame, match=rf"a\.png: .*{message}"):
        reader(path, SIZE)


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(BadFrame, match=r"b\.png: no such picture"):
        read_rgb(tmp_path / "b.png", SIZE)
    (tmp_path / "b.png").write_bytes(b"hello")
    with pytest.raises(BadFrame, match=r"b\.png: neither PNG nor JPEG"):
        read_rgb(tmp_path / "b.png", SIZE)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(BadFrame, match=r"b\.png: the file is empty"):
        read_rgb(tmp_path / "b.png", SIZE)


def test_a_jpeg_that_bears_the_name_of_a_png_is_refused(tmp_path):
    picture = np.zeros((*SIZE, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
    with pytest.raises(BadFrame, match=r"a\.png: a JPEG under the name of a PNG"):
        read_packed_depth(tmp_path / "a.png", SIZE, 0, 1)
