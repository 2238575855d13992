"""Labels as a file: keys, the protocol's points, visibility; nothing replaced, nothing written into a dataset."""

import json
import lzma
import runpy
import sys

import numpy as np
import pytest

from benchmarks.generated.icvl import write_icvl
from benchmarks.generated.msra15 import write_msra15
from benchmarks.generated.nyu import write_nyu
from benchmarks.generated.rhd import write_rhd
from datamodules.hand_data import HandData
from datamodules.labels import main
from datamodules.nyu import NYU
from datamodules.rhd import RHD
from datamodules.sources import RenderedSource
from lightning_modules.evaluation_pairs import evaluate_files
from lightning_modules.protocols import protocol
from ops.joints import NYU14_OF_36
from tests.datamodules.readers import piece


def test_nyus_labels_are_its_14_points_under_the_keys_of_its_records(tmp_path, capsys):
    write_nyu(tmp_path / "nyu", train=0, test=3)
    main(["nyu", str(tmp_path / "nyu"), "--out", str(tmp_path / "labels.npz")])
    frames = NYU(tmp_path / "nyu").frames("test")
    with np.load(tmp_path / "labels.npz") as labels:
        assert labels["keys"].tolist() == [frames.labels(i).key for i in range(3)]
        np.testing.assert_array_equal(labels["points"][1], frames.labels(1).points[list(NYU14_OF_36)])
        np.testing.assert_array_equal(labels["joints_3d"][2], frames.labels(2).joints_3d)
        assert labels["convention"] == "nyu" and labels["side"].tolist() == [1, 1, 1]
    assert "3 records of nyu/test" in capsys.readouterr().out


def test_the_command_runs_as_a_module(tmp_path, monkeypatch):
    write_nyu(tmp_path / "nyu", train=0, test=1)
    words = ["nyu", str(tmp_path / "nyu"), "--out", str(tmp_path / "labels.npz")]
    monkeypatch.setattr(sys, "argv", ["datamodules.labels", *words])
    monkeypatch.delitem(sys.modules, "datamodules.labels")
    runpy.run_module("datamodules.labels", run_name="__main__")
    assert (tmp_path / "labels.npz").exists()


def test_visible_joints_are_those_that_are_labelled_and_seen(tmp_path):
    write_rhd(tmp_path / "rhd", train=1, test=2)
    main(["rhd", str(tmp_path / "rhd"), "--out", str(tmp_path / "labels.npz")])
    frames = RHD(tmp_path / "rhd").frames("test")
    with np.load(tmp_path / "labels.npz") as labels:
        np.testing.assert_array_equal(labels["visible"], [frames.labels(i).joint_visible for i in range(2)])


@pytest.mark.parametrize(
    ("dataset", "write", "name"),
    [("nyu", write_nyu, "nyu-14"), ("icvl", write_icvl, "icvl-16"), ("msra15", write_msra15, "msra-21")],
)
def test_labels_against_themselves_have_no_error(tmp_path, dataset, write, name):
    write(tmp_path / dataset, train=0, test=3)
    main([dataset, str(tmp_path / dataset), "--out", str(tmp_path / "labels.npz")])
    metric = protocol(name)
    assert evaluate_files(tmp_path / "labels.npz", tmp_path / "labels.npz", metric) >= 3
    assert metric.compute()["mean_mm"] == 0


def test_real_labels_of_icvl_as_read_give_published_predictions_their_error(tmp_path):
    published = piece("published")
    (tmp_path / "icvl/Testing").mkdir(parents=True)
    for name in ("test_seq_1.txt", "test_seq_2.txt"):
        (tmp_path / "icvl/Testing" / name).write_bytes(lzma.decompress((piece("icvl") / f"{name}.xz").read_bytes()))
    main(["icvl", str(tmp_path / "icvl"), "--out", str(tmp_path / "labels.npz")])
    metric = protocol("icvl-16")
    evaluate_files(published / "icvl/CVPR18_ICVL_V2V_PoseNet.txt.xz", tmp_path / "labels.npz", metric)
    golden = {row["method"]: row["mean_mm"] for row in json.loads((published / "golden.json").read_text())}
    assert metric.compute()["mean_mm"] == pytest.approx(golden["CVPR18_ICVL_V2V_PoseNet"], abs=0.001)


def test_nothing_is_replaced_or_written_into_the_dataset(tmp_path, capsys):
    (tmp_path / "nyu").mkdir()
    (tmp_path / "there.npz").write_text("mine")
    cases = {
        "there.npz": "there already",
        "nyu/labels.npz": "lies in the dataset's folder",
        "labels.txt": r"ending in .npz",
        "new.npz": "NYU: ",
        "none/new.npz": "no such folder",
    }
    for out, message in cases.items():
        with pytest.raises(SystemExit) as stop:
            main(["nyu", str(tmp_path / "nyu"), "--out", str(tmp_path / out)])
        assert stop.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "there.npz").read_text() == "mine"


def test_a_datamodule_gives_the_labels_of_what_it_evaluates(tmp_path):
    write_nyu(tmp_path / "nyu", train=0, test=6)
    sources = {"mine": NYU(tmp_path / "nyu"), "clean": RenderedSource()}
    data = HandData(sources, batch_size=2, test_size=3, num_workers=0)
    assert data.evaluated_datasets == {"mine": "nyu"}
    labels = data.evaluation_labels("mine", "test")
    frames = NYU(tmp_path / "nyu").frames("test")
    assert labels["keys"].tolist() == [frames.labels(i).key for i in (0, 2, 4)]  # evenly spaced
    np.testing.assert_array_equal(labels["joints_3d"][1], frames.labels(2).joints_3d)
    data.evaluate_on.remove("clean")
    assert [key for batch in data.test_dataloader() for key in batch["key"]] == labels["keys"].tolist()
    with pytest.raises(ValueError, match="source 'clean': rendered, so its labels are in its batches alone"):
        data.evaluation_labels("clean", "test")
