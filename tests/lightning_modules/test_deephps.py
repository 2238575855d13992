"""DeepHPS: what the networks see, how parameters become hands, losses by domain, steps, predictions, checkpoints."""

from dataclasses import replace

import lightning
import pytest
import torch

from lightning_modules.deephps import (
    DeepHPS,
    HandEstimate,
    normalise_depth,
    parameter_prior,
    rotation_onto,
)
from ops.camera import project
from ops.hand_model import open_hand

SMALL = {"pose_trunk": "tiny", "scale_trunk": "tiny", "shape_trunk": "tiny"}


def method(**arguments):
    torch.manual_seed(0)
    return DeepHPS(**(SMALL | arguments))


def hand_batch(size=2, meshes=(True, False)):
    """Flat hands 0.6 m away, drawn as discs: labels right, pictures only of the right kind."""
    model = open_hand()
    centre = torch.tensor([[0.1, -0.05, 0.6], [0.0, 0.0, 0.7]])[:size]
    focal = 128 * centre[:, 2] / 0.3
    K = torch.zeros(size, 3, 3)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = 63.5 - focal[:, None] * centre[:, :2] / centre[:, 2:]
    K[:, 2, 2] = 1
    hands = method().hpsl(torch.zeros(size, 26), torch.ones(size, 6), torch.zeros(size, 7))
    yes = torch.ones(size, dtype=torch.bool)
    has_mesh = torch.tensor(meshes[:size])
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    disc = ((x - 63.5) ** 2 + (y - 63.5) ** 2 < 40**2).float()
    return {
        "depth": disc * centre[:, 2, None, None, None],
        "K": K,
        "cube_centre": centre,
        "cube_side": torch.full((size,), 0.3),
        "joints_3d": hands.joints + centre[:, None],
        "joint_valid": torch.ones(size, 21, dtype=torch.bool),
        "vertices": (hands.vertices + centre[:, None]) * has_mesh[:, None, None],
        "side": torch.ones(size, dtype=torch.int64),
        "mirrored": ~yes,
        "has_depth": yes,
        "has_3d": yes,
        "has_mesh": has_mesh,
        "convention": ["open"] * size,
        "hand_model": [model.id if mesh else "" for mesh in has_mesh],
        "domain": ["clean", "sensor"][:size],
        "key": [f"toy/test/{i}" for i in range(size)],
    }


def test_depth_is_measured_along_the_line_of_sight_to_the_cubes_centre():
    centre, side = torch.tensor([[0.2, -0.15, 0.7]]), torch.tensor([0.3])
    u, v, z = 30, 90, 0.68
    ray = torch.tensor([0.2 / 0.7, -0.15 / 0.7]) + (torch.tensor([u, v]) - 63.5) * 0.3 / 128 / 0.7
    point = torch.tensor([ray[0] * z, ray[1] * z, z])
    depth = torch.zeros(1, 1, 128, 128)
    depth[0, 0, v, u] = z
    expected = (point - centre[0]) @ (centre[0] / centre[0].norm()) / 0.15
    assert normalise_depth(depth, centre, side)[0, 0, v, u] == pytest.approx(expected.item(), abs=1e-5)


def test_on_the_axis_depth_is_in_half_sides_and_what_is_not_in_the_cube_is_one():
    depth = torch.tensor([0.0, 0.5, 0.6, 0.71, 0.9, 0.3]).expand(1, 1, 6, 6)  # columns
    unit = normalise_depth(depth, torch.tensor([[0.0, 0.0, 0.6]]), torch.tensor([0.3]))
    torch.testing.assert_close(unit[0, 0, 0], torch.tensor([1, -2 / 3, 0, 0.11 / 0.15, 1, 1]), atol=1e-5, rtol=0)


def test_rotation_onto_turns_the_axis_and_nothing_about_it():
    sight = torch.nn.functional.normalize(torch.tensor([[0.3, -0.2, 0.9], [0.0, 0.0, 1.0]]), dim=-1)
    rotation = rotation_onto(sight)
    torch.testing.assert_close(rotation[:, :, 2], sight)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(2, 3, 3))
    axis = torch.linalg.cross(torch.tensor([[0.0, 0, 1], [0, 0, 1]]), sight)
    torch.testing.assert_close((rotation @ axis[..., None]).squeeze(-1), axis)


