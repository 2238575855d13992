import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.check.__main__ import main
from datamodules.datasets import DATASETS, DatasetEntry
from tests.datamodules.check.toy_dataset import write_toy


@pytest.fixture
def check(monkeypatch, capsys):
    """The command on the toy; gives exit code and output."""
    entry = DatasetEntry("tests.datamodules.check.toy_dataset", "Toy", splits=("test",))
    monkeypatch.setitem(DATASETS, "toy", entry)

    def run(folder: Path, *words: str) -> tuple[int, str]:
        try:
            code = main(["toy", str(folder), "--workers=0", *words])
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "toy").mkdir()
    return write_toy(tmp_path / "toy")


def row(output: str, name: str) -> str:
    return next(line for line in output.splitlines() if line.startswith(f"│ {name} "))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def test_a_good_folder_agrees(folder, check):
    code, output = check(folder)
    assert code == 0 and "all agrees" in output and "✗" not in output
    assert "6 of 6" in row(output, "frames")
    assert "160x120" in row(output, "picture sizes")
    assert "median 0.00" in row(output, "3D projected onto 2D")
    assert "6 right, 0 left, 100 %" in row(output, "side")
    assert "as labelled" in row(output, "joint order")
    assert "100.0 %" in row(output, "joints in the picture")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--side=0"], ["side"]),
        (["--order=reversed"], ["joint order"]),
        (["--flip=y"], ["3D projected onto 2D", "side"]),  # a flipped axis makes a left hand of a right one
        (["--flip=x"], ["3D projected onto 2D", "side"]),
        (
            ["--flip=z"],
            ["joints, z", "3D projected onto 2D", "joints in the picture", "joints behind the surface", "side"],
        ),
        (["--count=7"], ["frames"]),
    ],
)
def test_what_is_wrong_is_named_and_ends_in_1(folder, check, words, wrong):
    code, output = check(folder, *words)
    assert code == 1
    assert f"does not agree: test: {', '.join(wrong)}" in output.replace("\n", " ")
    assert all("✗" in row(output, name) for name in wrong)


def test_the_count_says_what_its_reader_notes(folder, check):
    code, output = check(folder, "--note=as a second source counts")
    assert code == 0 and "6 of 6 (as a second source counts)" in row(output, "frames")
    code, output = check(folder, "--count=null")
    assert code == 0 and "6, published count not known" in row(output, "frames")


def test_missing_and_bad_files_are_named_each_once(folder, check):
    (folder / "2.png").unlink()
    (folder / "4.png").write_bytes(b"no picture")
    code, output = check(folder)
    assert code == 1
    assert "✗ 1" in row(output, "files missing") and "✗ 1" in row(output, "bad frames")
    assert "5 of 6" in row(output, "frames opened")
    assert "2.png: no such file" in output
    assert "4.png: cut off; get it anew" in output
    assert output.count("2.png") == 1


def test_missing_files_are_found_in_records_that_are_not_opened(folder, check):
    (folder / "5.png").unlink()
    code, output = check(folder, "--samples=1", "--seed=1")
    assert code == 1 and "1 of 6" in row(output, "frames opened") and "5.png: no such file" in output


def test_labels_without_pictures_are_checked_alone(folder, check, tmp_path):
    for path in folder.glob("*.png"):
        path.unlink()
    code, output = check(folder, "--side=0", f"--picture={tmp_path / 'sheet.png'}")
    assert code == 1 and "0 of 6, the labels of 6" in row(output, "frames opened")
    assert "✓ 0" in row(output, "bad frames") and "✗" in row(output, "side")
    assert "no frame can be drawn" in output and not (tmp_path / "sheet.png").exists()


def test_a_frame_that_breaks_the_contract_is_bad(folder, check):
    joints = np.load(folder / "joints.npy")
    joints[3, 7, 1] = np.nan
    np.save(folder / "joints.npy", joints)
    cv2.imwrite(str(folder / "1.png"), np.zeros((10, 10), np.uint16))
    code, output = check(folder)
    assert code == 1 and "✗ 2" in row(output, "bad frames")
    assert "toy/test/3: joints_3d: expected finite numbers, got 1 NaN or infinite" in output
    assert "toy/test/1: depth: expected shape (120, 160), got (10, 10)" in output


