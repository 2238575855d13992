import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datamodules.appearance import _BACKGROUND, _GRIDS, _STRENGTHS, backgrounds
from datamodules.batch import check_batch
from datamodules.cropping import CropRule
from datamodules.domains import CLEAN, DOMAINS, SENSOR
from datamodules.fingerprint import fingerprint, stored_fingerprints
from datamodules.hand_sampler import CUBE_SIDE, MAX_SHAPE, HandSampler
from datamodules.mixing import Mixture
from datamodules.rendered import RenderedHandsData, main
from datamodules.rendering import HandRenderer
from datamodules.sampler import BatchKey
from datamodules.sensor_noise_torch import hash_of, unit_of
from datamodules.shares import InTurn
from datamodules.sources import RenderedRecords
from datamodules.wrist import closed_faces
from ops.camera import project
from ops.drawing import part_colours
from ops.hand_model import open_hand
from ops.render import render_labels


@pytest.fixture(scope="module")
def model():
    return open_hand()


@pytest.fixture(scope="module")
def samplers(model):
    return {name: HandSampler(domain, model) for name, domain in DOMAINS.items()}


@pytest.fixture(scope="module")
def renderer(model):
    return HandRenderer(model, 64)


@pytest.fixture(scope="module", params=DOMAINS)
def batch(request, samplers, renderer):
    return training_batch(samplers[request.param], renderer, 48)


def training_batch(sampler, renderer, count, seed=0):
    records = RenderedRecords(sampler.domain.name, sampler, seed, "train")
    return Mixture([records], InTurn([count]), renderer)[BatchKey(0, np.arange(count))]


def same(a, b):
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else same(x, y) for x, y in zip(a, b, strict=True))


def test_batches_keep_the_contract(batch):
    check_batch(batch, needs=["depth", "mask", "parts", "K", "joints_3d", "vertices", "cube_centre", "crop", "side"])
    assert batch["depth"].dtype == torch.float32 and batch["parts"].dtype == torch.uint8
    assert not batch["has_rgb"].any() and batch["has_mesh"].all()
    assert all(torch.isfinite(v).all() for v in batch.values() if isinstance(v, torch.Tensor) and v.is_floating_point())


def test_joints_project_through_the_crops_camera(batch):
    torch.testing.assert_close(project(batch["joints_3d"], batch["K"]), batch["joints_2d"], atol=0.01, rtol=0)


def test_crop_and_camera_cover_the_cube(batch):
    centre = batch["cube_centre"][:, None]
    middle = project(centre, batch["K"])[:, 0]
    torch.testing.assert_close(middle, torch.full_like(middle, 31.5), atol=0.01, rtol=0)
    right = project(centre + torch.tensor([CUBE_SIDE / 2, 0, 0]), batch["K"])[:, 0]
    torch.testing.assert_close(right[:, 0], torch.full((48,), 63.5), atol=0.01, rtol=0)
    # the crop lies inside the full frame
    corners = torch.tensor([[-0.5, -0.5, 1.0], [63.5, 63.5, 1.0]]).T
    affine = torch.cat([batch["crop"], torch.eye(3)[2].expand(48, 1, 3)], 1)
    frame = torch.linalg.solve(affine, corners.expand(48, 3, 2))
    size = batch["original_size"].flip(1).float()
    assert (frame[:, :2, 0] >= -0.51).all() and (frame[:, :2, 1] <= size - 0.49).all()


def test_the_detected_centre_is_the_hands_centre_within_the_jitter(batch):
    offset = (batch["vertices"].mean(1) - batch["cube_centre"]).abs()
    assert offset.max() <= 2 * 0.008 + 1e-6 and offset.std() > 0.003


def test_depth_mask_and_parts_agree(batch):
    hand, solid = batch["parts"] > 0, batch["depth"][:, 0] > 0
    assert torch.equal(hand, batch["mask"][:, 0] > 0)
    assert torch.equal(hand, solid) or (batch["domain"][0] == "photo" and (solid | ~hand).all())  # arms have depth
    assert batch["parts"].max() <= 20
    z, deepest = batch["depth"][:, 0], batch["vertices"][..., 2]
    assert (z[hand] > deepest.min() - 0.01).all() and (z[hand] < deepest.max() + 0.01).all()
    assert 0.03 < hand.float().mean() < 0.4


