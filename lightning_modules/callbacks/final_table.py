"""The tables at the end of a test: errors by alignment, beside those of a constant mean pose; part scores.

Reads metrics named `test/[<domain>/]<what>_<alignment>_mm`, `what` is `joints`, `vertices`, `mean_pose` ..., and
`test/[<domain>/]<score>_pct` of the scores below.
"""

import math
import re

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

ALIGNMENTS = {"absolute": "absolute", "root": "root-aligned", "procrustes": "Procrustes-aligned"}
SCORES = {"per_pixel": "per pixel", "per_class": "per class", "mean_iou": "mean IoU"}
_SCORE = re.compile(rf"test/(?:(?P<domain>.+)/)?(?P<score>{'|'.join(SCORES)})_pct")
_METRIC = re.compile(r"test/(?:(?P<domain>.+)/)?(?P<what>\w+)_(?P<alignment>absolute|root|procrustes)_mm")


class FinalTable(Callback):
    """Prints the errors of a test in millimetres, a row per quantity and a column per alignment, and part scores."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the tables on rank 0."""
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for table in (error_table(metrics), score_table(metrics)):
            if table.row_count:
                Console(width=None if Console().is_terminal else 100).print(table)


def error_rows(metrics: dict[str, float]) -> dict[tuple[str, str], dict[str, float]]:
    """Errors by alignment of each (domain, what) in `metrics`; names that do not fit the pattern are left out."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        if found := _METRIC.fullmatch(name):
            rows.setdefault((found["domain"] or "", found["what"]), {})[found["alignment"]] = value
    return dict(sorted(rows.items()))


def error_table(metrics: dict[str, float], title: str = "Test errors, mm") -> Table:
    """The rich table of the errors in `metrics`."""
    table = Table("", *ALIGNMENTS.values(), title=title)
    for (domain, what), errors in error_rows(metrics).items():
        cells = [f"{errors[key]:.1f}" if key in errors else "-" for key in ALIGNMENTS]
        table.add_row(f"{domain} {what.replace('_', ' ')}".strip(), *cells)
    return table


def score_rows(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Part scores of each domain in `metrics`; domains without labelled pixels are left out."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if (found := _SCORE.fullmatch(name)) and not math.isnan(value):
            rows.setdefault(found["domain"] or "all", {})[found["score"]] = value
    return dict(sorted(rows.items()))


def score_table(metrics: dict[str, float], title: str = "Part scores, %") -> Table:
    """The rich table of the part scores in `metrics`."""
    table = Table("", *SCORES.values(), title=title)
    for domain, scores in score_rows(metrics).items():
        table.add_row(domain, *(f"{scores[key]:.1f}" if key in scores else "-" for key in SCORES))
    return table