@pytest.mark.parametrize("rotation", ["6d", "axis-angle"])
@pytest.mark.parametrize("shared_trunk", [False, True])
def test_before_training_it_says_the_reference_hand_in_the_cubes_middle(rotation, shared_trunk):
    module = method(rotation=rotation, shared_trunk=shared_trunk).eval()
    batch = hand_batch()
    estimate = module(batch["depth"], batch["cube_centre"], batch["cube_side"])
    torch.testing.assert_close(estimate.vertices.mean(1), batch["cube_centre"], atol=1e-5, rtol=0)
    model = open_hand()
    flat = torch.tensor(model.v_template - model.v_template.mean(0), dtype=torch.float32)
    # the second hand stands on the optical axis, where nothing is turned
    torch.testing.assert_close(estimate.vertices[1] - batch["cube_centre"][1], flat, atol=1e-5, rtol=0)
    assert (estimate.bone_scales == 1).all() and (estimate.shape == 0).all()


def test_what_the_head_says_is_meant_along_the_line_of_sight():
    module = method().eval()
    # 6D of a quarter turn about z less that of no turn: columns (0, 1, 0), (-1, 0, 0) instead of x, y
    module.pose_head.bias.data[:9] = torch.tensor([0.2, -0.4, 0.6, -1, 1, 0, -1, -1, 0])
    centre = torch.tensor([[0.3, 0.0, 0.4]])  # seen along (0.6, 0, 0.8)
    estimate = module(torch.zeros(1, 1, 128, 128), centre, torch.tensor([0.3]))
    # the smallest turn of z onto (0.6, 0, 0.8) is [[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]], applied last
    rotation = torch.tensor([[0.0, -0.8, 0.6], [1, 0, 0], [0, 0.6, 0.8]])
    torch.testing.assert_close(estimate.rotation[0], rotation, atol=1e-6, rtol=0)
    # 0.15 m times (0.2, -0.4, 0.6) is (0.03, -0.06, 0.09), turned alike
    middle = torch.tensor([0.3 + 0.078, -0.06, 0.4 + 0.054])
    rest = torch.tensor(open_hand().v_template.mean(0), dtype=torch.float32)
    torch.testing.assert_close(estimate.translation[0], middle - rotation @ rest, atol=1e-6, rtol=0)
    # 1e-4: the wrist, about which it turns, rests 0.04 mm beside the origin
    torch.testing.assert_close(estimate.vertices[0].mean(0), middle, atol=1e-4, rtol=0)


def test_what_is_not_learnt_stays_at_the_reference():
    module = method(learn_bone_scale=False, learn_shape=False).eval()
    for head in (module.scale_head, module.shape_head):
        torch.nn.init.constant_(head.bias, 0.5)
    batch = hand_batch()
    estimate = module(batch["depth"], batch["cube_centre"], batch["cube_side"])
    assert (estimate.bone_scales == 1).all() and (estimate.shape == 0).all()


def shifted_estimate(batch, metres):
    """The labels moved along x; parameters at rest."""
    size = len(batch["depth"])
    move = torch.tensor([metres, 0.0, 0.0])
    mesh = batch["vertices"] + move
    turn = torch.eye(3).expand(size, 3, 3)
    pose = torch.zeros(size, 3), turn, torch.zeros(size, 20)
    bones = torch.eye(3).expand(size, 16, 3, 3)
    return HandEstimate(mesh, batch["joints_3d"] + move, *pose, torch.ones(size, 6), torch.zeros(size, 7), bones)


def test_losses_by_hand():
    batch = hand_batch()
    terms = method(loss="squared", vertex_weight=0.5).losses(shifted_estimate(batch, 0.02), batch)
    assert terms["joints"].item() == pytest.approx(0.5 * 0.2**2, rel=1e-4)  # decimetres
    assert terms["vertices"].item() == pytest.approx(0.5 * 0.2**2, rel=1e-4)
    assert terms["limits"] == 0 and terms["prior"] == 0
    assert terms["total"].item() == pytest.approx(1.5 * 0.5 * 0.2**2, rel=1e-4)
    terms = method(loss="distance").losses(shifted_estimate(batch, 0.02), batch)
    assert terms["joints"].item() == pytest.approx(0.2, rel=1e-4)


def test_the_mesh_term_counts_where_a_mesh_exists():
    batch = hand_batch()
    estimate = shifted_estimate(batch, 0.02)
    estimate.vertices[1] += 5  # has no mesh
    assert method(loss="distance").losses(estimate, batch)["vertices"].item() == pytest.approx(0.2, rel=1e-4)
    batch["has_mesh"] = torch.zeros(2, dtype=torch.bool)
    assert method().losses(estimate, batch)["vertices"] == 0
    del batch["vertices"]  # a source of joints alone
    assert method().losses(estimate, batch)["vertices"] == 0


