"""Errors of one predicted hand against published labels that share only some of its joints."""

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.metrics import ALIGNMENTS, point_errors
from lightning_modules.prediction_files import read_uvd
from ops.camera import unproject
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS, NYU14_TO_CANONICAL

MM = 0.001


class Layout(NamedTuple):
    """Joints of a published label line, and the canonical joints they stand for."""

    joints: int
    sources: dict[int, tuple[int, ...]]  # canonical joint -> published joints, whose mean it is


LABEL_LAYOUTS = {
    # NYU labels both sides of the wrist (its joints 11 and 12); ours lies between them
    "nyu-14": Layout(14, {to: (i,) for i, to in enumerate(NYU14_TO_CANONICAL) if to >= 0} | {0: (11, 12)}),
    "canonical-21": Layout(21, {joint: (joint,) for joint in range(21)}),
}


class Label(NamedTuple):
    """The true joints of one frame that have a counterpart among the canonical ones; the wrist comes first."""

    points: Tensor  # (J, 3) metres, camera frame
    joints: list[int]  # (J,) canonical
    line: int  # of the labels file, from 1
    layout: str


def read_label(labels: str | Path, layout: str, line: int | None, picture: Path, K: Tensor) -> Label:
    """The line of a labels file that belongs to `picture`.

    Args:
        labels: text file, u v d per joint, pixels and millimetres.
        layout: which joints a line holds (`LABEL_LAYOUTS`).
        line: of the file, from 1; None derives it from the picture's name.
        picture: the frame, NYU's `depth_1_<number>.png` for instance.
        K: (3, 3) of the picture.
    """
    check_choice("label layout", layout, LABEL_LAYOUTS)
    count, sources = LABEL_LAYOUTS[layout]
    frames = read_uvd(labels, count)
    line = label_line(picture, len(frames)) if line is None else line
    if not 1 <= line <= len(frames):
        raise ValueError(f"label line: expected 1 to {len(frames)} ({labels}), got {line}; name it with --label-line")
    uvd = torch.from_numpy(frames[line - 1]).float()
    if not bool(torch.isfinite(uvd).all() and (uvd[:, 2] > 0).all()):
        raise ValueError(f"{labels}, line {line}: expected finite numbers and depths above 0 mm, u v d per joint")
    points = unproject(uvd[None, :, :2], uvd[None, :, 2] * MM, K)[0]
    compared = sorted(sources)
    return Label(torch.stack([points[list(sources[joint])].mean(0) for joint in compared]), compared, line, layout)


def label_line(picture: Path, lines: int) -> int:
    """The line, from 1, that belongs to `picture`: the only one, or the number in the name of a frame of NYU.

    NYU publishes labels for its first camera, one line per `depth_1_<number>.png`, counted from 1.
    """
    if lines == 1:
        return 1
    if number := re.fullmatch(r"depth_1_(\d{7})", picture.stem):
        return int(number[1])
    raise ValueError(
        f"label line: {picture.name} does not say which of {lines} lines of labels is its own (NYU's depth_1_<number> "
        "does); name it with --label-line"
    )


def label_errors(joints_3d: Tensor, label: Label) -> dict[str, float]:
    """Mean errors in mm by alignment.

    Args:
        joints_3d: (21, 3) predicted, metres, camera frame, canonical order.
        label: the truth.
    """
    valid = torch.ones(1, len(label.joints), dtype=torch.bool)
    predicted, true = joints_3d[label.joints][None], label.points[None]
    return {alignment: float(point_errors(predicted, true, valid, alignment)[0].mean()) for alignment in ALIGNMENTS}


def print_errors(errors: dict[str, float], label: Label, convention: str) -> None:
    """Print what `label_errors` gives, and what it compares."""
    print(
        f"errors over {len(label.joints)} joints of layout {label.layout}, mm; predicted in convention '{convention}':"
    )
    print("  " + "  ".join(f"{alignment} {error:.1f}" for alignment, error in errors.items()))
    names = ", ".join(CANONICAL_JOINTS[joint] for joint in label.joints)
    print(f"  compared: {names}; nearest joints, not the same ones: a few mm are convention")
