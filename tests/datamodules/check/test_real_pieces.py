"""The check on small pieces of the real datasets, where they lie beside the checkout."""

import io
import lzma
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datamodules.check.__main__ import main
from datamodules.msra15 import GESTURES, PEOPLE
from datamodules.nyu import K as NYU_K
from tests.datamodules.check.test_check import row, snapshot

PIECES = Path(__file__).parents[3] / ".." / "shared" / "data"
pytestmark = pytest.mark.skipif(not PIECES.is_dir(), reason="the real pieces (../shared/data) are not here")


@pytest.fixture
def check(capsys):
    def run(*words: str) -> tuple[int, str]:
        code = main([*map(str, words), "--workers=0"])
        return code, capsys.readouterr().out

    return run


def unpacked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.decompress(source.read_bytes()))


def linked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def test_ge_agrees_in_all_there_is(check, tmp_path):
    before = snapshot(PIECES / "ge_rgb3d")
    code, output = check("ge", PIECES / "ge_rgb3d", "--all", f"--picture={tmp_path / 'sheet.png'}")
    assert code == 0 and "117 of 117" in row(output, "frames opened")
    assert "0 right, 117 left, 100 %" in row(output, "side")
    assert (tmp_path / "sheet.png").stat().st_size > 100_000
    assert snapshot(PIECES / "ge_rgb3d") == before


def test_a_stereo_pair_of_stb(check, tmp_path):
    linked(PIECES / "stb" / "B1Counting_BB.mat", tmp_path / "labels" / "B1Counting_BB.mat")
    for camera in ("left", "right"):
        name = f"BB_{camera}_0.png"
        linked(PIECES / "stb" / name, tmp_path / "images" / "B1Counting" / name)
    code, output = check("stb", tmp_path, "--split=test", "--sequences=[B1Counting]")
    assert code == 1 and "does not agree: test: files missing" in output
    assert "✓ 3000 of 3000" in row(output, "frames") and "✗ 2998" in row(output, "files missing")
    assert "2 of 3000" in row(output, "frames opened") and "✓ 0" in row(output, "bad frames")
    assert "0 right, 2 left, 100 %" in row(output, "side")
    assert "BB_left_1.png: no such file" in output


def test_labels_of_icvl(check, tmp_path):
    for name in ("test_seq_1.txt", "test_seq_2.txt"):
        unpacked(PIECES / "icvl" / f"{name}.xz", tmp_path / "Testing" / name)
    code, output = check("icvl", tmp_path, "--split=test")
    assert code == 1 and "does not agree: test: files missing" in output
    assert "✓ 1596 of 1596" in row(output, "frames") and "✗ 1596" in row(output, "files missing")
    assert "✓ 0 right, 200 left" in row(output, "side")
    assert "✓ as labelled" in row(output, "joint order")


def test_labels_in_msras_format(check, tmp_path):
    for person in PEOPLE:
        for gesture in GESTURES:
            linked(PIECES / "msra" / "joint.txt", tmp_path / person / gesture / "joint.txt")
    code, output = check("msra15", tmp_path, "--split=test")
    assert code == 1 and "does not agree: test: frames, files missing" in output
    assert "✗ 6800 of 8499" in row(output, "frames")  # 17 times the 400 of the piece
    assert "✓ 200 right, 0 left" in row(output, "side")


def test_a_frame_of_nyu_lies_under_its_labels(check, tmp_path):
    columns = []
    for axis in "uvd":
        text = lzma.decompress((PIECES / "nyu" / f"joint_1_{axis}.csv.xz").read_bytes()).decode()
        columns.append(np.loadtxt(io.StringIO(text), delimiter=",", max_rows=1))
    uvd = np.stack(columns, -1)
    rays = np.concatenate([uvd[:, :2], np.ones((36, 1))], 1) @ np.linalg.inv(NYU_K).T
    xyz = rays * uvd[:, 2:] * (1, -1, 1)
    (tmp_path / "test").mkdir()
    arrays = {name: np.tile(value, (3, 1, 1, 1)) for name, value in (("joint_xyz", xyz), ("joint_uvd", uvd))}
    scipy.io.savemat(tmp_path / "test" / "joint_data.mat", arrays)
    linked(PIECES / "nyu" / "depth_1_0000001.png", tmp_path / "test" / "depth_1_0000001.png")
    code, output = check("nyu", tmp_path, "--split=test", f"--picture={tmp_path.parent / 'nyu.png'}")
    assert code == 1 and "does not agree: test: frames\n" in output  # one of 8252
    assert "✓" in row(output, "joints behind the surface")
    assert "2.001 m" in row(output, "depth")
    assert "1 right, 0 left, 100 %" in row(output, "side")
