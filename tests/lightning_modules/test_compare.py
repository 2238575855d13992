"""Published rows are facts with sources, and a run of ours stands among them by its figure."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from lightning_modules import compare
from lightning_modules.protocols import protocol
from lightning_modules.protocols.curves import area
from lightning_modules.published_rows import PublishedRow, published_protocols, published_rows

PIECES = Path(__file__).resolve().parents[3] / "shared" / "data"


def facts(name: str):
    path = PIECES / name
    if not path.exists():
        pytest.skip(f"the real piece {name} is not beside the repository")
    return json.loads(path.read_text())


def test_published_curves_have_their_printed_areas():
    curves = facts("published_pck_curves.json")
    assert len(curves) == 16
    cut = {"STB_gan", "DO_sridhar_rgbd", "DO_mueller_rgb"}  # at the top or the start: the points hold less than printed
    for name, curve in curves.items():
        found = area(curve["thresholds_mm"], torch.tensor(curve["pck"], dtype=torch.float64))
        assert found == pytest.approx(curve["auc_trapz_recomputed"], abs=6e-5), name
        assert abs(found - curve["auc_printed"]) < (0.015 if name in cut else 0.003), name


@pytest.mark.parametrize("name", published_protocols())
def test_published_rows_have_a_source_and_curves_their_area(name):
    rows = published_rows(name)
    columns, _ = compare.COLUMNS[name]
    known = set(protocol_figures(name))
    for row in rows:
        assert row.source and set(row.figures) & set(columns), row.method
        assert set(row.figures) <= known, row.method  # under the names that a run of ours has
        assert row.uses_ground_truth_at_test in (True, False, None)
        if row.curve_pck:
            found = area(row.curve_pck["thresholds_mm"], torch.tensor(row.curve_pck["share"]))
            assert found == pytest.approx(row.curve_auc, abs=2e-4), row.method
    assert len({row.method for row in rows}) == len(rows)


def protocol_figures(name):
    """The names of a protocol's figures."""
    metric = protocol(name)
    if name == "segmentation":
        parts = torch.ones(1, 2, 2, dtype=torch.int64)
        metric.update(parts, parts)
    else:
        points = torch.rand(1, len(metric.point_names), 2 if name.endswith("px") else 3) + 0.1
        metric.update(points, points, *((points, points) if name == "freihand" else ()))
    return metric.compute()


def test_published_rows_are_the_golden_figures():
    by_figures = {
        tuple(row.figures.get(name) for name in ("mean_mm", "median_mm")): row
        for name in ("nyu-14", "icvl-16")
        for row in published_rows(name)
    }
    for golden in facts("published/golden.json"):
        row = by_figures[golden["mean_mm"], golden["median_mm"]]
        curve = dict(zip(row.curve_maxframe["thresholds_mm"], row.curve_maxframe["share"], strict=True))
        assert sorted(curve) == list(range(81))
        for threshold, share in golden["success_maxframe_pct"].items():
            assert 100 * curve[int(threshold)] == pytest.approx(share, abs=1e-3)
        assert row.uses_ground_truth_at_test is (golden["method"] == "IJCV16_NYU_LieX")
    curves = facts("published_pck_curves.json")
    named = {"STB": "stb-eval-util", "RHD": "rhd-eval-util", "DO": "dexter-tips"}
    for name, curve in curves.items():
        rows = published_rows(named[name.split("_")[0]])
        (row,) = (r for r in rows if r.curve_pck and r.curve_pck["share"] == pytest.approx(curve["pck"], abs=1e-5))
        assert curve["auc_printed"] in row.figures.values()


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    compare.main()
    return capsys.readouterr().out


def test_the_comparison_reads_a_whole_output_and_refuses_what_is_no_run(tmp_path, monkeypatch, capsys):
    rules = {"scale": "as predicted"}
    figures = {"protocol": "rhd-eval-util", "rules": rules, "predictions": "p.npz", "auc_20_50_as_published": 0.9}
    (tmp_path / "ours.txt").write_text("a table\n" + json.dumps(figures) + "\n")
    figures["rules"] = {"scale": "times the true length of middle MCP-PIP"}
    (tmp_path / "scaled.json").write_text(json.dumps(figures | {"auc_20_50_as_published": None}))
    arguments = ["--run", tmp_path / "ours.txt", tmp_path / "scaled.json", "--format", "markdown"]
    lines = run(monkeypatch, capsys, *arguments).splitlines()
    methods = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:] if line.startswith("|")]
    place = methods.index("this run: ours")
    assert methods[place - 1 : place + 2] == ["HAMR (?)", "this run: ours", "Cai (?)"]  # 0.901, 0.9, 0.887
    assert "this run: scaled *" in methods[place:] and "Spurr *" in methods  # ground truth at test time is marked
    assert "* uses ground truth at test time" in lines[-1]
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(monkeypatch, capsys, "--protocol", "nyu-14").splitlines()  # without a run
    rows = [line for line in shown if line.startswith("│") and "DeepHPS" in line]
    assert len(rows) == 1 and max(map(len, shown[: shown.index(next(s for s in shown if s.startswith("*")))])) <= 80
    number = re.search(r"\[\d+\]", rows[0]).group()
    assert [line for line in shown if line.startswith(number)]  # its source, below the table
    (tmp_path / "no.json").write_text("{}")
    (tmp_path / "text.json").write_text("text")
    for wrong, message in (
        (
            ["--run", tmp_path / "no.json"],
            r"no\.json: not the figures of an evaluation; write them with evaluate --save",
        ),
        (["--run", tmp_path / "text.json"], r"text\.json: the last line is no JSON"),
        (["--run", tmp_path / "none.json"], r"none\.json: no such file"),
        ([*arguments, "--protocol", "nyu-14"], r"expected one protocol, got nyu-14, rhd-eval-util; compare them apart"),
        ([], "expected --run, --protocol or both, got neither"),
    ):
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, capsys, *wrong)
        assert stop.value.code == 2
        assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_marks_say_what_is_known():
    marks = [PublishedRow("m", None, {}, "s", flag).mark for flag in (True, False, None)]
    assert marks == [" *", "", " (?)"]
