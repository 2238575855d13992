"""SynHand5M: what a layout says is what is read; layouts and files that cannot be are refused."""

import copy

import cv2
import numpy as np
import pytest
import scipy.io
import yaml

from benchmarks.generated.synhand5m import write_synhand5m
from datamodules.frames import BadFrame
from datamodules.synhand5m import SynHand5M
from datamodules.synhand5m_layout import DEFAULT_LAYOUT, read_layout
from tests.datamodules.readers import check_frames, sides


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synhand5m")
    write_synhand5m(folder, train=3, test=2)
    return folder


def layout_with(path, **changes):
    """The default layout with other values of `section__key`, in a file."""
    layout = copy.deepcopy(read_layout(DEFAULT_LAYOUT))
    for name, value in changes.items():
        *sections, key = name.split("__")
        place = layout
        for section in sections:
            place = place[section]
        place[key] = value
    path.write_text(yaml.safe_dump(layout))
    return path


@pytest.fixture
def odd(tmp_path):
    """Two frames as some other owner may have them: one table of joints, packed depth in 0.1 mm, y up, no mesh."""
    joints = np.zeros((2, 5, 3))
    joints[1, 3] = (1, 2, 50)  # centimetres
    joints[..., 2] += 10
    for number, depth in ((4, 3000), (11, 700)):
        (tmp_path / f"all/{number}").mkdir(parents=True)
        picture = np.full((6, 8, 3), (depth & 255, depth >> 8, 0), np.uint8)  # blue low, green high
        picture[0] = (255, 255, 0)
        cv2.imwrite(str(tmp_path / f"all/{number}/d.png"), picture)
    scipy.io.savemat(tmp_path / "all/joints.mat", {"xyz": joints})
    order = [None] * 21
    order[5] = 3
    layout = layout_with(
        tmp_path / "layout.yaml",
        size=[6, 8],
        splits={name: {"folder": "all", "frames": 2} for name in ("train", "test")},
        depth={"pattern": "{index}/d.png", "packing": "green-blue", "unit": 0.0001, "missing": [65535]},
        mask=None,
        joints={"pattern": "joints.mat", "key": "xyz", "unit": 0.01, "axes": [1, -1, 1], "count": 5},
        vertices=None,
        order=order,
        palm=None,
        side="left",
        convention="nyu",
    )
    return tmp_path, layout


def test_a_layout_says_units_axes_order_packing_and_side(odd):
    frames = SynHand5M(*odd).frames("test")
    assert len(frames) == frames.expected == 2 and frames.convention == "nyu"
    assert frames.provides == {"depth", "3d", "2d"}
    frame = frames.frame(1)
    assert frame.key == "synhand5m/test/0000011" and frame.side == 0 and frame.palm is frame.vertices is None
    np.testing.assert_allclose(frame.joints_3d[5], (0.01, -0.02, 0.6), atol=1e-7)
    assert np.flatnonzero(frame.joint_valid).tolist() == [5]
    np.testing.assert_allclose(frame.depth[1:], 0.07, atol=1e-7)
    assert not frame.depth[0].any()


