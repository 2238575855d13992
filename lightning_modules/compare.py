"""A run of ours beside published rows of the same protocol.

    python -m lightning_modules.compare --protocol nyu-14 --run figures.json [more.json ...] [--format markdown]

`figures.json` is what `python -m lightning_modules.evaluate ... --save figures.json` writes, or all that it prints.
Without a run, the published rows alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightning_modules.published_rows import MARKS, PublishedRow, published_protocols, published_rows

# the figure that a protocol's papers compare, and whether more is better; then what stands beside it
COLUMNS: dict[str, tuple[tuple[str, ...], bool]] = {
    "nyu-14": (("mean_mm", "median_mm", "mean_xy_mm"), False),
    "nyu-14-px": (("mean_px", "median_px"), False),
    "icvl-16": (("mean_mm", "median_mm"), False),
    "msra-21": (("mean_mm",), False),
    "rhd-eval-util": (("auc_20_50_as_published", "mean_mm"), True),
    "stb-eval-util": (("auc_20_50_as_published", "mean_mm"), True),
    "dexter-tips": (("auc_0_100", "mean_mm"), True),
    "freihand": (("pa_mpjpe_mm", "pa_mpvpe_mm", "pa_f_at_5mm", "pa_f_at_15mm"), False),
    "segmentation": (("per_pixel_pct", "per_class_pct"), True),
}


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and a remedy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=published_protocols(), help="default: the runs'")
    parser.add_argument("--run", type=Path, nargs="+", default=[], help="JSON of evaluate --save, or its whole output")
    parser.add_argument("--format", choices=("rich", "markdown"), default="rich")
    arguments = parser.parse_args()
    if not arguments.run and arguments.protocol is None:
        parser.error("expected --run, --protocol or both, got neither; name the JSON of an evaluation")
    try:
        runs = {path.stem: read_run(path) for path in arguments.run}
        name = shared_protocol(runs, arguments.protocol)
        header, rows = comparison(name, runs)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if arguments.format == "markdown":
        print(markdown(header, rows))
    else:
        show(name, header, rows)


def read_run(path: Path) -> dict[str, Any]:
    """The figures of one evaluation: the last line of the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with evaluate --save")
    try:
        run = json.loads((path.read_text().strip().splitlines() or [""])[-1])
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f"{path}: the last line is no JSON ({error}); write it with evaluate --save") from error
    if not isinstance(run, dict) or not {"protocol", "rules", "predictions"} <= set(run):
        raise ValueError(f"{path}: not the figures of an evaluation; write them with evaluate --save")
    return run


def shared_protocol(runs: dict[str, dict[str, Any]], name: str | None) -> str:
    """The protocol of all runs, which must be `name` if that is given and have published rows."""
    protocols = {run["protocol"] for run in runs.values()} | ({name} if name else set())
    if len(protocols) > 1:
        raise ValueError(f"runs: expected one protocol, got {', '.join(sorted(protocols))}; compare them apart")
    name = protocols.pop()
    if name not in published_protocols():
        known = ", ".join(published_protocols())
        raise ValueError(f"runs: nothing published is on file for '{name}'; expected one of {known}")
    return name


def comparison(protocol: str, runs: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows, best first; rows without the compared figure come last."""
    columns, more_is_better = COLUMNS[protocol]
    rows = [*published_rows(protocol), *(_our_row(name, run) for name, run in runs.items())]
    rows.sort(key=lambda row: _rank(row.figures.get(columns[0]), more_is_better))
    header = ["method", "year", *(column.replace("_", " ") for column in columns), "source"]
    return header, [_cells(row, columns) for row in rows]


def _rank(figure: float | None, more_is_better: bool) -> float:
    if figure is None:
        return float("inf")
    return -figure if more_is_better else figure


def _our_row(name: str, run: dict[str, Any]) -> PublishedRow:
    frames = f"{run['frames']} frames, " if "frames" in run else ""
    scaled = run["rules"].get("scale", "").startswith("times")  # --scale "ground truth"
    return PublishedRow(f"this run: {name}", None, run, frames + Path(run["predictions"]).name, scaled)


def _cells(row: PublishedRow, columns: tuple[str, ...]) -> list[str]:
    figures = ["" if row.figures.get(column) is None else f"{row.figures[column]:g}" for column in columns]
    source = f"{row.source}; {row.note}" if row.note else row.source
    return [row.method + row.mark, str(row.year or ""), *figures, source]


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    """The table on the console; sources stand below it, each once, so that a narrow window has room for figures."""
    sources = list(dict.fromkeys(row[-1] for row in rows))
    table = Table(*header, title=title)
    for *cells, source in rows:
        table.add_row(*cells, f"[{sources.index(source) + 1}]")
    console = Console()
    console.print(table, markup=False)
    for text in (MARKS, *(f"[{number}] {source}" for number, source in enumerate(sources, 1))):
        console.print(text, markup=False, highlight=False)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """The table in Markdown."""
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{MARKS}"


if __name__ == "__main__":
    main()
