"""Label files: what is damaged, foreign or of another shape is named, and large ones are read row by row."""

import json
import pickle

import numpy as np
import pytest
import scipy.io

from datamodules.frames import BadFrame
from datamodules.json_rows import JsonRows
from datamodules.label_files import check_camera, check_finite_labels, dataset_folder, number_array, read_json, read_mat


def test_a_folder_that_is_not_the_dataset_says_what_was_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"RHD: .*absent: no such folder; give the folder"):
        dataset_folder("RHD", tmp_path / "absent", ["training"])
    (tmp_path / "RHD_published_v2").mkdir()
    with pytest.raises(FileNotFoundError, match="expected training or evaluation in it, found RHD_published_v2; give"):
        dataset_folder("RHD", tmp_path, ["training", "evaluation"])
    assert dataset_folder("RHD", str(tmp_path), ["training", "RHD_published_v2"]) == tmp_path


def test_json_that_is_cut_empty_or_absent_is_named(tmp_path):
    path = tmp_path / "labels.json"
    with pytest.raises(FileNotFoundError, match=r"labels\.json: no such label file"):
        read_json(path)
    path.touch()
    with pytest.raises(BadFrame, match=r"labels\.json: the label file is empty"):
        read_json(path)
    for text in ("[[1, 2], [3,", "[" * 100_000, "\xff\xfe"):
        path.write_text(text, encoding="latin1")
        with pytest.raises(BadFrame, match=r"labels\.json: damaged, truncated or no JSON"):
            read_json(path)


def test_mat_files_are_compared_before_they_are_loaded(tmp_path):
    path = tmp_path / "labels.mat"
    scipy.io.savemat(path, {"handPara": np.arange(12.0).reshape(3, 4), "name": np.array(["a"])})
    np.testing.assert_array_equal(read_mat(path, {"handPara": (3, None)})["handPara"], np.arange(12.0).reshape(3, 4))
    with pytest.raises(BadFrame, match=r"array 'handPara' of shape \(3, 21, any\), got \(\(3, 4\), 'double'\)"):
        read_mat(path, {"handPara": (3, 21, None)})
    with pytest.raises(BadFrame, match=r"array 'joints' of shape .*, got only handPara, name"):
        read_mat(path, {"joints": (3,)})
    scipy.io.savemat(path, {"name": np.array([[1.0], "text"], dtype=object)})
    with pytest.raises(BadFrame, match="'name': expected numbers or text, got an array of cells"):
        read_mat(path, {"name": (1, 2)})


@pytest.mark.parametrize("compressed", [True, False])
def test_a_cut_mat_file_is_damaged(tmp_path, compressed):
    path = tmp_path / "labels.mat"
    scipy.io.savemat(path, {"handPara": np.random.default_rng(0).normal(size=(3, 21, 5))}, do_compression=compressed)
    data = path.read_bytes()
    for length in (1, 60, 127, 140, 300, len(data) - 9):
        path.write_bytes(data[:length])
        with pytest.raises(BadFrame, match=r"labels\.mat: (damaged|expected an array 'handPara')"):
            read_mat(path, {"handPara": (3, 21, None)})


def test_a_mat_file_cannot_claim_more_than_it_holds(tmp_path):
    path = tmp_path / "labels.mat"
    scipy.io.savemat(path, {"handPara": np.zeros((3, 21, 5))})
    data = path.read_bytes()
    size = data.index(np.array([3, 21, 5], dtype=np.int32).tobytes())
    path.write_bytes(data[: size + 8] + np.int32(1_000_000_000).tobytes() + data[size + 12 :])
    with pytest.raises(BadFrame, match=r"claims shape \(3, 21, 1000000000\), more than the file can hold"):
        read_mat(path, {"handPara": (3, 21, None)})


def test_numbers_of_another_kind_or_shape_are_named(tmp_path):
    file = tmp_path / "labels.pkl"
    assert number_array(file, "K", [[1, 2]], (None, 2)).dtype == np.float64
    for value, message in (
        (None, "got nothing"),
        ([[1.0], [2.0, 3.0]], "rows of unequal length or no numbers"),
        ("12", "no numbers"),
        (np.zeros((2, 3)), r"got shape \(2, 3\)"),
    ):
        with pytest.raises(BadFrame, match=r"labels\.pkl, K: expected numbers of shape \(2, 2\), .*" + message):
            number_array(file, "K", value, (2, 2))


def test_labels_that_are_not_finite_and_cameras_that_are_none_are_named(tmp_path):
    joints = np.zeros((21, 3))
    check_finite_labels(tmp_path, 7, joints=joints)
    joints[[4, 9], 1] = np.nan, np.inf
    with pytest.raises(
        BadFrame, match=r"record 7: joints: expected finite numbers, got NaN or infinity in rows \[4, 9\]"
    ):
        check_finite_labels(tmp_path, 7, joints=joints)
    check_camera(tmp_path, 7, np.diag([500.0, 500.0, 1.0]))
    for K in (np.zeros((3, 3)), np.diag([500.0, -500.0, 1.0]), np.diag([500.0, np.nan, 1.0]), np.ones((3, 3))):
        with pytest.raises(BadFrame, match="record 7: camera: expected positive focal lengths"):
            check_camera(tmp_path, 7, K)


@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"separators": (",", ":")}])
def test_rows_of_a_json_file_are_read_one_by_one(tmp_path, layout):
    matrices = np.random.default_rng(0).normal(size=(7, 4, 3))
    (tmp_path / "verts.json").write_text(json.dumps(matrices.tolist(), **layout))
    rows = pickle.loads(pickle.dumps(JsonRows(tmp_path / "verts.json", (4, 3))))
    assert len(rows) == 7
    for index, matrix in enumerate(matrices):
        np.testing.assert_array_equal(rows[index], matrix)


def test_a_json_file_of_rows_that_is_cut_is_refused_when_it_is_opened(tmp_path):
    text = json.dumps(np.arange(24.0).reshape(2, 4, 3).tolist())
    path = tmp_path / "verts.json"
    for length in (1, 9, len(text) // 2, len(text) - 2, len(text) - 1):
        path.write_text(text[:length])
        with pytest.raises(BadFrame, match=r"verts\.json: truncated, or no JSON list of matrices"):
            JsonRows(path, (4, 3))
    path.write_text(text.replace("13.0", "x"))
    rows = JsonRows(path, (4, 3))
    with pytest.raises(BadFrame, match="row 1: no JSON"):
        rows[1]
    path.write_text(text.replace(", 13.0", ""))
    with pytest.raises(BadFrame, match=r"row 1: expected numbers of shape \(4, 3\)"):
        JsonRows(path, (4, 3))[1]
