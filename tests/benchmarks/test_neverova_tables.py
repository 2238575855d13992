"""The tables' plan, what is measured of part maps and joints, and the gains that the tables show."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

import benchmarks.experiment_runs as experiment_runs
import benchmarks.neverova_runs as neverova_runs
import benchmarks.neverova_tables as tables
from benchmarks.experiment_runs import keep
from benchmarks.neverova_maps import RESTORED, part_maps, restored, scores
from benchmarks.neverova_runs import ERRORS, THRESHOLDS, Budget, success_curve
from benchmarks.neverova_tables import RESTORATION, Restoration, dictionary_of_the_paper, draw, summary
from lightning_modules.neverova import Neverova
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import write_predictions
from ops.hand_model import open_hand
from ops.joints import PART_NAMES
from ops.patch_restoration import PatchDictionary
from tests.lightning_modules.test_neverova import saved


@pytest.fixture
def results(tmp_path, monkeypatch):
    for module in (experiment_runs, tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path


def dictionary_with(maps: int) -> PatchDictionary:
    generator = np.random.default_rng(0)
    stripes = np.repeat(generator.integers(1, 21, (maps, 6, 6)), 8, 1).repeat(8, 2).astype(np.uint8)
    return PatchDictionary(stripes, open_hand().id, 0, "clean/1", 72)


def test_every_arm_begins_with_the_weights_that_it_names():
    runs = Budget("cpu").plan(2)
    arms = ["supervised", "weak", "longer", "labelled", "direct", "cascade", "source parts", "full"]
    assert [run.arm for run in runs] == arms * 2 and [run.seed for run in runs] == [0] * 8 + [1] * 8
    of_seed = {run.arm: run for run in runs[8:]}
    before = {
        "weak": "supervised",
        "longer": "supervised",
        "labelled": "supervised",
        "cascade": "direct",
        "source parts": "supervised",
    }
    for arm, run in of_seed.items():
        earlier = (before | {"full": "weak"}).get(arm)
        begins = [option for option in run.command if option.startswith("--model.init_args.init_from=")]
        if earlier is None:
            assert run.earlier is None and begins == ["--model.init_args.init_from=null"]
            continue
        assert run.earlier == of_seed[earlier].run_id, "of the same seed"
        path = f"{{runs}}/neverova_tables_cpu/{run.earlier}/checkpoints/best.ckpt"
        assert begins == [f"--model.init_args.init_from={path}"]
    with pytest.raises(ValueError, match="budget: expected one of cpu, gpu, got 'tpu'"):
        Budget("tpu")


def test_maps_of_a_checkpoint_are_scored_on_the_test_split(tmp_path):
    found = part_maps(saved(tmp_path, Neverova(widths=[2, 2, 2], hidden=4)), "sensor", 3)
    assert found.maps.shape == found.parts.shape == (3, 48, 48) and found.maps.dtype == torch.uint8
    assert (found.parts > 0).sum() > 500
    perfect = scores(found.parts, found.parts)
    assert perfect["per_pixel_pct"] == perfect["per_class_pct"] == 100 and len(perfect["per_part_pct"]) == 20
    assert scores(found.maps, found.parts)["per_pixel_pct"] < 60, "not trained"


def test_all_ways_of_integration_repair_a_map_of_the_dictionary():
    dictionary = dictionary_with(12)
    clean = torch.from_numpy(dictionary.maps[:1])
    noisy = torch.where(torch.rand(clean.shape, generator=torch.Generator().manual_seed(0)) < 0.03, 20, clean)
    maps = torch.cat([noisy.to(torch.uint8), torch.zeros(1, 48, 48, dtype=torch.uint8)])
    rows = restored(maps, dictionary)
    assert tuple(rows) == RESTORED == tuple(RESTORATION)[1:5]
    for row, each in rows.items():
        assert (each[0] == clean[0]).float().mean() > 0.999, row
        assert not each[1].any(), "an empty map stays as it is"


def test_a_restoration_keeps_the_scores_of_all_rows(results, monkeypatch):
    dictionary = dictionary_with(6)
    parts = torch.from_numpy(dictionary.maps[4:5])
    monkeypatch.setattr(tables, "part_maps", lambda *_: (parts, parts))
    restoration = Restoration(Budget("cpu").plan(1)[0], 1, dictionary)
    restoration.measure(results)
    figures = restoration.figures()
    assert {figures[f"{row} per_pixel_pct"] for row in RESTORATION if row != tables.THIRD} == {100}
    assert figures[f"{tables.THIRD} per_pixel_pct"] < 50, "the map is not among the first third"


def test_success_is_that_of_the_worst_joint(tmp_path, monkeypatch):
    true = torch.zeros(2, 21, 3)
    monkeypatch.setattr(neverova_runs, "pictures_of", lambda *_: [{"key": ["b", "a"], "joints_3d": true}])
    said = true.clone()
    said[0, 5, 1] = 0.010  # of "a"
    said[1, 7, 2] = 0.050
    said[1, 8, 2] = 0.002
    side = torch.ones(2, dtype=torch.int64)
    prediction = HandPrediction(said, None, None, None, side, None, Frame.ABSOLUTE, "hand", "open")
    write_predictions(tmp_path / "sensor.npz", prediction, ["a", "b"])
    curve = dict(zip(THRESHOLDS, success_curve(tmp_path / "sensor.npz", 2), strict=True))
    assert (curve[8], curve[12], curve[48], curve[52]) == (0, 0.5, 0.5, 1)


def test_the_weak_steps_own_figures_are_those_of_its_end(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,weak/accepted_share_epoch,weak/gain_px_epoch\n5,0.5,\n9,0.75,-1.5\n10,,\n")
    assert neverova_runs.weak_figures(metrics) == {"accepted_share": 0.75, "gain_px": -1.5}
    metrics.write_text("step,val/loss\n5,1.0\n")
    assert neverova_runs.weak_figures(metrics) == {}, "of a step without weak labels"
    metrics.write_text("step,weak/accepted_share_step,weak/accepted_share_epoch\n5,1.0,\n")
    with pytest.raises(ValueError, match=r"no weak/accepted_share_epoch.*train it again"):
        neverova_runs.weak_figures(metrics)


def done(runs, restorations):
    accuracy = {"supervised": (60.0, 40.0), "weak": (66.0, 49.0), "longer": (61.0, 40.0), "labelled": (67.0, 50.0)}
    error = {"direct": 20.0, "cascade": 19.0, "source parts": 18.0, "full": 16.0}
    for run in runs:
        if run.arm in accuracy:
            pixel, part = (value + run.seed for value in accuracy[run.arm])
            figures = {f"{d}_per_pixel_pct": pixel for d in ("clean", "sensor")}
            figures |= {f"{d}_per_class_pct": part for d in ("clean", "sensor")}
            figures["sensor_per_part_pct"] = [part] * len(PART_NAMES)
            figures |= {"accepted_share": 0.9, "gain_px": 1.5} if run.arm == "weak" else {}
        else:
            figures = dict.fromkeys(ERRORS, error[run.arm]) | {"share_within": [0.5] * len(THRESHOLDS)}
        keep(run.result, run.identity(), figures, 1.0)
    for each in restorations:
        rows = {"none": 60.0, "NN and equation 2": 63.5}
        figures = {f"{row} {score}": rows.get(row, 59.0) for row in RESTORATION for score in tables.SCORES}
        keep(each.path, each.identity(), figures, 1.0)


def test_the_tables_show_gains_beside_the_papers(results):
    budget = Budget("cpu")
    runs = budget.plan(2)
    supervised = [run for run in runs if run.arm == "supervised"]
    restorations = [Restoration(run, 10, dictionary_with(2)) for run in supervised]
    assert all(each.figures() is None for each in restorations)
    done(runs, restorations)
    found, figures = summary(runs, restorations)
    assert figures["restoration: NN and equation 2 per_pixel_pct"] == 63.5
    assert figures["supervision: weak per_class_pct"] == 49.5 and figures["seeds: full"] == 2
    assert figures["weak: accepted_share"] == 0.9
    assert figures["joints: full joints_absolute_mm"] == 16.0
    console = Console(width=160, record=True, file=io.StringIO())
    for table in found:
        console.print(table)
    text = console.export_text()
    assert "3.50 ± 0.00 / 3.50 ± 0.00" in text and "+3.52 / +7.00" in text
    assert "6.00 ± 0.00 / 9.00 ± 0.00" in text and "+6.15 / +7.82" in text
    assert "20.0 ± 0.0 / 20.0 ± 0.0" in text and "15.8 / 14.5" in text
    folder = results / "neverova_tables" / "cpu"
    draw(runs, folder)
    assert (folder / "figures.png").stat().st_size > 10_000
    other = Restoration(supervised[0], 10, dictionary_with(3))
    assert other.figures() is None, "of another dictionary"


def test_a_dictionary_below_the_papers_is_refused(tmp_path):
    dictionary_with(2).save(tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="4,608 patches, the tables take at least 36,000,000; build it with"):
        dictionary_of_the_paper(tmp_path / "small.safetensors")


def test_a_list_makes_nothing_and_needs_no_dictionary(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tables, "DICTIONARY", tmp_path / "none.safetensors")
    monkeypatch.setattr("sys.argv", ["neverova_tables", "--seeds=1", "--list", f"--runs={tmp_path / 'runs'}"])
    tables.main()
    output = capsys.readouterr().out
    assert "0 of 8 runs are there" in output and "none.safetensors is not there" in output
    assert not list(tmp_path.iterdir())
