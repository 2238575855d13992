import cv2
import numpy as np
import pytest
import torch

from datamodules import photo
from datamodules.batch import check_batch
from datamodules.domains import CLEAN, PHOTO
from datamodules.hand_sampler import HandSampler, join, rows_of_parameters
from datamodules.photo_camera import _trail, photograph
from datamodules.photo_scene import PictureFolder, cast_shadow, draw_background, occlude
from datamodules.rendered import RenderedHandsData
from datamodules.rendering import HandRenderer
from datamodules.wrist import arm_faces, wrist_rim
from ops.hand_model import open_hand

EVERYTHING = ("depth", "parts", "rgb")
HANDS = 24


@pytest.fixture(scope="module")
def model():
    return open_hand()


@pytest.fixture(scope="module")
def drawn(model):
    return HandSampler(PHOTO, model).sample(0, "train", 0, np.arange(HANDS))


@pytest.fixture(scope="module")
def batch(model, drawn):
    return HandRenderer(model, 64, EVERYTHING)(drawn)


def test_an_arm_goes_on_where_the_hand_ends_and_is_closed(model):
    faces = arm_faces(model.faces, len(model.v_template))
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges) and all((b, a) in directed for a, b in directed)
    assert faces.max() + 1 == len(np.unique(faces))


def test_the_rim_by_hand():
    # a square of two faces: its rim runs along their edges
    assert wrist_rim(np.array([[0, 1, 2], [0, 2, 3]])).tolist() == [0, 1, 2, 3]


def test_labels_are_of_what_is_seen_of_the_hand(model, drawn, batch):
    check_batch({**batch, "domain": ["photo"] * HANDS, "key": [""] * HANDS})
    bare = HandRenderer(model, 64, EVERYTHING)(drawn._replace(photo=torch.zeros(HANDS, dtype=torch.bool)))
    hand, whole = batch["parts"] > 0, bare["parts"] > 0
    assert torch.equal(batch["mask"][:, 0] > 0, hand)
    assert (hand & ~whole).float().mean() < 1e-3  # pixels on an edge
    seen = hand.flatten(1).sum(1) / whole.flatten(1).sum(1)
    assert seen.min() >= 0 and seen.max() <= 1.01 and seen.median() > 0.9  # an arm may hide the hand
    assert (seen < 0.97).any()
    torch.testing.assert_close(batch["joints_3d"], bare["joints_3d"])


def test_arms_have_depth_and_no_part(batch):
    arm = (batch["depth"][:, 0] > 0) & (batch["parts"] == 0)
    shown = arm.flatten(1).float().mean(1) > 0.005
    assert HANDS / 2 < shown.sum() < HANDS


def test_a_photograph_depends_on_its_own_key_alone(model, drawn, batch):
    for rows in (torch.tensor([5]), torch.tensor([7, 3, 11])):
        alone = HandRenderer(model, 64, EVERYTHING)(rows_of_parameters(drawn, rows))
        _same(alone, {name: batch[name][rows] for name in EVERYTHING})


def test_photographs_and_bare_renders_in_one_batch(model, drawn, batch):
    clean = HandSampler(CLEAN, model).sample(0, "train", 0, np.arange(4))
    order = np.array([4, 0, 5, 1, 2, 6, 3, 7])
    mixed = join([clean, rows_of_parameters(drawn, torch.arange(4))], order)
    together = HandRenderer(model, 64, EVERYTHING)(mixed)
    bare = HandRenderer(model, 64, EVERYTHING)(clean)
    _same(together, {name: torch.cat([bare[name], batch[name][:4]])[order] for name in EVERYTHING})


def test_without_colours_the_labels_are_the_same(model, drawn, batch):
    renderer = HandRenderer(model, 64, ("depth", "parts"))
    renderer.lean = True
    plain = renderer(drawn)
    assert "rgb" not in plain and torch.equal(plain["parts"], batch["parts"])
    assert torch.equal(plain["mask"], batch["mask"])  # depth does not say it: an arm has some


def test_photographs_are_refused_on_other_devices(model, drawn):
    renderer = HandRenderer(model, 16, EVERYTHING)
    with pytest.raises(ValueError, match=r"set data\.render_on=worker"):
        renderer._seen(drawn, torch.zeros(HANDS, 778, 3, device="meta"), torch.zeros(HANDS, 3, 3))


def test_pictures_of_a_folder_stand_behind(model, drawn, tmp_path):
    (tmp_path / "rooms").mkdir()
    cv2.imwrite(str(tmp_path / "rooms" / "blue.png"), np.full((40, 60, 3), (250, 0, 0), np.uint8))
    behind = HandRenderer(model, 32, ("rgb",), backgrounds=PictureFolder(tmp_path))(drawn)
    corner = behind["rgb"][:, :, 0, 0]
    assert (corner[:, 2] > corner[:, :2].amax(1) + 0.1).float().mean() > 0.7  # arms, things and shadows are before it


