"""Labels as a file: keys, the protocol's points, visibility; nothing replaced, nothing written into a dataset."""

import numpy as np
import pytest

from benchmarks.generated.nyu import write_nyu
from benchmarks.generated.rhd import write_rhd
from datamodules.labels import main
from datamodules.nyu import NYU
from datamodules.rhd import RHD
from ops.joints import NYU14_OF_36


def test_nyus_labels_are_its_14_points_under_the_keys_of_its_records(tmp_path, capsys):
    write_nyu(tmp_path / "nyu", train=0, test=3)
    main(["nyu", str(tmp_path / "nyu"), "--out", str(tmp_path / "labels.npz")])
    frames = NYU(tmp_path / "nyu").frames("test")
    with np.load(tmp_path / "labels.npz") as labels:
        assert labels["keys"].tolist() == [frames.labels(i).key for i in range(3)]
        np.testing.assert_array_equal(labels["points"][1], frames.labels(1).points[list(NYU14_OF_36)])
        np.testing.assert_array_equal(labels["joints_3d"][2], frames.labels(2).joints_3d)
    assert "3 records of nyu/test" in capsys.readouterr().out


def test_visible_joints_are_those_that_are_labelled_and_seen(tmp_path):
    write_rhd(tmp_path / "rhd", train=1, test=2)
    main(["rhd", str(tmp_path / "rhd"), "--out", str(tmp_path / "labels.npz")])
    frames = RHD(tmp_path / "rhd").frames("test")
    with np.load(tmp_path / "labels.npz") as labels:
        np.testing.assert_array_equal(labels["visible"], [frames.labels(i).joint_visible for i in range(2)])


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
