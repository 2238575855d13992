"""Spoilt files of every format: refused by name, or harmless; never a crash, a hang, or garbage in silence."""

import importlib
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from datamodules.check.contract import broken_promises, valid_joints
from datamodules.datasets import DATASETS, dataset_class
from datamodules.frames import BadFrame, HandFrame, HandFrames
from ops.safe_pickle import RefusedPickle
from tests.datamodules.spoiling import MUTATIONS, Mutation, NotApplicable, mark_of, restored

_SECONDS = 20  # for one look at a spoilt set, a hundred times what it takes
_EXAMPLES = 40  # of each dataset in the slow suite


class Hung(BaseException):
    """Reading took too long; no reader's `except Exception` may catch it."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Hung(f"reading took over {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Variant:
    """A dataset as it is written and as it is read."""

    dataset: str
    writing: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)
    unread: str | None = None  # pattern of label files that are not read


VARIANTS = {
    "nyu": Variant("nyu", {"train": 3, "test": 2}, {"train_views": [1, 2, 3]}),
    "icvl": Variant("icvl", {"train": 6, "test": 4}),
    "msra15": Variant("msra15", {"train": 2, "test": 1}),
    "synhand5m": Variant("synhand5m", {"train": 3, "test": 2}, {"vertices": True}),
    "rhd": Variant("rhd", {"train": 3, "test": 2}),
    "stb": Variant("stb", {"train": 10, "test": 2, "cameras": ("BB_left", "BB_right")}, unread="*_SK.mat"),
    "stb-depth": Variant(
        "stb", {"train": 10, "test": 2, "cameras": ("SK_depth",)}, {"cameras": ["SK_depth"]}, "*_BB.mat"
    ),
    "dexter_object": Variant("dexter_object", {"test": 8}),
    "dexter_object-depth": Variant("dexter_object", {"test": 8}, {"camera": "depth"}),
    "freihand": Variant("freihand", {"train": 2, "test": 2}, {"vertices": True}),
    "ho3d-v2": Variant("ho3d", {"train": 3, "test": 2, "version": "v2"}),
    "ho3d-v3": Variant("ho3d", {"train": 3, "test": 2, "version": "v3"}),
    "ge": Variant("ge", {"test": 3}),
}
MANY_FILES = ("msra15", "stb", "stb-depth", "dexter_object-depth", "ho3d-v3")  # to write: left to the slow suite

Place = tuple[str, int]  # split and record


class Written:
    """A generated dataset and what is read of it while it is whole."""

    def __init__(self, variant: Variant, folder: Path) -> None:
        self.variant, self.folder = variant, folder
        writer = importlib.import_module(f"benchmarks.generated.{variant.dataset}")
        getattr(writer, f"write_{variant.dataset}")(folder, **variant.writing)
        splits = self.open()
        places = [(split, i) for split, frames in splits.items() for i in range(len(frames))]
        self.whole = {place: splits[place[0]].frame(place[1]) for place in places}
        self.labels = {place: splits[place[0]].labels(place[1]) for place in places}
        self.pictures = {place: list(splits[place[0]].files(place[1])) for place in places}
        shown = {path for paths in self.pictures.values() for path in paths}
        others = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".png", ".jpg")}
        others -= set(folder.rglob(variant.unread or "nothing"))
        self.files = sorted(path for path in shown | others if path.suffix in MUTATIONS)
        assert self.files and {path.suffix for path in shown} <= set(MUTATIONS)

    def open(self) -> dict[str, HandFrames]:
        dataset = dataset_class(self.variant.dataset)(self.folder, **self.variant.reading)
        return {split: dataset.frames(split) for split in DATASETS[self.variant.dataset].splits}

    def read(self, splits: dict[str, HandFrames], spoilt: Path) -> dict[Place, HandFrame]:
        """The records that a spoilt file may have changed: those that show it, or those with other labels."""
        showing = [place for place, files in self.pictures.items() if spoilt in files]
        found = {}
        for split, frames in splits.items():
            for i in range(len(frames)):
                place = split, i
                if place in showing or not (showing or self.as_before(place, frames)):
                    found[place] = frames.frame(i)
                    problems = broken_promises(found[place], frames.provides)
                    assert not problems, f"{place}: {problems}"
                    nearest = found[place].joints_3d[valid_joints(found[place]), 2].min()
                    assert nearest > 0, f"{place}: a joint behind the camera, z = {nearest}"
        return found

    def as_before(self, place: Place, frames: HandFrames) -> bool:
        labels, files = frames.labels(place[1]), list(frames.files(place[1]))
        return place in self.whole and files == self.pictures[place] and same_frame(labels, self.labels[place])


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Generated datasets by the name of their variant, each written once."""
    root = tmp_path_factory.mktemp("generated")

    @cache
    def get(name: str) -> Written:
        (root / name).mkdir()
        return Written(VARIANTS[name], root / name)

    return get


