"""NYU: axes, cameras, actors and points from files in its layout; its real labels on its real frame; files that lie."""

import lzma
import shutil

import numpy as np
import pytest
import scipy.io

from benchmarks.generated.nyu import BACKGROUND_MM, write_nyu
from datamodules.frames import BadFrame
from datamodules.nyu import NYU, SECOND_ACTOR, K
from ops.joints import NYU14_OF_36, NYU36
from tests.datamodules.readers import check_frames, piece, sides

SHAPE = (3, 4, 36, 3)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    write_nyu(folder, train=4, test=2)
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Every 25th of the real labels of camera 1, in a file as the dataset has it, with the picture of the first."""
    source, folder = piece("nyu"), tmp_path_factory.mktemp("real")
    columns = []
    for axis in "uvd":
        with lzma.open(source / f"joint_1_{axis}.csv.xz", "rt") as lines:
            columns.append(np.loadtxt(list(lines)[::25], delimiter=","))
    uvd = np.stack(columns, -1)
    rays = (uvd[..., :2] - K[:2, 2]) / np.diag(K)[:2] * (1, -1)
    xyz = np.concatenate([rays, np.ones_like(rays[..., :1])], -1) * uvd[..., 2:]
    write_labels(folder, np.stack([xyz] * 3), np.stack([uvd] * 3))
    shutil.copy(source / "depth_1_0000001.png", folder / "test")
    return NYU(folder).frames("test")


def write_labels(folder, xyz, uvd):
    (folder / "test").mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "test/joint_data.mat", {"joint_xyz": xyz, "joint_uvd": uvd})


def test_y_is_turned_down_and_points_become_joints_and_palm(tmp_path):
    xyz = np.zeros(SHAPE)
    xyz[0, 1] = np.arange(36)[:, None] * (1, 10, 0) + (0, 0, 500)
    write_labels(tmp_path, xyz, np.ones(SHAPE))
    labels = NYU(tmp_path).frames("test").labels(1)
    np.testing.assert_allclose(labels.points[3], (0.003, -0.03, 0.5), atol=1e-7)
    np.testing.assert_allclose(labels.palm, labels.points[32])
    x = np.round(labels.joints_3d[:, 0] * 1000, 3).tolist()
    # the wrist lies between PALM_1 and PALM_2; fingers are B, B, B and the last A, from the thumb (24 to 29) on
    assert x == [30.5, 29, 27, 25, 24, 23, 21, 19, 18, 17, 15, 13, 12, 11, 9, 7, 6, 5, 3, 1, 0]
    assert labels.joint_valid.all() and labels.side == 1


def test_the_published_14_are_tips_bends_thumb_wrist_and_palm():
    names = [NYU36[i] for i in NYU14_OF_36]
    assert names[:4] == ["F1_KNU3_A", "F1_KNU2_B", "F2_KNU3_A", "F2_KNU2_B"]
    assert names[8:] == ["TH_KNU3_A", "TH_KNU3_B", "TH_KNU2_B", "PALM_1", "PALM_2", "PALM_3"]


def test_generated_records_fit_their_pictures(generated):
    frames = NYU(generated).frames("test")
    read = check_frames(frames)
    assert (sides(read) == 1).all() and {frame.side for frame in read} == {1}
    assert frames.expected == 8252 and frames.convention == "nyu"
    np.testing.assert_allclose(read[0].depth[0, 0], BACKGROUND_MM / 1000, atol=1e-6)
    # the wrist of the generated files is the mean of its two points, half of them on either side
    np.testing.assert_allclose(read[0].joints_3d[0], read[0].points[[30, 31]].mean(0), atol=1e-6)


def test_chosen_cameras_are_trained_on_and_the_first_is_tested_on(generated):
    train, val = (NYU(generated, train_views=[3, 1]).frames(split) for split in ("train", "val"))
    assert [train.labels(i).key.split("/")[-1] for i in range(6)] == [f"{c}_{n:07d}" for c in (3, 1) for n in (1, 2, 3)]
    assert [val.labels(i).key for i in range(len(val))] == ["nyu/val/1_0000004"]
    assert (train.expected, val.expected) == (2 * 71302, 1455)
    moved = train.labels(0).joints_3d - train.labels(3).joints_3d
    np.testing.assert_allclose(moved, np.tile([0.05, 0, 0.02], (21, 1)), atol=1e-6)
    check_frames(train)


def test_the_second_actor_has_a_smaller_cube(tmp_path):
    write_labels(tmp_path, np.full((3, 2442, 36, 3), 400.0), np.ones((3, 2442, 36, 3)))
    frames = NYU(tmp_path).frames("test")
    assert [frames.labels(i).cube_side for i in (0, 2439, 2440, 2441)] == [0.3, 0.3, 0.25, 0.25]


def test_real_fingers_bend_at_the_B_ends(real):
    """Which of the 36 are joints: at A ends the angle hardly changes."""
    points = np.stack([real.labels(i).points for i in range(len(real))])
    for finger in (0, 6, 12, 18):  # little to index
        before, at, after = (points[:, finger + i : finger + i + 4] for i in (0, 1, 2))
        cosine = ((before - at) * (after - at)).sum(-1)
        cosine /= np.linalg.norm(before - at, axis=-1) * np.linalg.norm(after - at, axis=-1)
        _, middle_a, middle_b, base_a = np.arccos(cosine).std(0)
        assert middle_b > 1.5 * middle_a and middle_b > 2 * base_a, NYU36[finger]


def test_real_labels_are_of_right_hands_and_bones_change_with_the_actor(real):
    assert (sides([real.labels(i) for i in range(0, len(real), 8)]) == 1).mean() > 0.9
    points = np.stack([real.labels(i).points for i in range(len(real))])
    bone = np.linalg.norm(points[:, NYU36.index("F4_KNU1_A")] - points[:, NYU36.index("F4_KNU1_B")], axis=-1) * 1000
    first = SECOND_ACTOR // 25 + 1
    np.testing.assert_allclose(bone[:first], 30.16, atol=0.1)
    np.testing.assert_allclose(bone[first:], 25.93, atol=0.8)


def test_real_labels_lie_behind_the_real_surface_by_the_thickness_of_what_is_there(real):
    frame = real.frame(0)
    points = frame.points[list(NYU14_OF_36)]
    rays = points @ frame.K.T
    u, v = np.rint(rays[:, :2] / rays[:, 2:]).astype(int).T
    behind = points[:, 2] - frame.depth[v, u]
    assert (behind > 0).all() and (behind[:10] < 0.018).all(), "fingers"
    assert (behind[10:] < 0.035).all(), "thumb root, wrist and palm"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"joint_xyz": np.zeros((3, 2, 35, 3))}, r"'joint_xyz' of shape \(3, any, 36, 3\), got .*35"),
        ({"joint_xyz": np.zeros((3, 2, 36, 3))}, "an array 'joint_uvd' of shape"),
        ({"joint_xyz": np.zeros((3, 2, 36, 3)), "joint_uvd": np.zeros((3, 3, 36, 3))}, "equally many frames"),
        (
            {"joint_xyz": np.zeros((3, 0, 36, 3)), "joint_uvd": np.zeros((3, 0, 36, 3))},
            "equally many frames .*got none",
        ),
    ],
)
def test_labels_of_another_shape_are_refused_when_opened(tmp_path, arrays, message):
    (tmp_path / "test").mkdir()
    scipy.io.savemat(tmp_path / "test/joint_data.mat", arrays)
    with pytest.raises(BadFrame, match=r"test/joint_data\.mat.*" + message):
        NYU(tmp_path).frames("test")


def test_bad_records_and_options_are_named(generated, tmp_path):
    labels = scipy.io.loadmat(generated / "test/joint_data.mat")
    labels["joint_xyz"][0, 1, 7, 1] = np.nan
    write_labels(tmp_path, labels["joint_xyz"], labels["joint_uvd"])
    frames = NYU(tmp_path).frames("test")
    with pytest.raises(BadFrame, match=r"joint_data\.mat, record 2 of camera 1: joint_xyz: .*rows \[7\]"):
        frames.labels(1)
    with pytest.raises(BadFrame, match=r"depth_1_0000001\.png: no such picture"):
        frames.frame(0)
    labels["joint_xyz"][0, 1] = 0
    write_labels(tmp_path, labels["joint_xyz"], labels["joint_uvd"])
    with pytest.raises(BadFrame, match="record 2 of camera 1: expected points before the camera"):
        NYU(tmp_path).frames("test").labels(1)
    with pytest.raises(FileNotFoundError, match=r"train/joint_data\.mat: no such label file"):
        NYU(tmp_path).frames("train")
    with pytest.raises(ValueError, match="train_views: expected one of 1, 2, 3, got 4"):
        NYU(generated, train_views=[4])
    with pytest.raises(ValueError, match="train_views: expected different cameras"):
        NYU(generated, train_views=[1, 1])
    with pytest.raises(FileNotFoundError, match="expected train or test in it"):
        NYU(generated / "test")
