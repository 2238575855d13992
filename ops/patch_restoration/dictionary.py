"""The dictionary of rendered part maps: label maps are stored, patches are windows of them and never copied.

A patch is the 27x27 window of a map around one of its foreground pixels; what lies outside the map is background. Its
number is the place of its centre, `(map * H + y) * W + x`. A file is safetensors (it cannot run code) whose header says
which hand, which generator and which labels made it, and carries a checksum.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ops.joints import BACKGROUND, PART_NAMES
from ops.patch_restoration.cells import sampled, side_by_side

PATCH_SIZE = 27  # pixels, of Neverova et al.
LABELS = ("background", *PART_NAMES)  # of picture labels 0, 1, ...
_FORMAT = "handful patch dictionary 1"
_BUILD = "build one with python -m datamodules.patch_dictionary"
_CHUNK = 4096  # maps looked at together


@dataclass(frozen=True, eq=False)
class PatchDictionary:
    """M part maps of size H x W and where they come from; checked when made.

    Attributes:
        maps: (M, H, W) uint8, picture labels 0 background, 1 palm, 2-20 finger parts; no map is empty.
        hand_model: id of the hand that was rendered (`HandModel.id`).
        seed: of the generator.
        domain: `name/version` of the rendered domain.
        crop_size: pixels along the side of the crop cube at the maps' scale; a map is the middle of that crop.
        file: that it was read from; an index may stand beside it.
    """

    maps: np.ndarray
    hand_model: str
    seed: int
    domain: str
    crop_size: int
    file: Path | None = None

    def __post_init__(self) -> None:
        maps = self.maps
        if maps.dtype != np.uint8 or maps.ndim != 3 or 0 in maps.shape:
            raise ValueError(f"maps: expected uint8 (M, H, W), M, H, W > 0, got {maps.dtype} {maps.shape}")
        if maps.size > np.iinfo(np.int32).max:
            raise ValueError(f"maps: {len(maps)} maps have {maps.size} pixels; patch numbers end at 2^31 - 1")
        object.__setattr__(self, "maps", np.ascontiguousarray(maps))
        for start in range(0, len(maps), _CHUNK):
            _check_labels(maps[start : start + _CHUNK], start)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a map."""
        return self.maps.shape[1], self.maps.shape[2]

    @cached_property
    def patches(self) -> int:
        """Number of patches: of foreground pixels."""
        return int(np.count_nonzero(self.maps))

    @cached_property
    def checksum(self) -> str:
        """Hash of the maps, by which an index knows its dictionary."""
        return hashlib.sha256(str(self.maps.shape).encode() + self.maps.data).hexdigest()

    @cached_property
    def cells(self) -> np.ndarray:
        """What a search ranks maps by: a pixel of each 3x3, (ceil(M / 64), ceil(H / 3), ceil(W / 3), 64) uint8."""
        return side_by_side(sampled(self.maps))

    def first(self, maps: int) -> "PatchDictionary":
        """The dictionary of the first `maps` maps."""
        if not 1 <= maps <= len(self.maps):
            raise ValueError(f"maps: expected 1 to {len(self.maps)}, what the dictionary has, got {maps}")
        return replace(self, maps=self.maps[:maps], file=None)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        save_file({"maps": self.maps}, partial, metadata=self._header())
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path, hand_model: str | None = None) -> Self:
        """Read and check a file.

        Args:
            path: of the file.
            hand_model: id of the hand it has to show; None takes any.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, no dictionary, or one of other labels, patches or another hand.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such patch dictionary; {_BUILD} {path}")
        header, maps = _read(path)
        _check_header(path, header, hand_model)
        try:
            dictionary = cls(
                maps, header["hand_model"], int(header["seed"]), header["domain"], int(header["crop_size"]), path
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: not a usable patch dictionary: {error}; {_BUILD}") from error
        expected = dictionary._header()
        wrong = [name for name, value in expected.items() if header.get(name) != value]
        if wrong:
            raise ValueError(
                f"{path}: the header does not fit the maps, {wrong[0]} is {header.get(wrong[0])!r} where "
                f"{expected[wrong[0]]!r} was expected: the file is damaged; {_BUILD}"
            )
        return dictionary

    def _header(self) -> dict[str, str]:
        height, width = self.size
        return {
            "format": _FORMAT,
            "labels": " ".join(LABELS),
            "patch_size": str(PATCH_SIZE),
            "hand_model": self.hand_model,
            "seed": str(self.seed),
            "domain": self.domain,
            "crop_size": str(self.crop_size),
            "maps": f"{len(self.maps)} x {height} x {width}",
            "patches": str(self.patches),
            "checksum": self.checksum,
        }


def check_label_maps(name: str, maps: np.ndarray) -> None:
    """Raise unless maps (B, H, W) hold labels of the set and each has foreground."""
    try:
        _check_labels(maps, 0)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_labels(maps: np.ndarray, first: int) -> None:
    highest = maps.reshape(len(maps), -1).max(1)
    if highest.max() >= len(LABELS):
        at = int(highest.argmax())
        raise ValueError(
            f"map {first + at} has label {highest[at]}, outside the set 0 (background) to {len(LABELS) - 1}; "
            "pixels without label (255) have to be given one, or made background, first"
        )
    if highest.min() == BACKGROUND:
        raise ValueError(f"map {first + int(highest.argmin())} is empty: it has no foreground pixel; leave it out")


def _read(path: Path) -> tuple[dict[str, str], np.ndarray]:
    try:
        with safe_open(path, framework="numpy") as file:
            header, names = file.metadata() or {}, set(file.keys())
            maps = file.get_tensor("maps") if names == {"maps"} else None
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be read as a patch dictionary ({error}); {_BUILD}") from error
    if header.get("format") != _FORMAT or maps is None:
        raise ValueError(f"{path}: is no patch dictionary (format {header.get('format')!r}, tensors {sorted(names)})")
    return header, maps


def _check_header(path: Path, header: dict[str, str], hand_model: str | None) -> None:
    expected = {"labels": " ".join(LABELS), "patch_size": str(PATCH_SIZE)}
    if hand_model is not None:
        expected["hand_model"] = hand_model
    for name, value in expected.items():
        if header.get(name) != value:
            raise ValueError(
                f"{path}: dictionary of another kind: {name} is {header.get(name)!r}, expected {value!r}; {_BUILD}"
            )
