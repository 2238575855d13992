"""The cross-modal VAE: divergence and bound, modalities, pairs and masks by hand, resumed runs, bad input."""

import math

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.batch import FLAGS, HandBatch
from lightning_modules.cross_modal_vae import CrossModalVAE
from lightning_modules.modalities import JointSpace, Pair, normalised_depth, read_pairs, views_of
from lightning_modules.pair_estimates import bound, labelled, squared_error
from lightning_modules.posterior import PosteriorFigures, drawn, kl_loss, kl_per_dimension, log_likelihood
from ops.camera import project
from ops.joints import CANONICAL_JOINTS

SIZE = 32
WRIST, MCP, PIP = (CANONICAL_JOINTS.index(name) for name in ("wrist", "middle_mcp", "middle_pip"))


def hand_batch(count: int = 4, seed: int = 0, **lacking) -> HandBatch:
    """Hands with everything; `lacking` names flags and the samples that are without: has_3d=[1]."""
    generator = torch.Generator().manual_seed(seed)
    joints = 0.12 * torch.rand(count, 21, 3, generator=generator) + torch.tensor([-0.06, -0.06, 0.54])
    K = torch.tensor([[60.0, 0, 15.5], [0, 60.0, 15.5], [0, 0, 1]]).expand(count, 3, 3).clone()
    flags = {flag: torch.full((count,), flag not in ("has_mesh", "has_parts", "has_mask")) for flag in FLAGS}
    for flag, rows in lacking.items():
        flags[flag][rows] = False
    return HandBatch(
        rgb=torch.rand(count, 3, SIZE, SIZE, generator=generator),
        depth=0.6 + 0.05 * torch.rand(count, 1, SIZE, SIZE, generator=generator),
        K=K,
        joints_3d=joints,
        joints_2d=project(joints, K),
        joint_valid=torch.ones(count, 21, dtype=torch.bool),
        cube_centre=torch.tensor([0.0, 0.0, 0.6]).expand(count, 3).clone(),
        cube_side=torch.full((count,), 0.3),
        side=torch.ones(count, dtype=torch.int64),
        mirrored=torch.zeros(count, dtype=torch.bool),
        convention=["open"] * count,
        domain=["clean"] * count,
        hand_model=[""] * count,
        key=[f"clean/train/{seed}-{i}" for i in range(count)],
        **flags,
    )


def method(pairs=("3d-3d", "2d-3d"), **arguments) -> CrossModalVAE:
    torch.manual_seed(0)
    return CrossModalVAE(list(pairs), **{"encoder": "small", "latent": 6, "lr": 1e-3} | arguments)


# -- posteriors


def test_the_bound_is_the_likelihood_less_the_divergence():
    batch, module = hand_batch(), method(("3d-3d",)).eval()
    estimate = module.estimate(batch)
    view, said = estimate.views["3d"], estimate.decoded[Pair("3d", "3d")]
    divergence = kl_per_dimension(*said.q).sum(1)
    likelihood = log_likelihood(squared_error(view, said), torch.full((4,), 63.0), 1e-3)
    assert divergence.min() > 0
    torch.testing.assert_close(bound(view, said, 1e-3), likelihood - divergence)


def test_the_divergence_agrees_with_monte_carlo():
    mu, logvar = torch.tensor([[0.7, -1.2]], dtype=torch.float64), torch.tensor([[-0.5, 0.3]], dtype=torch.float64)
    count = 200_000
    z = drawn(mu.expand(count, 2), logvar.expand(count, 2), torch.Generator().manual_seed(0))
    density = -0.5 * ((z - mu).square() / logvar.exp() + logvar)
    sampled = (density + 0.5 * z.square()).mean(0)  # log q - log p; both have the same constant
    torch.testing.assert_close(kl_per_dimension(mu, logvar)[0], sampled, atol=0.01, rtol=0)
    assert kl_per_dimension(torch.zeros(1, 1), torch.zeros(1, 1)) == 0
    assert kl_per_dimension(torch.full((1, 1), 2.0), torch.zeros(1, 1)) == 2


