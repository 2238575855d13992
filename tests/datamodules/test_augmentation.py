import math

import numpy as np
import pytest
import torch

from datamodules.augment_geometry import move_hands
from datamodules.augmentation import Augmentation, augment
from datamodules.batch import HandBatch, check_batch
from datamodules.cropping import CropRule, crop_frames
from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from datamodules.mixing import Mixture
from datamodules.rendering import HandRenderer
from datamodules.sampler import BatchKey
from datamodules.shares import InTurn
from datamodules.sources import RenderedRecords
from ops.camera import project
from ops.hand_model import open_hand
from ops.render import render_labels
from tests.datamodules.fake_frames import BLOB, FakeFrames, blobs, offset

SIZE, COUNT = 96, 6


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Pictures this small make threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def renderer():
    return HandRenderer(open_hand(), SIZE, ("depth", "parts", "rgb"))


@pytest.fixture(scope="module")
def rendered(renderer):
    records = RenderedRecords("clean", HandSampler(CLEAN, open_hand(), left_share=0.3), 3, "train")
    return Mixture([records], InTurn([COUNT]), renderer)[BatchKey(0, np.arange(COUNT))]


@pytest.fixture(scope="module")
def dots():
    """Colours that show where every joint is."""
    frames = FakeFrames("fake", "train", 100, ("rgb", "mask", "3d"), 1, (), 0, 42)
    batch = crop_frames([frames.frame(i) for i in range(COUNT)], CropRule(square=2.0), SIZE)
    return batch | {"domain": ["fake"] * COUNT, "convention": ["open"] * COUNT}


GEOMETRY = {
    "rotation": {"rotation": 180.0},
    "scale": {"scale": 0.2},
    "translation": {"translation": 0.1},
    "flip": {"flip": 1.0},
    "all": {"rotation": 60.0, "scale": 0.2, "translation": 0.1, "flip": 0.5},
}


@pytest.mark.parametrize("case", GEOMETRY)
def test_colours_stay_where_the_joints_are(dots, case):
    changed = augment(dots, Augmentation(**GEOMETRY[case]), 0, 7)
    check_batch(changed)
    torch.testing.assert_close(project(changed["joints_3d"], changed["K"]), changed["joints_2d"], atol=0.01, rtol=0)
    far = []
    for row in range(COUNT):
        scale = math.sqrt(abs(float(torch.linalg.det(changed["crop"][row, :, :2]))))
        drawn = blobs(
            changed["joints_3d"][row].double().numpy(), changed["K"][row].double().numpy(), (SIZE, SIZE), BLOB * scale
        )
        inside = (changed["mask"][row, 0] > 0).numpy() | (drawn < 0.2)  # not where the old crop ended
        far.append(offset(np.where(inside, changed["rgb"][row, 0].numpy(), drawn), drawn))
    assert max(far) < 0.1
    assert (changed["joints_2d"] - dots["joints_2d"]).abs().max() > 2  # something moved


@pytest.mark.parametrize("case", GEOMETRY)
def test_moved_depth_is_what_the_renderer_makes_of_the_moved_mesh(rendered, renderer, case):
    changed = augment(rendered, Augmentation(**GEOMETRY[case]), 0, 7)
    check_batch(changed)
    assert changed.keys() == rendered.keys()
    K, vertices = changed["K"], changed["vertices"]
    torch.testing.assert_close(project(changed["joints_3d"], K), changed["joints_2d"], atol=0.01, rtol=0)
    # a mirrored picture shows the faces from the other side
    faces = renderer.faces
    flipped = changed["mirrored"] ^ rendered["mirrored"]
    for rows, turned in ((~flipped, faces), (flipped, faces.flip(1))):
        if not rows.any():
            continue
        depth, parts = render_labels(vertices[rows], turned.contiguous(), K[rows], SIZE, renderer.part_of_face)
        known = (changed["mask"][rows] > 0) | (changed["depth"][rows] > 0)
        both = known & (depth > 0)
        assert both.float().sum() > 0.75 * (depth > 0).float().sum()  # the rest left the picture or was not in it
        error = (depth - changed["depth"][rows])[both].abs()
        assert error.median() < 0.0005 and (error > 0.01).float().mean() < 0.05
        assert (parts[both[:, 0]] == changed["parts"][rows][both[:, 0]]).float().mean() > 0.93
        # outlines agree: the wider half-pixel rims are few
        outside = (changed["mask"][rows] > 0) & (depth == 0)
        assert outside.float().sum() < 0.08 * (depth > 0).float().sum()
        if case != "flip":
            a, b = ((picture > 0).double().numpy()[:, 0] for picture in (changed["mask"][rows], depth))
            edge = np.minimum(a.sum((1, 2)), b.sum((1, 2))) / b.sum((1, 2))
            for ours, drawn, share in zip(a, b, edge, strict=True):
                if share > 0.97:  # wholly in the picture
                    assert offset(ours, drawn) < 0.5  # of nearest pixels; colours and depth are finer


