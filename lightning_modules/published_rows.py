"""Figures of published methods, by protocol: facts with their sources, in `published/<protocol>.json`."""

import json
from pathlib import Path
from typing import NamedTuple

from ops.checks import check_choice

FOLDER = Path(__file__).parent / "published"
Curve = dict[str, list[float]]  # thresholds_mm and share


class PublishedRow(NamedTuple):
    """One method under one protocol."""

    method: str
    year: int | None
    figures: dict[str, float]  # under the names of `evaluate`
    source: str
    # its figure needs what a user does not have: the true palm, bone length or side; None: its sources do not say
    uses_ground_truth_at_test: bool | None
    note: str = ""
    curve_maxframe: Curve | None = None
    curve_pck: Curve | None = None
    curve_auc: float | None = None  # of curve_pck, by trapezoids, where it is printed differently

    @property
    def mark(self) -> str:
        """What stands behind its name in tables and plots."""
        return {True: " *", False: "", None: " (?)"}[self.uses_ground_truth_at_test]


MARKS = "* uses ground truth at test time (palm, bone length, side or box); (?) sources do not say whether it does"


def published_protocols() -> tuple[str, ...]:
    """Protocols that published figures are on file for."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def published_rows(protocol: str) -> list[PublishedRow]:
    """All published rows of a protocol."""
    check_choice("protocol", protocol, published_protocols())
    return [PublishedRow(**row) for row in json.loads((FOLDER / f"{protocol}.json").read_text())]
