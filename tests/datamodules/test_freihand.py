"""FreiHAND: four backgrounds of one pose, masks, vertices as text; a real picture; files that lie."""

import json
import pickle
import shutil

import pytest

from benchmarks.generated.freihand import write_freihand
from datamodules.frames import BadFrame
from datamodules.freihand import FreiHAND
from datamodules.picture_files import read_rgb
from tests.datamodules.readers import check_frames, piece, sides


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("freihand")
    write_freihand(folder, train=3, test=2)
    return folder


@pytest.fixture
def damaged(generated, tmp_path):
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    return tmp_path


def change(path, edit):
    contents = json.loads(path.read_text())
    edit(contents)
    path.write_text(json.dumps(contents))


def test_generated_records_fit_their_pictures(generated):
    for split, count, full in (("train", 8, 127636), ("val", 4, 2604), ("test", 2, 3960)):
        frames = FreiHAND(generated, vertices=True).frames(split)
        read = check_frames(frames)
        assert len(read) == count and frames.expected == full
        assert {frame.side for frame in read} == {1} and (sides(read) == 1).all()
        assert ("mask" in frames.provides) == (split != "test")
        for frame in read:
            assert frame.vertices.shape == (778, 3) and frame.hand_model == "mano"
            # the joints lie within the surface that is given beside them
            assert (frame.joints_3d > frame.vertices.min(0) - 0.002).all()
            assert (frame.joints_3d < frame.vertices.max(0) + 0.002).all()


def test_a_pose_is_trained_on_or_held_out_before_all_its_backgrounds(generated):
    train, val = (FreiHAND(generated).frames(split) for split in ("train", "val"))
    pictures = {
        split: [int(frames.files(i)[0].stem) for i in range(len(frames))]
        for split, frames in (("train", train), ("val", val))
    }
    assert pictures == {"train": [0, 1, 3, 4, 6, 7, 9, 10], "val": [2, 5, 8, 11]}
    masks = [int(val.files(i)[1].stem) for i in range(4)]
    assert masks == [2] * 4
    one = FreiHAND(generated, versions=["auto", "gs"]).frames("train")
    assert [int(one.files(i)[0].stem) for i in range(4)] == [9, 10, 0, 1]
    with pytest.raises(IndexError):
        one.labels(4)


def test_vertices_stay_in_their_file(generated):
    with_, without = (FreiHAND(generated, vertices=vertices).frames("train") for vertices in (True, False))
    assert without.provides == with_.provides - {"mesh"}
    assert without.labels(0).vertices is None and without.labels(0).hand_model == ""
    assert len(pickle.dumps(with_)) - len(pickle.dumps(without)) < 1000  # 3 x 778 x 3 numbers would be 28 kB


def test_a_real_picture_has_the_stated_size():
    assert read_rgb(piece("freihand/00017620.jpg"), (224, 224)).shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("K", lambda c: c.pop(), r"training_K\.json: expected 3 records as in training_xyz\.json, got 2"),
        ("verts", lambda c: c.pop(), r"training_verts\.json: expected 3 records as in training_xyz\.json, got 2"),
        ("xyz", lambda c: c[1].pop(), r"training_xyz\.json, all records: expected numbers of shape \(any, 21, 3\)"),
        ("xyz", lambda c: c.clear(), r"training_xyz\.json, all records: expected numbers"),
        ("verts", lambda c: c.clear(), r"training_verts\.json: truncated, or no JSON list of matrices"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused_when_opened(damaged, name, edit, message):
    change(damaged / f"training_{name}.json", edit)
    with pytest.raises(BadFrame, match=message):
        FreiHAND(damaged, vertices=True).frames("train")


def test_a_bad_record_is_refused_alone(damaged):
    change(damaged / "evaluation_xyz.json", lambda c: c[0][5].__setitem__(2, float("nan")))
    frames = FreiHAND(damaged).frames("test")
    frames.frame(1)
    with pytest.raises(BadFrame, match=r"evaluation_xyz\.json, record 0: xyz: .* rows \[5\]"):
        frames.frame(0)
    change(damaged / "evaluation_K.json", lambda c: c[1][0].__setitem__(0, 0))
    with pytest.raises(BadFrame, match="record 1: camera: expected positive focal lengths"):
        FreiHAND(damaged).frames("test").labels(1)
    change(damaged / "training_verts.json", lambda c: c[1].pop())
    with pytest.raises(BadFrame, match=r"training_verts\.json, row 1: expected numbers of shape \(778, 3\)"):
        FreiHAND(damaged, vertices=True).frames("train").labels(1)
    (damaged / "training/mask/00000000.jpg").unlink()
    with pytest.raises(BadFrame, match=r"mask/00000000\.jpg: no such picture"):
        FreiHAND(damaged).frames("train").frame(0)


def test_what_is_not_there_is_named(damaged):
    (damaged / "evaluation_verts.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"evaluation_verts\.json: .*or do without vertices"):
        FreiHAND(damaged, vertices=True).frames("test")
    assert len(FreiHAND(damaged).frames("test")) == 2
    (damaged / "evaluation_xyz.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"evaluation_xyz\.json: no such label file"):
        FreiHAND(damaged).frames("test")
    with pytest.raises(ValueError, match="versions: expected one of 'gs', 'hom', 'sample', 'auto', got 'blue'"):
        FreiHAND(damaged, versions=["blue"])
    with pytest.raises(ValueError, match="versions: expected at least one"):
        FreiHAND(damaged, versions=[])
