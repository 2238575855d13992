"""The description of how SynHand5M lies on disk: a YAML file, checked word by word before anything is read with it."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from datamodules.label_files import label_file
from ops.checks import check_choice
from ops.hand_model.conventions import convention_names

DEFAULT_LAYOUT = Path(__file__).with_name("synhand5m.yaml")
INDEX = re.compile(r"\{index(?::0\d{1,2}d)?\}")  # the frame's number in a pattern
PACKINGS = {"16-bit": None, "green-blue": (2, 1), "red-green": (0, 1)}  # low and high channel; red is 0
LABEL_KINDS = (".txt", ".npy", ".npz", ".mat", ".obj")

Rule = tuple[Callable[[Any], bool], str]  # what a value must be, and how that is said


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _list_of(test: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and (length is None or len(value) == length) and all(map(test, value))


def _or_null(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or test(value)


def _pattern(value: Any) -> bool:
    """A relative path with nothing in braces but the index."""
    return (
        isinstance(value, str)
        and value != ""
        and not {"{", "}", ".."} & set(re.split(r"([{}]|\.\.)", INDEX.sub("", value)))
    )


_POSITIVE: Rule = (lambda value: _number(value) and value > 0, "a number above 0")
_NUMBER: Rule = (_number, "a number")
_NAME: Rule = (lambda value: isinstance(value, str) and value != "", "a name")
_PATTERN: Rule = (_pattern, "a path with {index} or {index:07d}, or none of it, in it")
_SPLIT = {"folder": _NAME, "frames": (_or_null(_whole), "a number of frames, or null")}
_POINTS = {
    "pattern": _PATTERN,
    "key": (_or_null(lambda value: isinstance(value, str)), "the name of an array, or null"),
    "unit": _POSITIVE,
    "axes": (_list_of(lambda value: _number(value) and abs(value) == 1, 3), "three signs, 1 or -1"),
    "count": (lambda value: _whole(value) and value > 0, "a number of points"),
}
_RULES: dict[str, Rule | dict] = {
    "size": (_list_of(lambda value: _whole(value) and value > 0, 2), "height and width in pixels"),
    "camera": {"fx": _POSITIVE, "fy": _POSITIVE, "cx": _NUMBER, "cy": _NUMBER},
    "splits": {"train": _SPLIT, "test": _SPLIT},
    "depth": {
        "pattern": _PATTERN,
        "packing": (lambda value: value in PACKINGS, f"one of {', '.join(PACKINGS)}"),
        "unit": _POSITIVE,
        "missing": (_list_of(_whole), "a list of whole numbers"),
    },
    "mask": {"pattern": _PATTERN},
    "joints": _POINTS,
    "vertices": _POINTS,
    "order": (_list_of(_or_null(_whole), 21), "21 rows of joints, or null where it has none"),
    "palm": (_or_null(_whole), "a row of joints, or null"),
    "side": (lambda value: value in ("left", "right"), "left or right"),
    "convention": _NAME,
}
_OPTIONAL = ("mask", "vertices")


def read_layout(path: Path) -> dict[str, Any]:
    """A description of the dataset's layout.

    Raises:
        ValueError: a key is missing or unknown, or a value cannot be; the message says which and what was expected.
    """
    try:
        layout = yaml.safe_load(label_file(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: no YAML ({reason}); begin with a copy of {DEFAULT_LAYOUT}") from error
    _check(f"{path}: ", layout, _RULES)
    for name in ("depth", "mask"):
        if layout[name] and not INDEX.search(layout[name]["pattern"]):
            raise ValueError(f"{path}: {name}.pattern: expected {{index}} in it, got '{layout[name]['pattern']}'")
    for name in ("joints", "vertices"):
        _check_points(f"{path}: {name}", layout[name])
    count = layout["joints"]["count"]
    if any(row is not None and row >= count for row in (layout["palm"], *layout["order"])):
        raise ValueError(f"{path}: order and palm: expected rows below joints.count, {count}, got {layout['order']}")
    check_choice(f"{path}: convention", layout["convention"], convention_names())
    return layout


def _check(place: str, value: Any, rule: Rule | dict) -> None:
    if not isinstance(rule, dict):
        fits, expected = rule
        if not fits(value):
            raise ValueError(f"{place.removesuffix('.')}: expected {expected}, got {value!r}")
        return
    if not isinstance(value, dict) or set(value) != set(rule):
        odd = sorted(map(str, set(rule) ^ set(value))) if isinstance(value, dict) else repr(value)
        raise ValueError(f"{place}expected the keys {', '.join(rule)}; missing or unknown: {odd}")
    for key, inner in rule.items():
        if value[key] is not None or key not in _OPTIONAL:
            _check(f"{place}{key}.", value[key], inner)


def _check_points(place: str, section: Mapping[str, Any] | None) -> None:
    if section is None:
        return
    kind = Path(section["pattern"]).suffix
    check_choice(f"{place}.pattern: the kind of file", kind, LABEL_KINDS)
    if (kind in (".npz", ".mat")) != (section["key"] is not None):
        raise ValueError(f"{place}.key: expected the name of an array in {kind} files alone, got {section['key']!r}")
