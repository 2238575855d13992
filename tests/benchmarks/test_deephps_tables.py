"""The comparison's bookkeeping: what is planned, what counts as done, what a run's metrics say."""

import json

import pytest

import benchmarks.deephps_tables as tables
from benchmarks.deephps_tables import COLUMNS, final_figures, plan, summary


def metrics_file(folder, **columns):
    (folder / "metrics.csv").write_text(f"step,{','.join(columns)}\n5,{','.join(columns.values())}\n")
    return folder / "metrics.csv"


def test_the_plan_goes_seed_by_seed_through_all_arms():
    runs = plan("cpu", 2)
    assert [run.seed for run in runs] == [0] * 5 + [1] * 5
    assert [run.arm for run in runs[:3]] == ["clean only", "sensor only", "joint"]
    assert '--data.init_args.domains={"sensor": 1.0}' in runs[1].command
    assert "--data.init_args.seed=1" in runs[5].command and "--seed_everything=1" in runs[5].command
    assert "--model.init_args.learn_shape=false" in runs[3].command
    assert all('--data.init_args.evaluate_on=["sensor"]' in run.command for run in runs)
    assert all("--monitor=val/joints_root_mm" in run.command for run in runs), "no quotes around strings"
    with pytest.raises(ValueError, match="budget: expected one of cpu, gpu, got 'tpu'"):
        plan("tpu", 1)


def test_a_run_is_done_when_its_very_command_was_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    run, other = plan("cpu", 1)[:2]
    assert run.figures() is None
    run.result.parent.mkdir()
    stored = run.identity() | {"figures": {"joints_root": 20.0}}
    run.result.write_text(json.dumps(stored))
    assert run.figures() == {"joints_root": 20.0} and other.figures() is None
    others = {"command": [*run.command, "--more"], "settings": "of another file", "test_splits": {"sensor/1": "0"}}
    for key, value in others.items():
        run.result.write_text(json.dumps(stored | {key: value}))
        assert run.figures() is None, f"another {key} went unnoticed"


def test_settings_that_the_command_overrides_do_not_count(tmp_path):
    config = tmp_path / "config.yaml"

    def identity(text):
        config.write_text(text)
        command = ["fit", f"--config={config}", "--trainer.max_steps=7", '--data.domains={"clean": 1.0}']
        return tables.Run("cpu", "joint", 0, command).identity()

    first = identity("trainer: {max_steps: 1, seed: 2}\ndata: {domains: {sensor: 1}}")
    assert first == identity("trainer: {max_steps: 9, seed: 2}\ndata: {domains: {clean: 1, sensor: 4}}")
    assert first != identity("trainer: {max_steps: 1, seed: 3}\ndata: {domains: {sensor: 1}}")


def test_the_figures_of_a_run_are_those_of_its_test(tmp_path):
    columns = {f"test/{name}_mm": str(10.0 + i) for i, name in enumerate(COLUMNS)}
    assert final_figures(metrics_file(tmp_path, **columns))["joints_root"] == 11.0
    with pytest.raises(ValueError, match="no test figures joints_absolute"):
        final_figures(metrics_file(tmp_path, **{"val/joints_root_mm": "5"}))


def test_the_summary_averages_the_seeds_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    runs = plan("cpu", 3)
    for run, error in zip([run for run in runs if run.arm == "joint"], (10.0, 14.0), strict=False):
        run.result.parent.mkdir(exist_ok=True)
        figures = dict.fromkeys(COLUMNS, error) | dict.fromkeys(tables.REFERENCE, 80.0)
        run.result.write_text(json.dumps(run.identity() | {"figures": figures}))
    table, figures = summary(runs)
    assert figures == {f"joint_{column}_mm": 12.0 for column in COLUMNS} | {"joint_seeds": 2}
    assert table.row_count == 6  # five arms and the constant pose