def test_an_experiment_names_its_backgrounds(tmp_path):
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((40, 60, 3), (250, 0, 0), np.uint8))
    settings = {"modalities": ["rgb"], "image_size": 16, "num_workers": 0, "val_size": 8, "backgrounds": str(tmp_path)}
    corner = next(iter(RenderedHandsData("photo", **settings).val_dataloader()))["rgb"][:, :, 0, 0]
    assert (corner[:, 2] > corner[:, 0]).float().mean() > 0.5
    with pytest.raises(ValueError, match="backgrounds: stand behind hands of the domain photo alone, and no source is"):
        RenderedHandsData("clean", **settings)


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        PictureFolder(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"no \.png"):
        PictureFolder(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.jpg: cannot be decoded"):
        PictureFolder(tmp_path).crop(np.random.default_rng(0), 8)


def test_things_hide_at_most_half_of_a_hand():
    hand = np.zeros((64, 64), bool)
    hand[20:44, 20:44] = True
    shares = []
    for seed in range(200):
        rgb = np.full((64, 64, 3), (0, 255, 255), np.uint8)  # no thing has this colour
        hidden = occlude(np.random.default_rng(seed), rgb, hand)
        assert np.array_equal(hidden, (rgb != (0, 255, 255)).any(-1))
        shares.append((hidden & hand).sum() / hand.sum())
    assert max(shares) <= 0.5 and max(shares) > 0.3 and np.mean(np.array(shares) > 0) > 0.2


def test_a_shadow_is_darkest_where_the_hand_keeps_the_light_away():
    share = np.zeros((48, 48), np.float32)
    share[12:30, 12:30] = 1
    rgb = np.full((48, 48, 3), 200, np.uint8)
    shaded = cast_shadow(np.random.default_rng(3), rgb, share)
    assert (rgb == 200).all() and shaded.max() <= 200 and (shaded == 200).mean() > 0.2
    assert 200 * 0.4 <= shaded.min() <= 200 * 0.85
    y, x = np.unravel_index(shaded[..., 0].argmin(), share.shape)
    assert 6 < y < 42 and 6 < x < 42


def test_backgrounds_differ_and_are_no_noise():
    pictures = [draw_background(np.random.default_rng(seed), 32).astype(float) for seed in range(40)]
    means = np.array([picture.mean((0, 1)) for picture in pictures])
    assert means.std(0).min() > 25
    steps = np.mean([np.abs(np.diff(picture, axis=1)).mean() for picture in pictures])
    spread = np.mean([picture.std() for picture in pictures])
    assert steps < 0.5 * spread  # neighbours are alike


def test_cameras_keep_the_picture_and_differ():
    scene = np.zeros((64, 64, 3), np.uint8)
    scene[:, 32:] = 180
    taken = np.array([photograph(np.random.default_rng(seed), scene.copy()) for seed in range(60)]).astype(float)
    assert taken[:, :, :24].mean() < 12 and 100 < taken[:, :, 40:].mean() < 230
    assert taken[:, :, 40:].mean((1, 2, 3)).std() > 15  # exposure
    edges = np.abs(np.diff(taken[..., 0].mean(1), axis=1)).max(1)
    assert edges.min() < 60 < edges.max()  # blurred and sharp


def test_trails_blur_along_a_line_and_keep_brightness():
    for seed in range(20):
        kernel = _trail(np.random.default_rng(seed), 224)
        assert kernel.sum() == pytest.approx(1) and (kernel > 0).sum() <= 2 * len(kernel)
        rows, columns = np.nonzero(kernel)
        middle = len(kernel) // 2
        assert rows.mean() == pytest.approx(middle, abs=0.5) and columns.mean() == pytest.approx(middle, abs=0.5)


def _same(seen, expected):
    """Pictures alike but for the last bits, which depend on how many hands are posed at a time."""
    torch.testing.assert_close(seen["depth"], expected["depth"], atol=1e-5, rtol=0)
    assert (seen["parts"] != expected["parts"]).float().mean() < 1e-4
    assert (seen["rgb"] - expected["rgb"]).abs().mean() < 1e-3


def test_what_a_thing_hides_loses_mask_parts_and_depth(monkeypatch):
    model = open_hand()
    drawn = HandSampler(PHOTO, model).sample(0, "train", 0, np.arange(3))

    def lower_half(rng, scene, hand):
        return np.arange(len(hand))[:, None].repeat(len(hand), 1) >= 32

    taken = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(photo, "_OCCLUDED", share)
        monkeypatch.setattr(photo, "occlude", lower_half)
        taken.append(HandRenderer(model, 64, ("depth", "parts", "rgb"))(drawn))
    free, hidden = taken
    for name in ("depth", "mask", "parts"):
        assert free[name][..., 32:, :].any() and not hidden[name][..., 32:, :].any(), name
        assert torch.equal(free[name][..., :32, :], hidden[name][..., :32, :])
