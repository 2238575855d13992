"""Errors of one predicted hand against published labels that share only some of its joints."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_modules.metrics import ALIGNMENTS, point_errors
from lightning_modules.prediction_files import LABEL_LAYOUTS, read_uvd
from ops.camera import unproject
from ops.checks import check_choice
from ops.joints import CANONICAL_JOINTS

MM = 0.001


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
    canonical = LABEL_LAYOUTS[layout]
    frames = read_uvd(labels, len(canonical))
    if not 1 <= line <= len(frames):
        raise ValueError(f"label line: expected 1 to {len(frames)} ({labels}), got {line}")
    uvd = torch.from_numpy(frames[line - 1]).float()
    points = unproject(uvd[None, :, :2], uvd[None, :, 2] * MM, K)[0]
    # canonical order puts the wrist, by which root-aligned errors are taken, first
    pairs = sorted((target, source) for source, target in enumerate(canonical) if target >= 0)
    predicted = joints_3d[[target for target, _ in pairs]][None]
    true = points[[source for _, source in pairs]][None]
    valid = torch.ones(1, len(pairs), dtype=torch.bool)
    means = {alignment: float(point_errors(predicted, true, valid, alignment)[0].mean()) for alignment in ALIGNMENTS}
    return means, [CANONICAL_JOINTS[target] for target, _ in pairs]


def print_errors(errors: dict[str, float], names: list[str], layout: str, convention: str) -> None:
    """Print what `label_errors` gives, and what it compares."""
    print(f"errors over {len(names)} joints of layout {layout}, mm; predicted in convention '{convention}':")
    print("  " + "  ".join(f"{alignment} {error:.1f}" for alignment, error in errors.items()))
    print(f"  compared: {', '.join(names)}; nearest joints, not the same ones: a few mm are convention")
