"""Callbacks and the run folder: ids that ranks share, tables, pictures, metrics files."""

import csv
import math
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_modules.callbacks.checkpoints import check_facts
from lightning_modules.callbacks.final_table import error_table, score_table
from lightning_modules.callbacks.pictures import ValidationPictures, draw_samples
from lightning_modules.callbacks.run_logs import RunCSVLogger
from lightning_modules.callbacks.run_state import RunState
from lightning_modules.run_folder import (
    check_tasks,
    folder_of_checkpoint,
    is_launched,
    newest_best,
    resumable,
    settle_run_id,
)
from ops.drawing import MISSING_COLOUR, PREDICTED_COLOUR, TRUE_COLOUR, shade_depth, tile
from tests.toys import ToyData, ToyMethod

# -- the run's id


def test_a_made_id_is_handed_down_and_the_launchers_wins():
    environ = {}
    made = settle_run_id(environ)
    assert environ["RUN_ID"] == made == settle_run_id(environ)
    assert settle_run_id({"RUN_ID": "job-7", "WANDB_RUN_ID": "x"}) == "job-7"
    assert settle_run_id({"WANDB_RUN_ID": "sweep3"}) == "sweep3"
    assert settle_run_id({}) != settle_run_id({})


@pytest.mark.parametrize(
    "environ, launched",
    [({}, False), ({"RUN_ID": ""}, False), ({"RUN_ID": "job-7"}, True), ({"WANDB_RUN_ID": "sweep3"}, True)],
)
def test_parent_and_ranks_agree_on_who_named_the_run(environ, launched):
    assert is_launched(environ) is launched
    settle_run_id(environ)
    assert is_launched(environ) is launched  # the parent later, and the ranks that inherit its environment


def test_slurm_must_start_as_many_processes_as_the_trainer_has_ranks():
    check_tasks(4, {})
    check_tasks(4, {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"})
    with pytest.raises(ValueError, match=r"SLURM_NTASKS=4, but srun did not start .* wait for 3 .* begin with srun"):
        check_tasks(4, {"SLURM_NTASKS": "4"})
    check_tasks(1, {"SLURM_NTASKS": "1"})
    check_tasks(4, {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive"})
    for ranks, tasks in ((1, "4"), (4, "1")):
        with pytest.raises(ValueError, match=rf"SLURM_NTASKS={tasks}, but .*devices = {ranks}: .*slurm.submit"):
            check_tasks(ranks, {"SLURM_NTASKS": tasks, "SLURM_JOB_NAME": "handful"})


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_ranks_started_one_by_one_need_an_id_from_their_launcher(variable):
    with pytest.raises(ValueError, match=rf"RUN_ID is not set and {variable}=2.*export RUN_ID="):
        settle_run_id({variable: "2"})
    assert settle_run_id({variable: "2", "RUN_ID": "a"}) == "a"


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 65, "a b"])
def test_an_id_cannot_leave_the_runs_folder(name):
    environ = {"RUN_ID": name}
    if name == "":  # an empty variable counts as not set
        assert settle_run_id(environ)
        return
    with pytest.raises(ValueError, match="RUN_ID: expected up to 64 letters"):
        settle_run_id(environ)


def touch(path, when: float):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (when, when))
    return path


def test_the_newest_best_checkpoint_is_found(tmp_path):
    old = touch(tmp_path / "b" / "2" / "checkpoints" / "best.ckpt", 100)
    new = touch(tmp_path / "a" / "1" / "checkpoints" / "best.ckpt", 200)
    touch(tmp_path / "a" / "3" / "checkpoints" / "last.ckpt", 300)
    assert newest_best(tmp_path) == new and newest_best(tmp_path, "b") == old
    assert folder_of_checkpoint(new) == (tmp_path / "a" / "1").resolve()
    assert folder_of_checkpoint(tmp_path / "mine.ckpt") is None
    with pytest.raises(FileNotFoundError, match=r"no best checkpoint under .*/c/; train one"):
        newest_best(tmp_path, "c")


def test_a_stopped_run_goes_on_from_its_newest_checkpoint(tmp_path):
    assert resumable(tmp_path) == []
    last = touch(tmp_path / "checkpoints" / "last.ckpt", 100)
    assert resumable(tmp_path) == [last]
    older = touch(tmp_path / "checkpoints" / "previous.ckpt", 50)
    touch(tmp_path / "checkpoints" / ".last.ckpt.writing", 200)
    assert resumable(tmp_path) == [last, older]


# -- metrics.csv


def test_metrics_go_on_after_the_rows_that_are_there(tmp_path):
    for step, metrics in ((1, {"a": 1.0}), (2, {"a": 2.0, "b": 3.0})):
        logger = RunCSVLogger(tmp_path)
        logger.log_metrics(metrics, step)
        logger.save()
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"a": "1.0", "b": "", "step": "1"}, {"a": "2.0", "b": "3.0", "step": "2"}]


