"""Validation and test judged by the datasets' protocols: what is logged is what evaluate says of the written files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule

from benchmarks.generated.nyu import write_nyu
from benchmarks.generated.rhd import write_rhd
from datamodules import labels
from lightning_modules import compare, evaluate
from lightning_modules.batch_predictions import BatchPredictions
from lightning_modules.callbacks.protocol_figures import ProtocolFigures, SourceJudge
from lightning_modules.evaluation_pairs import evaluate_files
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.protocols import PROTOCOL_OF_DATASET, PROTOCOLS, protocol, protocols_of

ROOT = Path(__file__).resolve().parents[2]


class Guess(LightningModule):
    """One constant hand at the crop's centre, in the labels' convention; it learns nothing."""

    hand_model_id = "none"

    def __init__(self, points: bool = True) -> None:
        super().__init__()
        self.points = points
        draw = torch.Generator().manual_seed(0)
        self.hand = torch.nn.Parameter(0.05 * torch.randn(36, 3, generator=draw))
        self.predicted: list[str] = []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def training_step(self, batch, batch_idx):
        return self.hand.sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/joints_root_mm", 1.0, batch_size=1)

    def test_step(self, batch, batch_idx):
        pass

    def predict_step(self, batch, batch_idx=0):
        self.predicted += batch["key"]
        (convention,) = set(batch["convention"])
        flip = torch.where(batch["mirrored"], -1.0, 1.0)[:, None, None] * torch.tensor([1.0, 0, 0])
        places = (self.hand + batch["cube_centre"][:, None]) * (flip + torch.tensor([0.0, 1, 1]))
        own = convention == "nyu" and self.points
        return HandPrediction(
            joints_3d=places[:, :21],
            joints_2d=None,
            vertices=None,
            parts=None,
            side=batch["side"],
            confidence=None,
            frame=Frame.ABSOLUTE,
            hand_model="none",
            convention=convention,
            points=places if own else None,
            point_set="nyu-36" if own else "",
        )


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Generated files in NYU's and RHD's layout."""
    folder = tmp_path_factory.mktemp("datasets")
    write_nyu(folder / "nyu", train=4, test=5)
    write_rhd(folder / "rhd", train=4, test=4)
    return folder


@pytest.fixture
def config(train, datasets):
    """An experiment on these files."""
    nyu, rhd = (
        {"class_path": f"datamodules.{module}.{reader}", "init_args": {"folder": str(datasets / module)}}
        for module, reader in (("nyu", "NYU"), ("rhd", "RHD"))
    )
    settings = {"sources": {"mine": nyu, "rhd": rhd}, "batch_size": 3, "epoch_size": 6, "val_size": 1}
    return train.write(
        "guess",
        model={"class_path": "tests.lightning_modules.test_protocol_figures.Guess"},
        data={"class_path": "datamodules.hand_data.HandData", "init_args": settings | {"num_workers": 0}},
        trainer={"max_steps": 2, "accelerator": "cpu", "num_sanity_val_steps": 1},
    )


def test_logged_figures_are_those_of_evaluate(train, config, datasets, tmp_path, monkeypatch, capsys):
    cli = train("fit", "--monitor=val/mine/nyu-14/mean_mm", "--picture_samples=0", config=config)
    logged = cli.trainer.callback_metrics
    assert (cli.folder / "checkpoints" / "best.ckpt").exists()  # of the monitored figure
    for source, dataset, name in (("mine", "nyu", "nyu-14"), ("rhd", "rhd", "rhd-eval-util")):
        file = tmp_path / f"{source}.npz"
        labels.main([dataset, str(datasets / dataset), "--split", "test", "--out", str(file)])
        predictions = cli.folder / "predictions" / f"{source}.npz"
        words = ["--protocol", name, "--predictions", str(predictions), "--ground-truth", str(file)]
        monkeypatch.setattr(sys, "argv", ["evaluate", *words])
        evaluate.main()
        expected = json.loads(capsys.readouterr().out.splitlines()[-1])
        scalars = {figure: value for figure, value in expected.items() if isinstance(value, float)}
        assert {"mean_mm", "median_mm"} <= set(scalars)
        found = {figure: float(logged[f"test/{source}/{name}/{figure}"]) for figure in scalars}
        assert found == pytest.approx(scalars, abs=1e-6)
        written = json.loads((cli.folder / "figures" / f"{source}.json").read_text())
        same = set(expected) - {"predictions", "ground_truth"}
        assert {key: written[key] for key in same} == {key: expected[key] for key in same}
    monkeypatch.setattr(sys, "argv", ["compare", "--run", str(cli.folder / "figures" / "mine.json")])
    compare.main()
    assert "this run" in capsys.readouterr().out