def test_parts_are_where_their_joints_are(samplers, renderer):
    # seen from the front the tips' own parts lie around the projected tips: middle tip is label 9 + 3 = 12
    batch = training_batch(samplers["clean"], renderer, 200, seed=5)
    for joint, label in ((4, 4), (8, 8), (12, 12), (16, 16), (20, 20)):
        u, v = batch["joints_2d"][:, joint].round().long().clamp(1, 62).unbind(-1)
        near = torch.stack(
            [batch["parts"][torch.arange(200), v + dy, u + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        )
        assert (near == label).any(0).float().mean() > 0.5


def test_samples_depend_on_seed_split_epoch_and_index_alone(samplers):
    sampler = samplers["clean"]
    whole = sampler.sample(7, "train", 2, np.arange(10))
    alone = sampler.sample(7, "train", 2, np.array([6]))
    for field, value in whole._asdict().items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value[6:7], getattr(alone, field), rtol=0, atol=0)
    others = [sampler.sample(8, "train", 2, np.arange(10)), sampler.sample(7, "train", 3, np.arange(10))]
    assert not any(torch.isclose(other.shape, whole.shape).all(1).any() for other in others)


def test_val_and_test_frames_do_not_depend_on_the_seed(samplers):
    for sampler in samplers.values():
        assert same(sampler.sample(1, "test", 0, np.arange(5)), sampler.sample(2, "test", 4, np.arange(5)))


def test_a_finite_training_set_is_shuffled_by_seed_and_epoch(samplers):
    sampler, total = samplers["sensor"], SENSOR.train.frames
    first = sampler.frames(0, "train", 0, np.arange(2 * total))
    assert sorted(first[:total]) == list(range(total)) and sorted(first[total:]) == list(range(total))
    assert not np.array_equal(first[:total], first[total:])
    for other in ((1, 0), (0, 1)):
        again = sampler.frames(other[0], "train", other[1], np.arange(total))
        assert sorted(again) == list(range(total)) and not np.array_equal(again, first[:total])
    with pytest.raises(ValueError, match="2000 frames, got index 2000"):
        sampler.frames(0, "test", 0, np.array([2000]))


def finger_angles(rotations, model):
    """Flexion (B, 15) and the bases' abduction (B, 5), radians, of (B, 15, 3, 3): flexion first, then abduction."""
    flexion_axes, abduction_axes = model.flexion_axes[1:], model.abduction_axes[1::3]
    # flexion leaves its own axis where it is: what moved it is abduction
    moved = np.einsum("bjkl,jl->bjk", rotations[:, ::3], flexion_axes[::3])
    abduction = angle_about(abduction_axes, flexion_axes[::3], moved)
    swung = Rotation.from_rotvec((abduction[..., None] * abduction_axes).reshape(-1, 3)).as_matrix()
    bends = rotations.copy()
    bends[:, ::3] = swung.reshape(-1, 5, 3, 3).transpose(0, 1, 3, 2) @ rotations[:, ::3]
    across = np.cross(flexion_axes, [0.3, 0.5, 0.8])  # any direction that flexion turns
    return angle_about(flexion_axes, across, np.einsum("bjkl,jl->bjk", bends, across)), abduction


def angle_about(axes, before, after):
    """Angles (B, J) of turns about axes (J, 3) that take directions (J, 3) to (B, J, 3)."""
    flat = [v - (v * axes).sum(-1, keepdims=True) * axes for v in (np.broadcast_to(before, after.shape), after)]
    return np.arctan2((np.cross(*flat) * axes).sum(-1), (flat[0] * flat[1]).sum(-1))


def test_sequences_are_smooth_and_poses_stay_within_limits(samplers, model):
    sampler = samplers["sensor"]
    order = sampler.frames(0, "train", 0, np.arange(SENSOR.train.frames))
    frames = np.argsort(order)[:100]  # the first sequence in its own order
    drawn = sampler.sample(0, "train", 0, frames)
    assert len(drawn.identity.unique()) == 1 and len(drawn.camera[:, 0, 0].unique()) == 1
    steps = (drawn.global_rotation[1:].mT @ drawn.global_rotation[:-1]).diagonal(dim1=-2, dim2=-1).sum(-1)
    assert torch.rad2deg(torch.arccos(((steps - 1) / 2).clamp(-1, 1))).max() < 20
    assert (drawn.cube_centre.diff(dim=0).norm(dim=-1) < 0.08).all()
    flexion, abduction = finger_angles(drawn.pose.double().numpy(), model)
    low, high = model.limits[1:, 0].T
    assert (flexion > low - 1e-3).all() and (flexion < high + 1e-3).all()
    low, high = model.limits[1::3, 1].T
    assert (abduction > low - 1e-3).all() and (abduction < high + 1e-3).all()
    assert flexion.max() > 0.5 and np.abs(abduction).max() > 0.1


def test_splits_and_domains_share_no_identity(samplers):
    shapes, identities = [], 0
    for name, sampler in samplers.items():
        for split in ("train", "val", "test"):
            population = DOMAINS[name].split(split)
            shapes.append(sampler.shapes(split, np.arange(population.identities)))
            identities += population.identities
    together = np.concatenate(shapes).round(6)
    assert len(np.unique(together, axis=0)) == identities
    assert np.abs(together).max() <= MAX_SHAPE
    drawn = samplers["sensor"].sample(0, "train", 0, np.arange(500))
    assert set(drawn.identity.tolist()) == {0, 1}


def test_splits_share_no_pose(samplers):
    sampler = samplers["clean"]
    poses = [sampler.sample(0, split, 0, np.arange(200)).pose.flatten(1) for split in ("train", "val", "test")]
    assert torch.cdist(poses[0], poses[2]).min() > 1e-3 and torch.cdist(poses[1], poses[2]).min() > 1e-3


def test_viewpoints_of_clean_cover_the_sphere_and_those_of_sensor_face_the_camera(samplers):
    back = torch.tensor([0.0, 1.0, 0.0])
    facing = {}
    for name, sampler in samplers.items():
        rotation = sampler.sample(0, "train", 0, np.arange(2000)).global_rotation
        torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(2000, 3, 3), atol=1e-5, rtol=0)
        assert (torch.linalg.det(rotation) > 0.99).all()
        to_camera = -rotation[:, 2]  # (2000, 3) in the hand's frame
        octants = (to_camera > 0).long() @ torch.tensor([4, 2, 1])
        facing[name] = (to_camera @ back).abs().mean()
        if name == "clean":
            assert (torch.bincount(octants, minlength=8) > 100).all()
    assert facing["sensor"] > 0.8 > facing["clean"]


