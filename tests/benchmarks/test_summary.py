"""The page of measured figures says what the results say."""

import json

import pytest

from benchmarks.summary import GOALS, PAGE, Goal, page


def test_the_page_is_what_the_results_say():
    assert PAGE.read_text() == page(), "python -m benchmarks.summary writes it anew"


def test_a_goal_is_met_on_its_side():
    most, least = (Goal("b", "f", "", sense, 2.0) for sense in ("at most", "at least"))
    assert [most.met(v) for v in (1.9, 2.0, 2.1)] == [True, True, False]
    assert [least.met(v) for v in (1.9, 2.0, 2.1)] == [False, True, True]


def test_what_is_missed_is_said_and_what_has_no_figure_is_refused(tmp_path):
    figures = {goal.figure: 1e-9 for goal in GOALS if goal.benchmark == "render"}
    result = {"machine": {"cpu": "a cpu", "cores": 2}, "commit": "abc", "figures": figures}
    (tmp_path / "render.json").write_text(json.dumps(result))
    rows = [line for line in page(tmp_path).splitlines() if line.startswith("| render ")]
    assert len(rows) == len(figures) and all("**missed**" in row for row in rows)
    del figures["slope_48"]
    (tmp_path / "render.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"render.json: no figure 'slope_48'; run python -m benchmarks.render --save"):
        page(tmp_path)
