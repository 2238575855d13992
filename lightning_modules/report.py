"""The report of a run: curves, tables, pictures, what it is made of, as one HTML file that needs no network."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from lightning_modules.callbacks.final_table import ALIGNMENTS, SCORES, error_rows, score_rows
from lightning_modules.html_document import array, picture_url, slot, write_document
from ops.drawing import Picture

LONGEST = 1600  # pixels of a picture
WIDE = 20  # times the smallest value: more is drawn on a logarithmic axis
# a diagram: its title, which metrics it takes of those that are left, and which of these it shows at first
DIAGRAMS = tuple(
    (title, re.compile(takes), re.compile(shows))
    for title, takes, shows in (
        ("Losses", r"(train|val)/(.+/)?\w*loss\w*", r"(train|val)/loss(_total)?"),
        ("Errors on validation, mm", r"val/.+_mm", r"val/(joints|vertices)_\w+_mm|val/mean_pose_root_mm|.+/mean_mm"),
        ("Scores on validation, %", r"val/.+_pct", r"val/[^/]+_pct"),
        ("Other figures", r"(train|val)/(?!.*_share$).+|lr.*", r".+"),
    )
)


class Shown(NamedTuple):
    """A picture of the report."""

    title: str
    picture: Picture


def write_report(
    folder: Path,
    title: str,
    facts: Mapping[str, object],
    test: Mapping[str, float],
    pictures: Mapping[str, list[Shown]],
) -> Path:
    """Write `report.html` of a run.

    Args:
        folder: of the run; its metrics.csv, config.yaml, figures/ and the newest sheet of pictures/ are read, where
            they are there.
        title: above the report.
        facts: commit, timing ...
        test: figures of a test, by metric; none where there was no test.
        pictures: under their headings.

    Returns:
        The report's path.
    """
    metrics = read_metrics(folder / "metrics.csv")
    figures, slots = [], []
    for name, figure in diagrams(metrics):
        slots.append(f"<section><h2>{escape(name)} by step</h2>{slot(len(figures), name)}</section>")
        figures.append(figure)
    if sheets := sorted((folder / "pictures").glob("step_*.png")):
        sheet = cv2.imread(str(sheets[-1]))
        pictures = {**pictures, f"Validation, step {int(sheets[-1].stem[5:])}": [Shown("the first samples", sheet)]}
    parts = [
        f"<header><h1>{escape(title)}</h1></header>",
        _facts(facts),
        _tables(test, folder / "figures"),
        f'<div class="diagrams">{"".join(slots)}</div>',
        "".join(_pictures(heading, shown) for heading, shown in pictures.items()),
        _config(folder / "config.yaml"),
    ]
    path = folder / "report.html"
    write_document(path, title, '<main class="report">' + "\n".join(parts) + "</main>", figures)
    return path


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Rows (N, 2) of step and value, by metric; none where there is no such file."""
    if not path.is_file():
        return {}
    values: dict[str, list[tuple[float, float]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if text and name not in ("step", "epoch"):
                    values.setdefault(name, []).append((float(row["step"]), float(text)))
    return {name: np.array(rows) for name, rows in values.items()}


def diagrams(metrics: Mapping[str, np.ndarray]) -> list[tuple[str, dict]]:
    """Titles and plotly figures of training and validation, value against step; what a test says is in tables."""
    drawn, left = [], dict(sorted(metrics.items()))
    for title, shows, at_first in DIAGRAMS:
        curves = {name: left.pop(name) for name in list(left) if shows.fullmatch(name)}
        if curves:
            drawn.append((title, _diagram(curves, at_first)))
    return drawn


def _diagram(curves: Mapping[str, np.ndarray], at_first: re.Pattern[str]) -> dict:
    shown = [name for name in curves if at_first.fullmatch(name)] or list(curves)
    traces = [
        {
            "type": "scatter",
            "name": name,
            "x": array(curves[name][:, 0]),
            "y": array(curves[name][:, 1]),
            "mode": "lines" if len(curves[name]) > 30 else "lines+markers",
            "line": {"dash": "dot" if "mean_pose" in name else "solid"},
            "visible": True if name in shown else "legendonly",
            "hovertemplate": "%{y:.4g}",
        }
        for name in [*shown, *(name for name in curves if name not in shown)]
    ]
    values = np.concatenate([curves[name][:, 1] for name in shown])
    wide = values.min() > 0 and values.max() > WIDE * values.min()
    layout = {
        "margin": {"l": 52, "r": 8, "t": 8, "b": 24},
        "xaxis": {"hoverformat": ",d"},
        "yaxis": {"type": "log" if wide else "linear", "dtick": "D1" if wide else None},
        "legend": {"orientation": "h", "y": -0.1, "maxheight": 0.3, "font": {"size": 11}},
        "hovermode": "x unified",
    }
    return {"data": traces, "layout": layout}


def _facts(facts: Mapping[str, object]) -> str:
    rows = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def _tables(test: Mapping[str, float], judgements: Path) -> str:
    """Errors by domain and alignment, part scores, and what the protocols of datasets say."""
    errors = {f"{domain} {what.replace('_', ' ')}": row for (domain, what), row in error_rows(dict(test)).items()}
    tables = [
        _table("Test errors, mm", ALIGNMENTS, errors),
        _table("Part scores, %", SCORES, score_rows(dict(test))),
    ]
    for path in sorted(judgements.glob("*.json")):
        figures = json.loads(path.read_text())
        numbers = {k: v for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        names = {name: name.replace("_", " ") for name in numbers}
        tables.append(_table(f"{path.stem} by {figures['protocol']}", names, {path.stem: numbers}))
    return "".join(tables)


def _table(title: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, float]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns.values())
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{_number(row.get(key))}</td>' for key in columns)}</tr>"
        for name, row in rows.items()
    )
    return (
        f'<section><h2>{escape(title)}</h2><div class="wide"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"


def _pictures(heading: str, shown: Sequence[Shown]) -> str:
    figures = "".join(
        f'<figure><img alt="{escape(title)}" src="{picture_url(picture[..., ::-1], LONGEST)}">'
        f"<figcaption>{escape(title)}</figcaption></figure>"
        for title, picture in shown
    )
    return f'<section><h2>{escape(heading)}</h2><div class="pictures">{figures}</div></section>'


def _config(path: Path) -> str:
    text = escape(path.read_text()) if path.is_file() else ""
    return f"<section><details><summary>{path.name}</summary><pre>{text}</pre></details></section>" if text else ""
