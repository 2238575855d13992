"""A user's own pictures as what a method can look at: files, folders and videos, one by one, depth and colours."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch

from datamodules.batch import HandBatch, join_batches
from datamodules.colour_pictures import (
    ColourPicture,
    Square,
    crop_square,
    is_colour_picture,
    picture_camera,
    read_colour_picture,
    square_around,
)
from datamodules.depth_frames import (
    CAMERA_UNITS,
    DepthFrame,
    crop_depth_frames,
    frame_camera,
    parse_box,
    read_depth_frame,
)
from datamodules.frames import BadFrame
from datamodules.hand_detector import NAME, HandDetector
from datamodules.hand_finder import check_hand_sized, find_hand
from ops.drawing import Picture, bgr_bytes, shade_depth

PICTURES = (".png", ".jpg", ".jpeg", ".npy")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
REACH = 0.13  # metres from the centre: a forearm beyond is left out, rendered hands have none


class Asked(NamedTuple):
    """What the user says of all pictures."""

    camera: str | None = None
    focal: float | None = None  # of photographs
    unit: float | None = None  # of depth
    box: str | None = None
    detector: HandDetector | None = None  # of hands in photographs
    side: str | None = None  # of the hand: left, right, both; None: what a detector says


class Input(NamedTuple):
    """One picture, before it is read: a file, or a frame that a video gave."""

    path: Path
    name: str  # of its results
    rgb: np.ndarray | None = None  # (H, W, 3) uint8 of a video's frame
    frame: int | None = None  # its number in the video, from 0


@dataclass
class Sight:
    """A picture and where its hand is."""

    path: Path
    name: str
    K: torch.Tensor  # (3, 3)
    camera: str
    picture: DepthFrame | ColourPicture
    centre: np.ndarray | None = None  # (3,) of the hand in a depth frame, metres, camera frame
    square: Square | None = None  # of a photograph
    side: str | None = None  # left or right, where a detector says it
    frame: int | None = None  # of a video, its number from 0
    notes: dict[str, object] = field(default_factory=dict)  # for the joints' file

    @property
    def modality(self) -> Literal["depth", "rgb"]:
        """What it shows."""
        return "rgb" if isinstance(self.picture, ColourPicture) else "depth"

    @staticmethod
    def crops(
        sights: "Sequence[Sight]", side: int, size: int, centres: Sequence[np.ndarray | None] | None = None
    ) -> HandBatch:
        """A batch of what sights of one kind show; left hands (`side` 0) come mirrored.

        Args:
            sights: pictures, all of depth or all of colours.
            side: which hands they are.
            size: pixels along a side.
            centres: (3,) each of a depth frame's cube, metres, camera frame; None takes where hands were found.
        """
        if sights[0].modality == "rgb":
            batch = join_batches([crop_square(each.picture, each.K, each.square, side, size) for each in sights])
        else:
            places = np.stack([each.centre for each in sights] if centres is None else centres)
            K = torch.stack([each.K for each in sights])
            batch = crop_depth_frames([each.picture for each in sights], K, places, side, size, REACH)
        return HandBatch(batch | {"key": [each.key for each in sights]})

    @property
    def key(self) -> str:
        """Names the picture in prediction files."""
        return str(self.path) if self.frame is None else f"{self.path}#{self.name}"

    def shown(self, seen: HandBatch) -> tuple[Picture, Picture]:
        """The whole picture and a crop of it, to draw on."""
        if isinstance(self.picture, ColourPicture):
            return self.picture.rgb[..., ::-1].copy(), bgr_bytes(seen["rgb"][0])
        near = float(seen["cube_centre"][0, 2] - seen["cube_side"][0] / 2)
        far = near + float(seen["cube_side"][0])
        # half a metre more, so that the person shows
        return shade_depth(self.picture.depth, near, far + 0.5), shade_depth(seen["depth"][0, 0].numpy(), near, far)


def list_inputs(paths: Sequence[Path]) -> list[Path]:
    """Files to read: those named, and of folders the pictures and videos in them, by name.

    Raises:
        FileNotFoundError: there is no such file, or nothing in a folder.
    """
    files = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES + VIDEOS and p.is_file())
            if not inside:
                raise FileNotFoundError(f"{path}: no picture or video in this folder ({', '.join(PICTURES + VIDEOS)})")
            files += inside
        else:
            files.append(path)
    return files


def names_of(files: Sequence[Path]) -> list[str]:
    """A name for the results of each file: its stem, with suffix and folder where others have the same."""
    stems = Counter(path.stem for path in files)
    names = [
        path.stem
        if stems[path.stem] == 1
        else f"{path.absolute().parent.name}_{path.stem}_{path.suffix.lower().lstrip('.')}"
        for path in files
    ]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(
            f"inputs: results of several would be named {', '.join(twice)}; give them one folder at a time"
        )
    return names


def each_input(files: Sequence[Path], every: int = 1) -> Iterator[Input | Exception]:
    """Pictures as they are, videos frame by frame; an error in a file's place where it cannot go on.

    Args:
        files: of `list_inputs`.
        every: of a video, each n-th frame.
    """
    for path, name in zip(files, names_of(files), strict=True):
        if path.suffix.lower() not in VIDEOS:
            yield Input(path, name)
            continue
        try:
            yield from _frames(path, name, every)
        except (ValueError, FileNotFoundError) as error:
            yield error


def count_inputs(files: Sequence[Path], every: int = 1) -> int:
    """About how many `each_input` gives: videos say how many frames they have, not always rightly."""
    counted = 0
    for path in files:
        counted += max(1, _frame_count(path) // max(1, every)) if path.suffix.lower() in VIDEOS else 1
    return counted


def read_sight(given: Input, asked: Asked) -> Sight:
    """Read a picture and find the hand in it.

    Raises:
        ValueError, FileNotFoundError: what is wrong with the file, the options or the hand, and a remedy.
    """
    if given.rgb is not None:
        return _colour_sight(ColourPicture(given.rgb, given.path), given, asked)
    if not given.path.is_file():
        raise FileNotFoundError(f"{given.path}: no such file; name a photograph, a depth frame, a video or a folder")
    if is_colour_picture(given.path):
        return _colour_sight(read_colour_picture(given.path), given, asked)
    frame = read_depth_frame(given.path, CAMERA_UNITS.get(asked.camera) if asked.unit is None else asked.unit)
    K, camera = frame_camera(asked.camera, frame)
    centre = find_hand(frame.depth, K, parse_box(asked.box))
    check_hand_sized(frame.depth, K, centre, frame.unit)
    return Sight(given.path, given.name, K, camera, frame, centre=centre, notes={"distance": "measured by the camera"})


def _colour_sight(picture: ColourPicture, given: Input, asked: Asked) -> Sight:
    K, camera = picture_camera(asked.camera, asked.focal, picture)
    # a colour picture does not say how large a hand is
    notes = {"distance": "from focal length and an assumed bone length; the hand's size is not measured"}
    box, side = parse_box(asked.box), None
    if box is None and asked.detector is not None:
        hands = asked.detector.hands(picture.rgb)
        if not hands:
            where = given.path if given.frame is None else f"{given.path}, frame {given.frame}"
            raise ValueError(f"{where}: no hand found; without --detect it is all of the picture, or say --box")
        box, side, _ = next((hand for hand in hands if hand.side == asked.side), hands[0])
        notes["detected"] = {"by": NAME, "box": box, "hands": [hand._asdict() for hand in hands]}
    square = square_around(box, picture)
    notes["looked_at"] = {"box": box or "the whole picture", "square": {"middle": square[:2], "side": square.side}}
    return Sight(given.path, given.name, K, camera, picture, square=square, side=side, frame=given.frame, notes=notes)


def _frames(path: Path, name: str, every: int) -> Iterator[Input]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a video")
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise BadFrame(f"{path}: not a video that can be read; convert it, for instance to .mp4 with H.264")
        expected, number = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        while video.grab():
            if number % every == 0:
                whole, picture = video.retrieve()
                if not whole:
                    break
                yield Input(path, f"{name}_{number:06d}", np.ascontiguousarray(picture[..., ::-1]), number)
            number += 1
        if number == 0:
            raise BadFrame(f"{path}: a video without a frame that can be read; copy it again, or convert it")
        if number < expected - 1:  # containers count one more at times
            raise BadFrame(f"{path}: damaged, {number} of {expected} frames could be read; copy it again")
    finally:
        video.release()


def _frame_count(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    try:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        video.release()