def test_free_bits_cost_a_dimension_that_holds_little_nothing_to_fill():
    mu = torch.tensor([[2.0, 0.1], [0.0, 0.1]], requires_grad=True)
    assert kl_loss(mu, torch.zeros(2, 2)).item() == pytest.approx(1 + 0.005)
    free = kl_loss(mu, torch.zeros(2, 2), 0.5)
    assert free.item() == pytest.approx(1.5)
    free.backward()
    assert mu.grad[0, 0] > 0 and not mu.grad[:, 1].any()


def test_the_bound_is_that_of_the_gaussian_which_the_loss_implies():
    weight, numbers, error = 0.01, 63.0, 0.2
    variance = weight * numbers / 2
    expected = -0.5 * numbers * (error / variance + math.log(2 * math.pi * variance))
    said = log_likelihood(torch.tensor([error]), torch.tensor([numbers]), weight)
    assert said.item() == pytest.approx(expected, rel=1e-5)


def test_active_units_are_those_whose_means_move():
    metric = PosteriorFigures(3)
    mu = torch.tensor([[1.0, 0.5, 0.05], [-1.0, 0.5, -0.05]])
    metric.update(mu[:1], torch.zeros(1, 3))
    metric.update(mu[1:], torch.zeros(1, 3))
    found = metric.compute()
    assert found["active"].tolist() == [True, False, False] and found["count"] == 2
    torch.testing.assert_close(found["kl_per_dimension"].float(), 0.5 * mu.square().mean(0))


# -- modalities


def test_joints_are_counted_from_the_palm_in_bones_and_come_back():
    batch = hand_batch()
    space = JointSpace()
    view = space.view(batch)
    joints = view.numbers.unflatten(1, (21, 3))
    torch.testing.assert_close(joints[:, WRIST], -joints[:, MCP])  # joint 0 says no more than the paper's palm
    torch.testing.assert_close((joints[:, MCP] - joints[:, PIP]).norm(dim=-1), torch.ones(4))
    origin, unit, known = space.place(batch)
    torch.testing.assert_close(space.metres(view.numbers, unit) + origin[:, None], batch["joints_3d"])
    assert known.all() and view.whole.all()
    scaled = hand_batch()
    scaled["joints_3d"] = scaled["joints_3d"] * 1.3
    torch.testing.assert_close(space.view(scaled).numbers, view.numbers)
    usual = JointSpace(scale_invariant=False)
    torch.testing.assert_close(usual.view(scaled).numbers, 1.3 * usual.view(batch).numbers)
    assert 0.02 < usual.usual_bone < 0.06


def test_a_cube_makes_joints_absolute_and_pixels_are_measured_from_the_middle():
    batch = hand_batch()
    space = JointSpace("cube", joints=["thumb_tip", "index_tip"])
    numbers = space.view(batch).numbers
    torch.testing.assert_close(numbers[:, :3], (batch["joints_3d"][:, 4] - batch["cube_centre"]) / 0.15)
    places = space.view_2d(batch, SIZE).numbers
    torch.testing.assert_close(space.pixels(places, SIZE)[:, [4, 8]], batch["joints_2d"][:, [4, 8]])
    whole = space.metres(numbers, torch.full((4,), 0.15))
    torch.testing.assert_close(whole[:, 2], whole[:, 4])  # the thumb's others are where its tip is
    torch.testing.assert_close(whole[:, 0], 0.5 * (whole[:, 4] + whole[:, 8]))


