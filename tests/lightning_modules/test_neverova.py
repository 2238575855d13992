"""Neverova's method: what the networks see, how what they say becomes joints, losses, steps, weights handed on."""

import math

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules.callbacks.checkpoints import ModelFacts
from lightning_modules.hand_view import label_maps, look
from lightning_modules.neverova import part_loss
from lightning_modules.part_regions import completion
from lightning_modules.restore import restore_method
from ops.camera import project
from ops.hand_model import open_hand
from tests.lightning_modules.squares import EDGE, SMALL, SQUARES, hand_batch, knowing, method, view_of

# -- what the networks see


def test_networks_see_the_middle_of_the_crop_without_what_is_outside_the_cube():
    batch = hand_batch(1)
    batch["depth"][0, 0, EDGE : EDGE + 2, EDGE : EDGE + 2] = 0.76  # behind the cube, which ends at 0.75
    batch["depth"][0, 0, EDGE + 47, EDGE] = 0.449
    batch["depth"][0, 0, :EDGE] = 0.6  # outside the middle
    view = view_of(batch)
    expected = torch.zeros(48, 48, dtype=torch.bool)
    for _, start, end, _ in SQUARES:
        expected[start:end, start:end] = True
    assert torch.equal(view.foreground[0, 0], expected)
    pixels = project(batch["joints_3d"][:, [0, 4, 8]], view.K)
    torch.testing.assert_close(pixels, batch["joints_2d"][:, [0, 4, 8]] - EDGE, atol=1e-4, rtol=0)
    assert view.subtracted[0, 0, 30, 30].item() == pytest.approx(0.6, abs=1e-4)
    assert batch["K"][0, 0, 2] == view.K[0, 0, 2] + EDGE, "the batch's own K is not to change"
    with pytest.raises(ValueError, match=r"squares of at least 48 pixels, got 40 x 40; raise data.image_size"):
        look(batch["depth"][..., :40, :40], batch["K"], batch["cube_centre"], batch["cube_side"])


def test_maps_have_labels_on_the_foreground_alone():
    scores = torch.zeros(1, 20, 24, 24)
    scores[0, 4, 3, 5] = 1
    foreground = torch.zeros(1, 1, 48, 48, dtype=torch.bool)
    foreground[0, 0, 6, 10] = foreground[0, 0, 0, 0] = True
    maps = label_maps(scores, foreground)
    assert (maps[0, 6, 10], maps[0, 0, 0], maps.count_nonzero()) == (5, 1, 2)


# -- from what they say to joints


