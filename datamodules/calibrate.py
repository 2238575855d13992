"""Measure a joint convention: where exactly a dataset's labels lie on the hand.

    python -m datamodules.calibrate ge annotations.npz
    python -m datamodules.calibrate nyu joint_1_u.csv.xz --source "NYU, test labels of camera 1"
    python -m datamodules.calibrate rhd /data/RHD_published_v2 --split train --hands 4000 --out rhd.json

Fits the open hand to joints alone, calibrates constant offsets in the frames of its bones on one half of the hands,
reports how well hands of the other half are fitted with them, and writes the convention as a small JSON file.
Neighbouring frames of a video are nearly equal, so the halves are alternating blocks, not alternating frames.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from datamodules.calibration_labels import Labels, Layout, layout_of, read_labels
from datamodules.datasets import ALL_SPLITS
from ops.hand_model.calibration import calibrate_points, residual_offsets
from ops.hand_model.conventions import FOLDER, PointSet
from ops.hand_model.fitting import JointFit, fit_joints
from ops.joints import CANONICAL_BONE, CANONICAL_JOINTS, MODEL_JOINTS
from ops.rotation import rigid_alignment

BLOCKS = 10  # of the hands in their order; even ones calibrate, odd ones are measured
_MM = 1000.0


def halves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that calibrate and rows that are measured: alternating blocks; of fewer than 20 hands all are both."""
    rows = np.arange(count)
    if count < 2 * BLOCKS:
        return rows, rows
    even = rows * BLOCKS // count % 2 == 0
    return rows[even], rows[~even]


def thinned(labels: Labels, hands: int) -> Labels:
    """At most `hands` hands, evenly spread."""
    rows = np.unique(np.linspace(0, len(labels.points) - 1, min(hands, len(labels.points))).round().astype(int))
    return Labels(labels.points[rows], labels.valid[rows], labels.source)


def calibrate(labels: Labels, layout: Layout, rounds: int, quiet: bool = False) -> tuple[PointSet, np.ndarray]:
    """The points with their offsets, and the offsets (21, 3) of the canonical joints, NaN where none is labelled."""

    def progress(steps):  # noqa: ANN001, ANN202 (rich's own types)
        return track(steps, "calibrating", total=rounds, console=Console(stderr=True), disable=quiet)

    points, valid = torch.from_numpy(labels.points), torch.from_numpy(labels.valid)
    found = calibrate_points(points, valid, layout.points, rounds, progress=progress)
    joints, known = (torch.from_numpy(array) for array in labels.canonical(layout))
    fit = fit_joints(points, valid, found)
    offsets = residual_offsets(joints.double(), known, fit.joints, fit.rotations, CANONICAL_BONE).numpy()
    offsets[~known.any(0).numpy()] = np.nan
    return found, offsets


def measured(joints: Tensor, valid: Tensor, fit: JointFit) -> dict[str, float | list[float]]:
    """Mean errors in mm of fits, by alignment, and per point. Root-aligned: on the first point that is labelled."""
    count = valid.sum()
    root = int(valid.any(0).int().argmax())
    shift = (joints - fit.points)[:, root : root + 1]
    turned = rigid_alignment(fit.points, joints, valid.to(joints.dtype), scale=True)
    per_point = (fit.errors.sum(0) / valid.sum(0).clamp_min(1)) * _MM
    return {
        "mean_mm": float(fit.errors.sum() / count * _MM),
        "root_mm": float(((fit.points + shift - joints).norm(dim=-1) * valid).sum() / count * _MM),
        "procrustes_mm": float(((turned - joints).norm(dim=-1) * valid).sum() / count * _MM),
        "per_point_mm": [round(float(error), 2) for error in per_point],
    }


def report(labels: Labels, layout: Layout, points: PointSet, offsets: np.ndarray) -> dict[str, dict]:
    """Fits of the hands of `labels`: without offsets, with those of the joints, with those of the points."""
    joints, known = (torch.from_numpy(array) for array in labels.canonical(layout))
    own, valid = torch.from_numpy(labels.points), torch.from_numpy(labels.valid)
    joints = joints.double()
    bare = PointSet("model", CANONICAL_JOINTS, np.eye(21), np.array(CANONICAL_BONE), np.zeros((21, 3)))
    moved = PointSet("joints", CANONICAL_JOINTS, np.eye(21), np.array(CANONICAL_BONE), np.nan_to_num(offsets))
    figures = {
        "no offsets": measured(joints, known, fit_joints(joints, known, bare)),
        "21 joints": measured(joints, known, fit_joints(joints, known, moved)),
    }
    if points.points != CANONICAL_JOINTS:
        figures[f"{len(points.points)} points"] = measured(own, valid, fit_joints(own, valid, points))
    return figures