def test_what_is_missing_takes_no_part():
    batch = hand_batch(has_3d=[0], has_rgb=[1])
    batch["joint_valid"][2, 7] = False  # another joint
    batch["joint_valid"][3, PIP] = False  # the unit
    batch["joints_3d"][2, 7] = torch.nan
    views = views_of(batch, ["rgb", "depth", "2d", "3d"], JointSpace())
    assert views["3d"].whole.tolist() == [False, True, False, False]
    assert views["3d"].counted.sum(1).tolist() == [0, 63, 60, 0]
    assert views["3d"].numbers.isfinite().all()
    assert views["2d"].whole.tolist() == [True, True, False, False]
    assert views["rgb"].whole.tolist() == [True, False, True, True]
    assert views["rgb"].target.shape == (4, 3, 128, 128) and views["depth"].target.shape == (4, 1, 128, 128)
    del batch["rgb"]
    assert "rgb" not in views_of(batch, ["rgb", "3d"], JointSpace())


def test_depth_is_in_halves_of_the_cube_and_far_where_there_is_none():
    batch = hand_batch(1)
    batch["depth"][0, 0, 0, :5] = torch.tensor([0.0, 0.4575, 0.6, 0.75, 0.3])
    torch.testing.assert_close(normalised_depth(batch)[0, 0, 0, :5], torch.tensor([1.0, -0.95, 0, 1, 1]))


# -- pairs


def test_pairs_take_turns_by_the_global_step(monkeypatch):
    module = method(("rgb-3d", "3d-3d", "rgb-rgb")).train()
    trained = []
    for step in range(4):
        monkeypatch.setattr(CrossModalVAE, "global_step", step)
        estimate = module.estimate(hand_batch())
        trained.append([pair.name for pair in estimate.decoded])
    assert trained == [["rgb-3d"], ["3d-3d"], ["rgb-rgb"], ["rgb-3d"]]
    jointly = method(("rgb-3d", "3d-3d", "rgb-rgb"), schedule="jointly").train().estimate(hand_batch())
    assert len(jointly.decoded) == 3 and set(jointly.posteriors) == {"rgb", "3d"}


def test_a_pair_trains_on_the_samples_that_have_both():
    batch = hand_batch(4, has_rgb=[0], has_3d=[1])
    module = method(("rgb-3d", "rgb-rgb"), schedule="jointly").train()
    estimate = module.estimate(batch)
    assert estimate.posteriors["rgb"].rows.tolist() == [False, True, True, True]
    assert estimate.decoded[Pair("rgb", "3d")].rows.tolist() == [False, False, True, True]
    assert estimate.decoded[Pair("rgb", "rgb")].rows.tolist() == [False, True, True, True]
    terms = module.losses(estimate, batch)
    said = estimate.decoded[Pair("rgb", "3d")]
    target = JointSpace().view(batch).numbers[2:]
    assert terms["rgb-3d"].item() == pytest.approx((said.values - target).square().mean().item(), rel=1e-5)
    weighted = [terms[name] + 1e-4 * terms[f"kl_{name}"] for name in ("rgb-3d", "rgb-rgb")]
    assert terms["total"].item() == pytest.approx(sum(weighted).item() / 2, rel=1e-5)


def test_a_batch_without_the_pair_is_counted_and_changes_no_weight(tmp_path):
    module = method(("2d-3d",))
    before = {name: value.clone() for name, value in module.state_dict().items() if "skipped" not in name}
    fit(tmp_path, module, hand_batch(4, has_3d=[0, 1, 2]), hand_batch(4, has_2d=[0, 1, 2, 3]), steps=2)
    assert module.skipped.tolist() == [2]  # one sample is too few for batch norm
    for name, value in before.items():
        assert torch.equal(module.state_dict()[name], value), name


def test_kl_weight_grows_and_a_regressor_has_none(monkeypatch):
    module = method(kl_weight=0.1, kl_warmup_steps=10).train()
    monkeypatch.setattr(CrossModalVAE, "global_step", 4)
    assert module.kl_factor() == pytest.approx(0.05)
    assert module.eval().kl_factor() == 0.1
    direct = method(variational=False, schedule="jointly").train()
    terms = direct.losses(direct.estimate(hand_batch()), hand_batch())
    assert set(terms) == {"3d-3d", "2d-3d", "total"}


