"""DHPE: its losses act where labels are, predictions are as pictured, refinement descends, one picture is learnt."""

import pytest
import torch

from datamodules.batch import HandBatch
from datamodules.transforms import mirror
from lightning_modules.dhpe import DHPE
from lightning_modules.dhpe_losses import laplacian_loss, mean_pixels, place_loss
from lightning_modules.method import as_pictured
from lightning_modules.networks.backbones import masked_apart
from lightning_modules.normalised_hand import ROOT, in_camera, normalised_places
from lightning_modules.picture_figures import overlap
from lightning_modules.prediction import Frame
from lightning_modules.restore import restore_method
from lightning_modules.schedules import warmup_cosine
from ops.camera import project
from ops.hand_model import open_hand
from tests.lightning_modules.rendered_hands import rendered_hands

SMALL = {"backbone": "small", "joint_maps": "small", "warmup_steps": 1, "refinement_steps": 3}


def method(**settings):
    torch.manual_seed(0)
    return DHPE(**(SMALL | settings)).eval()


def stirred(**settings):
    """A method whose last layers, zero before training, say something."""
    module = method(**settings)
    maps = module.networks.joint_maps
    lasts = (maps.first[-1], *(stage[-1] for stage in maps.stages))
    for layer in (module.networks.estimator, module.networks.refiner, *lasts):
        if layer is not None:
            torch.nn.init.normal_(layer.weight, std=0.002)
    return module


def learn(module, batch, steps, lr):
    module.train()
    optimiser = torch.optim.AdamW(module.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_cosine(20, steps))
    for _ in range(steps):
        losses = module.losses(module.estimate(batch), batch)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        schedule.step()
    return module.eval()


def test_before_training_every_hand_is_the_mean_hand_in_the_middle():
    module, batch = method(camera="parallel"), rendered_hands()
    estimate = module.estimate(batch)
    assert torch.equal(estimate.parameters, module.projection.start.expand(2, 63))
    torch.testing.assert_close(estimate.hand.joints[:, ROOT], torch.tensor([[0.5, 0.5, 0.0]] * 2))
    assert len(estimate.places) == 3 and torch.equal(estimate.places[-1], estimate.evidence.places)
    assert module.hand_model_id == open_hand().id


def test_the_networks_have_the_papers_sizes():
    module = DHPE(backbone="resnet50", joint_maps="small")
    assert module.networks.estimator.weight.shape == (63, 2153)
    assert module.networks.refiner.weight.shape == (42, 2216)


def test_the_total_is_the_weighted_sum_and_every_weight_counts():
    batch = rendered_hands()
    weights = {"features": "feature", "heat_maps": "heat_map", "refiner": "refiner", "articulation": "articulation"}
    weights |= {"silhouette": "shape", "laplacian": "laplacian", "prior": "prior"}
    none = {f"{name}_weight": 0.0 for name in weights.values()}
    module = stirred()
    terms = module.losses(module.estimate(batch), batch)
    assert all(terms[name] > 0 for name in weights)
    for name, weight in weights.items():
        module = stirred(**(none | {f"{weight}_weight": 2.0}))
        total = module.losses(module.estimate(batch), batch)["total"]
        torch.testing.assert_close(total, 2 * terms[name], msg=lambda text, name=name: f"{name}: {text}")


def test_every_network_learns_from_the_total():
    module, batch = stirred().train(), rendered_hands()
    module.losses(module.estimate(batch), batch)["total"].backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert module.fitted.parameters.shape == (2, 63) and not module.fitted.parameters.requires_grad
    assert module.fitted.pixels.isfinite().all()