def convention_file(name: str, layout: Layout, points: PointSet, offsets: np.ndarray, facts: Mapping) -> dict:
    """What is written."""

    def millimetres(row: np.ndarray) -> list[float] | None:
        return None if np.isnan(row).any() else [round(float(x) * _MM, 2) for x in row]

    content = {"name": name, **facts, "offsets_mm": [millimetres(row) for row in offsets]}
    if points.points != CANONICAL_JOINTS:
        content["points"] = [
            {
                "name": point,
                "joints": [CANONICAL_JOINTS[j] for j in np.flatnonzero(weights)],
                "bone": MODEL_JOINTS[bone],
                "offset_mm": millimetres(offset),
            }
            for point, weights, bone, offset in zip(
                points.points, points.weights, points.bones, points.offsets, strict=True
            )
        ]
        content["subsets"] = {key: list(rows) for key, rows in layout.subsets.items()}
    return content


def write_convention(path: Path, content: dict, force: bool = False) -> None:
    """One row a line. An existing file is only replaced with `force`."""
    if path.exists() and not force:
        raise ValueError(f"{path} exists; give --force to replace it, or another file with --out")
    lines = []
    for key, value in content.items():
        if isinstance(value, list):
            rows = ",\n    ".join(json.dumps(row) for row in value)
            lines.append(f"{json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n")


def show(name: str, figures: Mapping[str, dict], points: PointSet) -> Table:
    """A line per fit, then the worst points."""
    table = Table(title=f"fit of the other half, convention {name}, mm")
    for column in ("labels fitted", "mean", "root-aligned", "Procrustes", "worst points"):
        table.add_column(column, justify="left" if column in ("labels fitted", "worst points") else "right")
    for label, figure in figures.items():
        names = points.points if label.endswith("points") else CANONICAL_JOINTS
        worst = np.argsort(figure["per_point_mm"])[::-1][:3]
        shown = ", ".join(f"{names[i]} {figure['per_point_mm'][i]:.1f}" for i in worst)
        numbers = (f"{figure[key]:.2f}" for key in ("mean_mm", "root_mm", "procrustes_mm"))
        table.add_row(label, *numbers, shown)
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="name of the dataset")
    parser.add_argument("labels", type=Path, help="the dataset's folder, or a file of its labels")
    parser.add_argument("--split", choices=ALL_SPLITS, default="test", help="of a folder")
    parser.add_argument("--hands", type=int, default=600, help="at most so many, evenly spread")
    parser.add_argument("--source", help="what the labels are, for the record; say so if they are a test set's")
    parser.add_argument("--rounds", type=int, default=30, help="of fitting and moving the offsets")
    parser.add_argument("--out", type=Path, help="file to write; default: the convention's own")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Read, calibrate, measure, write, print."""
    name, labels = read_labels(options.dataset, options.labels, options.split)
    path = options.out or FOLDER / f"{name}.json"
    if path.exists() and not options.force:
        raise ValueError(f"{path} exists; give --force to replace it, or another file with --out")
    if options.hands < 1 or options.rounds < 1:
        raise ValueError(f"--hands and --rounds: expected at least 1, got {options.hands} and {options.rounds}")
    layout, total = layout_of(name), len(labels.points)
    labels = thinned(labels, options.hands)
    first, second = (
        Labels(labels.points[rows], labels.valid[rows], labels.source) for rows in halves(len(labels.points))
    )
    points, offsets = calibrate(first, layout, options.rounds)
    figures = report(second, layout, points, offsets)
    same = len(first.points) + len(second.points) > len(labels.points)
    facts = {
        "source": f"{options.source or labels.source}: {len(first.points)} of {total} hands"
        + (", measured on the same hands" if same else f", measured on {len(second.points)} others"),
        "count": len(first.points),
        "other_half_mm": {
            label: [round(figure[key], 2) for key in ("mean_mm", "root_mm", "procrustes_mm")]
            for label, figure in figures.items()
        },
    }
    write_convention(path, convention_file(name, layout, points, offsets, facts), options.force)
    Console(width=120).print(show(name, figures, points))
    print(f"written: {path}")
    print(json.dumps({"convention": name, "hands": len(first.points), "figures": figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