def test_while_parts_are_learnt_joints_are_the_barycentres():
    module, batch = knowing(method()).eval(), hand_batch()
    estimate = module(view_of(batch))
    torch.testing.assert_close(estimate.joints, batch["joints_3d"][:, [0, 4, 8]], atol=1e-4, rtol=0)
    torch.testing.assert_close(module.completed(estimate.joints)[:, 4], estimate.joints[:, 1])
    batch["depth"][:, :, : EDGE + 14, : EDGE + 14] = 0  # no thumb: the middle of the picture
    thumb = module(view_of(batch)).joints[:, 1]
    torch.testing.assert_close(project(thumb[:, None], batch["K"]), torch.full((2, 1, 2), 35.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("regions", ["whole", "parts", "cascade"])
def test_before_training_joints_are_in_the_pictures_middle_at_the_depth_there(regions):
    module, batch = method(step="regression", regions=regions, init_from="earlier").eval(), hand_batch()
    joints = module(view_of(batch)).joints
    torch.testing.assert_close(project(joints, batch["K"]), torch.full((2, 3, 2), 35.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(joints[..., 2], torch.full((2, 3), 0.6), atol=1e-4, rtol=0)


def test_what_the_regressor_says_by_hand():
    module, batch = method(step="regression", regions="whole").eval(), hand_batch()
    module.regressor.bias.data[1] = torch.tensor([-13 / 24, -13 / 24, 0.2])
    thumb = module(view_of(batch)).joints[:, 1]
    # 13 of 24 pixels from the middle, 35.5, is the thumb's square at 0.58 m; 0.2 of half a cube is 0.03 m behind it
    torch.testing.assert_close(project(thumb[:, None], batch["K"]), torch.full((2, 1, 2), 22.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(thumb[:, 2], torch.full((2,), 0.61), atol=1e-4, rtol=0)


def test_each_network_looks_at_its_parts_or_around_what_the_first_found():
    seen = []
    batch = hand_batch()
    module = knowing(method(step="regression", regions="parts", init_from="earlier")).eval()
    module.regressor.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    module(view_of(batch))
    assert seen[0][0, 0].nonzero().aminmax(dim=0).min.tolist() == [5, 5]  # the palm, 20 to 40, in cells of 4
    assert seen[0][0, 0].nonzero().aminmax(dim=0).max.tolist() == [9, 9]
    assert seen[0][0, 1].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    module = method(step="regression", regions="cascade", init_from="earlier").eval()
    module.regressor.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    module.coarse.bias.data[1, :2] = -13 / 24  # 10.5: within 7 pixels are cells whose middles are 5.5, 9.5, 13.5, 17.5
    module(view_of(batch))
    # from 10.5, middles are 5, 1, 3 and 7 away
    distances = torch.tensor([9.0, 5, 1, 3, 7])[:, None].square() + torch.tensor([9.0, 5, 1, 3, 7]).square()
    assert torch.equal(seen[1][0, 1, :5, :5], distances <= 49)
    assert not seen[1][0, 1, 5:].any()


def test_joints_that_the_table_lacks_stand_between_their_neighbours():
    joints = (0, 2, 4, 6, 8)
    weights = completion(joints)
    torch.testing.assert_close(weights.sum(1), torch.ones(21))
    torch.testing.assert_close(weights[list(joints)], torch.eye(5))
    assert weights[3, 1] + weights[3, 2] == pytest.approx(1) and 0.3 < weights[3, 1] < 0.7  # thumb IP
    assert weights[5, 0] + weights[5, 3] == pytest.approx(1) and weights[5, 3] > 0.6  # knuckles are nearer to the PIP
    torch.testing.assert_close(weights[9:, 0], torch.ones(12))  # of fingers without a joint only the wrist is known
    with pytest.raises(ValueError, match="expected the wrist among the joints"):
        method(joint_parts={"thumb_tip": ["thumb_tip"]})


# -- losses


def test_part_loss_by_hand():
    scores = torch.zeros(3, 20, 4, 4)
    scores[0, 2] = math.log(81)  # label 3 has 81 of 100
    parts = torch.zeros(3, 8, 8, dtype=torch.uint8)
    parts[0, 0, 0] = parts[0, 2, 4] = 3
    parts[0, 1, 1] = 9  # every second pixel of every second row is learnt
    parts[1, :4] = 7
    parts[1, 4:], parts[2] = 255, 3
    yes = torch.tensor([True, True, False])
    right, wrong = -math.log(0.81), math.log(20)
    assert part_loss(scores, parts, yes).item() == pytest.approx((right + wrong) / 2, rel=1e-5)
    parts[0, 4, 4] = 4  # one of three: 1 of 100
    expected = ((2 * right + math.log(100)) / 3 + wrong) / 2
    assert part_loss(scores, parts, yes).item() == pytest.approx(expected, rel=1e-5)
    assert part_loss(scores, parts, torch.tensor([False] * 3)) == 0
    parts[0] = 0
    assert part_loss(scores, parts, yes).item() == pytest.approx(wrong, rel=1e-5)  # a picture without a hand


def test_regression_learns_the_joints_of_the_table_as_they_are_labelled():
    module, batch = method(step="regression", regions="whole").eval(), hand_batch()
    estimate = module(view_of(batch))
    estimate = estimate._replace(joints=batch["joints_3d"][:, [0, 4, 8]] + torch.tensor([0.0, 0.03, 0.04]))
    assert module.losses(estimate, batch)["total"].item() == pytest.approx(0.5, rel=1e-4)  # decimetres
    batch["joint_valid"][0, 4], batch["joints_3d"][0, 4], batch["joints_3d"][:, 5] = False, 9.0, 9.0
    assert module.losses(estimate, batch)["joints"].item() == pytest.approx(0.5, rel=1e-4)
    batch["convention"] = ["open", "nyu"]
    with pytest.raises(ValueError, match=r"convention'\]: expected 'open', got \['nyu'\].*set model.convention"):
        module.losses(estimate, batch)


@pytest.mark.parametrize("arguments", [{}, {"step": "regression", "regions": "parts", "init_from": "earlier"}])
def test_a_few_steps_lower_the_loss(arguments):
    module, batch = method(**arguments).train(), hand_batch(2, (True, True))
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=3e-2)
    totals = []
    for _ in range(25):
        total = module.losses(module(view_of(batch)), batch)["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.item())
    assert totals[-1] < 0.3 * totals[0]


def test_each_step_trains_its_own_network():
    batch = hand_batch()
    for regions, trained in (("parts", "regressor"), ("cascade", "regressor"), ("whole", "regressor")):
        module = method(step="regression", regions=regions, init_from="earlier").train()
        torch.nn.init.normal_(module.regressor.head)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        module.losses(module(view_of(batch)), batch)["total"].backward()
        reached = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
        assert reached == {trained}
        changed = {k.split(".")[0] for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
        assert changed == {trained}, "statistics of a network that is not trained moved"
    module = method().train()
    module.losses(module(view_of(batch)), batch)["total"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


# -- runs


def trainer(tmp_path, **arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning.Trainer(default_root_dir=tmp_path, **quiet, **arguments)


def loader(*batches):
    return DataLoader(list(batches) or [hand_batch()], batch_size=None)


@pytest.mark.filterwarnings("ignore")
def test_fit_and_test_log_parts_joints_and_how_they_agree(tmp_path):
    module = knowing(method(report_domains=["clean", "sensor"]))
    module.anything = torch.nn.Parameter(torch.zeros(()))
    module.training_step = lambda batch, batch_idx: module.anything**2
    run = trainer(tmp_path, max_steps=1)
    batch = hand_batch(2, (True, True))
    batch["parts"][0, EDGE + 8 : EDGE + 11, EDGE + 8 : EDGE + 14] = 2  # half of the thumb's tip is not what was said
    batch["joints_2d"][1, 0, 0] += 6
    batch["joints_3d"][1, 0, 2] += 0.012
    run.fit(module, loader(batch), loader(batch))
    logged = run.callback_metrics
    assert logged["val/sensor/per_pixel_pct"] == 100 and logged["val/sensor/pixel_error_pct"] == 0
    run.test(module, loader(batch), verbose=False)
    logged = run.callback_metrics
    pixels = 400 + 36 + 16
    assert logged["test/clean/per_pixel_pct"].item() == pytest.approx(100 * (1 - 18 / pixels), abs=1e-3)
    assert logged["test/clean/per_class_pct"].item() == pytest.approx(100 * 3 / 4)  # palm, index, thumb; not label 2
    assert logged["test/sensor/parts_to_joints_px"].item() == pytest.approx(2, abs=1e-4)  # 6 pixels, 3 joints
    assert logged["test/parts_to_joints_px"].item() == pytest.approx(1, abs=1e-4)
    assert logged["test/sensor/joints_absolute_mm"].item() == pytest.approx(4, abs=0.1)  # 12 mm in depth, 3 joints
    assert logged["test/sensor/joints_xy_mm"].item() == pytest.approx(0, abs=0.1)
    assert logged["test/clean/joints_absolute_mm"].item() == pytest.approx(0, abs=0.1)
    assert {"test/mean_pose_root_mm", "test/clean/joints_procrustes_mm", "test/loss_parts"} <= set(logged)


@pytest.mark.filterwarnings("ignore")
def test_pictures_without_part_labels_have_no_part_scores(tmp_path):
    module = method(step="regression", regions="parts", init_from="earlier", report_domains=["sensor"])
    run = trainer(tmp_path)
    run.test(module, loader(hand_batch(2, (False, False))), verbose=False)
    assert run.callback_metrics["test/sensor/per_pixel_pct"].isnan()
    assert run.callback_metrics["test/sensor/joints_absolute_mm"] > 0
    direct = method(step="regression", regions="whole")
    run = trainer(tmp_path)
    run.test(direct, loader(), verbose=False)
    assert not any("pixel_pct" in name for name in run.callback_metrics)


def saved(tmp_path, module, name="step", **facts):
    """A checkpoint as a run leaves it."""
    arguments = {key: module.hparams[key] for key in ("step", "regions", *SMALL)} | {"init_from": "earlier"}
    config = {"class_path": "lightning_modules.neverova.Neverova", "init_args": arguments}
    run = trainer(tmp_path, max_steps=1, callbacks=[ModelFacts(config | facts)], enable_checkpointing=False)
    batch = hand_batch()
    module.on_fit_start = lambda: None  # a toy has no earlier step
    run.fit(module, loader(batch))
    path = tmp_path / name / "first" / "checkpoints" / "best.ckpt"
    run.save_checkpoint(path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_steps_hand_their_weights_on(tmp_path):
    first = method()
    path = saved(tmp_path, first)
    for given in (path, path.parents[2]):  # the file, and the folder of the experiment's runs
        second = method(step="regression", regions="parts", init_from=str(given))
        torch.nn.init.zeros_(second.classifier.scores.weight)
        run = trainer(tmp_path, max_steps=1)
        run.fit(second, loader())
        torch.testing.assert_close(second.classifier.state_dict(), first.classifier.state_dict(), rtol=0, atol=0)
    direct = method(step="regression", regions="whole")
    torch.nn.init.normal_(direct.regressor.head)
    path = saved(tmp_path, direct, "direct")
    cascade = method(step="regression", regions="cascade", init_from=str(path))
    cascade.take_weights(str(path))
    torch.testing.assert_close(cascade.coarse.state_dict(), direct.regressor.state_dict(), rtol=0, atol=0)
    assert not cascade.regressor.head.any(), "the second network of a cascade begins anew"


@pytest.mark.filterwarnings("ignore")
def test_a_trained_method_and_a_run_that_goes_on_do_not_need_the_earlier_step(tmp_path):
    module = method(step="regression", regions="parts", init_from="earlier")
    path = saved(tmp_path, module)
    again = restore_method(path)
    torch.testing.assert_close(again.regressor.hidden, module.regressor.hidden)
    trainer(tmp_path, max_steps=2).fit(method(**again.hparams), loader(), ckpt_path=path)
    with pytest.raises(FileNotFoundError, match="init_from earlier: no such checkpoint"):
        trainer(tmp_path, max_steps=2).fit(method(**again.hparams), loader())


@pytest.mark.filterwarnings("ignore")
def test_foreign_weights_are_refused_by_name(tmp_path):
    direct = saved(tmp_path, method(step="regression", regions="whole"))
    with pytest.raises(ValueError, match=r"best.ckpt: holds no classifier; name the checkpoint of the step that has"):
        method(step="regression", init_from=str(direct)).take_weights(str(direct))
    first = saved(tmp_path, method(), "first")
    with pytest.raises(ValueError, match=r"(?s)its classifier is of another size .*the same widths"):
        method(step="regression", hidden=7, init_from=str(first)).take_weights(str(first))
    with pytest.raises(ValueError, match="holds no regressor"):
        method(step="regression", regions="cascade", init_from=str(first)).take_weights(str(first))
    other = saved(tmp_path, method(), "other", class_path="lightning_modules.deephps.DeepHPS")
    with pytest.raises(ValueError, match=r"of lightning_modules.deephps.DeepHPS, expected lightning_modules.neverova"):
        method().take_weights(str(other))
    torch.save({"state_dict": {}}, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd.ckpt: not a checkpoint of this project"):
        method().take_weights(str(tmp_path / "odd.ckpt"))
    (tmp_path / "noise.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"noise.ckpt: cannot be read"):
        method().take_weights(str(tmp_path / "noise.ckpt"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arguments", [{}, {"step": "regression", "regions": "whole"}])
def test_half_precision_trains_and_does_not_round_the_joints(tmp_path, arguments):
    run = trainer(tmp_path, max_steps=2, precision="bf16-mixed")
    run.fit(method(**arguments), loader(), loader())
    assert run.callback_metrics["val/joints_absolute_mm"].isfinite()
    if arguments:
        module, batch = method(**arguments).eval(), hand_batch()  # f_r says 0: whatever else is rounded is geometry
        exact = module.predict_step(batch, 0).joints_3d
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(module.predict_step(batch, 0).joints_3d, exact, atol=0, rtol=0)


# -- predictions


def test_predictions_are_absolute_whole_and_mirrored_back():
    module, batch = knowing(method()).eval(), hand_batch()
    batch["depth"][:, :, EDGE + 42 :, :] = 0  # no index: the hand is not symmetric
    right = module.predict_step(batch, 0)
    assert right.frame == "absolute" and right.hand_model == open_hand().id and right.vertices is None
    assert right.joints_3d.shape == (2, 21, 3) and right.parts.shape == (2, 72, 72)
    torch.testing.assert_close(right.joints_2d, project(right.joints_3d, batch["K"]))
    batch["mirrored"], batch["side"] = torch.tensor([False, True]), torch.tensor([1, 0])
    left = module.predict_step(batch, 0)
    torch.testing.assert_close(left.joints_3d[1], right.joints_3d[1] * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(left.joints_2d[1, :, 0], 71 - right.joints_2d[1, :, 0])
    assert torch.equal(left.parts[1], right.parts[1].flip(1)) and not torch.equal(left.parts[1], right.parts[1])
    torch.testing.assert_close(left.joints_3d[0], right.joints_3d[0])
    assert torch.equal(left.parts[0], right.parts[0]) and right.parts[0, EDGE + 30, EDGE + 30] == 1


def test_a_finger_beyond_the_middle_counts_as_missed():
    module, batch = knowing(method()).eval(), hand_batch(1, (True,))
    batch["depth"][:, :, 2:4, 2:4], batch["parts"][:, 2:4, 2:4] = 0.6, 5
    estimate = module(view_of(batch))
    figures = module.figures["val"]
    figures.update_maps(module.on_picture(estimate.maps, batch["depth"]), torch.zeros(1), torch.ones(1), batch)
    pixels = 400 + 36 + 16
    assert figures.part_scores()["val/per_pixel_pct"] == pytest.approx(100 * pixels / (pixels + 4), abs=1e-3)


def test_bad_input():
    for arguments, message in (
        ({"step": "weak"}, "step: expected one of 'segmentation', 'regression', got 'weak'"),
        ({"regions": "disc"}, "regions: expected one of"),
        ({"resolution": 12}, "resolution: expected one of 48, 24, got 12"),
        ({"training_resolution": 96}, "training_resolution: expected one of"),
        ({"optimiser": "adam"}, "optimiser: expected one of 'sgd', 'adamw', got 'adam'"),
        ({"lr": 0.0}, "lr: expected a finite number above 0"),
        ({"warmup_steps": -1}, "warmup_steps: expected a finite number of at least 0"),
        ({"opening": 0}, "opening: expected a square of 1 to 48 pixels, got 0"),
        ({"convention": "nowhere"}, "convention: expected one of"),
        ({"widths": [3, 4]}, "widths: expected 3"),
        ({"step": "regression"}, "init_from: regions 'parts' need the weights of an earlier step, got none"),
        ({"step": "regression", "regions": "cascade"}, "init_from: regions 'cascade' need"),
    ):
        with pytest.raises(ValueError, match=message):
            method(**arguments)
    batch = hand_batch()
    del batch["parts"]
    module = method()
    with pytest.raises(ValueError, match="missing parts"):
        module.losses(module(view_of(batch)), batch)
    del batch["K"]
    with pytest.raises(ValueError, match="missing K"):
        module.predict_step(batch, 0)
    batch = hand_batch()
    batch["depth"][0, 0, 40, 40] = torch.nan
    with pytest.raises(ValueError, match=r"depth'\]: expected finite numbers"):
        module.predict_step(batch, 0)