def check_mutation(written: Written, path: Path, mutation: Mutation, number: int) -> None:
    """Spoil one file, read what it concerns, judge what came of it, and put the file back."""
    data = path.read_bytes()
    try:
        mutation.spoil(path, np.random.default_rng(number))
        if path.is_file() and path.read_bytes() == data:
            return
        with time_limit(_SECONDS):
            judge(written, path, mutation)
        assert not mark_of(path).exists(), f"{path.name}: code of the file ran"
    finally:
        restored(path, data)


def judge(written: Written, path: Path, mutation: Mutation) -> None:
    what = f"{mutation.name}: {path}"
    try:
        splits = written.open()
    except (ValueError, FileNotFoundError) as error:
        assert named(path, str(error)), f"{what} is not named in: {error}"
        return
    try:
        frames = written.read(splits, path)
    except (BadFrame, RefusedPickle) as error:  # what a run can count and skip; and what nobody should skip
        assert named(path, str(error)), f"{what} is not named in: {error}"
        return
    assert mutation.outcome != "refused", f"{what} was read without an error"
    if mutation.outcome == "same":
        counts = {split: len(frames) for split, frames in splits.items()}
        assert counts == Counter(split for split, _ in written.whole), f"{what} changed the number of records"
        changed = [place for place in frames if not same_frame(frames[place], written.whole[place])]
        assert not changed, f"{what} was read as something else in {changed}"


def named(path: Path, message: str) -> bool:
    """A file that is not there may be named by what it should be: its name with either suffix, or one of a folder."""
    return path.name in message or (
        not path.exists() and (str(path.with_suffix("")) in message or f"{path.parent};" in message)
    )


def same_frame(a: HandFrame, b: HandFrame) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(HandFrame))


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in MANY_FILES])
def test_a_few_mutations_of_each_dataset(name, written):
    """One file of each kind, three ways of spoiling it."""
    spoilt = written(name)
    random = np.random.default_rng(sum(name.encode()))
    for suffix in sorted({path.suffix for path in spoilt.files}):
        files = [path for path in spoilt.files if path.suffix == suffix]
        for mutation in random.choice(np.array(MUTATIONS[suffix], dtype=object), 3, replace=False):
            try:
                check_mutation(spoilt, files[int(random.integers(len(files)))], mutation, int(random.integers(1000)))
            except NotApplicable:
                continue


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in MANY_FILES])
def test_reading_writes_nothing_into_the_folder(name, written):
    whole = written(name)
    paths = [whole.folder, *whole.folder.rglob("*")]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}
    for frames in whole.open().values():
        for index in range(len(frames)):
            frames.frame(index)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in whole.folder.rglob("*")} == {
        path: before[path] for path in paths[1:]
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_mutations(name, written):
    """Any file, any way, any place."""
    spoilt = written(name)

    @seed(0)
    @settings(max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(spoilt.files), st.data())
    def run(path: Path, data: st.DataObject) -> None:
        mutation = data.draw(st.sampled_from(MUTATIONS[path.suffix]))
        try:
            check_mutation(spoilt, path, mutation, data.draw(st.integers(0, 10**6)))
        except NotApplicable:
            assume(False)

    run()