def test_who_keeps_labels_depends_on_the_key_alone():
    keys = [f"sensor/train/{i}" for i in range(4000)]
    few, more = labelled(keys, 0.1), labelled(keys, 0.5)
    assert few.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert more.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert bool(more[few].all()) and labelled(keys, 1.0).all()
    assert labelled(keys[7:9], 0.5).tolist() == more[7:9].tolist()


def test_unlabelled_pictures_train_their_own_pair_or_nothing(monkeypatch):
    import lightning_modules.cross_modal_vae as module_of

    monkeypatch.setattr(module_of, "labelled", lambda keys, share: torch.tensor([True, True, False, False]))
    seen = []
    monkeypatch.setattr(module_of.HandMethod, "training_step", lambda self, batch, i: seen.append(batch) or 0)
    monkeypatch.setattr(CrossModalVAE, "log", lambda *given, **more: None)
    for unlabelled, pictures in ((True, 4), (False, 2)):
        module = method(("rgb-3d", "rgb-rgb"), schedule="jointly", labelled_share=0.5, use_unlabelled=unlabelled)
        module.train().training_step(hand_batch(), 0)
        estimate = module.estimate(seen[-1])
        assert estimate.decoded[Pair("rgb", "3d")].rows.tolist() == [True, True, False, False]
        assert estimate.decoded[Pair("rgb", "rgb")].rows.sum() == pictures
        assert estimate.posteriors["rgb"].rows.sum() == pictures, "batch norm would see what it must not"


def test_a_pair_counts_by_its_weight():
    totals = {}
    for weights in (None, {"2d-3d": 3.0}):
        module = method(schedule="jointly", pair_weights=weights).train()
        terms = module.losses(module.estimate(hand_batch()), hand_batch())
        totals[weights is None] = terms["total"]
    of_pair = {name: terms[name] + module.kl_factor() * terms[f"kl_{name}"] for name in ("3d-3d", "2d-3d")}
    torch.testing.assert_close(totals[True], (of_pair["3d-3d"] + of_pair["2d-3d"]) / 2)
    torch.testing.assert_close(totals[False], (of_pair["3d-3d"] + 3 * of_pair["2d-3d"]) / 2)


def test_unlabelled_samples_keep_no_joints_of_any_kind(monkeypatch):
    import lightning_modules.cross_modal_vae as module_of

    monkeypatch.setattr(module_of, "labelled", lambda keys, share: torch.tensor([True, True, False, False]))
    seen = []
    monkeypatch.setattr(module_of.HandMethod, "training_step", lambda self, batch, i: seen.append(batch) or 0)
    monkeypatch.setattr(CrossModalVAE, "log", lambda *given, **more: None)
    module = method(("rgb-2d", "2d-3d"), schedule="jointly", labelled_share=0.5).train()
    module.training_step(hand_batch(), 0)
    for said in module.estimate(seen[0]).decoded.values():
        assert said.rows.tolist() == [True, True, False, False]


# -- runs


def fit(tmp_path, module, *batches, steps, **arguments):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    run = lightning.Trainer(default_root_dir=tmp_path, max_steps=steps, num_sanity_val_steps=0, **quiet)
    loader = DataLoader(list(batches) or [hand_batch()], batch_size=None)
    run.fit(module, loader, DataLoader([hand_batch()], batch_size=None), **arguments)
    return run


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_ends_where_an_unbroken_one_ends(tmp_path):
    batches = [hand_batch(seed=i) for i in range(4)]
    pairs = ("3d-3d", "2d-3d", "rgb-rgb")
    # cosine schedules must agree: all are told of four steps
    whole = method(pairs)
    fit(tmp_path, whole, *batches, steps=4)
    first = method(pairs)
    first.training_steps = lambda: 4
    run = fit(tmp_path, first, *batches[:2], steps=2)
    run.save_checkpoint(tmp_path / "cut.ckpt")
    second = method(pairs)
    torch.manual_seed(99)  # no generator of the process is to matter
    fit(tmp_path, second, *batches[2:], steps=4, ckpt_path=tmp_path / "cut.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore")
