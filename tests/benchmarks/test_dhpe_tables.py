"""The plan of DHPE's tables, what a checkpoint is judged by, and the summary."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

import benchmarks.dhpe_judged as dhpe_judged
import benchmarks.dhpe_tables as dhpe_tables
import benchmarks.experiment_runs as experiment_runs
from benchmarks.dhpe_judged import ALIGNMENTS, MASK_MEASURES, judged, photo_pictures, real_pictures
from benchmarks.dhpe_tables import FIRST, UNREFINED, Budget, draw, learning_curves, real_result, summary
from benchmarks.experiment_runs import keep
from benchmarks.generated.ge import write_ge
from lightning_modules.dhpe import DHPE
from lightning_modules.metrics import PointError

SETTINGS = {"backbone": "small", "joint_maps": "small", "refinement_steps": 2, "crop_size": 64}


@pytest.fixture(scope="module")
def method():
    torch.manual_seed(0)
    method = DHPE(**SETTINGS).eval()
    torch.nn.init.normal_(method.networks.estimator.weight, std=0.01)
    return method


def callbacks(run):
    option = next(word for word in run.command if word.startswith("--trainer.callbacks="))
    return {each["class_path"].rpartition(".")[2]: each["init_args"] for each in json.loads(option.partition("=")[2])}


def test_the_plan_goes_seed_by_seed_and_every_arm_differs_from_the_whole_method_in_one_thing():
    first, *runs = Budget("cpu").plan(2)
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6 and len({run.run_id for run in runs}) == 12
    begins = f"--model.init_args.init_from={{runs}}/dhpe_tables_cpu/{first.run_id}/checkpoints/best.ckpt"
    assert all(begins in run.command and run.earlier == first.run_id for run in runs)
    assert first.arm == FIRST and not any("init_from" in word for word in first.command) and first.earlier is None
    assert "--config=configs/weights/dhpe_skeletons.yaml" in first.command and first.by_settings
    own = yaml.safe_load(Path("configs/weights/dhpe_skeletons.yaml").read_text())
    assert own["model"]["init_args"]["shape_weight"] == 0, "no masks before the arms, which differ in them"
    assert all("--model.init_args.refinement_steps=50" in run.command for run in (first, *runs))
    by_arm = {run.arm: run for run in runs}
    full = set(by_arm["full"].command)
    changed = {arm: set(run.command) - full for arm, run in by_arm.items() if arm != "full"}
    assert changed.pop("without refiner") == {"--model.init_args.refiner=false"}
    assert changed.pop("pose only") == {"--model.init_args.shape_weight=0.0"}
    two = {"--model.init_args.heat_map_weight=0.0", "--model.init_args.feature_weight=0.0"}
    assert changed.pop("without 2D losses") == two
    assert changed.keys() == {"without augmentation", "constant shape weight"}
    assert all(words.pop().startswith("--trainer.callbacks=") and not words for words in changed.values())
    assert callbacks(by_arm["full"])["HierarchicalShapeLoss"] == {"schedule": "hierarchical", "threshold": 20.0}
    assert callbacks(by_arm["constant shape weight"])["HierarchicalShapeLoss"] == {
        "schedule": "constant",
        "threshold": 20.0,
    }
    assert "SelfSupervisedAugmentation" in callbacks(by_arm["constant shape weight"])
    assert list(callbacks(by_arm["without augmentation"])) == ["HierarchicalShapeLoss"]
    assert callbacks(by_arm["full"])["SelfSupervisedAugmentation"]["threshold"] == 30.0
    assert len(Budget("gpu").plan(2)) == 12 and all(run.earlier is None for run in Budget("gpu").plan(1))
    with pytest.raises(ValueError, match="budget: expected one of cpu, gpu, got 'tpu'"):
        Budget("tpu")


def test_iteration_zero_is_the_estimate_and_the_last_one_what_prediction_says(method):
    batches = list(photo_pictures(3, 64))
    assert sum(len(batch["key"]) for batch in batches) == 3
    found = judged(method, batches)
    expected = PointError("root")
    for batch in batches:
        valid = batch["joint_valid"] & batch["has_3d"][:, None]
        expected.update(method.predict_step(batch, 0).joints_3d, batch["joints_3d"], valid)
    assert len(found["joints_root_mm"]) == 3, "iterations 0, 1 and 2 of two"
    assert found["joints_root_mm"][-1] == pytest.approx(float(expected.compute()), abs=2e-3)
    assert found["joints_root_mm"][0] != found["joints_root_mm"][-1]
    assert found["pictures"] == 3 and found["mean_pose_procrustes_mm"] > 0
    assert all(len(found[measure]) == 2 and 0 < found[measure][0] < 100 for measure in MASK_MEASURES)


def test_a_checkpoint_is_judged_by_a_command(method, tmp_path, monkeypatch, capsys):
    facts = {"class_path": "lightning_modules.dhpe.DHPE", "init_args": SETTINGS}
    state = {"state_dict": method.state_dict(), "handful": facts | {"hand_model": method.hand_model_id}}
    torch.save(state, tmp_path / "dhpe.ckpt")
    monkeypatch.setattr(sys, "argv", ["dhpe_judged", str(tmp_path / "dhpe.ckpt"), "--pictures=3"])
    dhpe_judged.main()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    expected = judged(method, photo_pictures(3, 64))
    assert said["photo: pictures"] == 3 and said["photo: joints_root_mm"] == expected["joints_root_mm"]


def test_real_pictures_come_with_joints_in_their_convention_and_without_masks(tmp_path, method):
    write_ge(tmp_path, test=2)
    (batch,) = real_pictures(tmp_path, 64)
    assert batch["convention"] == ["ge"] * 2 and not batch["has_mask"].any()
    found = judged(method, [batch])
    assert found["pictures"] == 2 and not set(MASK_MEASURES) & set(found)


def kept(run, error):
    """Figures of a run as its command would keep them, refinement taking half a millimetre away."""
    found = {f"joints_{a}_mm": [error, error - 0.25, error - 0.5] for a in ALIGNMENTS}
    found |= {f"mean_pose_{a}_mm": 48.0 for a in ALIGNMENTS}
    masks = {measure: [80.0, 81.0] for measure in MASK_MEASURES}
    curves = {"near_share": [0.1, 0.2], "near_share_steps": [50, 100]}
    curves |= {"val_joints_root_mm": [40.0], "val_joints_root_mm_steps": [100]}
    keep(run.result, run.identity(), found | masks | curves, 5.0)
    keep(real_result(run), {"weights": run.run_id}, found, 1.0)


def test_the_summary_averages_seeds_and_takes_the_unrefined_row_of_the_whole_method(tmp_path, monkeypatch):
    for module in (experiment_runs, dhpe_tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    runs = Budget("cpu").plan(2)
    for run, error in zip([run for run in runs if run.arm == "full"], (10.0, 14.0), strict=True):
        kept(run, error)
    tables, figures = summary(runs)
    assert [table.row_count for table in tables] == [9, 8], "the constant pose, the first stage, six arms, unrefined"
    assert figures["full: joints_root_mm"] == 11.5 and figures[f"{UNREFINED}: real_joints_procrustes_mm"] == 12.0
    assert figures["full: mean_iou_pct"] == 81.0 and figures[f"{UNREFINED}: mean_iou_pct"] == 80.0
    assert figures["constant pose: real_joints_root_mm"] == 48.0
    assert figures["refinement: joints_root_mm"] == [12.0, 11.75, 11.5] and figures["full: near_share"] == [0.1, 0.2]
    assert figures["seeds: full"] == 2 and figures["seeds: pose only"] == 0
    draw(figures, tmp_path / "figures.png")
    assert (tmp_path / "figures.png").stat().st_size > 10_000


def test_learning_curves_are_read_by_step_and_a_run_without_them_is_named(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,shape/near_share,val/joints_root_mm\n49,0.25,\n99,,31.5\n99,0.5,\n")
    assert learning_curves(metrics) == {
        "near_share": [0.25, 0.5],
        "near_share_steps": [50, 100],
        "val_joints_root_mm": [31.5],
        "val_joints_root_mm_steps": [100],
    }
    metrics.write_text("step,val/joints_root_mm\n99,31.5\n")
    with pytest.raises(ValueError, match="no shape/near_share; the run did not reach the end of an epoch"):
        learning_curves(metrics)
