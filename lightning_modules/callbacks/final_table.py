"""The table at the end of a test: errors by alignment, beside those of a constant mean pose.

Reads metrics named `test/[<domain>/]<what>_<alignment>_mm`; `what` is `joints`, `vertices`, `mean_pose` ...
"""

import re

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

ALIGNMENTS = {"absolute": "absolute", "root": "root-aligned", "procrustes": "Procrustes-aligned"}
_METRIC = re.compile(r"test/(?:(?P<domain>.+)/)?(?P<what>\w+)_(?P<alignment>absolute|root|procrustes)_mm")


class FinalTable(Callback):
    """Prints the errors of a test in millimetres, one row per quantity, one column per alignment."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table on rank 0."""
        if trainer.is_global_zero:
            table = error_table({name: float(value) for name, value in trainer.callback_metrics.items()})
            if table.row_count:
                Console(width=None if Console().is_terminal else 100).print(table)


def error_table(metrics: dict[str, float], title: str = "Test errors, mm") -> Table:
    """The rich table of `metrics`; names that do not fit the pattern are left out."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        if found := _METRIC.fullmatch(name):
            rows.setdefault((found["domain"] or "", found["what"]), {})[found["alignment"]] = value
    table = Table("", *ALIGNMENTS.values(), title=title)
    for (domain, what), errors in sorted(rows.items()):
        cells = [f"{errors[key]:.1f}" if key in errors else "-" for key in ALIGNMENTS]
        table.add_row(f"{domain} {what.replace('_', ' ')}".strip(), *cells)
    return table
