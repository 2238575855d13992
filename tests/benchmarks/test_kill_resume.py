"""Killed runs: what is compared, what is printed, and two real kills."""

import pytest
import torch

from benchmarks.kill_resume import Bench, Killed, figures, same_end, table


def write_run(folder, weight: float = 1.0, metrics: str = "a,step\n1,0\n"):
    end = {"state_dict": {"w": torch.tensor([weight])}, "optimizer_states": [{"step": 3}], "lr_schedulers": []}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(end | {"global_step": 4}, folder / "checkpoints" / "last.ckpt")
    (folder / "metrics.csv").write_text(metrics)
    return folder


def test_the_last_bit_of_a_weight_and_a_row_of_metrics_tell_runs_apart(tmp_path):
    whole = write_run(tmp_path / "whole")
    assert same_end(write_run(tmp_path / "same"), whole)
    assert not same_end(write_run(tmp_path / "near", weight=1 + 1e-7), whole)
    assert not same_end(write_run(tmp_path / "rows", metrics="a,step\n1,0\n1,0\n"), whole)


def test_figures_are_of_all_kills_and_the_table_has_a_row_per_signal():
    found = [Killed("SIGKILL", True, 2, 8.0), Killed("SIGKILL", False, 4, None), Killed("SIGTERM", True, 0, 6.0)]
    assert figures(found) == {
        "kills": 3,
        "identical_share": pytest.approx(2 / 3),
        "steps_repeated_mean": 2,
        "restart_s_median": 7.0,
    }
    assert [list(column.cells) for column in table(found).columns][:3] == [
        ["SIGKILL", "SIGTERM"],
        ["2", "1"],
        ["1 of 2", "1 of 1"],
    ]


@pytest.mark.slow
def test_killed_runs_end_as_the_unbroken_one_and_a_later_start_goes_on(tmp_path):
    found = Bench(tmp_path, steps=12, seed=0).kills(2)
    assert all(killed.identical for killed in found)
    again = Bench(tmp_path, steps=12, seed=0).kills(3)
    assert again[:2] == found and again[2].identical
    with pytest.raises(ValueError, match="holds kills of another experiment"):
        Bench(tmp_path, steps=13, seed=0)
