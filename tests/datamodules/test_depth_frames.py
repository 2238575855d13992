"""Reading a user's depth frame, naming its camera, cropping it as the rendered sources do."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datamodules.batch import check_batch
from datamodules.depth_frames import DepthFrame, crop_depth_frames, frame_camera, read_depth_frame, resample_depth
from datamodules.hand_finder import _thinned, find_hand
from ops.camera import camera_preset, crop_affine, project
from ops.hand_model import open_hand
from ops.hand_model.layer import HandLayer
from ops.render.labels import face_parts, render_labels

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
NYU_FRAME = DATA / "nyu" / "depth_1_0000001.png"
SR305_FRAMES = sorted((DATA / "sr305").glob("*.png"))
# Where the hand is, metres: looked at in the crops. Forearms, bodies and ragged patches nearby are what to beat.
SR305_HANDS = {
    "230536_110": (-0.03, -0.01, 0.52),
    "230536_150": (-0.01, -0.02, 0.51),
    "230536_30": (-0.03, 0.10, 0.63),
    "230536_70": (-0.02, 0.02, 0.58),
    "231615_0": (-0.06, 0.07, 0.63),
    "231615_200": (0.03, 0.05, 0.64),
    "231615_60": (0.01, 0.07, 0.61),
}


def step_picture() -> np.ndarray:
    """(4, 6) stored depths around 700 steps, with a hole."""
    picture = np.full((4, 6), 700, np.uint16)
    picture[:, 3:] = 1800
    picture[0, 0] = 0
    return picture


def frame_of(depth: np.ndarray) -> DepthFrame:
    return DepthFrame(depth.astype(np.float32), "16-bit", Path("made-up.png"))


# -- reading


def write_packed(path: Path, packing: str, stored: np.ndarray) -> Path:
    low, high, none = (stored & 255).astype(np.uint8), (stored >> 8).astype(np.uint8), np.zeros(stored.shape, np.uint8)
    channels = {"nyu": [low, high, none], "ho3d": [none, high, low]}  # blue, green, red
    cv2.imwrite(str(path), cv2.merge(channels[packing]) if packing in channels else stored)
    return path


@pytest.mark.parametrize("packing, unit", [("16-bit", 0.001), ("nyu", 0.001), ("ho3d", 0.00012498664727900177)])
def test_packings_give_metres(tmp_path, packing, unit):
    stored = step_picture() * (8 if packing == "ho3d" else 1)
    frame = read_depth_frame(write_packed(tmp_path / "d.png", packing, stored))
    assert frame.packing == packing
    np.testing.assert_allclose(frame.depth, stored * unit, rtol=1e-6)


def test_npy_floats_are_metres_and_integers_steps(tmp_path):
    np.save(tmp_path / "metres.npy", np.array([[0.7, np.nan]]))
    np.testing.assert_allclose(read_depth_frame(tmp_path / "metres.npy").depth, [[0.7, 0]])
    np.save(tmp_path / "steps.npy", np.array([[700, 0]], np.int32))
    np.testing.assert_allclose(read_depth_frame(tmp_path / "steps.npy").depth, [[0.7, 0]])
    np.testing.assert_allclose(read_depth_frame(tmp_path / "steps.npy", unit=0.002).depth, [[1.4, 0]])


def bad(tmp_path: Path, what: str) -> Path:
    path = tmp_path / f"{what}.png"
    pictures = {
        "zero": np.zeros((4, 4), np.uint16),
        "grey": np.full((4, 4), 90, np.uint8),
        "colour": np.full((4, 4, 3), 90, np.uint8),
        "rgba": np.full((4, 4, 4), 90, np.uint8),
        "metres-as-steps": np.full((4, 4), 1, np.uint16),
        "eighths": np.full((4, 4), 4000, np.uint16),
    }
    if what in pictures:
        cv2.imwrite(str(path), pictures[what])
    elif what == "truncated":
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 2000, (64, 64)).astype(np.uint16))
        path.write_bytes(path.read_bytes()[:2000])
    elif what == "text":
        path.write_text("not a picture")
    elif what == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "what, error, message",
    [
        ("missing", FileNotFoundError, r"missing.png: no such file"),
        ("zero", ValueError, r"no depth at all"),
        ("grey", ValueError, r"uint8 grey holds too few depth steps .* export the raw 16-bit"),
        ("colour", ValueError, r"a colour picture"),
        ("rgba", ValueError, r"a colour picture"),
        ("truncated", ValueError, r"truncated \(2000 bytes"),
        ("text", ValueError, r"neither PNG nor JPEG"),
        ("empty", ValueError, r"the file is empty"),
        ("metres-as-steps", ValueError, r"unit of 0.001 m the nearest surface is at 0.001 m.*--unit 1 \(1.00 m\)"),
        ("eighths", ValueError, r"nearest surface is at 4 m.*--unit 0.000125 \(0.50 m\)"),
    ],
)
def test_bad_pictures_are_refused_with_a_remedy(tmp_path, what, error, message):
    with pytest.raises(error, match=message):
        read_depth_frame(bad(tmp_path, what))


def test_bad_arrays_and_units_are_refused(tmp_path):
    np.save(tmp_path / "colour.npy", np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"expected one \(H, W\) array"):
        read_depth_frame(tmp_path / "colour.npy")
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"not a readable \.npy"):
        read_depth_frame(tmp_path / "objects.npy")
    with pytest.raises(ValueError, match="unit: expected metres per stored step"):
        read_depth_frame(write_packed(tmp_path / "d.png", "16-bit", step_picture()), unit=0)


# -- camera


def test_camera_by_name_by_numbers_and_by_packing():
    frame = frame_of(np.ones((480, 640)))
    K, name = frame_camera(None, frame._replace(packing="nyu"))
    assert name == "nyu" and float(K[0, 0]) == pytest.approx(588.036865)
    K, name = frame_camera("500,510,320.5,241", frame)
    assert K.tolist() == [[500, 0, 320.5], [0, 510, 241], [0, 0, 1]]


@pytest.mark.parametrize(
    "camera, message",
    [
        (None, "camera: unknown .* give one of nyu"),
        ("kinect", "camera: expected one of 'nyu'"),
        ("icvl", "takes pictures of 320x240, made-up.png is 640x480"),
        ("0,500,320,240", "positive focal lengths"),
        ("500,320,240", "expected a preset's name or fx,fy,cx,cy"),
        ("320,240,500000,500", "principal point .* far outside"),
    ],
)
def test_bad_cameras_are_refused(camera, message):
    with pytest.raises(ValueError, match=message):
        frame_camera(camera, frame_of(np.ones((480, 640))))


# -- cropping


@pytest.fixture(scope="module")
def scene():
    """A bent open hand before NYU's camera: full frame, its camera, vertices."""
    model = open_hand()
    pose = torch.zeros(1, 45)
    pose[0, 2::9] = 0.3
    hand = HandLayer(model)(pose, torch.zeros(1, 10), torch.tensor([[0.3, -1.2, 0.5]]))
    vertices = hand.vertices - hand.vertices.mean(1, keepdim=True) + torch.tensor([0.05, -0.03, 0.62])
    K, size = camera_preset("nyu")
    faces = torch.from_numpy(model.faces)
    render = (faces, face_parts(torch.from_numpy(model.part_labels), faces))
    depth, _ = render_labels(vertices, render[0], K[None], size, render[1])
    return depth[0, 0].numpy(), K, vertices, render