def test_the_cube_stays_in_the_middle_of_the_crop(rendered):
    changed = augment(rendered, Augmentation(rotation=90, scale=0.2, translation=0.1), 1, 2)
    middle = project(changed["cube_centre"][:, None], changed["K"])[:, 0]
    torch.testing.assert_close(middle, torch.full_like(middle, (SIZE - 1) / 2), atol=0.02, rtol=0)
    assert torch.equal(changed["cube_side"], rendered["cube_side"])
    across = changed["K"][:, 0, 0] * changed["cube_side"] / changed["cube_centre"][:, 2]
    torch.testing.assert_close(across, torch.full_like(across, float(SIZE)), atol=0.01, rtol=0)


def test_a_quarter_turn_by_hand(dots):
    batch = dots | {"K": torch.tensor([[100.0, 0, 47.5], [0, 100.0, 47.5], [0, 0, 1]]).repeat(COUNT, 1, 1)}
    quarter = torch.full((COUNT,), math.pi / 2)
    turned = move_hands(batch, quarter, torch.ones(COUNT), torch.zeros(COUNT, 2))
    # x goes to y, y to -x; clockwise in the picture: the right edge becomes the lower one
    torch.testing.assert_close(turned["joints_3d"][..., 0], -batch["joints_3d"][..., 1], atol=1e-6, rtol=0)
    torch.testing.assert_close(turned["joints_3d"][..., 1], batch["joints_3d"][..., 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(turned["rgb"], batch["rgb"].rot90(-1, (2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(turned["mask"], batch["mask"].rot90(-1, (2, 3)))
    torch.testing.assert_close(turned["K"], batch["K"], atol=1e-4, rtol=0)


def test_larger_hands_are_farther_and_shifted_pictures_shift(rendered):
    still, none = torch.zeros(COUNT), torch.zeros(COUNT, 2)
    larger = move_hands(rendered, still, torch.full((COUNT,), 1.25), none)
    torch.testing.assert_close(larger["joints_3d"], 1.25 * rendered["joints_3d"])
    hand = larger["depth"] > 0
    assert 1.2 < larger["depth"][hand].mean() / rendered["depth"][rendered["depth"] > 0].mean() < 1.3
    shifted = move_hands(rendered, still, torch.ones(COUNT), torch.tensor([[12.0, 0.0]]).repeat(COUNT, 1))
    assert torch.equal(shifted["parts"][:, :, 12:], rendered["parts"][:, :, :-12])
    torch.testing.assert_close(shifted["joints_2d"], rendered["joints_2d"] + torch.tensor([12.0, 0]), atol=0.01, rtol=0)
    torch.testing.assert_close(shifted["joints_3d"], rendered["joints_3d"])


def test_a_flip_makes_right_hands_left_ones(rendered):
    changed = augment(rendered, Augmentation(flip=1.0), 0, 0)
    assert torch.equal(changed["mirrored"], ~rendered["mirrored"]) and torch.equal(changed["side"], rendered["side"])


EVERYTHING = Augmentation(
    rotation=30,
    scale=0.1,
    translation=0.05,
    background=0.5,
    brightness=0.2,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    blur=1.0,
    noise=0.05,
    erasing=0.5,
    depth_noise=0.003,
    depth_holes=0.05,
)


def test_changes_depend_on_seed_step_and_key_alone(rendered):
    state = torch.get_rng_state()
    whole = augment(rendered, EVERYTHING, 1, 5)
    assert torch.equal(torch.get_rng_state(), state)
    check_batch(whole)
    for seed, step, same in ((1, 5, True), (1, 6, False), (2, 5, False)):
        other = augment(rendered, EVERYTHING, seed, step)
        assert all(torch.equal(other[name], whole[name]) == same for name in ("rgb", "depth", "K"))
    one = {name: value[2:3] for name, value in rendered.items()}
    alone = augment(one, EVERYTHING, 1, 5)
    for name in ("rgb", "depth", "joints_2d", "parts"):  # sums in batches of other sizes round otherwise
        close = torch.isclose(alone[name].float(), whole[name][2:3].float(), atol=1e-3)
        assert close.float().mean() > 0.999, name


def test_no_options_change_nothing(rendered):
    same = augment(rendered, Augmentation(), 0, 0)
    assert all(torch.equal(v, same[k]) for k, v in rendered.items() if isinstance(v, torch.Tensor))


def test_colours_change_on_their_own_and_stay_in_range(rendered):
    for name in ("brightness", "contrast", "saturation", "hue", "blur", "noise"):
        amount = 0.5 if name != "blur" else 2.0
        changed = augment(rendered, Augmentation(**{name: amount}), 0, 0)
        assert changed["rgb"].min() >= 0 and changed["rgb"].max() <= 1
        assert (changed["rgb"] - rendered["rgb"]).abs().mean() > 0.003, name
        assert all(torch.equal(changed[f], rendered[f]) for f in ("depth", "parts", "mask", "K", "joints_2d"))


def test_backgrounds_change_and_hands_do_not(rendered):
    changed = augment(rendered, Augmentation(background=1.0), 0, 0)
    hand = rendered["mask"].expand_as(rendered["rgb"]) > 0
    assert torch.equal(changed["rgb"][hand], rendered["rgb"][hand])
    assert (changed["rgb"][~hand] - rendered["rgb"][~hand]).abs().mean() > 0.1
    unknown = augment(rendered | {"has_mask": torch.zeros(COUNT, dtype=torch.bool)}, Augmentation(background=1.0), 0, 0)
    assert torch.equal(unknown["rgb"], rendered["rgb"])


def test_noise_has_the_drawn_spread_and_holes_the_drawn_share(rendered):
    copies = 12
    many = {name: value * copies for name, value in rendered.items() if isinstance(value, list)}
    many |= {name: torch.cat([rendered[name]] * copies) for name in ("depth", "K")}
    many["key"] = [f"{key}/{copy}" for copy in range(copies) for key in rendered["key"]]
    hand = many["depth"] > 0
    noise = augment(many, Augmentation(depth_noise=0.01), 0, 0)["depth"] - many["depth"]
    spreads = [one[seen].std().item() for one, seen in zip(noise, hand, strict=True)]
    assert (noise[~hand] == 0).all()
    assert np.mean(spreads) == pytest.approx(0.005, rel=0.25) and min(spreads) < 0.001 and 0.009 < max(spreads) < 0.0105
    lost = augment(many, Augmentation(depth_holes=0.4), 0, 0)["depth"] == 0
    shares = [one[seen].float().mean().item() for one, seen in zip(lost, hand, strict=True)]
    assert (
        np.mean(shares) == pytest.approx(0.2, rel=0.25) and min(shares) < 0.05 and 0.3 < max(shares) < 0.6
    )  # blocks on small hands


def test_erasing_loses_one_rectangle_and_no_label(rendered):
    changed = augment(rendered, Augmentation(erasing=1.0), 0, 3)
    for row in range(COUNT):
        lost = (changed["rgb"][row] != rendered["rgb"][row]).any(0)
        v, u = lost.nonzero(as_tuple=True)
        box = (v.max() - v.min() + 1) * (u.max() - u.min() + 1)
        assert 0.9 < lost.sum() / box <= 1 and box <= 0.21 * SIZE**2  # a pixel may have the new colour by chance
        assert (changed["depth"][row, 0][lost] == 0).all()
    assert torch.equal(changed["parts"], rendered["parts"])


def test_rows_without_a_picture_stay_blank(rendered):
    none = torch.arange(COUNT) == 2
    batch = rendered | {f"has_{name}": ~none for name in ("rgb", "depth", "parts")}
    for name in ("rgb", "depth", "parts"):
        batch[name] = rendered[name].clone()
        batch[name][none] = 255 if name == "parts" else 0
    changed = augment(batch, EVERYTHING, 0, 1)
    assert (changed["rgb"][2] == 0).all() and (changed["depth"][2] == 0).all() and (changed["parts"][2] == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 181}, r"augment\.rotation: expected 0 to 180, got 181"),
        ({"scale": -0.1}, r"augment\.scale: expected 0 to 0\.5, got -0\.1"),
        ({"flip": 1.2}, r"augment\.flip: expected 0 to 1, got 1\.2"),
        ({"depth_noise": 2.0}, r"augment\.depth_noise: expected 0 to 0\.05, got 2"),
        ({"blur": float("nan")}, r"augment\.blur: expected 0 to 10, got nan"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_moves_hands_as_the_cpu_does(rendered):
    settings = Augmentation(rotation=60.0, scale=0.2, translation=0.1, flip=0.5)
    on_device = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in rendered.items()}
    here, there = augment(rendered, settings, 0, 7), augment(on_device, settings, 0, 7)
    check_batch(there)
    assert there["depth"].device.type == "cuda"
    for name in ("joints_3d", "vertices", "K", "crop"):
        torch.testing.assert_close(here[name], there[name].cpu(), atol=1e-4, rtol=1e-4)
    differ = (here["depth"] - there["depth"].cpu()).abs() > 1e-4
    assert differ.float().mean() < 5e-3 and (here["parts"] != there["parts"].cpu()).float().mean() < 5e-3


def test_the_palm_moves_as_the_joints_do(rendered):
    batch = HandBatch(rendered)
    batch["palm"] = batch["joints_3d"][:, 0].clone()
    moved = move_hands(batch, torch.linspace(-1, 1, 6), torch.linspace(0.9, 1.2, 6), torch.ones(6, 2))
    torch.testing.assert_close(moved["palm"], moved["joints_3d"][:, 0])
    assert not torch.allclose(moved["palm"], batch["palm"])
