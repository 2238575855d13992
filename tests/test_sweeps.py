"""Sweep files: every parameter is an option of the experiment, of the right type; the metric is what keeps its best."""

import re
from pathlib import Path

import pytest
import yaml

from lightning_modules.preflight import preflight

ROOT = Path(__file__).parent.parent
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))


def values_of(parameter: dict) -> list:
    """What a sweep may propose: its values, or the ends of its range."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def options(sweep: dict, which: int) -> list[str]:
    """A proposal as the agent writes it: the first, or the last value of every parameter."""
    return [f"--{name}={values_of(parameter)[which]}" for name, parameter in sweep["parameters"].items()]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_proposals_are_accepted_by_the_experiment(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    config = next(word for word in sweep["command"] if word.startswith("--config="))
    for which in (0, -1):
        preflight(["fit", config, *options(sweep, which)])
    assert capsys.readouterr() == ("", "")
    experiment = yaml.safe_load(Path(config.removeprefix("--config=")).read_text())
    assert sweep["metric"] == {"name": experiment["monitor"], "goal": "minimize"}
    assert sweep["program"] == "train.py" and sweep["method"] in ("grid", "random", "bayes")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_wrong_parameter_would_be_found(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    config = next(word for word in sweep["command"] if word.startswith("--config="))
    for option in options(sweep, 0):
        name = option.partition("=")[0]
        for wrong in (f"{name}x=1", f"{name}=[nonsense]"):
            with pytest.raises(SystemExit):
                preflight(["fit", config, wrong])
            assert re.search("unknown option|expected", capsys.readouterr().err), wrong