def test_rows_that_a_run_logs_again_are_dropped_and_one_cut_off_by_a_kill_too(tmp_path):
    (tmp_path / "metrics.csv").write_text("a,step\n1.0,3\n2.0,4\n3.0,5\n4.")
    logger = RunCSVLogger(tmp_path)
    logger.keep_before(5)
    logger.log_metrics({"a": 7.0}, 5)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1.0,3", "2.0,4", "7.0,5"]
    RunCSVLogger(tmp_path / "none").keep_before(5)


def test_a_run_that_begins_anew_leaves_no_row_of_what_died(tmp_path):
    (tmp_path / "metrics.csv").write_text("a,step\n1.0,0\n2.0,4\n")
    trainer = SimpleNamespace(ckpt_path=None, loggers=[RunCSVLogger(tmp_path)])
    RunState({}).on_fit_start(trainer, None)
    assert not (tmp_path / "metrics.csv").exists()


# -- the table


def test_the_table_has_a_row_per_quantity_and_a_column_per_alignment():
    metrics = {
        "test/joints_absolute_mm": 20.04,
        "test/joints_root_mm": 12.0,
        "test/joints_procrustes_mm": 8.0,
        "test/mean_pose_root_mm": 40.0,
        "test/sensor/joints_root_mm": 15.0,
        "test/loss_total": 3.0,
        "val/joints_root_mm": 1.0,
    }
    table = error_table(metrics)
    columns = [list(column.cells) for column in table.columns]
    assert columns == [
        ["joints", "mean pose", "sensor joints"],
        ["20.0", "-", "-"],
        ["12.0", "40.0", "15.0"],
        ["8.0", "-", "-"],
    ]
    assert [column.header for column in table.columns][1:] == ["absolute", "root-aligned", "Procrustes-aligned"]


def test_part_scores_stand_in_a_table_of_their_own():
    scores = {"per_pixel": 90.16, "per_class": 80.0, "mean_iou": 70.0}
    metrics = {f"test/clean/{name}_pct": value for name, value in scores.items()}
    metrics |= {"test/per_pixel_pct": 51.03, "test/nyu/per_pixel_pct": math.nan, "test/joints_root_mm": 9.0}
    table = score_table(metrics)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["all", "clean"], ["51.0", "90.2"], ["-", "80.0"], ["-", "70.0"]]
    assert score_table({"test/joints_root_mm": 9.0}).row_count == 0


# -- pictures


@pytest.fixture
def batch():
    return next(iter(ToyData(image_size=16, batch_size=2).val_dataloader()))


def test_a_sheet_shows_truth_and_prediction(batch):
    method = ToyMethod()
    sheet = draw_samples(batch, replace(method.predict_step(batch), parts=None), samples=5)
    assert sheet.shape == (32, 4 * 32, 3)  # two samples, enlarged twice, in a row of four
    for colour in (TRUE_COLOUR, PREDICTED_COLOUR):
        assert (sheet[:, :64] == colour).all(-1).any()
    assert not sheet[:, 64:].any()


def test_predictions_of_mirrored_hands_are_drawn_where_the_mirrored_picture_shows_them(batch):
    method = ToyMethod()
    torch.nn.init.constant_(method.joints, 0.01)  # right of the middle
    prediction = method.predict_step(batch)
    batch["has_2d"][:] = False
    plain = draw_samples(batch, prediction, 1)[:, :32]
    batch["mirrored"][:] = True
    turned = draw_samples(batch, prediction, 1)[:, :32]
    where = [np.nonzero((picture == PREDICTED_COLOUR).all(-1))[1].mean() for picture in (plain, turned)]
    assert where[0] == pytest.approx(31 - where[1], abs=1.0) and where[0] > 18


