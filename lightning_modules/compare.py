"""A run of ours beside published rows of the same protocol.

    python -m lightning_modules.compare --run figures.json [more.json ...] [--format markdown]

`figures.json` is what `python -m lightning_modules.evaluate ... --save figures.json` writes; its protocol decides the
rows.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightning_modules.published_rows import PublishedRow, published_protocols, published_rows

# the figure that a protocol's papers compare, and whether more is better; then what stands beside it
COLUMNS: dict[str, tuple[tuple[str, ...], bool]] = {
    "nyu-14": (("mean_mm", "median_mm", "mean_xy_mm"), False),
    "icvl-16": (("mean_mm", "median_mm"), False),
    "msra-21": (("mean_mm",), False),
    "rhd-eval-util": (("auc_20_50_as_published", "mean_mm"), True),
    "stb-eval-util": (("auc_20_50_as_published", "mean_mm"), True),
    "dexter-tips": (("auc_0_100", "mean_mm"), True),
}
MARK = "*"
NOTE = f"{MARK} uses ground truth at test time (palm, bone length or side)"


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, nargs="+", help="JSON of evaluate --save")
    parser.add_argument("--format", choices=("table", "markdown"), default="table")
    arguments = parser.parse_args()
    try:
        runs = {path.stem: read_run(path) for path in arguments.run}
        header, rows = comparison(runs)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if arguments.format == "markdown":
        print(markdown(header, rows))
    else:
        table = Table(*header, title=next(iter(runs.values()))["protocol"], caption=NOTE)
        for row in rows:
            table.add_row(*row)
        Console().print(table)


def read_run(path: Path) -> dict[str, Any]:
    """The figures of one evaluation."""
    try:
        run = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: no JSON ({error}); write it with evaluate --save") from error
    if not isinstance(run, dict) or "protocol" not in run:
        raise ValueError(f"{path}: not the figures of an evaluation; write them with evaluate --save")
    if run["protocol"] not in published_protocols():
        known = ", ".join(published_protocols())
        raise ValueError(f"{path}: nothing published is on file for '{run['protocol']}', only for {known}")
    return run


def comparison(runs: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, best first; all runs must be of one protocol."""
    protocols = {run["protocol"] for run in runs.values()}
    if len(protocols) > 1:
        raise ValueError(f"runs: expected one protocol, got {', '.join(sorted(protocols))}; compare them apart")
    columns, more_is_better = COLUMNS[protocols.pop()]
    ours = [
        PublishedRow(f"this run: {name}", None, run, _rules(run), run["rules"].get("scale", "").startswith("times"))
        for name, run in runs.items()
    ]
    rows = [*published_rows(next(iter(runs.values()))["protocol"]), *ours]
    worst = float("-inf") if more_is_better else float("inf")
    rows.sort(key=lambda row: row.figures.get(columns[0], worst), reverse=more_is_better)
    header = ["method", "year", *(column.replace("_", " ") for column in columns), "source"]
    return header, [_cells(row, columns) for row in rows]


def _rules(run: dict[str, Any]) -> str:
    return f"{run.get('frames', '?')} frames, {Path(run['predictions']).name}"


def _cells(row: PublishedRow, columns: tuple[str, ...]) -> list[str]:
    mark = f" {MARK}" if row.uses_ground_truth_at_test else ""
    figures = [f"{row.figures[column]:g}" if column in row.figures else "" for column in columns]
    return [row.method + mark, str(row.year or ""), *figures, row.source]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """The table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{NOTE}"


if __name__ == "__main__":
    main()
