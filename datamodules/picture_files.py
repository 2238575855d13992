"""Pictures, decoded strictly: right size and kind, whole and unspoilt, or an error that names the file.

OpenCV fills what a damaged file lacks with zeros or noise and says nothing, so files are looked over before: a PNG by
the checksums of its chunks (which find every damage), a JPEG by its end mark (which finds what is cut off).
"""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numba import njit

from datamodules.frames import BadFrame

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_TAIL = 64  # bytes that hold the end mark of nearly all JPEGs: some cameras append a few
_JPEG_SCAN = 0xDA  # kind of the part that is followed by pixels
Size = tuple[int, int]  # height, width


def read_rgb(path: Path, size: Size) -> np.ndarray:
    """A colour picture (H, W, 3) uint8, red first."""
    picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    _check(path, picture, size, np.uint8, 3, "8-bit colour")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_grey(path: Path, size: Size) -> np.ndarray:
    """A picture of labels or a mask (H, W) uint8."""
    picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    if picture.ndim == 3 and picture.shape[2] == 3 and (picture == picture[..., :1]).all():
        picture = picture[..., 0]  # grey, saved as colour
    _check(path, picture, size, np.uint8, 1, "8-bit grey")
    return np.ascontiguousarray(picture)


def read_depth16(path: Path, size: Size, nothing_from: int | None = None) -> np.ndarray:
    """A depth picture (H, W) uint16, in the dataset's own unit; 8 bits are refused, they hold too few steps.

    Args:
        path: of the picture.
        size: that it must have.
        nothing_from: numbers from this one on mean that nothing was seen, and become 0.
    """
    picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    _check(path, picture, size, np.uint16, 1, "16-bit grey")
    return _seen(path, picture, nothing_from)


def read_packed_depth(path: Path, size: Size, low: int, high: int, nothing_from: int | None = None) -> np.ndarray:
    """Depth (H, W) uint16 of a colour picture: low byte in channel `low`, high byte in `high`; red is channel 0."""
    picture = decode_picture(path, cv2.IMREAD_UNCHANGED)
    _check(path, picture, size, np.uint8, 3, "depth packed into 8-bit colour")
    shares = np.zeros(3, np.uint16)
    shares[2 - low], shares[2 - high] = 1, 256  # OpenCV: blue, green, red
    depth = np.empty(size, np.uint16)
    _unpack(picture.reshape(-1), *shares, depth.reshape(-1))
    return _seen(path, depth, nothing_from)


def read_whole(path: Path) -> bytes:
    """The bytes of a file that must be there and hold something."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadFrame(f"{path}: no such picture; unpack the dataset's pictures there, or allow bad samples") from None
    except OSError as error:
        raise BadFrame(f"{path}: cannot be read ({error.strerror}); copy it again") from error
    if not raw:
        raise BadFrame(f"{path}: the file is empty; copy it again")
    return raw


def decode_picture(path: Path, flags: int) -> np.ndarray:
    """The pixels of a whole PNG or JPEG, as OpenCV's `flags` say; blue comes first."""
    raw = read_whole(path)
    _check_bytes(path, raw)
    try:
        picture = cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    except cv2.error as error:  # sizes beyond OpenCV's limits
        raise BadFrame(f"{path}: cannot be decoded ({error.err}); copy it again, or make it smaller") from error
    if picture is None:
        raise BadFrame(f"{path}: cannot be decoded; copy it again")
    return picture


def _check_bytes(path: Path, raw: bytes) -> None:
    """Raise unless `raw` is a whole PNG or JPEG."""
    if raw.startswith(_PNG):
        _check_png(path, raw)
    elif raw.startswith(_JPEG):
        # phones append videos of many megabytes
        if _JPEG_END not in raw[-_TAIL:] and raw.find(_JPEG_END, _start_of_scan(raw)) < 0:
            raise BadFrame(f"{path}: the JPEG is truncated ({len(raw)} bytes, no end mark); copy it again")
        if path.suffix.lower() == ".png":
            raise BadFrame(
                f"{path}: a JPEG under the name of a PNG, whose pixels are no longer exact; get the original picture"
            )
    else:
        raise BadFrame(
            f"{path}: neither PNG nor JPEG (it begins with {raw[:8]!r}); convert it to PNG or JPEG, or copy it again"
        )


def _start_of_scan(raw: bytes) -> int:
    """Where the pixels of a JPEG begin, at most its end: a thumbnail before them has an end mark of its own."""
    place, kind = len(_JPEG), 0
    while kind != _JPEG_SCAN and place + 4 <= len(raw):
        kind, length = struct.unpack_from(">xBH", raw, place)
        place += 2 + length
    return place if kind == _JPEG_SCAN else len(raw)


def _check_png(path: Path, raw: bytes) -> None:
    place, kind = len(_PNG), b""
    view = memoryview(raw)
    while kind != b"IEND":
        if place + 12 > len(raw):
            raise BadFrame(f"{path}: the PNG is truncated ({len(raw)} bytes, no end mark); copy it again")
        length, kind = struct.unpack_from(">I4s", raw, place)
        end = place + 8 + length
        if end + 4 > len(raw):
            raise BadFrame(f"{path}: the PNG is truncated ({len(raw)} bytes, {length} in its last part); copy it again")
        if zlib.crc32(view[place + 4 : end]) != struct.unpack_from(">I", raw, end)[0]:
            raise BadFrame(f"{path}: the PNG is damaged (checksum of {kind!r} at byte {place}); copy it again")
        place = end + 4


def _check(path: Path, picture: np.ndarray, size: Size, dtype: type, channels: int, what: str) -> None:
    found = picture.shape[2] if picture.ndim == 3 else 1
    if picture.dtype != dtype or found != channels:
        raise BadFrame(
            f"{path}: expected {what}, got {8 * picture.itemsize} bits in {found} channels; is this the right file?"
        )
    if picture.shape[:2] != size:
        raise BadFrame(
            f"{path}: expected {size[1]} x {size[0]} pixels, got {picture.shape[1]} x {picture.shape[0]}; "
            "use the pictures in their published size"
        )


def _seen(path: Path, depth: np.ndarray, nothing_from: int | None) -> np.ndarray:
    if not _cut(depth.reshape(-1), np.uint16(0xFFFF if nothing_from is None else nothing_from - 1)):
        raise BadFrame(f"{path}: no depth at all, every pixel says that nothing was seen; leave the record out")
    return depth


@njit(cache=True, nogil=True)
def _unpack(picture, blue, green, red, depth):  # noqa: ANN001, ANN202 - numba infers
    # sums of all three channels, of which one share is 0: so the loop becomes one of vectors
    for i in range(len(depth)):
        depth[i] = picture[3 * i] * blue + picture[3 * i + 1] * green + picture[3 * i + 2] * red


@njit(cache=True, nogil=True)
def _cut(depth, farthest):  # noqa: ANN001, ANN202
    # 0 for what is beyond, in place; whether anything is left
    seen = np.uint16(0)
    for i in range(len(depth)):
        value = depth[i] if depth[i] <= farthest else np.uint16(0)
        seen |= value
        depth[i] = value
    return seen > 0
