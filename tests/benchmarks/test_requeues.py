"""What the count of requeues says, of jobs that are made up; the jobs themselves: tests/slurm/test_requeue*.py."""

import io

from rich.console import Console

from benchmarks.requeues import Requeued, figures, table

FOUND = [
    Requeued("SIGUSR1", 2, True, 0, 20.0),
    Requeued("time limit", 3, True, 0, 30.0),
    Requeued("node failure", 2, False, 9, 70.0),
]


def test_figures_count_requeues_and_what_ended_identical():
    said = figures(FOUND)
    assert (said["jobs"], said["requeues"], said["identical_share"]) == (3, 7, 2 / 3)
    assert said["steps_repeated_mean"] == 3 and said["away_s_median"] == 30
    assert (said["identical_SIGUSR1"], said["identical_time_limit"], said["identical_node_failure"]) == (1, 1, 0)


def test_the_table_has_a_row_per_kind_that_was_tried():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(FOUND[:2]))
    text = console.export_text()
    assert "SIGUSR1" in text and "1 of 1" in text and "node failure" not in text
