"""The plan of the cross-modal VAE's tables and their summary."""

import pytest

import benchmarks.experiment_runs as experiment_runs
from benchmarks.experiment_runs import keep
from benchmarks.vae_tables import COLUMNS, plan, share_arms, summary


def test_every_share_below_one_has_an_arm_with_and_one_without_unlabelled_pictures():
    arms = share_arms([0.05, 1.0])
    assert list(arms) == ["labels 5pct", "labels 5pct and pictures", "labels 100pct"]
    assert [arm["model.init_args.use_unlabelled"] for arm in arms.values()] == [False, True, True]
    assert all(arm["model.init_args.pairs"] == ["rgb-3d", "rgb-rgb"] for arm in arms.values())


def test_the_plan_goes_seed_by_seed_and_arms_win_over_what_is_shared():
    runs = plan("cpu", 2)
    assert len(runs) == 2 * (9 + 9) and [run.seed for run in runs] == [0] * 18 + [1] * 18
    assert len({run.run_id for run in runs}) == len(runs)
    by_arm = {run.arm: run.command for run in runs}
    assert "--model.init_args.labelled_share=0.05" in by_arm["labels 5pct and pictures"]
    assert "--model.init_args.variational=false" in by_arm["direct"]
    assert '--data.init_args.modalities=["depth"]' in by_arm["depth to 3d"]
    assert "--data.init_args.seed=1" in by_arm["direct"]
    with pytest.raises(ValueError, match="budget: expected one of cpu, gpu, got 'tpu'"):
        plan("tpu", 1)


def test_the_summary_averages_the_seeds_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment_runs, "RESULTS", tmp_path)
    runs = plan("cpu", 2)
    for run, error in zip([run for run in runs if run.arm == "direct"], (10.0, 14.0), strict=True):
        keep(run.result, run.identity(), dict.fromkeys(COLUMNS, error), 5.0)
    table, figures = summary(runs)
    assert figures == {f"direct_{column}_mm": 12.0 for column in COLUMNS}
    assert table.row_count == 18
