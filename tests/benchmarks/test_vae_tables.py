"""The plan of the cross-modal VAE's tables and their summary."""

from pathlib import Path

import pytest
import yaml

import benchmarks.experiment_runs as experiment_runs
from benchmarks.experiment_runs import keep
from benchmarks.vae_tables import COLUMNS, final_figures, plan, share_arms, summary


def test_every_share_has_an_arm_without_and_one_with_the_pictures_of_the_others():
    arms = share_arms([0.05, 0.5], 32)
    assert list(arms) == ["labels 5pct", "labels 5pct and pictures", "labels 50pct", "labels 50pct and pictures"]
    alone, beside = arms["labels 5pct"], arms["labels 5pct and pictures"]
    share = "data.init_args.sources.labelled.init_args.share"
    assert alone[share] == beside[share] == 0.05
    assert alone["data.init_args.weights"] == {"labelled": 1.0} and "data.init_args.weights" not in beside
    # as many labelled hands a step: half of the batch is the configuration's
    assert alone["data.init_args.batch_size"] == 32 and beside["data.init_args.batch_size"] == 64
    weights = yaml.safe_load(Path("configs/vae_semi.yaml").read_text())["data"]["init_args"]["weights"]
    assert weights == {"labelled": 0.5, "sensor": 0.5}


def test_the_plan_goes_seed_by_seed_and_arms_win_over_what_is_shared():
    runs = plan("cpu", 2)
    assert len(runs) == 2 * (9 + 8) and [run.seed for run in runs] == [0] * 17 + [1] * 17
    assert len({run.run_id for run in runs}) == len(runs)
    by_arm = {run.arm: run.command for run in runs}
    assert "--data.init_args.sources.labelled.init_args.share=0.05" in by_arm["labels 5pct and pictures"]
    assert "--data.init_args.sources.labelled.init_args.share=1.0" in by_arm["direct"]
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
    assert figures == {f"direct_{column}": 12.0 for column in COLUMNS} | {"direct_seeds": 2}
    assert table.row_count == 17


def test_2d_errors_are_taken_where_there_are_any(tmp_path):
    run = plan("cpu", 1)[0]
    metrics = run.folder(tmp_path) / "metrics.csv"
    metrics.parent.mkdir(parents=True)
    head, values = [f"test/{column}" for column in COLUMNS], ["7"] * len(COLUMNS)
    metrics.write_text(",".join(head) + "\n" + ",".join(values) + "\n")
    assert final_figures(run, tmp_path) == dict.fromkeys(COLUMNS, 7.0)
    metrics.write_text(",".join([*head, "test/joints_2d_px"]) + "\n" + ",".join([*values, "4.5"]) + "\n")
    assert final_figures(run, tmp_path)["joints_2d_px"] == 4.5
