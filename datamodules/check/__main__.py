"""Check a dataset's folder: are all files there, and do labels, pictures, axes, sides and joint order agree?

    python -m datamodules.check <dataset> <folder> [--split test] [--samples 200 | --all] [--picture sheet.png]

Every record's files are looked for; `--samples` of each split, chosen by `--seed`, are opened, `--all` opens every one.
Records of which a file is missing are not opened; where that is all of them, the labels alone are checked.
Exit code 0: all is right; 1: something does not agree; 2: the command itself is wrong. Nothing is ever written into
the dataset's folder.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jsonargparse
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from datamodules.check.judge import SplitReport, Verdict, judge
from datamodules.check.observe import Observation, observe_all
from datamodules.check.picture import draw_frames
from datamodules.datasets import ALL_SPLITS, DATASETS, dataset_class, dataset_options
from datamodules.frames import HandDataset, HandFrames

_PICTURED = 12  # frames on the sheet
_BAD_SHOWN = 10
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = sys.argv[1:] if words is None else list(words)
    parser = _parser(next((word for word in words if word in DATASETS), None))
    arguments = parser.parse_args(words)
    name, folder = arguments.dataset, arguments.folder
    if not folder.is_dir():
        parser.error(f"folder: {folder}: no such folder")
    problem = _picture_problem(arguments.picture, folder)
    if problem:
        parser.error(f"--picture: {problem}")
    options = {option: arguments[option] for option in dataset_options(name)}
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        dataset = dataset_class(name)(folder, **options)
    except FileNotFoundError as error:
        console.print(f"[red]not the folder of {name}[/]: {escape(str(error))}")
        return 1
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    splits = arguments.split or DATASETS[name].splits
    reports, drawable = _check(dataset, splits, arguments, console)
    _print(name, folder, reports, console)
    if arguments.picture:
        _draw(drawable, arguments, console)
    return int(any(report.mismatches for report in reports))


def _parser(dataset: str | None) -> jsonargparse.ArgumentParser:
    """The command line; a dataset's options are its constructor's arguments."""
    parser = jsonargparse.ArgumentParser(
        prog="python -m datamodules.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=list(DATASETS))
    parser.add_argument("folder", type=Path, help="where the dataset lies")
    parser.add_argument("--split", nargs="+", choices=ALL_SPLITS, help="default: all that the dataset has")
    parser.add_argument("--samples", type=jsonargparse.typing.PositiveInt, default=200, help="frames opened per split")
    parser.add_argument("--all", action="store_true", help="open every frame")
    parser.add_argument("--picture", type=Path, help=f"draw {_PICTURED} random frames with their joints")
    parser.add_argument("--workers", type=jsonargparse.typing.NonNegativeInt, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0, help="of the choice of frames")
    if dataset is not None:
        parser.add_class_arguments(dataset_class(dataset), skip={"folder"})
    return parser


def _picture_problem(picture: Path | None, folder: Path) -> str | None:
    if picture is None:
        return None
    if picture.suffix.lower() not in _PICTURE_SUFFIXES:
        return f"expected a name ending in {', '.join(_PICTURE_SUFFIXES)}, got '{picture.name}'"
    if not picture.parent.is_dir():
        return f"{picture.parent}: no such folder; create it first"
    if picture.resolve().is_relative_to(folder.resolve()):
        return f"{picture} lies inside the dataset's folder, into which nothing is written; choose another place"
    return None


def _check(
    dataset: HandDataset, splits: Sequence[str], arguments: argparse.Namespace, console: Console
) -> tuple[list[SplitReport], list[tuple[HandFrames, int]]]:
    """Reports of the splits, and the records that can be drawn."""
    reports, drawable = [], []
    with Progress(console=console) as progress:
        for split in splits:
            try:
                frames = dataset.frames(split)
            except (ValueError, OSError) as error:  # BadFrame is a ValueError
                reports.append(
                    SplitReport(split, {"frames": Verdict("cannot be opened", False)}, [(split, str(error))])
                )
                continue
            missing, complete = _look_for_files(frames, progress)
            seen = list(_observe(frames, complete, arguments, progress))
            reports.append(judge(frames, missing, seen, labels_alone=not complete))
            drawable += [(frames, observation.index) for observation in seen if complete and not observation.error]
    return reports, drawable


def _look_for_files(frames: HandFrames, progress: Progress) -> tuple[list[Path], list[int]]:
    """Files of any record that do not exist, each once, and the records whose files all exist.

    A folder is listed once, which is faster than asking file by file.
    """
    listings: dict[Path, set[str]] = {}
    missing: dict[Path, None] = {}
    complete: list[int] = []
    for index in progress.track(range(len(frames)), description=f"{frames.split}: files"):
        there = True
        for path in frames.files(index):
            if path.parent not in listings:
                listings[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
            if path.name not in listings[path.parent]:
                missing[path] = None
                there = False
        if there:
            complete.append(index)
    return list(missing), complete


def _observe(
    frames: HandFrames, complete: Sequence[int], arguments: argparse.Namespace, progress: Progress
) -> Iterator[Observation]:
    """Open complete records; where there are none, the labels of any."""
    records = complete or range(len(frames))
    count = len(records) if arguments.all else min(len(records), arguments.samples)
    chosen = np.random.default_rng(arguments.seed).choice(len(records), count, replace=False)
    indices = [records[i] for i in sorted(chosen.tolist())]
    observed = observe_all(frames, indices, arguments.workers, pictures=bool(complete))
    yield from progress.track(observed, total=count, description=f"{frames.split}: frames")


def _print(name: str, folder: Path, reports: Sequence[SplitReport], console: Console) -> None:
    table = Table("", *(report.split for report in reports), title=f"{name} in {folder}")
    for row in dict.fromkeys(row for report in reports for row in report.verdicts):
        table.add_row(row, *(_cell(report.verdicts.get(row)) for report in reports))
    console.print(table)
    for report in reports:
        if report.bad:
            _print_bad(report, console)
    wrong = [f"{report.split}: {', '.join(report.mismatches)}" for report in reports if report.mismatches]
    console.print("[red]does not agree:[/] " + "; ".join(wrong) if wrong else "[green]all agrees[/]")


def _print_bad(report: SplitReport, console: Console) -> None:
    console.print(f"{report.split}: the first {min(_BAD_SHOWN, len(report.bad))} of {len(report.bad)} bad")
    for name, error in report.bad[:_BAD_SHOWN]:
        console.print(f"  {escape(error if name in error else f'{name}: {error}')}", soft_wrap=True)


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    mark = {True: "[green]✓[/] ", False: "[red]✗[/] ", None: ""}[verdict.right]
    return mark + escape(verdict.text)


def _draw(drawable: Sequence[tuple[HandFrames, int]], arguments: argparse.Namespace, console: Console) -> None:
    if not drawable:
        console.print("no frame can be drawn")
        return
    count = min(_PICTURED, len(drawable))
    chosen = sorted(np.random.default_rng(arguments.seed).choice(len(drawable), count, replace=False).tolist())
    draw_frames([drawable[i][0].frame(drawable[i][1]) for i in chosen], arguments.picture)
    console.print(f"{arguments.picture}: {count} frames")


if __name__ == "__main__":
    sys.exit(main())