def test_a_crop_is_what_the_renderer_gives_in_the_crops_camera(scene):
    depth, K, vertices, (faces, parts) = scene
    centre = vertices.mean(1)[0].numpy()
    batch = crop_depth_frames([frame_of(depth)], K[None], centre[None])
    check_batch(batch)
    rendered, _ = render_labels(vertices, faces, batch["K"], 128, parts)
    ours, theirs = batch["depth"][0, 0].numpy(), rendered[0, 0].numpy()
    both = (ours > 0) & (theirs > 0)
    # outlines: nearest sampling moves an edge by up to half a pixel of the frame, to either side alike
    assert (ours > 0).sum() == pytest.approx((theirs > 0).sum(), rel=0.01)
    assert both.sum() > 0.97 * (theirs > 0).sum()
    # surfaces: a crop shifted by 0.01 px would change depths by its slope times 0.01 px, see the next test
    difference = np.abs(ours - theirs)[both]
    assert np.median(difference) < 1e-4 and np.percentile(difference, 90) < 5e-4


def test_a_crop_is_not_shifted_by_a_hundredth_of_a_pixel(scene):
    depth, K, vertices, (faces, parts) = scene
    batch = crop_depth_frames([frame_of(depth)], K[None], vertices.mean(1).numpy())
    ours = batch["depth"]

    def mean_difference(shift: float) -> float:
        moved = batch["K"].clone()
        moved[:, :2, 2] += shift
        rendered, _ = render_labels(vertices, faces, moved, 128, parts)
        near = (ours > 0) & (rendered > 0) & ((ours - rendered).abs() < 2e-3)
        return float((ours - rendered)[near].abs().mean())

    shifts = np.linspace(-0.3, 0.3, 13)
    best = np.polyfit(shifts, [mean_difference(s) ** 2 for s in shifts], 2)
    assert abs(-best[1] / (2 * best[0])) < 0.01


def test_a_crops_camera_projects_to_the_crops_pixels(scene):
    depth, K, vertices, _ = scene
    batch = crop_depth_frames([frame_of(depth)], K[None], vertices.mean(1).numpy())
    full = project(vertices, K)
    moved = full @ batch["crop"][:, :, :2].transpose(1, 2) + batch["crop"][:, None, :, 2]
    torch.testing.assert_close(moved, project(vertices, batch["K"]), atol=1e-3, rtol=0)