def test_depth_in_the_wrong_unit_is_seen(folder, check):
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 60)
    code, output = check(folder)
    assert code == 1 and "✗" in row(output, "depth") and "✗" in row(output, "joints behind the surface")


def test_a_split_that_cannot_be_opened_does_not_hide_the_others(folder, check):
    code, output = check(folder, "--split", "val", "test")
    assert code == 1 and "val: frames" in output and "val.txt: no such file" in output
    assert "6 of 6" in output


def test_workers_see_what_one_process_sees(folder, check):
    assert check(folder, "--workers=2", "--all")[1] == check(folder, "--all")[1]


def test_a_picture_is_drawn_and_the_folder_stays_as_it_was(folder, check, tmp_path):
    before = snapshot(folder)
    code, output = check(folder, f"--picture={tmp_path / 'sheet.png'}")
    assert code == 0 and "sheet.png: 6 frames" in output
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 324, 4 * 324, 3)
    assert all(cell.any() for cell in (sheet[:320, :320], sheet[324:640, 324:640]))
    assert not sheet[328:, 3 * 324 :].any()  # six frames in two rows of four
    assert snapshot(folder) == before


def test_the_joints_are_drawn_where_the_wall_is_drawn(folder, check, tmp_path):
    check(folder, f"--picture={tmp_path / 'sheet.png'}")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[:320, :320]
    coloured = np.ptp(sheet.astype(int), axis=-1) > 60
    rows, columns = np.nonzero(coloured)
    # the panel is the square around the joints, 1.7 times their box
    assert max(np.ptp(rows), np.ptp(columns)) == pytest.approx(320 / 1.7, abs=15)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--picture=sheet.gif"], "expected a name ending in .png, .jpg, .jpeg, got 'sheet.gif'"),
        (["--picture=nowhere/sheet.png"], "nowhere: no such folder; create it first"),
        (["--split=testing"], "testing"),
        (["--samples=0"], "samples"),
        (["--side=3"], "side: expected 0 or 1, got 3"),
        (["--colour=red"], "colour"),
    ],
)
def test_a_wrong_command_ends_in_2_and_says_why(folder, check, words, message):
    code, output = check(folder, *words)
    assert code == 2 and message in output


def test_a_picture_inside_the_folder_is_refused_through_links_too(folder, check, tmp_path):
    os.symlink(folder, tmp_path / "link")
    before = snapshot(folder)
    for place in (folder, tmp_path / "link"):
        code, output = check(folder, f"--picture={place / 'sheet.png'}")
        assert code == 2 and "inside the dataset's folder" in output
    assert snapshot(folder) == before


def test_a_folder_of_something_else_ends_in_1_and_no_folder_in_2(tmp_path, check):
    code, output = check(tmp_path)
    assert code == 1 and "not the folder of toy" in output and "joints.npy" in output
    code, output = check(tmp_path / "nowhere")
    assert code == 2 and "no such folder" in output


def test_without_a_dataset_the_command_says_which_there_are(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["mnist", "."])
    assert stop.value.code == 2
    assert "nyu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hands", "factor", "wrong"), [(slice(0, None, 2), 0.5, "bone lengths vary by"), (slice(None), 0.25, "hand size")]
)
def test_hands_of_changing_and_of_impossible_sizes_are_seen(folder, check, hands, factor, wrong):
    joints = np.load(folder / "joints.npy")
    middle = joints.mean(1, keepdims=True)
    joints[hands] = (middle + factor * (joints - middle))[hands]
    np.save(folder / "joints.npy", joints)
    code, output = check(folder)
    assert code == 1 and "✗" in row(output, wrong)


def test_depth_of_another_place_is_seen(folder, check):
    for path in folder.glob("*.png"):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(depth > 0, depth - 100, 0).astype(np.uint16))  # 10 cm before the joints
    code, output = check(folder)
    assert code == 1 and "✗" in row(output, "joints behind the surface") and "✗" not in row(output, "depth")
