"""Sweep files: every parameter is an option of the experiment, of the right type; the metric is what keeps its best."""

import re
from pathlib import Path

import pytest
import yaml

from lightning_modules.preflight import preflight
from slurm.sweep_record import ENVIRONMENT, Record, SweepError, SweepRun, ask_engine

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


# -- W&B's own engine

needs_engine = pytest.mark.skipif(
    not (ENVIRONMENT / "bin" / "python").is_file(), reason="W&B's sweep engine is not installed (make sweeps-env)"
)


@needs_engine
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_engine_accepts_a_sweep_and_our_parser_its_proposals(path, train, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    record = Record(path.stem, yaml.safe_load(path.read_text()), train.runs)
    proposals = ask_engine(record.sweep, [], 3, seed=0)
    assert len(proposals) == 3 and len({str(proposal) for proposal in proposals}) == 3
    for proposal in proposals:
        config, *options = record.arguments(SweepRun("x", proposal))[1:]
        with pytest.raises(SystemExit) as stop:
            train("fit", *options, "--print_config", config=Path(config.removeprefix("--config=")))
        parsed = yaml.safe_load(capsys.readouterr().out)
        assert stop.value.code == 0
        for name, value in proposal.items():
            group, _, key = name.split(".", 2)
            assert parsed[group]["init_args"][key] == value


@needs_engine
def test_the_engine_refuses_what_is_no_sweep():
    sweep = yaml.safe_load(SWEEPS[0].read_text())
    with pytest.raises(SweepError, match="refuses the sweep file: 'anneal' is not one of"):
        ask_engine(sweep | {"method": "anneal"}, [], 0, seed=0)


@needs_engine
def test_a_sweep_that_goes_on_proposes_what_an_unbroken_one_would():
    sweep = yaml.safe_load(next(path for path in SWEEPS if "method: random" in path.read_text()).read_text())
    whole = ask_engine(sweep, [], 4, seed=1)
    told = [{"config": proposal, "state": "finished", "history": [1.0]} for proposal in whole[:2]]
    assert ask_engine(sweep, told, 2, seed=1) == whole[2:]