def test_resampling_never_blends_hand_and_background():
    depth = step_picture().astype(np.float32) / 1000
    affine = crop_affine(torch.tensor([[2.5, 1.5]]), torch.tensor([4.0]), 13)[0].numpy()
    crop = resample_depth(depth, affine, 13)
    assert set(np.unique(crop)) <= {np.float32(0), np.float32(0.7), np.float32(1.8)}


def test_resampling_follows_a_slope_and_gives_zero_outside():
    depth = np.fromfunction(lambda v, u: 0.5 + 0.001 * u, (8, 8))
    affine = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])  # u' = 2 u + 0.5
    crop = resample_depth(depth, affine, 24)
    assert crop[6, 6] == pytest.approx(0.5 + 0.001 * 2.75)
    assert crop[6, 20] == 0


def test_the_cube_and_the_reach_cut_what_lies_outside():
    depth = np.full((480, 640), 0.7)
    depth[:, 320:] = 0.9
    K, _ = camera_preset("nyu")
    centre = np.array([0, 0, 0.7], np.float32)
    assert set(np.unique(crop_depth_frames([frame_of(depth)], K[None], centre[None])["depth"])) == {0, np.float32(0.7)}
    near = crop_depth_frames([frame_of(depth)], K[None], centre[None], reach=0.05)["depth"] > 0
    # half a disc of 5 cm, where 128 px cover 30 cm
    assert float(near.sum()) == pytest.approx(np.pi / 2 * (0.05 * 128 / 0.3) ** 2, rel=0.03)


# -- the hand in the frame


def test_the_hand_is_found_where_it_was_rendered(scene):
    depth, K, vertices, _ = scene
    wall = np.where(depth > 0, depth, 1.5)
    found = find_hand(wall, K)
    assert np.linalg.norm(found - vertices.mean(1)[0].numpy()) < 0.03


def test_a_box_overrules_the_nearest_blob():
    depth = np.zeros((480, 640), np.float32)
    depth[100:250, 100:250] = 0.5
    depth[200:350, 400:550] = 0.8
    K, _ = camera_preset("nyu")
    assert find_hand(depth, K)[2] == pytest.approx(0.52, abs=0.01)
    assert find_hand(depth, K, box=(380, 180, 200, 200))[2] == pytest.approx(0.82, abs=0.01)


def test_a_fine_picture_is_thinned_to_its_nearest_pixels_and_at_most_four_to_one():
    depth = np.full((16, 32), 0.4, np.float32)
    depth[5, 6], depth[9, 13] = 0.3, 0
    for focal, step in ((300.0, 1), (300e3, 4)):  # a hand's reach of many pixels
        K = torch.tensor([[focal, 0, 15.5], [0, focal, 7.5], [0, 0, 1]])
        cells, smaller = _thinned(depth, K)
        assert cells.shape == (16 // step, 32 // step) and float(smaller[0, 0]) == focal / step
        assert cells[5 // step, 6 // step] == np.float32(0.3)
        assert (cells == 0).sum() == (step == 1), "a cell with anything in it is not empty"


def test_a_frame_without_a_blob_and_a_box_outside_are_refused():
    K, _ = camera_preset("nyu")
    speck = np.zeros((480, 640), np.float32)
    speck[10:14, 10:14] = 0.5
    with pytest.raises(ValueError, match=r"no hand found.*--box"):
        find_hand(speck, K)
    with pytest.raises(ValueError, match="box: expected"):
        find_hand(speck, K, box=(700, 0, 10, 10))


@pytest.mark.skipif(not NYU_FRAME.exists(), reason="no real NYU frame at hand")
def test_the_hand_of_a_real_nyu_frame_is_found():
    frame = read_depth_frame(NYU_FRAME)
    K, camera = frame_camera(None, frame)
    assert camera == "nyu" and frame.packing == "nyu"
    pixel = project(torch.from_numpy(find_hand(frame.depth, K)).float()[None, None], K)[0, 0]
    # the middle finger's base in the labels is at (217, 209), the wrist at (184, 321)
    assert np.linalg.norm(pixel.numpy() - [212, 250]) < 30


@pytest.mark.skipif(not SR305_FRAMES, reason="no real SR305 frames at hand")
@pytest.mark.parametrize("path", SR305_FRAMES, ids=lambda path: path.stem)
def test_sr305_frames_need_their_unit_and_show_a_hand(path):
    with pytest.raises(ValueError, match=r"--unit 0\.000125"):
        read_depth_frame(path)
    frame = read_depth_frame(path, unit=0.000125)
    K, _ = frame_camera("sr305", frame)
    centre = find_hand(frame.depth, K)
    assert np.linalg.norm(centre - SR305_HANDS[path.stem]) < 0.03
    batch = crop_depth_frames([frame], K[None], centre[None], reach=0.13)
    area = float((batch["depth"] > 0).sum()) * (0.3 / 128) ** 2
    assert 0.006 < area < 0.03  # square metres of a spread hand
