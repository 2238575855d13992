"""The bookkeeping of tables: what counts as done, what has to be run again, what a run's metrics say."""

import json
import subprocess

import pytest

import benchmarks.experiment_runs as experiment_runs
from benchmarks.experiment_runs import (
    Run,
    figures_of_test,
    keep,
    kept_figures,
    listed,
    missing,
    options,
    read_budget,
    spread,
    table_parser,
    train,
)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_runs, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("trainer: {max_steps: 1, seed: 2}\ndata: {domains: {sensor: 1}}")
    return path


def run_of(config, arm="joint", earlier=None, *more):
    return Run("tables", "cpu", arm, 0, ["fit", f"--config={config}", "--trainer.max_steps=7", *more], earlier)


def done(run, figures=None):
    keep(run.result, run.identity(), figures or {"joints_mm": 20.0}, 1.0)


def test_a_run_is_done_when_its_very_command_was_run(results, config):
    run, other = run_of(config), run_of(config, "other")
    assert run.figures() is None
    done(run)
    assert run.figures() == {"joints_mm": 20.0} and other.figures() is None
    stored = json.loads(run.result.read_text())
    others = {"command": [*run.command, "--more"], "settings": "of another file", "test_splits": {"sensor/1": "0"}}
    for key, value in others.items():
        run.result.write_text(json.dumps(stored | {key: value}))
        assert run.figures() is None, f"another {key} went unnoticed"
    splits = dict(list(stored["test_splits"].items())[:1])
    run.result.write_text(json.dumps(stored | {"test_splits": splits}))
    assert run.figures() == {"joints_mm": 20.0}, "a domain that came later is none it was tested on"


def test_settings_that_the_command_overrides_do_not_count(config):
    def identity(text):
        config.write_text(text)
        return run_of(config, "joint", None, '--data.domains={"clean": 1.0}').identity()

    first = identity("trainer: {max_steps: 1, seed: 2}\ndata: {domains: {sensor: 1}}")
    assert first == identity("trainer: {max_steps: 9, seed: 2}\ndata: {domains: {clean: 1, sensor: 4}}")
    assert first != identity("trainer: {max_steps: 1, seed: 3}\ndata: {domains: {sensor: 1}}")


def test_another_command_is_another_run_folder(config):
    run, other = run_of(config), run_of(config, "joint", None, "--model.lr=1")
    assert run.name == other.name == "joint-seed0" and run.run_id != other.run_id


def test_a_run_may_be_named_by_what_its_configuration_says(config):
    run, named = run_of(config), run_of(config)._replace(by_settings=True)
    before = run.run_id, named.run_id
    assert before[0] != before[1]
    config.write_text("trainer: {max_steps: 9, seed: 2}\ndata: {domains: {sensor: 1}}")
    assert (run.run_id, named.run_id) == before, "the command says how many steps"
    config.write_text("trainer: {max_steps: 1, seed: 3}\ndata: {domains: {sensor: 1}}")
    assert run.run_id == before[0] and named.run_id != before[1]


def test_a_run_whose_weights_are_needed_is_missing_without_its_checkpoint(results, config, tmp_path):
    first = run_of(config, "first")
    second = run_of(config, "second", first.run_id)
    third = run_of(config, "third", second.run_id)
    assert missing([first, second, third], tmp_path) == [first, second, third]
    done(first)
    done(second)
    assert missing([first, second, third], tmp_path) == [first, second, third], "the second begins with the first's"
    second.best(tmp_path).parent.mkdir(parents=True)
    second.best(tmp_path).touch()
    assert missing([first, second, third], tmp_path) == [third]
    done(third)
    assert missing([first, second, third], tmp_path) == []


def test_training_names_the_run_and_keeps_what_it_says(results, config, tmp_path, monkeypatch):
    called = {}

    def fake(command, env, check):
        called.update(command=command, run_id=env["RUN_ID"], check=check)

    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setattr(experiment_runs, "commit", lambda: "now")
    run = run_of(config, "later", "first", "--model.init_from={runs}/tables_cpu/first/checkpoints/best.ckpt")
    train(run, tmp_path / "runs", lambda run, runs: {"folder": str(run.folder(runs).relative_to(tmp_path))})
    assert f"--model.init_from={tmp_path}/runs/tables_cpu/first/checkpoints/best.ckpt" in called["command"]
    assert f"--runs={tmp_path}/runs" in called["command"] and "--experiment=tables_cpu" in called["command"]
    assert called["run_id"] == run.run_id and called["check"]
    assert run.figures() == {"folder": f"runs/tables_cpu/{run.run_id}"}


def test_the_figures_of_a_run_are_the_last_ones_of_its_test(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,val/a_mm,test/a_mm,test/b_pct\n5,1.0,,\n6,,2.0,\n7,,3.0,4.0\n")
    assert figures_of_test(metrics, ["a_mm", "b_pct"]) == {"a_mm": 3.0, "b_pct": 4.0}
    with pytest.raises(ValueError, match="no test figures c_mm; the run did not reach its test"):
        figures_of_test(metrics, ["a_mm", "c_mm"])


def test_figures_of_another_identity_do_not_count(tmp_path):
    path = tmp_path / "folder" / "figures.json"
    assert kept_figures(path, {"of": "this"}) is None
    keep(path, {"of": "this"}, {"accuracy": 1.0}, 2.0)
    assert kept_figures(path, {"of": "this"}) == {"accuracy": 1.0}
    assert kept_figures(path, {"of": "that"}) is None


def test_strings_are_options_without_quotes():
    settings = {"monitor": "val/a", "model.x": None, "data.hide": {"sensor": ["parts"]}}
    assert options(settings) == ["--monitor=val/a", "--model.x=null", '--data.hide={"sensor": ["parts"]}']


def test_mean_and_spread_over_seeds():
    assert spread([]) == "-" and spread([3.0]) == "3.00" and spread([1.0, 3.0], 1) == "2.0 ± 1.4"


def test_what_all_tables_ask_and_say(results, config, tmp_path, capsys):
    (tmp_path / "table.yaml").write_text("budgets: {cpu: {steps: 3}}\narms: {joint: {}}")
    content, base = read_budget(tmp_path / "table.yaml", "cpu")
    assert base == {"steps": 3} and content["arms"] == {"joint": {}}
    with pytest.raises(ValueError, match=r"budget: expected one of cpu, got 'gpu'; add it to .*table.yaml"):
        read_budget(tmp_path / "table.yaml", "gpu")
    parser = table_parser("What it is.\n\nAnd more.")
    given = parser.parse_args(["--list"])
    assert parser.description == "What it is." and (given.budget, given.seeds, given.list) == ("cpu", 3, True)
    runs = [run_of(config), run_of(config, "other")]
    done(runs[0])
    assert listed(runs, given.runs) == runs[1:]
    assert capsys.readouterr().out == "1 of 2 runs are there; missing: ['other-seed0']\n"
