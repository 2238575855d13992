"""The labels of a split as a file: the ground truth that `python -m lightning_modules.evaluate` compares with.

    python -m datamodules.labels <dataset> <folder> --split test --out labels.npz

Holds the arrays of `datamodules.label_arrays`: keys, joints, their convention, visibility and side, and the points of
the dataset's protocol where it has its own. Nothing that is there is replaced.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jsonargparse
import numpy as np
from rich.progress import track

from datamodules.datasets import ALL_SPLITS, DATASETS, dataset_class, dataset_options
from datamodules.label_arrays import label_arrays


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    words = sys.argv[1:] if words is None else list(words)
    parser = _parser(next((word for word in words if word in DATASETS), None))
    arguments = parser.parse_args(words)
    name = arguments.dataset
    try:
        _check_out(arguments.out, arguments.folder)
        options = {option: arguments[option] for option in dataset_options(name)}
        frames = dataset_class(name)(arguments.folder, **options).frames(arguments.split)
        labels = label_arrays(frames, track(range(len(frames)), description="labels", transient=True))
        with open(arguments.out, "xb") as file:
            np.savez_compressed(file, **labels)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{len(labels['keys'])} records of {name}/{arguments.split}: {', '.join(labels)} in {arguments.out}")


def _parser(dataset: str | None) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        prog="python -m datamodules.labels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(DATASETS))
    parser.add_argument("folder", type=Path, help="where the dataset lies")
    parser.add_argument("--split", choices=ALL_SPLITS, default="test")
    parser.add_argument("--out", type=Path, required=True, help=".npz to write, not in the dataset's folder")
    if dataset is not None:
        parser.add_class_arguments(dataset_class(dataset), skip={"folder"})
    return parser


def _check_out(out: Path, folder: Path) -> None:
    if out.suffix != ".npz":
        raise ValueError(f"--out: expected a name ending in .npz, got '{out}'")
    if out.exists():
        raise FileExistsError(f"{out}: there already; remove it or name another file")
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out: {out} lies in the dataset's folder, into which nothing is written; name another place"
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: no such folder; create it first")


if __name__ == "__main__":
    main()
