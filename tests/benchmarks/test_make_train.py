"""Figures of `make train` are those of its last test."""

from benchmarks.make_train import final_errors


def test_the_last_row_counts_and_errors_alone(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(
        "step,val/joints_root_mm,test/joints_root_mm,test/clean/joints_root_mm,test/loss\n"
        "4,21.5,,,\n5,,99.0,98.0,7.0\n5,,23.456,,1.0\n"
    )
    assert final_errors(metrics) == {"test_joints_root_mm": 23.46}
