import cv2
import numpy as np
import pytest
import torch

from datamodules.batch import check_batch
from datamodules.cropping import CropRule, check_croppable, crop_frames
from datamodules.frames import BadFrame, HandFrame
from datamodules.resampling import nearest, resample_depth, resample_rgb
from datamodules.streams import keys_of
from datamodules.transforms import as_pictured
from ops.camera import project
from tests.datamodules.fake_frames import BLOB, SIZE, FakeFrames, K, blobs, offset

ALL = ("rgb", "depth", "mask", "parts", "mesh", "3d", "2d")


def frames(count=6, provides=ALL, side=1):
    records = FakeFrames("fake", "train", 100, provides, side, (), 0, 42)
    return [records.frame(index) for index in range(count)]


def crops(provides=ALL, side=1, size=128, keys=None, rule=None):
    return crop_frames(frames(6, provides, side), rule or CropRule(), size, keys)


@pytest.mark.parametrize("provides", [ALL, ("rgb", "3d", "2d"), ("depth", "3d", "2d")], ids=["both", "rgb", "depth"])
@pytest.mark.parametrize("side", [0, 1])
def test_crop_then_project_is_project_then_map(provides, side):
    batch = crops(provides, side, keys=keys_of("jitter", np.arange(6)))
    check_batch({**batch, "domain": ["fake"] * 6, "convention": ["open"] * 6}, needs=["K", "crop", "joints_2d", "palm"])
    torch.testing.assert_close(project(batch["joints_3d"], batch["K"]), batch["joints_2d"], atol=0.01, rtol=0)
    whole = np.stack([(f.joints_3d @ K.T)[:, :2] / (f.joints_3d @ K.T)[:, 2:] for f in frames(6)])
    mapped = torch.from_numpy(whole).float() @ batch["crop"][..., :2].mT + batch["crop"][:, None, :, 2]
    torch.testing.assert_close(batch["joints_2d"], mapped, atol=0.01, rtol=0)
    assert (batch["mirrored"] == (side == 0)).all() and (batch["side"] == side).all()
    sign = 1 if side else -1
    np.testing.assert_allclose(batch["joints_3d"][:, :, 0], sign * np.stack([f.joints_3d[:, 0] for f in frames(6)]))