@pytest.mark.parametrize("name", DOMAINS)
def test_test_splits_have_the_stored_fingerprint(name):
    stored = stored_fingerprints()[DOMAINS[name].label]
    now = fingerprint(DOMAINS[name])
    assert now["parameters"] == stored["parameters"], "a frozen domain changed: give it a new version"
    np.testing.assert_allclose(now["pictures"], stored["pictures"], rtol=2e-3)
    assert now["convention"] == stored["convention"], "labels moved: python -m datamodules.fingerprint, and say so"


def test_workers_give_the_same_batches_as_none():
    def batches(workers):
        settings = dict(batch_size=8, epoch_size=28, num_workers=workers, image_size=32, seed=4)
        return list(RenderedHandsData({"clean": 0.5, "sensor": 0.5}, **settings).train_dataloader())

    for here, there in zip(batches(0), batches(2), strict=True):
        assert here["key"] == there["key"]
        # matrix products on other numbers of threads differ in the last bit of float32
        torch.testing.assert_close(here["vertices"], there["vertices"], atol=1e-6, rtol=0)
        differ = ((here["depth"] - there["depth"]).abs() > 1e-5)[:, 0] | (here["parts"] != there["parts"])
        assert differ.float().mean() < 1e-3


def test_colours_travel_as_bytes_and_arrive_in_0_to_1():
    def first(workers):
        settings = dict(batch_size=4, epoch_size=4, num_workers=workers, image_size=40, modalities=["rgb"])
        return next(iter(RenderedHandsData("clean", **settings).train_dataloader()))["rgb"]

    here, there = first(0), first(1)
    assert there.dtype == torch.float32 and 0.5 < there.max() <= 1
    torch.testing.assert_close(here, there, atol=1 / 255 + 1e-6, rtol=0)


def test_clutter_is_the_same_by_kernel_and_by_products():
    keys = torch.arange(3) * 7919
    drawn = []
    made = backgrounds(keys, 50)
    for layer, (cells, strength) in enumerate(zip(_GRIDS, _STRENGTHS, strict=True)):
        y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
        channel = torch.arange(3)[:, None, None] + 3 * layer
        grid = unit_of(hash_of(keys[:, None, None, None], _BACKGROUND, y + 64 * channel, x))
        drawn.append(strength * torch.nn.functional.interpolate(grid, 30, mode="bilinear"))
    expected = 255 * torch.nn.functional.interpolate(sum(drawn), 50, mode="bilinear")
    assert made.dtype == torch.uint8 and (made - expected.floor()).abs().max() <= 1