def test_invalid_joints_and_sources_without_3d_do_not_count():
    batch = hand_batch()
    estimate = shifted_estimate(batch, 0.02)
    estimate.joints[0, 5] += 1
    estimate.joints[1] += 1
    batch["joint_valid"][0, 5] = False
    batch["has_3d"] = torch.tensor([True, False])
    assert method(loss="distance").losses(estimate, batch)["joints"].item() == pytest.approx(0.2, rel=1e-4)


def test_the_prior_by_hand():
    scales, shape = torch.ones(2, 6), torch.zeros(2, 7)
    scales[0, 1], shape[1, 2] = 1.2, 3.0
    assert parameter_prior(scales, shape).item() == pytest.approx((4 + 9) / 2, rel=1e-4)


def test_a_few_steps_lower_the_loss_and_reach_every_network():
    module, batch = method(loss="distance"), hand_batch()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    totals = []
    for _ in range(25):
        estimate = module(batch["depth"], batch["cube_centre"], batch["cube_side"])
        total = module.losses(estimate, batch)["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < 0.3 * totals[0]
    unreached = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unreached


class Loader(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return hand_batch()


def trainer(tmp_path, **arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning.Trainer(default_root_dir=tmp_path, **quiet, **arguments)


def loader():
    return torch.utils.data.DataLoader(Loader(), batch_size=None)


@pytest.mark.filterwarnings("ignore")
def test_fit_and_test_log_errors_by_alignment_and_domain(tmp_path):
    module = method(report_domains=["clean", "sensor"])
    run = trainer(tmp_path, max_steps=2)
    run.fit(module, loader(), loader())
    assert {"train/loss_total", "train/mesh_share"} <= set(run.callback_metrics)
    assert run.callback_metrics["train/mesh_share"] == 0.5
    assert run.callback_metrics["val/joints_root_mm"] > 0
    run.test(module, loader(), verbose=False)
    logged = run.callback_metrics
    for alignment in ("absolute", "root", "procrustes"):
        for what in ("joints", "vertices", "mean_pose"):
            assert f"test/{what}_{alignment}_mm" in logged and f"test/clean/{what}_{alignment}_mm" in logged
    both = (logged["test/clean/joints_absolute_mm"] + logged["test/sensor/joints_absolute_mm"]) / 2
    torch.testing.assert_close(logged["test/joints_absolute_mm"], both)
    assert logged["test/vertices_absolute_mm"] == logged["test/clean/vertices_absolute_mm"]  # the only meshes
    assert logged["test/mean_pose_root_mm"] < 1e-3  # both hands are alike
    assert 0 <= logged["test/success_hand_40mm"] <= logged["test/success_joint_40mm"] <= 1


@pytest.mark.filterwarnings("ignore")
def test_a_domain_without_samples_is_logged_as_well(tmp_path):
    module = method(report_domains=["clean", "unseen"])
    run = trainer(tmp_path)
    run.test(module, loader(), verbose=False)
    logged = run.callback_metrics
    assert {key.replace("unseen", "clean") for key in logged if "unseen" in key} == {k for k in logged if "clean" in k}
    assert all(value.isnan() for key, value in logged.items() if "unseen" in key)
    assert logged["test/clean/joints_absolute_mm"] > 0


@pytest.mark.filterwarnings("ignore")
def test_half_precision_trains_and_does_not_round_the_hand(tmp_path):
    module = method()
    run = trainer(tmp_path, max_steps=2, precision="bf16-mixed")
    run.fit(module, loader(), loader())
    assert run.callback_metrics["train/loss_total"].isfinite()
    assert run.callback_metrics["val/joints_procrustes_mm"].isfinite()
    module, batch = method().eval(), hand_batch()  # heads say 0: whatever else is rounded is geometry
    exact = module.predict_step(batch, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module.predict_step(batch, 0)
    for field in ("joints_3d", "joints_2d", "vertices"):
        torch.testing.assert_close(getattr(rounded, field), getattr(exact, field), atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_no_number_stops_training_before_it_spoils_the_weights(tmp_path):
    spoilt = hand_batch()
    spoilt["joints_3d"][1, 3, 0] = torch.nan
    module, run = method(), trainer(tmp_path, max_steps=2)
    batches = torch.utils.data.DataLoader([hand_batch(), spoilt], batch_size=None)
    with pytest.raises(ValueError, match=r"training loss: .*got nan at step 1, on 2 samples from toy/test/0.*lower"):
        run.fit(module, batches)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


@pytest.mark.filterwarnings("ignore")
def test_a_run_without_an_end_is_refused(tmp_path):
    run = trainer(tmp_path, max_epochs=-1, max_time="00:00:01:00")
    with pytest.raises(ValueError, match=r"an end for the cosine schedule, got none; set trainer\.max_steps"):
        run.fit(method(), loader())


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_hold_plain_types_and_fit_the_same_hand_alone(tmp_path):
    module = method(rotation="axis-angle")
    run = trainer(tmp_path, max_steps=1)
    run.fit(module, loader())
    run.save_checkpoint(tmp_path / "one.ckpt")
    again = DeepHPS.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert again.hparams.rotation == "axis-angle"
    torch.testing.assert_close(again.pose_head.weight, module.pose_head.weight)
    other = DeepHPS.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    other.hpsl.model = replace(other.hpsl.model, controls=2 * other.hpsl.model.controls)
    with pytest.raises(ValueError, match="weights of HPSL: trained with hand model and controls"):
        trainer(tmp_path, max_steps=2).fit(other, loader(), ckpt_path=tmp_path / "one.ckpt")


def test_predictions_are_absolute_and_mirrored_back():
    module, batch = method().eval(), hand_batch()
    right = module.predict_step(batch, 0)
    torch.testing.assert_close(right.joints_2d, project(right.joints_3d, batch["K"]))
    assert right.frame == "absolute" and right.hand_model == open_hand().id
    batch["mirrored"], batch["side"] = torch.tensor([False, True]), torch.tensor([1, 0])
    left = module.predict_step(batch, 0)
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(left.joints_3d[1], right.joints_3d[1] * flip)
    torch.testing.assert_close(left.vertices[1], right.vertices[1] * flip)
    torch.testing.assert_close(left.joints_2d[1, :, 0], 127 - right.joints_2d[1, :, 0])
    torch.testing.assert_close(left.joints_3d[0], right.joints_3d[0])


def test_bad_input():
    module, batch = method(), hand_batch()
    with pytest.raises(ValueError, match="rotation: expected one of '6d', 'axis-angle', got 'quaternion'"):
        method(rotation="quaternion")
    with pytest.raises(ValueError, match="trunk: expected one of"):
        method(pose_trunk="resnet50")
    with pytest.raises(ValueError, match="loss: expected one of 'squared', 'distance', got 'l7'"):
        method(loss="l7")
    for lr in (-1.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="lr: expected a finite number above 0, got"):
            method(lr=lr)
    for name in ("vertex_weight", "limit_weight", "prior_weight", "weight_decay", "warmup_steps"):
        with pytest.raises(ValueError, match=f"{name}: expected a finite number of at least 0, got -1"):
            method(**{name: -1})
    with pytest.raises(ValueError, match="convention: expected one of"):
        method(convention="unheard-of")
    estimate = shifted_estimate(batch, 0)
    with pytest.raises(ValueError, match=r"convention: expected one of .* got 'unheard-of'"):
        module.losses(estimate, batch | {"convention": ["open", "unheard-of"]})
    with pytest.raises(ValueError, match=r"batch\['hand_model'\]: expected 'open-hand-right"):
        module.losses(estimate, batch | {"hand_model": ["mano-right-778-00000000", ""]})
    cut = batch["depth"][..., 16:112, 16:112]
    with pytest.raises(ValueError, match=r"depth: expected pictures of 128 x 128.*got side 96; set data\.image_size"):
        module(cut, batch["cube_centre"], batch["cube_side"])
    spoilt = batch["depth"].clone()
    spoilt[1, 0, 60, 60] = torch.nan
    with pytest.raises(ValueError, match=r"batch\['depth'\]: expected finite numbers, got 1 NaN"):
        module.predict_step(batch | {"depth": spoilt}, 0)
    with pytest.raises(ValueError, match="missing depth"):
        module.predict_step({k: v for k, v in batch.items() if k != "depth"}, 0)
    with pytest.raises(ValueError, match=r"cube_centre: expected shape \(2, 3\)"):
        normalise_depth(batch["depth"], batch["cube_centre"][:, :2], batch["cube_side"])