@pytest.mark.parametrize("provides", [("rgb", "3d"), ("rgb", "depth", "3d")], ids=["square", "cube"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("size", [36, 128])  # coarser and finer than the picture
def test_colours_are_where_the_joints_are(provides, side, size):
    batch = crops(provides, side, size)
    for row in range(3):
        K_crop, scale = batch["K"][row].double().numpy(), abs(float(batch["crop"][row, 0, 0]))
        drawn = blobs(batch["joints_3d"][row].double().numpy(), K_crop, (size, size), BLOB * scale)
        # warpAffine picks its pixels by 1/32; colours have 256 steps
        assert offset(batch["rgb"][row, 0].numpy(), drawn) < 0.03


def test_a_square_may_stand_around_the_root():
    both, root = (crops(("rgb", "3d"), size=100, rule=CropRule(centre=centre)) for centre in ("box", "root"))
    torch.testing.assert_close(root["joints_2d"][:, 9], torch.full((6, 2), 49.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(root["crop"][:, 0, 0], both["crop"][:, 0, 0]), "its side is that of the box"
    torch.testing.assert_close(project(root["joints_3d"], root["K"]), root["joints_2d"], atol=0.01, rtol=0)
    frame = frames(1, ("rgb", "3d"))[0]
    valid = np.arange(21) != 9
    rootless = HandFrame(**vars(frame) | {"joint_valid": valid})
    around = [crop_frames([rootless], CropRule(centre=centre), 100)["crop"] for centre in ("box", "root")]
    assert torch.equal(*around)


def test_depth_mask_and_parts_are_the_nearest_pixels():
    batch = crops()
    for row in range(3):
        K_crop, scale = batch["K"][row].double().numpy(), abs(float(batch["crop"][row, 0, 0]))
        drawn = blobs(batch["joints_3d"][row].double().numpy(), K_crop, (128, 128), BLOB * scale) > 0.5
        for name in ("depth", "mask", "parts"):
            there = batch[name][row].reshape(128, 128).numpy() > 0
            edge = cv2.dilate(drawn.astype(np.uint8), np.ones((3, 3))) - cv2.erode(
                drawn.astype(np.uint8), np.ones((3, 3))
            )
            assert (there == drawn)[edge == 0].all()
    assert set(batch["parts"].unique().tolist()) == {0, 3}
    assert set(batch["depth"].unique().tolist()) == {0, 0.5}


def test_a_left_hand_is_its_mirror_image():
    left, right = crops(side=0), crops(side=1)
    back = as_pictured(left)
    for name in ("rgb", "depth", "mask", "parts"):  # warpAffine knows 1/32 of a pixel
        torch.testing.assert_close(back[name].float(), right[name].float(), atol=0.02, rtol=0)
    torch.testing.assert_close(back["joints_2d"], right["joints_2d"], atol=0.01, rtol=0)


def test_a_cube_is_centred_on_the_valid_joints_and_nothing_lies_outside():
    frame = frames(1)[0]
    valid = np.arange(21) < 5
    depth = frame.depth.copy()
    depth[::2] *= 1.4  # 0.7 m: beyond 0.5 + 0.15
    changed = HandFrame(**vars(frame) | {"joint_valid": valid, "depth": depth})
    batch = crop_frames([changed], CropRule(), 64)
    np.testing.assert_allclose(batch["cube_centre"][0], frame.joints_3d[:5].mean(0), atol=1e-6)
    assert set(batch["depth"].unique().tolist()) == {0, 0.5}
    middle = project(batch["cube_centre"][:, None], batch["K"])[0, 0]
    torch.testing.assert_close(middle, torch.tensor([31.5, 31.5]), atol=1e-3, rtol=0)
    assert float(batch["crop"][0, 0, 0]) == pytest.approx(
        64 * float(batch["cube_centre"][0, 2]) / (150 * 0.3), rel=1e-5
    )
    assert (batch["joints_2d"][0, 5:] == 0).all() and not batch["joint_valid"][0, 5:].any()


def test_a_square_holds_the_joints_by_its_factor():
    batch = crops(("rgb", "3d"), size=100, rule=CropRule(square=2.0))
    low, high = batch["joints_2d"].min(1).values, batch["joints_2d"].max(1).values
    torch.testing.assert_close((high - low).max(1).values, torch.full((6,), 50.0), atol=1e-3, rtol=0)
    torch.testing.assert_close((high + low) / 2, torch.full((6, 2), 49.5), atol=1e-3, rtol=0)


def test_the_rule_may_say_cube_or_square_for_all():
    colour, both = ("rgb", "3d"), ("rgb", "depth", "3d")
    cube, square = (crops(both, rule=CropRule(around=around)) for around in ("cube", "square"))
    assert torch.equal(cube["crop"], crops(both)["crop"])
    assert torch.equal(crops(colour, rule=CropRule(around="cube"))["rgb"], cube["rgb"])
    assert torch.equal(crops(colour)["rgb"], square["rgb"])
    assert not torch.equal(cube["crop"], square["crop"])


@pytest.mark.parametrize("provides", [("depth", "3d"), ("rgb", "3d")])
def test_jitter_depends_on_the_key_alone_and_keeps_its_bounds(provides):
    rule = CropRule(centre_jitter=0.01, shift=0.1, zoom=0.2)
    many = [frames(1, provides)[0]] * 200
    plain = crop_frames(many[:1], rule, 32)
    batch = crop_frames(many, rule, 32, keys_of("a", np.arange(200)))
    again = crop_frames(many[:3], rule, 32, keys_of("a", np.array([7, 8, 7])))
    assert torch.equal(again["crop"][:2], batch["crop"][7:9]) and torch.equal(again["crop"][2], batch["crop"][7])
    moved = batch["cube_centre"] - plain["cube_centre"]
    assert moved.abs().max() <= 0.02 + 1e-6 and moved.std(0).min() > 0.006
    if "rgb" in provides:
        zoom = batch["crop"][:, 0, 0] / plain["crop"][:, 0, 0]
        assert 1 / 1.2 - 1e-4 <= zoom.min() < 0.87 and 1.15 < zoom.max() <= 1.2 + 1e-4
        centre = torch.linalg.solve(batch["crop"][..., :2], 15.5 - batch["crop"][..., 2])
        start = torch.linalg.solve(plain["crop"][..., :2], 15.5 - plain["crop"][..., 2])
        share = (centre - start).abs() * plain["crop"][:, 0, 0] / 32
        assert 0.08 < share.max() <= 0.1 + 1e-4


def test_a_frame_without_joints_is_taken_whole():
    frame = HandFrame(key="x", side=1, K=K, size=SIZE, rgb=np.full((*SIZE, 3), 255, np.uint8))
    batch = crop_frames([frame], CropRule(), 64)
    assert float(batch["crop"][0, 0, 0]) == pytest.approx(64 / 160)
    assert not batch["has_3d"].any() and not batch["has_2d"].any() and "joints_3d" not in batch
    assert batch["rgb"][0, :, 32, 32].min() > 0.99 and batch["rgb"][0, :, 2].max() == 0  # wide pictures get bars


def test_labels_in_2d_alone_are_valid_in_2d():
    pixels = np.random.default_rng(0).uniform(60, 100, (21, 2)).astype(np.float32)
    frame = HandFrame(key="x", side=1, K=K, size=SIZE, joints_2d=pixels, rgb=np.zeros((*SIZE, 3), np.uint8))
    batch = crop_frames([frame], CropRule(), 64)
    assert batch["has_2d"].all() and batch["joint_valid"].all() and not batch["has_3d"].any()
    assert (batch["cube_centre"] == 0).all() and torch.isfinite(batch["K"]).all()


def test_fine_patterns_become_grey():
    checks = np.repeat((np.indices((300, 300)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
    for shrink in (2.0, 2.3, 3.7):
        affine = np.array([[1 / shrink, 0, -20.3], [0, 1 / shrink, -17.8]])
        cut = resample_rgb(checks, affine, 40).astype(float)
        assert cut.std() < 4 and abs(cut.mean() - 127.5) < 2


def test_small_and_mirrored_and_outside_crops():
    picture = np.zeros((50, 60, 3), np.uint8)
    picture[20, 30] = 200
    labels = picture[..., 0]
    affine = np.array([[-2.0, 0, 80.0], [0, 2.0, -30.0]])  # u' = 80 - 2 u
    assert resample_rgb(picture, affine, 41)[:, 10, 20].max() == 200 and nearest(labels, affine, 41)[10, 20] == 200
    far = np.array([[1.0, 0, 500], [0, 1.0, 500]])
    assert resample_rgb(picture, far, 16).max() == 0 and nearest(labels, far, 16).max() == 0
    assert resample_depth(labels.astype(np.float32), far, 16).max() == 0


def test_frames_that_cannot_be_cut_are_bad():
    frame = frames(1)[0]
    behind = HandFrame(**vars(frame) | {"joints_3d": frame.joints_3d - [0, 0, 1]})
    with pytest.raises(BadFrame, match=r"fake/train/0: .* lies at z = -0.5.* m; expected joints before the camera"):
        check_croppable(behind, CropRule())
    with pytest.raises(BadFrame, match="the mean of 0 valid joints"):
        check_croppable(HandFrame(**vars(frame) | {"joint_valid": np.zeros(21, bool)}), CropRule())
    one = HandFrame(**vars(frame) | {"joint_valid": np.arange(21) == 3, "depth": None})
    with pytest.raises(BadFrame, match="the 1 labelled ones do not; check joints_2d"):
        check_croppable(one, CropRule())
    check_croppable(frame, CropRule())
    flat = HandFrame(key="x", side=1, K=K, size=SIZE, joints_2d=np.eye(21, 2, dtype=np.float32), rgb=frame.rgb)
    check_croppable(flat, CropRule())
    with pytest.raises(BadFrame, match="x: a cube is cut around the joints in 3D"):
        check_croppable(flat, CropRule(around="cube"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"around": "box"}, "around: expected one of"),
        ({"square": 0.9}, "square: expected at least 1"),
        ({"shift": -0.1}, "shift"),
        ({"zoom": float("nan")}, "zoom"),
    ],
)
def test_wrong_rules_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CropRule(**settings)
