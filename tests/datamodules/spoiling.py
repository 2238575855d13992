"""Ways to spoil the files of a dataset, by kind of file: what disks, downloads, scripts and strangers do to them.

A spoilt file must be refused by name. Where damage may hit what nobody reads (`same`) the data must stay identical;
where it cannot be told from other data (a flipped digit, a byte of a JPEG; `sane`) what is read must keep the contract.
"""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import scipy.io

Outcome = Literal["refused", "same", "sane"]
Random = np.random.Generator


@dataclass(frozen=True)
class Mutation:
    """A way to spoil a file in place. `outcome`: what may come of it other than a refusal."""

    name: str
    spoil: Callable[[Path, Random], None]
    outcome: Outcome = "refused"


class NotApplicable(Exception):
    """The file has nothing of what the mutation changes."""


class Fires:
    """Unpickled by a careless reader, it creates the file `mark`."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.mark,))


def mark_of(path: Path) -> Path:
    """The file that a hostile file creates if its code runs."""
    return path.parent / "it-ran"


# -- any file


def gone(path: Path, random: Random) -> None:
    path.unlink()


def empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def a_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def web_page(path: Path, random: Random) -> None:
    path.write_text("<!DOCTYPE html><html><body>Please log in</body></html>\n")


def cut_off(path: Path, random: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: random.integers(1, len(data))])


def zeros_at_the_end(path: Path, random: Random) -> None:
    """A download that allocated its file and stopped."""
    data = path.read_bytes()
    kept = int(random.integers(len(data) // 8, len(data) * 3 // 4))
    path.write_bytes(data[:kept] + bytes(len(data) - kept))


def flipped(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 4)):
        data[random.integers(len(data))] ^= int(random.integers(1, 256))
    path.write_bytes(data)


ANY = [
    Mutation("gone", gone),
    Mutation("empty", empty),
    Mutation("a folder", a_folder),
    Mutation("web page", web_page),
]
BINARY = [*ANY, Mutation("zeros at the end", zeros_at_the_end)]


# -- pictures


def redrawn(change: Callable[[np.ndarray], np.ndarray], suffix: str | None = None) -> Callable[[Path, Random], None]:
    """The picture decoded, changed and written again, under its name."""

    def spoil(path: Path, random: Random) -> None:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        done, data = cv2.imencode(suffix or path.suffix, change(picture))
        assert done
        path.write_bytes(data.tobytes())

    return spoil


def other_depth(picture: np.ndarray) -> np.ndarray:
    """8 bits where there were 16, and the other way round; colours become grey."""
    if picture.dtype == np.uint16:
        return (picture >> 8).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture.astype(np.uint16) * 257


def coloured(picture: np.ndarray) -> np.ndarray:
    """Three channels where there was one, 16 bits where there were three of 8."""
    return picture.astype(np.uint16) * 257 if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)


def with_alpha(picture: np.ndarray) -> np.ndarray:
    full = np.iinfo(picture.dtype).max
    channels = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
    return np.dstack([channels, np.full(picture.shape[:2], full, picture.dtype)])


SHAPES = [
    Mutation("half the size", redrawn(lambda picture: picture[::2, ::2])),
    Mutation("a row less", redrawn(lambda picture: picture[:-1])),
    Mutation("a column more", redrawn(lambda picture: np.hstack([picture, picture[:, :1]]))),
    Mutation("one pixel", redrawn(lambda picture: picture[:1, :1])),
]
PNG = [
    *BINARY,
    *SHAPES,
    Mutation("cut off", cut_off, "same"),
    Mutation("flipped", flipped, "same"),
    Mutation("other depth", redrawn(other_depth)),
    Mutation("coloured", redrawn(coloured), "same"),  # grey saved as colour is the same grey
    Mutation("with alpha", redrawn(with_alpha), "same"),
    Mutation("a JPEG inside", redrawn(lambda picture: picture.astype(np.uint8), ".jpg")),
]
JPEG = [*BINARY, *SHAPES, Mutation("cut off", cut_off, "same"), Mutation("flipped", flipped, "sane")]


# -- text


def reworded(change: Callable[[list[str], int, Random], None]) -> Callable[[Path, Random], None]:
    """One number of a text file changed: `change` gets all words and separators, and which is the number."""

    def spoil(path: Path, random: Random) -> None:
        pieces = re.split(r"([\s,;\[\]]+)", path.read_text())
        numbers = [i for i, piece in enumerate(pieces) if re.fullmatch(r"-?\d+\.\d*(e-?\d+)?", piece)]
        if not numbers:
            raise NotApplicable
        change(pieces, int(random.choice(numbers)), random)
        path.write_text("".join(pieces))

    return spoil


def becomes(word: str) -> Callable[[Path, Random], None]:
    def change(pieces: list[str], place: int, random: Random) -> None:
        pieces[place] = word

    return reworded(change)


def removed(pieces: list[str], place: int, random: Random) -> None:
    del pieces[place : place + 2]


def doubled(pieces: list[str], place: int, random: Random) -> None:
    pieces.insert(place, pieces[place] + " ")


def last_line_gone(path: Path, random: Random) -> None:
    path.write_text("\n".join(path.read_text().rstrip().split("\n")[:-1]) + "\n")


TEXT = [
    *ANY,
    Mutation("zeros at the end", zeros_at_the_end),
    Mutation("cut off", cut_off, "sane"),
    Mutation("flipped", flipped, "sane"),
    Mutation("last line gone", last_line_gone, "sane"),
]
NUMBERS = [
    Mutation("nan", becomes("nan")),
    Mutation("inf", becomes("-inf")),
    Mutation("no number", becomes("left")),
    Mutation("a number less", reworded(removed)),
    Mutation("a number more", reworded(doubled)),
]


# -- arrays in .mat, .npz, .pickle, .pkl, .json


def spoil_array(array: np.ndarray, value: float, random: Random) -> np.ndarray:
    array = np.array(array, np.float64)
    array[tuple(int(random.integers(size)) for size in array.shape)] = value
    return array


def fewer(array: np.ndarray, random: Random) -> np.ndarray:
    """One less along some axis."""
    return np.delete(np.asarray(array), 0, axis=int(random.integers(np.ndim(array))))


def _choose(arrays: Mapping[Any, Any], random: Random) -> Any:
    numeric = [key for key, value in arrays.items() if np.asarray(value).dtype.kind in "fiu" and np.ndim(value) > 0]
    return numeric[int(random.integers(len(numeric)))]


ArrayChange = Callable[[dict, Random], None]


def put(value: float) -> ArrayChange:
    def change(arrays: dict, random: Random) -> None:
        key = _choose(arrays, random)
        arrays[key] = spoil_array(arrays[key], value, random)

    return change


def fewer_numbers(arrays: dict, random: Random) -> None:
    key = _choose(arrays, random)
    arrays[key] = fewer(arrays[key], random)


def missing_array(arrays: dict, random: Random) -> None:
    del arrays[_choose(arrays, random)]


def words(arrays: dict, random: Random) -> None:
    arrays[_choose(arrays, random)] = np.array(["left", "right"])


def no_numbers(arrays: dict, random: Random) -> None:
    arrays[_choose(arrays, random)] = np.zeros((0, 0))


CHANGES: dict[str, tuple[ArrayChange, Outcome]] = {
    # what nobody reads may be spoilt: other views, records of the other split
    "nan": (put(np.nan), "same"),
    "inf": (put(np.inf), "same"),
    "numbers missing": (fewer_numbers, "sane"),
    "array missing": (missing_array, "same"),
    "words for numbers": (words, "same"),
    "no numbers": (no_numbers, "same"),
}


def through(
    load: Callable[[Path], Any], arrays_of: Callable[[Any, Random], dict], save: Callable[[Path, Any], None]
) -> list[Mutation]:
    """All changes of arrays for a format that is loaded, whose `arrays_of` is changed in place, and saved."""

    def mutation(change: ArrayChange) -> Callable[[Path, Random], None]:
        def spoil(path: Path, random: Random) -> None:
            content = load(path)
            change(arrays_of(content, random), random)
            save(path, content)

        return spoil

    return [Mutation(name, mutation(change), outcome) for name, (change, outcome) in CHANGES.items()]


def load_mat(path: Path) -> dict:
    return {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("__")}


def save_mat(path: Path, arrays: dict) -> None:
    scipy.io.savemat(path, arrays, do_compression=True)


def cells(path: Path, random: Random) -> None:
    arrays = load_mat(path)
    key = _choose(arrays, random)
    cell = np.empty(2, object)
    cell[:] = [np.zeros(2), "left"]
    save_mat(path, arrays | {key: cell})


MAT = [
    *BINARY,
    Mutation("cut off", cut_off),
    Mutation("flipped", flipped, "sane"),
    *through(load_mat, lambda arrays, random: arrays, save_mat),
    Mutation("cells", cells, "same"),
]


def save_npz(path: Path, arrays: dict) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def hostile_npz(path: Path, random: Random) -> None:
    arrays = dict(np.load(path))
    trap = np.empty(1, object)
    trap[0] = Fires(mark_of(path))
    save_npz(path, arrays | {_choose(arrays, random): trap})


NPZ = [
    *BINARY,
    Mutation("cut off", cut_off),
    Mutation("flipped", flipped, "same"),
    *through(lambda path: dict(np.load(path)), lambda arrays, random: arrays, save_npz),
    Mutation("hostile", hostile_npz, "same"),
]


def load_pickle(path: Path) -> Any:
    return pickle.loads(path.read_bytes(), encoding="latin1")


def save_pickle(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def record_of(content: dict, random: Random) -> dict:
    """The record itself, or one of a dict of records."""
    first = next(iter(content.values()))
    return content[int(random.choice(list(content)))] if isinstance(first, dict) else content


def hostile_pickle(path: Path, random: Random) -> None:
    content = load_pickle(path)
    record = record_of(content, random)
    record[_choose(record, random)] = Fires(mark_of(path))
    save_pickle(path, content)


def only_hostile(path: Path, random: Random) -> None:
    save_pickle(path, Fires(mark_of(path)))


def a_list(path: Path, random: Random) -> None:
    save_pickle(path, [load_pickle(path)])


PICKLE = [
    *BINARY,
    Mutation("cut off", cut_off),
    Mutation("flipped", flipped, "sane"),
    *through(load_pickle, record_of, save_pickle),
    Mutation("hostile", hostile_pickle),
    Mutation("only hostile", only_hostile),
    Mutation("a list", a_list),
]


def rewritten_json(change: Callable[[list, Random], Any]) -> Callable[[Path, Random], None]:
    def spoil(path: Path, random: Random) -> None:
        path.write_text(json.dumps(change(json.loads(path.read_text()), random)))

    return spoil


def _spoil_row(value: Any) -> Callable[[list, Random], list]:
    def change(rows: list, random: Random) -> list:
        rows[int(random.integers(len(rows)))][0][0] = value
        return rows

    return change


def _short_row(rows: list, random: Random) -> list:
    del rows[int(random.integers(len(rows)))][-1]
    return rows


JSON = [
    *ANY,
    Mutation("zeros at the end", zeros_at_the_end),
    Mutation("cut off", cut_off),
    Mutation("flipped", flipped, "sane"),
    Mutation("nan", rewritten_json(_spoil_row(float("nan")))),
    Mutation("null", rewritten_json(_spoil_row(None))),
    Mutation("words", rewritten_json(_spoil_row("left"))),
    Mutation("a row of numbers less", rewritten_json(_short_row)),
    Mutation("a record less", rewritten_json(lambda rows, random: rows[:-1])),
    Mutation("a record more", rewritten_json(lambda rows, random: [*rows, rows[-1]])),
    Mutation("no records", rewritten_json(lambda rows, random: [])),
    Mutation("an object", rewritten_json(lambda rows, random: {"records": rows})),
    Mutation("deep", lambda path, random: path.write_text("[" * 100_000)),
]


# -- MSRA15's depth: six int32 (width, height, left, top, right, bottom), then float32


def header(place: int, value: int) -> Callable[[Path, Random], None]:
    def spoil(path: Path, random: Random) -> None:
        data = bytearray(path.read_bytes())
        data[4 * place : 4 * place + 4] = np.int32(value).tobytes()
        path.write_bytes(data)

    return spoil


def nan_depth(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    place = 24 + 4 * int(random.integers((len(data) - 24) // 4))
    data[place : place + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(data)


def box_only(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes()[:24])


BIN = [
    *ANY,
    Mutation("cut off", cut_off),
    Mutation("flipped", flipped, "sane"),
    Mutation("header only", box_only),
    Mutation("nan depth", nan_depth),
    *(
        Mutation(f"{name} {value}", header(place, value))
        for place, name in enumerate(("width", "height", "left", "top", "right", "bottom"))
        for value in (-5, 2**31 - 1)
    ),
]

MUTATIONS: dict[str, list[Mutation]] = {
    ".png": PNG,
    ".jpg": JPEG,
    ".txt": TEXT + NUMBERS,
    ".mat": MAT,
    ".npz": NPZ,
    ".pickle": PICKLE,
    ".pkl": PICKLE,
    ".json": JSON,
    ".bin": BIN,
}


def restored(path: Path, data: bytes) -> None:
    """Put a file back as it was."""
    if path.is_dir():
        shutil.rmtree(path)
    path.write_bytes(data)