def test_colours_are_drawn_where_there_are_any_and_joints_where_they_are_predicted(batch):
    prediction = replace(ToyMethod().predict_step(batch), joints_2d=None, parts=None)
    batch["has_2d"][:] = False
    batch["rgb"] = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(2, 3, 16, 16)
    batch["has_rgb"] = torch.tensor([True, False])
    sheet = draw_samples(batch, prediction, 2)
    assert sheet[31, 31].tolist() == [0, 127, 255]  # OpenCV's order; away from the caption
    assert sheet[31, 63].tolist() != [0, 127, 255]  # the second sample's depth
    del batch["depth"]
    assert draw_samples(batch, prediction, 2)[31, 63].tolist() == [0, 0, 0]
    del batch["rgb"]
    with pytest.raises(ValueError, match=r"expected a picture .* use --picture_samples=0"):
        draw_samples(batch, prediction, 2)


def test_predicted_parts_stand_beside_the_picture_mirrored_as_it_is(batch):
    parts = torch.zeros(2, 16, 16, dtype=torch.uint8)
    parts[:, 12, 2] = 1
    prediction = replace(ToyMethod().predict_step(batch), parts=parts)
    batch["mirrored"] = torch.tensor([False, True])
    sheet = draw_samples(batch, prediction, 2)
    assert sheet.shape == (32, 4 * 64, 3)
    for start, column in ((32, 2), (64 + 32, 13)):
        shown = sheet[:, start : start + 32]
        assert np.argwhere(shown.any(-1)).tolist() == [[v, u] for v in (24, 25) for u in (2 * column, 2 * column + 1)]


def test_pictures_need_a_sample(tmp_path):
    with pytest.raises(ValueError, match="samples: expected at least 1, got 0"):
        ValidationPictures(tmp_path, 0)


def test_near_is_bright_far_is_dark_and_missing_has_a_colour_of_its_own():
    picture = shade_depth(np.array([[0.4, 0.6, 0.9, 0.0]]), near=0.4, far=0.6)
    assert picture[0, :3, 0].tolist() == [240, 40, 40]
    assert tuple(picture[0, 3]) == MISSING_COLOUR


def test_tiles_fill_rows():
    cells = [np.full((2, 3, 3), i, np.uint8) for i in (1, 2, 3)]
    sheet = tile(cells, columns=2)
    assert sheet.shape == (4, 6, 3) and sheet[::2, ::3, 0].tolist() == [[1, 2], [3, 0]]


# -- checkpoints


def test_facts_of_a_checkpoint_are_checked():
    facts = {"class_path": "a.B", "init_args": {}, "hand_model": "open"}
    assert check_facts({"handful": facts}, "x.ckpt", "open") == facts
    with pytest.raises(ValueError, match=r"x.ckpt: not a checkpoint of this project"):
        check_facts({"state_dict": {}}, "x.ckpt")
    with pytest.raises(ValueError, match=r"made with hand model 'open', here it is 'mano'"):
        check_facts({"handful": facts}, "x.ckpt", "mano")


@pytest.mark.parametrize(
    "change, wrong",
    [
        ({"class_path": 3}, "wrong: class_path"),
        ({"init_args": [1]}, "wrong: init_args"),
        ({"init_args": {"lr": torch.zeros(1)}}, "wrong: init_args"),
        ({"init_args": {"trunks": [{"x": {1, 2}}]}}, "wrong: init_args"),
        ({"hand_model": None}, "wrong: hand_model"),
    ],
)
def test_facts_are_plain_values_of_the_right_kind(change, wrong):
    facts = {"class_path": "a.B", "init_args": {"lr": 1.0, "domains": ["a", None]}, "hand_model": "open"}
    assert check_facts({"handful": facts}, "x.ckpt")
    with pytest.raises(ValueError, match=rf"x.ckpt: not a checkpoint of this project.*{wrong}.*train.py wrote"):
        check_facts({"handful": facts | change}, "x.ckpt")
    with pytest.raises(ValueError, match=r"wrong: class_path, init_args, hand_model"):
        check_facts({"handful": {}}, "x.ckpt")
