"""Errors of one predicted hand against published labels that share only some of its joints."""

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


def label_errors(
    joints_3d: Tensor, labels: str | Path, layout: str, line: int, K: Tensor
) -> tuple[dict[str, float], list[str]]:
    """Mean errors in mm by alignment, and the names of the joints compared.

    Args:
        joints_3d: (21, 3) predicted, metres, camera frame, canonical order.
        labels: text file, u v d per joint, pixels and millimetres.
        layout: which joints a line holds (`LABEL_LAYOUTS`).
        line: of the file, from 1.
        K: (3, 3) of the picture the labels belong to.
    """
    check_choice("label layout", layout, LABEL_LAYOUTS)
    count, sources = LABEL_LAYOUTS[layout]
    frames = read_uvd(labels, count)
    if not 1 <= line <= len(frames):
        raise ValueError(f"label line: expected 1 to {len(frames)} ({labels}), got {line}")
    uvd = torch.from_numpy(frames[line - 1]).float()
    points = unproject(uvd[None, :, :2], uvd[None, :, 2] * MM, K)[0]
    compared = sorted(sources)  # the wrist, by which root-aligned errors are taken, comes first
    true = torch.stack([points[list(sources[joint])].mean(0) for joint in compared])[None]
    predicted = joints_3d[compared][None]
    valid = torch.ones(1, len(compared), dtype=torch.bool)
    means = {alignment: float(point_errors(predicted, true, valid, alignment)[0].mean()) for alignment in ALIGNMENTS}
    return means, [CANONICAL_JOINTS[joint] for joint in compared]


def print_errors(errors: dict[str, float], names: list[str], layout: str, convention: str) -> None:
    """Print what `label_errors` gives, and what it compares."""
    print(f"errors over {len(names)} joints of layout {layout}, mm; predicted in convention '{convention}':")
    print("  " + "  ".join(f"{alignment} {error:.1f}" for alignment, error in errors.items()))
    print(f"  compared: {', '.join(names)}; nearest joints, not the same ones: a few mm are convention")
