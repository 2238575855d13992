"""The comparison's plan and its summary."""

import pytest

import benchmarks.experiment_runs as experiment_runs
from benchmarks.deephps_tables import COLUMNS, REFERENCE, final_figures, plan, summary
from benchmarks.experiment_runs import keep


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


def test_the_figures_of_a_run_are_those_of_its_test(tmp_path):
    run = plan("cpu", 1)[0]
    columns = [f"test/{name}_mm" for name in COLUMNS + REFERENCE]
    run.folder(tmp_path).mkdir(parents=True)
    path = run.folder(tmp_path) / "metrics.csv"
    path.write_text(f"step,{','.join(columns)}\n5,{','.join(str(10.0 + i) for i in range(len(columns)))}\n")
    figures = final_figures(run, tmp_path)
    assert figures["joints_root"] == 11.0 and set(figures) == set(COLUMNS + REFERENCE)


def test_the_summary_averages_the_seeds_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_runs, "RESULTS", tmp_path)
    runs = plan("cpu", 3)
    for run, error in zip([run for run in runs if run.arm == "joint"], (10.0, 14.0), strict=False):
        keep(run.result, run.identity(), dict.fromkeys(COLUMNS, error) | dict.fromkeys(REFERENCE, 80.0), 5.0)
    table, figures = summary(runs)
    assert figures == {f"joint_{column}_mm": 12.0 for column in COLUMNS} | {"joint_seeds": 2}
    assert table.row_count == 6  # five arms and the constant pose


def test_a_new_domain_is_no_reason_to_run_again_and_a_changed_one_is(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_runs, "RESULTS", tmp_path)
    run, splits = plan("cpu", 1)[0], {"clean/1": {"parameters": "a"}}
    monkeypatch.setattr(experiment_runs, "stored_fingerprints", lambda: splits)
    keep(run.result, run.identity(), {"joints_root": 10.0}, 5.0)
    splits["photo/1"] = {"parameters": "b"}
    assert run.figures() == {"joints_root": 10.0}
    splits["clean/1"] = {"parameters": "c"}
    assert run.figures() is None