@pytest.mark.slow
def test_two_ranks_judge_as_one(train, config, datasets, tmp_path):
    words = ["--trainer.devices=2", "--trainer.strategy=ddp", "--picture_samples=0", f"--runs={train.runs}"]
    command = [sys.executable, "train.py", "fit", f"--config={config}", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (folder,) = (train.runs / "guess").iterdir()
    for source, dataset, name in (("mine", "nyu", "nyu-14"), ("rhd", "rhd", "rhd-eval-util")):
        labels.main([dataset, str(datasets / dataset), "--split", "test", "--out", str(tmp_path / f"{source}.npz")])
        metric = protocol(name)
        evaluate_files(folder / "predictions" / f"{source}.npz", tmp_path / f"{source}.npz", metric)
        written = json.loads((folder / "figures" / f"{source}.json").read_text())
        expected = json.loads(json.dumps(metric.compute()))
        assert {figure: written[figure] for figure in expected} == expected


def test_a_test_predicts_every_sample_once(train, config):
    cli = train("fit", "--test_after_fit=false", "--picture_samples=0", config=config)
    cli.model.predicted.clear()
    cli.test(model=cli.model, datamodule=cli.datamodule)
    assert len(cli.model.predicted) == len(set(cli.model.predicted)) == 9


def test_a_method_that_does_not_predict_what_is_compared_says_so_and_trains_on(train, config):
    words = ["--model.points=false", "--data.evaluate_on=[mine]", "--test_after_fit=false", "--picture_samples=0"]
    with pytest.warns(UserWarning, match="'mine' is not judged by nyu-14: .* no points of 'nyu-14'"):
        cli = train("fit", *words, config=config)
    assert cli.trainer.global_step == 2
    assert not [name for name in cli.trainer.callback_metrics if "nyu-14" in name]


def test_protocols_can_be_left_out(train, config):
    cli = train("fit", "--protocols=false", "--test_after_fit=false", "--picture_samples=0", config=config)
    assert not [callback for callback in cli.trainer.callbacks if isinstance(callback, ProtocolFigures)]


def test_every_dataset_with_a_protocol_has_one_that_is_there():
    assert set(PROTOCOL_OF_DATASET.values()) <= set(PROTOCOLS)
    assert protocols_of({"a": "stb", "b": "synhand5m"}) == {"a": "stb-eval-util"}


def test_a_batch_is_predicted_once_for_all_who_ask_and_source_by_source():
    module, predictions = Guess(), BatchPredictions()
    batch = {
        "key": ["a", "b", "c"],
        "domain": ["x", "y", "x"],
        "convention": ["nyu", "rhd", "nyu"],
        "mirrored": torch.tensor([False, True, False]),
        "cube_centre": torch.tensor([0, 0, 0.5]).expand(3, 3),
        "side": torch.tensor([1, 0, 1]),
    }
    shares = predictions.of(module, batch, 0)
    assert [(share.source, share.keys) for share in shares] == [("x", ["a", "c"]), ("y", ["b"])]
    assert predictions.of(module, batch, 0) is shares and module.predicted == ["a", "c", "b"]
    assert not shares[0].prediction.joints_3d.requires_grad
    assert predictions.of(module, dict(batch), 1) is not shares


def arrays(count=3, **changes):
    draw = torch.Generator().manual_seed(1)
    joints = 0.05 * torch.randn(count, 21, 3, generator=draw) + torch.tensor([0, 0, 0.5])
    keys = np.array([f"freihand/test/{i}" for i in range(count)])
    return {"keys": keys, "joints_3d": joints.numpy(), "convention": np.array("freihand")} | changes


def share_of(labels, rows, **changes):
    prediction = HandPrediction(
        joints_3d=torch.from_numpy(labels["joints_3d"][rows]) + 0.001,
        joints_2d=None,
        vertices=None,
        parts=None,
        side=torch.ones(len(rows), dtype=torch.int64),
        confidence=None,
        frame=Frame.ABSOLUTE,
        hand_model="",
        convention="freihand",
    )
    keys = [str(labels["keys"][row]) for row in rows]
    return SimpleNamespace(source="hands", keys=keys, prediction=replace(prediction, **changes))


def test_a_mesh_of_another_model_leaves_the_joints_to_be_judged():
    labels = arrays(vertices=np.zeros((3, 778, 3), dtype=np.float32))
    judge = SourceJudge(protocol("freihand"), "labels", labels)
    judge.add(share_of(labels, [2, 0], vertices=torch.zeros(2, 1193, 3)))
    figures = judge.figures()
    assert judge.seen == figures["frames"] == 2 and not judge.refusal
    assert figures["mean_mm"] == pytest.approx(3**0.5, abs=1e-3) and "pa_mpvpe_mm" not in figures


def test_joints_of_another_convention_are_not_judged():
    labels = arrays()
    judge = SourceJudge(protocol("freihand"), "labels of hands/test", labels)
    judge.add(share_of(labels, [1], convention="open"))
    assert "predictions of hands: joints in the convention 'open', but labels of hands/test has 'freihand'" in (
        judge.refusal
    )


def one_rank(judge):
    """A callback that has judged, and the trainer and method that it logs to."""
    logged = {}
    callback = ProtocolFigures({"hands": "freihand"})
    callback._judges["hands"] = judge
    strategy = SimpleNamespace(reduce=lambda counts, reduce_op: counts + torch.tensor([1, 0, 1]))  # another rank's
    trainer = SimpleNamespace(strategy=strategy, sanity_checking=False, is_global_zero=True)
    module = SimpleNamespace(device="cpu", log=lambda name, value, **_: logged.update({name: float(value)}))
    return callback, trainer, module, logged


def test_ranks_log_the_same_names_whatever_they_saw():
    labels = arrays()
    judge = SourceJudge(protocol("freihand"), "labels", labels)
    judge.add(share_of(labels, [0, 1]))
    callback, trainer, module, logged = one_rank(judge)
    callback._end(trainer, module, "val")  # the other rank's predictions were root-relative
    assert "val/hands/freihand/pa_mpjpe_mm" in logged and "val/hands/freihand/mean_mm" not in logged