def test_validation_logs_errors_bounds_and_posteriors(tmp_path):
    module = method(("rgb-3d", "depth-3d", "2d-3d", "3d-3d", "3d-rgb", "rgb-2d"), report_domains=["clean"])
    run = fit(tmp_path, module, steps=2)
    logged = run.callback_metrics
    for name in ("joints_root_mm", "clean/joints_procrustes_mm", "elbo_rgb-3d", "error_3d-rgb", "kl_2d_nats"):
        assert logged[f"val/{name}"].isfinite(), name
    assert 0 <= logged["val/active_units_depth"] <= 6
    dimensions = sum(logged[f"val/kl_rgb/{i:02d}"] for i in range(6))
    torch.testing.assert_close(dimensions, logged["val/kl_rgb_nats"], rtol=1e-4, atol=1e-6)
    assert logged["train/skipped_pairs"] == 0


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_collapsed_posterior_is_warned_of(tmp_path):
    module = method(("3d-3d",))
    torch.nn.init.zeros_(module.encoders["3d"][-1].weight)
    torch.nn.init.zeros_(module.encoders["3d"][-1].bias)
    with pytest.warns(UserWarning, match=r"posteriors of '3d' have collapsed: 0 of 6 latent .*model.kl_weight"):
        fit(tmp_path, module, hand_batch(4, has_3d=[0, 1, 2, 3]), steps=1)