def test_generated_records_fit_their_pictures(generated):
    frames = SynHand5M(generated, vertices=True).frames("test")
    read = check_frames(frames)
    assert (sides(read) == 1).all() and {frame.side for frame in read} == {1} and frames.expected is None
    assert all(frame.vertices.shape == (1193, 3) and frame.hand_model == "synhand5m" for frame in read)
    assert all(frame.points.shape == (22, 3) for frame in read)
    middle = 0.5 * (read[0].joints_3d[0] + read[0].joints_3d[9])
    np.testing.assert_allclose(read[0].palm, middle, atol=1e-6)
    train, val = (SynHand5M(generated).frames(split) for split in ("train", "val"))
    assert (len(train), len(val), val.labels(0).key) == (2, 1, "synhand5m/val/0000002")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": {"fx": 1, "fy": 1, "cx": 1}}, "camera.expected the keys fx, fy, cx, cy; missing or unknown: .'cy'"),
        ({"colour": 3}, "expected the keys size, .*; missing or unknown: .'colour'"),
        ({"size": [480]}, "size: expected height and width in pixels, got .480"),
        ({"camera__fx": -1}, "camera.fx: expected a number above 0, got -1"),
        ({"depth__unit": float("nan")}, "depth.unit: expected a number above 0, got nan"),
        ({"depth__packing": "8-bit"}, "depth.packing: expected one of 16-bit"),
        ({"depth__pattern": "depth.png"}, r"depth.pattern: expected \{index\} in it"),
        ({"depth__pattern": "{number}.png"}, "depth.pattern: expected a path with"),
        ({"mask__pattern": "../{index}.png"}, "mask.pattern: expected a path with"),
        ({"joints__axes": [1, 2, 1]}, "joints.axes: expected three signs"),
        ({"joints__axes": ["x", "y", "z"]}, "joints.axes: expected three signs"),
        ({"joints__count": 21}, "order and palm: expected rows below joints.count, 21"),
        ({"joints__pattern": "all.npz"}, "joints.key: expected the name of an array in .npz"),
        ({"joints__pattern": "all.pickle"}, "joints.pattern: the kind of file: expected one of '.txt'"),
        ({"order": [0, 1, 2]}, "order: expected 21 rows"),
        ({"side": "both"}, "side: expected left or right, got 'both'"),
        ({"convention": "mine"}, "convention: expected one of .*'open'.*, got 'mine'"),
        ({"splits__train": "train"}, "splits.train.expected the keys folder, frames"),
    ],
)
def test_layouts_that_cannot_be_are_refused(tmp_path, changes, message):
    path = layout_with(tmp_path / "mine.yaml", **changes)
    with pytest.raises(ValueError, match=r"mine\.yaml: " + message):
        SynHand5M(tmp_path, path)


def test_what_is_no_layout_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    for text, message in (
        ("a: [", "no YAML"),
        ("- 3", "expected the keys size, camera"),
        ("", "the label file is empty"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_layout(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("joints", "1 2 3\n", r"expected numbers of shape \(22, 3\), got float64 \(1, 3\)"),
        ("joints", "1 2\n3", "damaged, or not as the layout says"),
        ("joints", "1 2 left\n", "damaged, or not as the layout says"),
        ("joints", "nan 0 500\n" * 22, "joints: expected finite numbers"),
        ("joints", "0 0 -500\n" * 22, "expected points before the camera"),
        ("mesh", "0 0 500\n" * 1192, r"expected numbers of shape \(1193, 3\)"),
    ],
)
def test_bad_labels_are_refused_by_the_record(tmp_path, name, text, message):
    write_synhand5m(tmp_path, train=0, test=1)
    (tmp_path / f"test/{name}/0000000.txt").write_text(text)
    with pytest.raises(BadFrame, match=rf"{name}/0000000\.txt.*" + message):
        SynHand5M(tmp_path, vertices=True).frames("test").labels(0)


def test_lost_pictures_and_tables_of_other_lengths_are_named(odd, generated):
    folder, layout = odd
    with pytest.raises(FileNotFoundError, match=r"no file is called depth/\{index:07d\}\.png"):
        SynHand5M(folder, layout_with(folder / "b.yaml", splits__test__folder="all")).frames("test")
    cv2.imwrite(str(folder / "all/4/d.png"), np.full((6, 8, 3), (255, 255, 0), np.uint8))
    with pytest.raises(BadFrame, match=r"4/d\.png: no depth at all"):
        SynHand5M(folder, layout).frames("test").frame(0)
    (folder / "all/4/d.png").unlink()
    with pytest.raises(BadFrame, match=r"joints\.mat: expected numbers of shape \(1, 5, 3\), got float64 \(2, 5, 3\)"):
        SynHand5M(folder, layout).frames("test")
    with pytest.raises(FileNotFoundError, match="expected train or test in it"):
        SynHand5M(generated / "test")