def test_rendering_on_the_device_equals_rendering_in_workers():
    def first(where):
        data = RenderedHandsData(
            {"clean": 1, "sensor": 1},
            batch_size=12,
            epoch_size=12,
            num_workers=0,
            image_size=32,
            render_on=where,
            hide={"sensor": ["parts", "mesh"]},
        )
        batch = next(iter(data.train_dataloader()))
        return data.on_after_batch_transfer(batch, 0)

    worker, device = first("worker"), first("device")
    assert torch.equal(worker["depth"], device["depth"]) and worker["key"] == device["key"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("modalities", [("depth", "parts"), ("depth", "parts", "rgb")])
def test_a_cuda_device_renders_what_workers_render(modalities):
    def first(where, device):
        data = RenderedHandsData(
            {"clean": 1, "sensor": 1}, 12, epoch_size=12, num_workers=0, render_on=where, modalities=list(modalities)
        )
        batch = data.transfer_batch_to_device(next(iter(data.train_dataloader())), torch.device(device), 0)
        return data.on_after_batch_transfer(batch, 0)

    worker, device = first("worker", "cpu"), first("device", "cuda")
    check_batch(device)
    assert worker["key"] == device["key"] and device["depth"].device.type == "cuda"
    torch.testing.assert_close(worker["vertices"], device["vertices"].cpu(), atol=1e-6, rtol=0)
    differ = ((worker["depth"] - device["depth"].cpu()).abs() > 1e-4)[:, 0] | (worker["parts"] != device["parts"].cpu())
    assert differ.float().mean() < 2e-3  # edges, and what noise makes of them
    if "rgb" in modalities:
        assert (worker["rgb"] - device["rgb"].cpu()).abs().median() < 0.02


def test_mixtures_keep_their_shares_in_every_batch_and_hide_what_they_are_told():
    data = RenderedHandsData(
        {"clean": 0.75, "sensor": 0.25},
        batch_size=16,
        epoch_size=48,
        num_workers=0,
        image_size=32,
        hide={"sensor": ["mesh", "parts"]},
    )
    for batch in data.train_dataloader():
        sensor = torch.tensor([name == "sensor" for name in batch["domain"]])
        assert sensor.sum() == 4
        assert torch.equal(batch["has_mesh"], ~sensor) and torch.equal(batch["has_parts"], ~sensor)
        assert (batch["vertices"][sensor] == 0).all() and (batch["parts"][sensor] == 255).all()
        assert batch["has_3d"].all() and (batch["joints_3d"] != 0).all()
    assert next(iter(data.val_dataloader()))["has_mesh"].all()


def test_evaluation_shows_each_domain_in_full_and_without_repeats():
    data = RenderedHandsData(
        "clean", evaluate_on=["clean", "sensor"], val_size=5, batch_size=4, num_workers=0, image_size=16
    )
    keys = [key for batch in data.val_dataloader() for key in batch["key"]]
    expected = [f"{name}/1/val/{frame:06d}" for name in ("clean", "sensor") for frame in range(5)]
    assert keys == expected


def test_rgb_shows_a_lit_hand_before_clutter(model):
    batch = training_batch(HandSampler(CLEAN, model), HandRenderer(model, 64, ("rgb",)), 64)
    check_batch(batch)
    assert batch["has_rgb"].all() and not batch["has_depth"].any() and "depth" not in batch
    assert batch["rgb"].min() >= 0 and batch["rgb"].max() <= 1
    hand, clutter = batch["mask"].expand(-1, 3, -1, -1) > 0, batch["mask"].expand(-1, 3, -1, -1) == 0
    colours = torch.stack([rgb[:, m[0] > 0].mean(1) for rgb, m in zip(batch["rgb"], batch["mask"], strict=True)])
    assert colours.std(0).min() > 0.1  # skin tones differ
    assert (colours[:, 0] >= colours[:, 2] - 0.02).float().mean() > 0.95  # skin is no bluer than red
    assert batch["rgb"][clutter].std() > 0.1 and batch["rgb"][hand].std() > 0.1


def test_the_wrist_is_closed(model):
    faces = closed_faces(model.faces)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges) and all((b, a) in directed for a, b in directed)
    corners = model.v_template[faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 1e-4 < volume < 1e-3  # cubic metres: a hand has 0.1 to 0.5 litres, and faces point outwards


def test_a_closed_hand_looks_the_same_without_the_faces_seen_from_behind(samplers, renderer):
    batch = renderer(samplers["clean"].sample(0, "train", 0, np.arange(64)))
    depth, parts = render_labels(batch["vertices"], renderer.faces, batch["K"], 64, renderer.part_of_face)
    differ = (parts != batch["parts"]) | ((depth - batch["depth"]).abs() > 1e-6)[:, 0]
    assert differ.float().mean() < 1e-4  # faces seen exactly edge-on


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"domains": "cleen"}, "domain: expected one of 'clean', 'sensor', 'photo'"),
        ({"domains": {"clean": 0.0}}, "positive shares"),
        ({"domains": {}}, "positive shares"),
        ({"modalities": ["depth", "colour"]}, "modalities: expected one of"),
        ({"render_on": "gpu"}, "render_on: expected one of"),
        ({"hide": {"sensor": ["joints"]}}, "hide: expected one of"),
        ({"evaluate_on": ["nyu"]}, "domain: expected one of"),
        ({"val_size": 100_000}, "val_size: clean/val has 2000 frames"),
        ({"left_share": 1.5}, "left_share: expected a share"),
        ({"batch_size": 0}, "batch_size: expected at least 1"),
        ({"image_size": 0}, "image_size: expected at least 1"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        RenderedHandsData(**settings)


def test_a_sheet_is_drawn(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "sheet.png"
    arguments = ["rendered", "--picture", str(picture), "--domain", "sensor", "--count", "7", "--size", "32"]
    import cv2

    sheets = {}
    for share, left in (("1", 7), ("0", 0)):
        monkeypatch.setattr("sys.argv", [*arguments, "--left", share])
        main()
        assert f"7 hands of sensor/train, seed 0, {left} of them left" in capsys.readouterr().out
        sheets[share] = cv2.imread(str(picture))
    sheet = sheets["0"]
    assert (sheets["1"][:64, :64] == sheet[:64, :64][:, ::-1]).mean() > 0.99, "a left hand is a right one in a mirror"
    assert (sheets["1"][:64, :64] == sheet[:64, :64]).mean() < 0.9
    assert sheet.shape == (2 * (4 * 32 + 2), 6 * (4 * 32 + 2), 3)
    shown = {tuple(colour) for colour in sheet[:64, 64:128].reshape(-1, 3).tolist()}
    assert len(shown) > 3 and shown <= {tuple(colour) for colour in part_colours().tolist()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--picture", "sheet.gif"], "--picture: expected a name ending in .png, .jpg, .jpeg, got 'sheet.gif'"),
        (["--picture", "nowhere/sheet.png"], "--picture: nowhere: no such folder; create it first"),
        (["--picture", "sheet.png", "--count", "0"], "--count: expected a whole number of at least 1, got '0'"),
        (["--picture", "sheet.png", "--size", "-3"], "--size: expected a whole number of at least 1, got '-3'"),
        (["--picture", "sheet.png", "--size", "1.5"], "--size: expected a whole number of at least 1, got '1.5'"),
        (["--picture", "sheet.png", "--split", "test", "--count", "2001"], "clean/1/test has 2000 frames"),
    ],
)
def test_a_sheet_that_cannot_be_drawn_ends_in_a_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rendered", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_rendered_hands_are_cut_by_squares_where_asked_for():
    settings = {"batch_size": 6, "epoch_size": 6, "image_size": 60, "modalities": ["rgb"], "num_workers": 0}
    rule = CropRule(around="square", square=1.5, centre="root")
    cube, square = (
        next(iter(RenderedHandsData("clean", crop=crop, **settings).train_dataloader())) for crop in (None, rule)
    )
    assert torch.equal(cube["joints_3d"], square["joints_3d"]) and not torch.equal(cube["K"], square["K"])
    torch.testing.assert_close(project(square["joints_3d"], square["K"]), square["joints_2d"])
    pixels = square["joints_2d"]
    torch.testing.assert_close((pixels.amax(1) - pixels.amin(1)).amax(1), torch.full((6,), 40.0))  # 60 / 1.5
    off = pixels[:, 9] - 29.5
    assert 0 < off.abs().max() < 60 * 0.2, "moved by the detector's error"
    inside = pixels.round().long().clamp(0, 59)
    hit = square["mask"][:, 0][torch.arange(6)[:, None], inside[..., 1], inside[..., 0]]
    assert hit[:, 1:].mean() > 0.9, "the mask is where the joints are"