@pytest.mark.slow
def test_a_few_hands_are_learnt_by_heart(monkeypatch):
    module, batch = method(("2d-3d", "3d-3d"), schedule="jointly", kl_weight=1e-6).train(), hand_batch(8)
    optimiser = torch.optim.Adam(module.parameters(), lr=5e-4)
    for step in range(300):
        monkeypatch.setattr(CrossModalVAE, "global_step", step)  # else the noise is learnt by heart, too
        total = module.losses(module.estimate(batch), batch)["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    module.eval()
    error = (module.predict_step(batch, 0).joints_3d - (batch["joints_3d"] - batch["joints_3d"][:, :1])).norm(dim=-1)
    assert error.mean() < 0.01  # of hands whose joints lie 60 mm apart


# -- predictions


def knowing(module, joints):
    """The method, but its decoder says these joints."""
    module.decoders["3d"].forward = lambda z: module.space.view(joints).numbers
    return module.eval()


def test_predictions_by_the_palm_are_relative_to_the_wrist_and_mirrored_back():
    batch = hand_batch(2)
    module = knowing(method(("rgb-3d", "rgb-2d")), batch)
    said = module.predict_step(batch, 0)
    assert said.frame == "root-relative" and said.vertices is None and said.joints_2d.shape == (2, 21, 2)
    torch.testing.assert_close(said.joints_3d, batch["joints_3d"] - batch["joints_3d"][:, :1])
    batch["mirrored"], batch["side"] = torch.tensor([False, True]), torch.tensor([1, 0])
    back = module.predict_step(batch, 0)
    torch.testing.assert_close(back.joints_3d[1], said.joints_3d[1] * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(back.joints_2d[1, :, 0], SIZE - 1 - said.joints_2d[1, :, 0])


def test_a_picture_of_ones_own_has_the_usual_scale_and_says_so():
    batch = hand_batch(2)
    module = knowing(method(("rgb-3d",)), batch)
    own = HandBatch({name: value for name, value in batch.items() if name not in ("joints_3d", "joints_2d")})
    with pytest.warns(UserWarning, match="scale 'given': these pictures have no labels that give it"):
        said = module.predict_step(own, 0)
    bones = (batch["joints_3d"][:, MCP] - batch["joints_3d"][:, PIP]).norm(dim=-1)
    whole = module.predict_step(batch, 0).joints_3d * (module.space.usual_bone / bones)[:, None, None]
    torch.testing.assert_close(said.joints_3d, whole)


def test_predictions_in_the_cube_are_absolute():
    batch = hand_batch(2)
    module = knowing(method(("depth-3d",), frame="cube"), batch)
    said = module.predict_step(batch, 0)
    assert said.frame == "absolute"
    torch.testing.assert_close(said.joints_3d, batch["joints_3d"])
    torch.testing.assert_close(said.joints_2d, batch["joints_2d"], atol=1e-3, rtol=0)


def test_each_sample_is_predicted_from_the_first_modality_that_it_has():
    module = method(("rgb-3d", "depth-3d"), scale="usual").eval()
    assert module.predict_from == ["rgb", "depth"] and module.source_needs["every"] == []
    batch = hand_batch(3, has_rgb=[1])
    both = module.predict_step(batch, 0).joints_3d
    only = {name: method((f"{name}-3d",), scale="usual") for name in ("rgb", "depth")}
    for name, single in only.items():
        single.encoders.load_state_dict({k: v for k, v in module.encoders.state_dict().items() if k.startswith(name)})
        single.decoders.load_state_dict(module.decoders.state_dict())
        row = {"rgb": 0, "depth": 1}[name]
        torch.testing.assert_close(single.eval().predict_step(hand_batch(3), 0).joints_3d[row], both[row])
    with pytest.raises(ValueError, match=r"sample clean/train/0-1: has none of rgb, depth; set model.predict_from"):
        module.predict_step(hand_batch(3, has_rgb=[1], has_depth=[1]), 0)


# -- bad input


def test_bad_input():
    for arguments, message in (
        ({"pairs": ["rgb-mesh"]}, r"pairs: expected <source>-<target>, each of rgb, depth, 2d, 3d; got 'rgb-mesh'"),
        ({"pairs": ["rgb"]}, "pairs: expected <source>-<target>"),
        ({"pairs": []}, "pairs: expected a list of pairs"),
        ({"pairs": ["rgb-3d", "rgb-3d"]}, "pairs: expected each once"),
        ({"predict_from": ["depth"]}, "predict_from: 'depth' is no source of model.pairs"),
        ({"predict_from": []}, "predict_from: expected at least one"),
        ({"pair_weights": {"2d-3d": 2.0}}, "pair_weights: expected one of 'rgb-3d', got '2d-3d'"),
        ({"pair_weights": {"rgb-3d": 0.0}}, "pair_weights 'rgb-3d': expected a finite number above 0, got 0.0"),
        ({"schedule": "random"}, "schedule: expected one of 'in turn', 'jointly', got 'random'"),
        ({"scale": "true"}, "scale: expected one of"),
        ({"frame": "root"}, "frame: expected one of 'palm', 'cube', got 'root'"),
        ({"joints": ["index_tip"]}, "joints: frame 'palm' predicts relative to the wrist"),
        ({"unit_bone": ["wrist"]}, "unit_bone: expected"),
        ({"latent": 0}, "latent: expected a finite number above 0"),
        ({"kl_weight": 0.0}, "kl_weight: expected a finite number above 0"),
        ({"labelled_share": 1.5}, r"labelled_share: expected a share in \(0, 1\], got 1.5"),
        ({"encoder": "large"}, "encoder: expected one of"),
        ({"convention": "nowhere"}, "convention: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            CrossModalVAE(**{"pairs": ["rgb-3d"], "encoder": "small"} | arguments)
    assert read_pairs(["2d-3d"]) == [Pair("2d", "3d")]
    module, batch = method(), hand_batch()
    batch["convention"] = ["open", "nyu", "open", "open"]
    with pytest.raises(ValueError, match=r"convention'\]: expected 'open', got \['nyu'\]"):
        module.losses(module.estimate(batch), batch)
    with pytest.raises(ValueError, match="target: expected one of 3d, which have been trained; got 'rgb'"):
        module.decode(torch.zeros(1, 6), "rgb")
    batch = hand_batch()
    batch["rgb"][1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"rgb: expected finite"):
        method(("rgb-3d",)).eval().predict_step(batch, 0)
    batch = hand_batch(has_3d=[2])
    with pytest.raises(ValueError, match=r"0-2: has no labelled middle_mcp to middle_pip .* set model.scale=usual"):
        method(("rgb-3d",)).eval().predict_step(batch, 0)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_another_latent_space_is_refused_by_name(tmp_path):
    fit(tmp_path, method(), steps=1).save_checkpoint(tmp_path / "small.ckpt")
    with pytest.raises(ValueError, match=r"checkpoint: latent is 6, the model's is 9; set model.latent"):
        fit(tmp_path, method(latent=9), steps=2, ckpt_path=tmp_path / "small.ckpt")


def test_a_modality_that_no_source_gives_is_refused_by_name(train):
    data = {"domains": "clean", "modalities": ["rgb"], "image_size": 16, "batch_size": 2, "val_size": 2, "test_size": 2}
    config = train.write(
        "vae",
        model={
            "class_path": "lightning_modules.cross_modal_vae.CrossModalVAE",
            "init_args": {"pairs": ["rgb-3d", "rgb-depth"], "encoder": "small"},
        },
        data={"class_path": "datamodules.rendered.RenderedHandsData", "init_args": data | {"num_workers": 0}},
        trainer={"max_steps": 1, "accelerator": "cpu", "num_sanity_val_steps": 0},
    )
    with pytest.raises(
        ValueError, match="CrossModalVAE needs 'depth' from at least one to train on, but 'clean' gives"
    ):
        train("fit", config=config)


def test_pictures_are_encoded_in_halves_about_zero():
    batch = hand_batch(2)
    batch["rgb"][:], batch["depth"][:, :, :4] = 0.75, 0.0
    views = views_of(batch, ["rgb", "depth"], JointSpace())
    assert (views["rgb"].numbers == 0.25).all() and (views["rgb"].target == 0.25).all()
    near = 0.5 * (batch["depth"][:, :, 8:] - 0.6) / 0.15
    torch.testing.assert_close(views["depth"].numbers[:, :, 8:], near)
    assert (views["depth"].numbers[:, :, :4] == 0.5).all(), "no depth is the far face"


# -- several processes


class OfRank(torch.utils.data.Dataset):
    """Four batches, others on each rank; in the third, rank 1 has no labels at all."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        rank = torch.distributed.get_rank()
        return hand_batch(seed=10 * rank + i, **({"has_3d": [0, 1, 2, 3]} if (rank, i) == (1, 2) else {}))


def fit_on_two(tmp_path, module, strategy):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings = {"devices": 2, "strategy": strategy, "max_steps": 4, "use_distributed_sampler": False}
    run = lightning.Trainer(default_root_dir=tmp_path, num_sanity_val_steps=0, limit_val_batches=0, **settings, **quiet)
    run.fit(module, DataLoader(OfRank(), batch_size=None))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_ranks_train_a_pair_at_a_time_also_where_one_of_them_has_none_of_it(tmp_path):
    with pytest.raises(Exception, match=r"set --trainer.strategy=ddp_find_unused_parameters_true"):
        fit_on_two(tmp_path, method(), "ddp_fork")
    module = method()
    fit_on_two(tmp_path, module, "ddp_fork_find_unused_parameters_true")  # it used to wait for ever
    before, after = method().state_dict(), module.state_dict()
    for name in ("encoders.3d", "encoders.2d", "decoders.3d"):
        weights = [key for key in before if key.startswith(name) and key.endswith("weight")]
        assert weights and all((before[key] != after[key]).any() for key in weights), name