def test_losses_act_only_where_labels_are():
    module, batch = stirred(), rendered_hands()
    estimate = module.estimate(batch)
    whole = module.losses(estimate, batch)
    rows = [module.losses(module.estimate(one), one) for one in (rendered_hands(1), second(batch))]
    for name in ("silhouette", "articulation", "refiner", "features", "heat_maps"):
        torch.testing.assert_close(whole[name], (rows[0][name] + rows[1][name]) / 2, msg=lambda t, n=name: f"{n}: {t}")
        flags = {"silhouette": "mask", "features": "mask", "articulation": "3d"}
        hidden = batch | {f"has_{flags.get(name, '2d')}": torch.tensor([True, False])}
        torch.testing.assert_close(module.losses(estimate, hidden)[name], rows[0][name])
    bare = HandBatch({field: value for field, value in batch.items() if field != "mask"})
    bare["has_mask"] = torch.zeros(2, dtype=torch.bool)
    terms = module.losses(module.estimate(bare), bare)
    assert terms["silhouette"] == terms["features"] == 0 and terms["total"].isfinite()
    nothing = batch | {flag: torch.zeros(2, dtype=torch.bool) for flag in ("has_3d", "has_2d", "has_mask")}
    nothing["joints_3d"] = torch.zeros_like(batch["joints_3d"])
    terms = module.losses(module.estimate(nothing), nothing)
    terms["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def second(batch):
    return HandBatch({field: value[1:2] for field, value in batch.items()})


def test_the_schedule_weighs_single_hands():
    module, batch = stirred(), rendered_hands()
    estimate = module.estimate(batch)
    alone = [module.losses(module.estimate(one), one)["silhouette"] for one in (rendered_hands(1), second(batch))]
    module.shape_schedule = lambda pixels, has_mask: torch.tensor([0.0, 1.0])
    torch.testing.assert_close(module.losses(estimate, batch)["silhouette"], alone[1] / 2)


def test_predictions_are_as_pictured():
    module, batch = stirred(), rendered_hands()
    seen = module.predict_step(batch, 0)
    assert seen.frame is Frame.ABSOLUTE and seen.hand_model == module.hand_model_id and seen.convention == "open"
    torch.testing.assert_close(project(seen.joints_3d, batch["K"]), seen.joints_2d, atol=1e-2, rtol=0)
    assert ((seen.confidence >= 0) & (seen.confidence <= 1)).all() and seen.vertices.shape == (2, 778, 3)
    bone = (seen.joints_3d[:, 10] - seen.joints_3d[:, 9]).norm(dim=-1)
    torch.testing.assert_close(bone, torch.full((2,), module.distance.bone_length), atol=1e-5, rtol=1e-3)
    said = method(bone_length=0.06)
    assert said.predict_step(batch, 0).joints_3d[:, 0, 2].min() > 0
    # the same picture of a left hand: mirrored for the network, mirrored back in the prediction
    left = batch | {"mirrored": torch.tensor([False, True]), "side": torch.tensor([1, 0])}
    back = module.predict_step(HandBatch(left), 0)
    torch.testing.assert_close(back.joints_3d, as_pictured(seen.joints_3d, left["mirrored"]))
    torch.testing.assert_close(back.joints_2d[1, :, 0], 63 - seen.joints_2d[1, :, 0])
    pictured = mirror(HandBatch(left), left["mirrored"])
    torch.testing.assert_close(project(back.joints_3d, pictured["K"]), back.joints_2d, atol=1e-2, rtol=0)


def test_how_far_a_hand_is():
    batch = rendered_hands()
    for rule, depth in (("cube", batch["cube_centre"][:, 2]), ("label", batch["joints_3d"][:, ROOT, 2])):
        found = stirred(root_depth=rule).predict_step(batch, 0)
        torch.testing.assert_close(found.joints_3d[:, ROOT, 2], depth, atol=0.05, rtol=0)
    own = HandBatch({name: value for name, value in batch.items() if name not in ("joints_3d", "joints_2d")})
    module = stirred(root_depth="label", bone_length=0.04)
    with pytest.warns(UserWarning, match=r"root_depth 'label': these pictures have no labels; .* of 40.0 mm"):
        found = module.predict_step(own, 0)
    torch.testing.assert_close(found.joints_3d, stirred(bone_length=0.04).predict_step(own, 0).joints_3d)
    nowhere = batch | {"cube_centre": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"root_depth 'cube': expected batch\['cube_centre'\]"):
        stirred(root_depth="cube").predict_step(HandBatch(nowhere), 0)


def test_refinement_descends_and_each_picture_is_refined_on_its_own():
    module, batch = stirred(refinement_steps=8, refiner=False), rendered_hands()
    estimate = module.estimate(batch)
    found = module.refine(estimate, batch, keep_path=True)
    assert (found.values[-1] < found.values[0]).all() and found.path.shape == (9, 2, 63)
    alone = module.refine(module.estimate(second(batch)), second(batch))
    torch.testing.assert_close(alone.parameters[0], found.parameters[1], atol=2e-3, rtol=0)
    assert all(p.grad is None for p in module.parameters()), "weights are left alone"
    with torch.inference_mode():
        inside = module.refine(module.estimate(batch), batch)
    torch.testing.assert_close(inside.parameters, found.parameters, atol=1e-4, rtol=0)
    plain = stirred(refinement_steps=0)
    estimate = plain.estimate(batch)
    assert plain.refined(estimate, batch) is estimate


def test_the_refiner_moves_places_inside_the_loop_and_features_pull():
    batch = rendered_hands()
    module = stirred(refinement_steps=2, refinement_features=0.0, laplacian_weight=0.0)
    estimate = module.estimate(batch)
    assert not torch.equal(module.refine(estimate, batch).places, estimate.places[-1])
    still = stirred(refinement_steps=2, refiner=False, refinement_features=0.0, laplacian_weight=0.0)
    estimate = still.estimate(batch)
    found = still.refine(estimate, batch)
    assert torch.equal(found.places, estimate.places[-1])
    pulled = stirred(refinement_steps=2, refiner=False, refinement_features=10.0, laplacian_weight=0.0)
    assert not torch.allclose(pulled.refine(estimate, batch).parameters, found.parameters)


def test_in_refinement_the_refiner_says_its_last_turn_again_and_does_not_add_up(monkeypatch):
    batch, module = rendered_hands(), stirred(refinement_steps=4)
    estimate, asked = module.estimate(batch), []
    noted = lambda features, places, parameters, joints: asked.append((places, parameters)) or places + 0.01  # noqa: E731
    monkeypatch.setattr(module.networks, "refined_places", noted)
    found = module.refine(estimate, batch)
    assert all(torch.equal(places, estimate.places[-2]) for places, _ in asked)
    torch.testing.assert_close(found.places, estimate.places[-2] + 0.01)
    assert (asked[-1][1] != asked[0][1]).any(), "of the hand as it is now"


def test_bad_input():
    for settings, message in (
        ({"lr": 0.0}, "lr: expected a finite number above 0"),
        ({"shape_weight": -1.0}, "shape_weight: expected a finite number of at least 0"),
        ({"camera": "fisheye"}, "camera: expected one of 'pinhole', 'parallel'"),
        ({"root_depth": "guess"}, "root_depth: expected one of"),
        ({"convention": "nobody"}, "convention: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            method(**settings)
    batch = rendered_hands()
    with pytest.raises(ValueError, match="missing rgb"):
        method().estimate(HandBatch({k: v for k, v in batch.items() if k != "rgb"}))
    with pytest.raises(ValueError, match=r"batch\['rgb'\]: expected finite"):
        method().predict_step(HandBatch(batch | {"rgb": batch["rgb"] * torch.nan}), 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_one_picture_is_learnt(seed):
    batch = rendered_hands(1, size=128, seed=seed)
    module = learn(method(root_depth="label", articulation_weight=10.0, prior_weight=0.0), batch, 400, 1e-3)
    with torch.no_grad():
        hand = module.estimate(batch).hand
        depth = module.distance(hand, batch)
        for name, points in (("joints_3d", hand.joints), ("vertices", hand.vertices)):
            error = (in_camera(points, depth, batch["K"], 128) - batch[name]).norm(dim=-1).mean()
            assert 1000 * error < 2, f"{name}: {1000 * error:.2f} mm"
        assert overlap(module.silhouette(hand, 128), batch["mask"]) > 0.95


def test_joints_are_compared_in_the_convention_of_their_labels():
    module, batch = stirred().train(), rendered_hands()
    estimate, said = module.estimate(batch), ["ge", "stb"]
    terms = [module.losses(estimate, batch | {"convention": each}) for each in (["open"] * 2, said)]
    assert terms[0]["articulation"] != terms[1]["articulation"]
    places = normalised_places(batch["joints_2d"], batch["rgb"].shape[-1])
    joints = module.projection.joints_in(estimate.hand, said)
    torch.testing.assert_close(module.fitted.pixels, mean_pixels(joints, places, batch["joint_valid"]))


def test_refinement_keeps_the_surface_smooth():
    batch, at = rendered_hands(), {"refinement_steps": 0, "refiner": False, "refinement_features": 0.0}
    plain, smooth = stirred(**at, laplacian_weight=0.0), stirred(**at, laplacian_weight=10.0)
    estimate = plain.estimate(batch)
    rough = 10 * laplacian_loss(estimate.hand.vertices, plain.laplacian)
    values = [module.refine(estimate, batch).values[0] for module in (plain, smooth)]
    torch.testing.assert_close(values[1], (values[0] + rough).detach())


def test_the_refiner_meets_hands_that_are_off_in_training(monkeypatch):
    batch = rendered_hands()
    module, asked = stirred(refiner_noise=0.1).train(), []
    estimate = module.estimate(batch)
    plain = stirred().train()
    without = plain.losses(estimate, batch)["refiner"]
    refined_places = module.networks.refined_places
    noted = lambda *words: asked.append(words) or refined_places(*words)  # noqa: E731
    monkeypatch.setattr(module.networks, "refined_places", noted)
    found = module.losses(estimate, batch)["refiner"]
    ((_, before, parameters, joints),) = asked
    assert torch.equal(before, estimate.places[-2]), "the turn that refinement repeats"
    assert (parameters - estimate.parameters).detach().std() == pytest.approx(0.1, rel=0.3)
    torch.testing.assert_close(joints, module.projection(parameters, estimate.hand.view).joints)
    target = normalised_places(batch["joints_2d"], batch["rgb"].shape[-1])
    own = place_loss(refined_places(*asked[0]), target, batch["joint_valid"]).mean()
    torch.testing.assert_close(found, without + own)
    assert module.eval().losses(estimate, batch)["refiner"] == plain.eval().losses(estimate, batch)["refiner"]


def test_the_prior_holds_pose_and_shape_and_nothing_else():
    module, batch = method(), rendered_hands()
    estimate = module.estimate(batch)
    for first, last, expected in ((0, 45, 45 * 4 / 55), (45, 55, 10 * 4 / 55), (55, 63, 0.0)):
        parameters = torch.zeros(2, 63)
        parameters[:, first:last] = 2
        assert module.losses(estimate._replace(parameters=parameters), batch)["prior"] == pytest.approx(expected)


def test_equation_13_is_the_sum_of_its_terms():
    batch, module = rendered_hands(), stirred(refinement_steps=0, refinement_features=3.0, laplacian_weight=0.5)
    with torch.no_grad():
        estimate = module.estimate(batch)
        hand, picture = estimate.hand, batch["rgb"]
        off = 100 * (hand.joints[..., :2] - estimate.places[-1]).square().sum(-1).mean(1)  # in (0.1 sides)^2
        covered = picture * module.silhouette(hand, picture.shape[-1])
        grey = masked_apart(picture, module.silhouette(hand, picture.shape[-1])) - covered  # what stands off the hand
        lost = module.networks.backbone(covered + grey) - module.networks.backbone(picture)
        rough = laplacian_loss(hand.vertices, module.laplacian)
        expected = off + 3 * lost.square().mean(1) + 0.5 * rough
    torch.testing.assert_close(module.refine(estimate, batch).values[0], expected)


@pytest.mark.parametrize("term", ["joints", "features"])
def test_refinement_lowers_each_of_its_terms(term):
    weights = {"refinement_features": 0.0 if term == "joints" else 1e6, "laplacian_weight": 0.0}
    batch, module = rendered_hands(), stirred(refinement_steps=12, refiner=False, **weights)
    with torch.no_grad():
        estimate = module.estimate(batch)
        path = module.refine(estimate, batch, keep_path=True).path

        def left(parameters):
            hand = module.projection(parameters, estimate.hand.view)
            if term == "joints":
                return (hand.joints[..., :2] - estimate.places[-1]).norm(dim=-1).mean()
            covered = masked_apart(batch["rgb"], module.silhouette(hand, batch["rgb"].shape[-1]))
            return (module.networks.backbone(covered) - module.networks.backbone(batch["rgb"])).square().mean()

        assert left(path[-1]) < 0.95 * left(path[0])


def test_labels_conventions_do_not_lead_refinement():
    batch, module = rendered_hands(), stirred(learnt_conventions=["stb"])
    bare = HandBatch({name: value for name, value in batch.items() if name != "convention"})
    estimate = module.estimate(batch)
    found = {name: module.refine(estimate, batch | {"convention": [name] * 2}) for name in ("open", "ge", "stb")}
    found["none"] = module.refine(estimate, bare)
    torch.testing.assert_close(found["ge"].parameters, found["none"].parameters, rtol=0, atol=0)
    torch.testing.assert_close(found["open"].parameters, found["none"].parameters, rtol=0, atol=0)
    assert not torch.allclose(found["stb"].parameters, found["none"].parameters), "which the heat maps have learnt"
    mixed = module.refine(estimate, batch | {"convention": ["ge", "stb"]})
    torch.testing.assert_close(mixed.parameters[1], found["stb"].parameters[1], atol=2e-3, rtol=0)


def test_a_checkpoint_does_not_need_the_weights_that_its_backbone_began_with(tmp_path):
    module = stirred()
    arguments = SMALL | {"pretrained": str(tmp_path / "of another machine")}
    facts = {"class_path": "lightning_modules.dhpe.DHPE", "init_args": arguments, "hand_model": module.hand_model_id}
    torch.save({"state_dict": module.state_dict(), "handful": facts}, tmp_path / "best.ckpt")
    again = restore_method(tmp_path / "best.ckpt")
    torch.testing.assert_close(again.state_dict(), module.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"hello", b"", b"\xff\xd8\xff\xe0 a photograph"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "text.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint .*text.png: cannot be read \(.*\); name one that train.py wrote"):
        restore_method(tmp_path / "text.png")


def test_hands_that_are_near_are_counted_where_masks_do_not_count(monkeypatch):
    module, batch, asked = stirred(shape_weight=0.0), rendered_hands(), []
    module.shape_schedule = lambda pixels, has_mask: asked.append((pixels, has_mask)) or torch.ones(2)
    assert module.losses(module.estimate(batch), batch)["silhouette"] == 0
    assert len(asked) == 1 and asked[0][1].all()


def test_a_test_measures_refined_hands_and_validation_does_not(monkeypatch):
    module, batch, refined = stirred(), rendered_hands(), []
    estimate = module.estimate(batch)
    monkeypatch.setattr(module, "refined", lambda estimate, batch: refined.append(True) or estimate)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    module.measure(estimate, batch, "val")
    assert not refined
    module.measure(estimate, batch, "test")
    assert refined


def test_hands_are_refined_and_measured_in_single_precision(monkeypatch):
    module, batch = stirred(refinement_steps=2), rendered_hands()
    logged, estimate = [], module.estimate(batch)
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.append(values))
    monkeypatch.setattr(module.figures["test"], "update", lambda *points: {"points": points})
    monkeypatch.setattr(module.seen["test"], "update", lambda *seen: {"seen": seen})
    module.measure(estimate, batch, "test")
    with torch.autocast("cpu", torch.bfloat16):
        module.measure(estimate, batch, "test")
        steps = module.predictions_by_iteration(batch, [0, 2])
        assert module.predict_step(batch, 0).joints_3d.dtype == torch.float32
    single, half = logged
    torch.testing.assert_close(half["points"][0], single["points"][0], rtol=0, atol=0)
    torch.testing.assert_close(half["points"][2], single["points"][2], rtol=0, atol=0)
    torch.testing.assert_close(half["seen"][0], single["seen"][0], rtol=0, atol=0)
    assert len(steps) == 2 and all(step.vertices.dtype == torch.float32 for step in steps)


def test_every_turn_goes_on_from_the_places_of_the_last(monkeypatch):
    module, batch, asked = stirred(), rendered_hands(), []
    refined_places = module.networks.refined_places
    noted = lambda features, places, *rest: asked.append(places) or refined_places(features, places, *rest)  # noqa: E731
    monkeypatch.setattr(module.networks, "refined_places", noted)
    estimate = module.estimate(batch)
    assert torch.equal(asked[0], estimate.evidence.places)
    assert all(map(torch.equal, asked[1:], estimate.places[:-1]))


def test_heat_maps_do_not_learn_joints_outside_the_picture():
    module, batch = stirred(), rendered_hands()
    estimate, outside, without = module.estimate(batch), batch["joints_2d"].clone(), batch["joint_valid"].clone()
    outside[:, 4], without[:, 4] = -40.0, False
    changed = {"joints_2d": outside}, {"joint_valid": without}
    one, other = (module.losses(estimate, HandBatch(batch | fields))["heat_maps"] for fields in changed)
    torch.testing.assert_close(one, other)


def test_networks_of_an_earlier_experiment_are_taken_over(tmp_path):
    earlier, module = stirred(), method()
    facts = {"class_path": "lightning_modules.dhpe.DHPE", "init_args": SMALL, "hand_model": earlier.hand_model_id}
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": earlier.state_dict(), "handful": facts}, path)
    module.take_weights(str(path))
    torch.testing.assert_close(module.networks.state_dict(), earlier.networks.state_dict(), rtol=0, atol=0)
    without = method(refiner=False)
    without.take_weights(str(path))
    assert torch.equal(without.networks.estimator.weight, earlier.networks.estimator.weight)
    with pytest.raises(ValueError, match=r"init_from .*best.ckpt: its networks are others .* give this experiment"):
        method(joint_maps="tiny").take_weights(str(path))
    begins = method(init_from=str(path))
    begins.on_fit_start()
    assert torch.equal(begins.networks.estimator.weight, earlier.networks.estimator.weight)
    goes_on = method(init_from=str(path))
    goes_on.on_load_checkpoint({})
    goes_on.on_fit_start()
    assert not goes_on.networks.estimator.weight.any()


def test_every_turn_adds_to_the_parameters_what_is_said_of_the_places_before_it(monkeypatch):
    module, batch, asked = stirred(), rendered_hands(), []
    step = torch.full((63,), 0.01)
    monkeypatch.setattr(module.networks, "change", lambda _, places, parameters: asked.append(places) or step)
    estimate = module.estimate(batch)
    torch.testing.assert_close(estimate.parameters, (module.projection.start + 3 * step).expand(2, 63))
    before = [estimate.evidence.places, *estimate.places[:-1]]
    assert all(map(torch.equal, asked, before)) and len(asked) == 3


def test_joints_outside_the_picture_count_for_how_near_a_hand_is():
    module, batch = stirred().train(), rendered_hands()
    estimate, outside = module.estimate(batch), batch["joints_2d"].clone()
    outside[:, 4] = -400.0
    module.losses(estimate, batch)
    near = module.fitted.pixels
    module.losses(estimate, HandBatch(batch | {"joints_2d": outside}))
    assert (module.fitted.pixels > near + 10).all()
