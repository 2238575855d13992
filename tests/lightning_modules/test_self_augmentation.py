"""Self-supervised augmentation: what fitted hands give, pictures that fit their labels, state of one and two ranks."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from datamodules.batch import check_batch
from lightning_modules.callbacks.self_augmentation import (
    SelfSupervisedAugmentation,
    appended,
    hand_colours,
    multiplied,
    share_of,
)
from lightning_modules.callbacks.shape_schedule import HierarchicalShapeLoss
from lightning_modules.instance_pictures import DOMAIN, Instances, picture_instances
from lightning_modules.normalised_hand import ROOT, HandProjection
from ops.camera import project
from ops.hand_model import open_hand
from ops.rotation import quaternion_to_matrix
from tests.lightning_modules.rendered_hands import rendered_hands

CHECKOUT = Path(__file__).resolve().parents[2]


def trainer(step=0, rank=0, ranks=1, epoch=5):
    return SimpleNamespace(global_step=step, global_rank=rank, world_size=ranks, current_epoch=epoch)


class Method(SimpleNamespace):
    def __init__(self, pixels=(3.0, 40.0)):
        generator = torch.Generator().manual_seed(0)
        parameters = 0.2 * torch.randn(len(pixels), 63, generator=generator)
        parameters[:, 55] += 1
        fitted = SimpleNamespace(parameters=parameters, pixels=torch.tensor(pixels))
        super().__init__(projection=HandProjection(open_hand()), fitted=fitted, logged={})

    def log_dict(self, figures, **_):
        self.logged.update({name: float(value) for name, value in figures.items()})


def one_step(callback, method, run, batch=None):
    batch = batch or rendered_hands()
    callback.on_train_batch_start(run, method, batch, 0)
    whole = len(batch["key"])
    method.fitted.pixels = torch.cat([method.fitted.pixels[:2], torch.zeros(whole - 2)])
    method.fitted.parameters = method.fitted.parameters[:1].expand(whole, 63)
    callback.on_train_batch_end(run, method, None, batch, 0)
    return batch


def test_a_fitted_hand_gives_three_instances_and_what_it_gave_gives_none():
    callback, method = SelfSupervisedAugmentation(start_epoch=2), Method()
    callback.on_fit_start(trainer(), method)
    one_step(callback, method, trainer(epoch=1))
    assert callback.instances.number == 0, "not before the start epoch"
    batch = one_step(callback, method, trainer())
    assert len(batch["key"]) == 2 and callback.instances.number == 3, "one of two hands is near enough"
    given = callback.instances
    assert torch.equal(given.pose, method.fitted.parameters[:1, :45].expand(3, 45))
    assert given.shape.abs().max() <= 3 and given.shape.std() > 1 and len(given.seed.unique()) == 3
    rotations = quaternion_to_matrix(given.quaternion)
    assert (rotations[0] - rotations[1]).abs().max() > 0.1
    # turned about every axis: no row of the rotation is what it was
    old = quaternion_to_matrix(method.fitted.parameters[:1, 55:59])
    assert all((rotations - old)[:, row].abs().max() > 0.1 for row in range(3))
    batch = one_step(callback, method, trainer(step=1))
    check_batch(batch)
    assert batch["domain"] == ["clean", "clean", *[DOMAIN] * 3] and callback.instances.number == 6
    assert method.logged["augmented/instances"] == 6
    assert method.logged["augmented/fitted"] == pytest.approx(1 / 5)
    assert batch["has_mesh"].tolist() == [True, True, False, False, False] and batch["has_mask"].all()


def test_the_set_is_bounded_and_a_batch_takes_so_many():
    callback, method = SelfSupervisedAugmentation(start_epoch=0, capacity=7, per_batch=2), Method()
    seeds = []
    for step in range(4):
        batch = one_step(callback, method, trainer(step=step))
        seeds.append(callback.instances.seed)
    assert callback.instances.number == 7 and len(batch["key"]) == 4
    assert torch.equal(seeds[3][:4], seeds[2][-4:]), "the oldest go first"


def test_small_turns_leave_the_view():
    callback, method = SelfSupervisedAugmentation(start_epoch=0, turn=0.0), Method()
    one_step(callback, method, trainer())
    before = quaternion_to_matrix(method.fitted.parameters[:1, 55:59])
    torch.testing.assert_close(quaternion_to_matrix(callback.instances.quaternion), before.expand(3, 3, 3))


def some_instances(count=4):
    callback, method = SelfSupervisedAugmentation(start_epoch=0, copies=count), Method()
    one_step(callback, method, trainer())
    return callback.instances, method.projection


def test_pictures_fit_their_labels_and_follow_from_the_instance_alone():
    instances, projection = some_instances()
    batch = picture_instances(instances, projection, 96, square=1.5)
    check_batch(batch)
    torch.testing.assert_close(project(batch["joints_3d"], batch["K"]), batch["joints_2d"])
    torch.testing.assert_close(batch["joints_3d"][:, ROOT, 2], instances.distance)
    extent = (batch["joints_2d"].amax(1) - batch["joints_2d"].amin(1)).amax(1)
    assert (extent > 96 / 1.5 / 1.11).all() and (extent < 96 / 1.5 * 1.11).all()
    assert (batch["joints_2d"][:, ROOT] - 47.5).abs().max() <= 96 * 0.05
    u, v = batch["joints_2d"].round().long().clamp(0, 95).unbind(-1)
    hit = batch["mask"][:, 0][torch.arange(4)[:, None], v, u]
    assert hit[:, 1:].mean() > 0.8, "joints lie in the mask, but for tips on its edge"
    again = picture_instances(instances.rows(torch.tensor([2])), projection, 96, square=1.5)
    torch.testing.assert_close(again["rgb"][0], batch["rgb"][2], atol=1e-3, rtol=0)  # colours have 256 steps
    outside = batch["rgb"].masked_select(batch["mask"].expand_as(batch["rgb"]) == 0)
    assert outside.std() > 0.05, "clutter stands behind"


def test_a_hand_may_keep_the_colour_of_its_picture():
    instances, projection = some_instances(2)
    red, blue = torch.tensor([0.8, 0.2, 0.1]), torch.tensor([0.1, 0.2, 0.8])
    painted = instances._replace(colour=torch.stack([red, blue]))
    batch = picture_instances(painted, projection, 64, square=1.5)
    batch["joint_valid"] = batch["joint_valid"].clone()
    found = hand_colours(batch, torch.tensor([True, True]))
    assert found[0, 0] > 2 * found[0, 2] and found[1, 2] > 2 * found[1, 0]
    callback, method = SelfSupervisedAugmentation(start_epoch=0, texture="picture"), Method((3.0, 3.0))
    spawned = callback.spawned(trainer(), batch, 0, method.fitted, torch.tensor([True, False]))
    torch.testing.assert_close(spawned.colour, found[:1].expand(3, 3))
    hidden = batch | {"has_2d": torch.zeros(2, dtype=torch.bool)}
    assert hand_colours(hidden, torch.tensor([True, True])).isnan().all()


def test_quaternions_multiply_as_their_rotations():
    left, right = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    product = quaternion_to_matrix(left) @ quaternion_to_matrix(right)
    torch.testing.assert_close(quaternion_to_matrix(multiplied(left, right)), product, atol=1e-5, rtol=1e-5)


def test_blank_fields_where_one_side_has_none():
    batch, (instances, projection) = rendered_hands(), some_instances(1)
    made = picture_instances(instances, projection, 64, 1.5)
    del batch["crop"]
    whole = appended(batch | {"parts": torch.zeros(2, 64, 64, dtype=torch.uint8)}, made)
    assert (whole["parts"][2] == 255).all() and (whole["crop"][:2] == 0).all() and (whole["vertices"][2] == 0).all()
    assert torch.equal(whole["rgb"][2:], made["rgb"]) and torch.equal(whole["rgb"][:2], batch["rgb"])
    check_batch(whole)


def test_a_run_goes_on_identically():
    runs = []
    for cut in (False, True):
        callback, method = SelfSupervisedAugmentation(start_epoch=0, capacity=5, per_batch=2), Method()
        for step in range(4):
            if cut and step == 2:
                state = callback.state_dict()
                callback = SelfSupervisedAugmentation(start_epoch=0, capacity=5, per_batch=2)
                callback.load_state_dict(state)
                callback.on_fit_start(trainer(step=2), method)
            batch = one_step(callback, method, trainer(step=step))
        runs.append((batch, callback.instances))
    torch.testing.assert_close(runs[0][0]["rgb"], runs[1][0]["rgb"], rtol=0, atol=0)
    for whole, again in zip(runs[0][1], runs[1][1], strict=True):
        torch.testing.assert_close(whole, again, rtol=0, atol=0, equal_nan=True)


def filled(rank):
    fields = [torch.full((3, *shape), float(rank)) for shape in ((45,), (10,), (4,), (), (3,))]
    return Instances(*fields, seed=torch.arange(3) + 10 * rank)


def two_ranks(rank, port, folder):
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    callback, shape = SelfSupervisedAugmentation(), HierarchicalShapeLoss()
    callback.instances = filled(rank)
    shape.sums = torch.tensor([1.0, 2.0, 4.0]) * (rank + 1)
    states = {"augmentation": callback.state_dict(), "shape": shape.state_dict()}
    if rank == 0:
        torch.save(states, folder / "state.ckpt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_sets_of_two_ranks_are_in_one_checkpoint(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_ranks, (port, tmp_path), nprocs=2)
    states = torch.load(tmp_path / "state.ckpt", weights_only=True)
    assert states["shape"]["sums"].tolist() == [1.5, 3, 6], "of an average rank: two of them sum up to what was seen"
    for rank in (0, 1):
        callback = SelfSupervisedAugmentation()
        callback.load_state_dict(states["augmentation"])
        callback.on_fit_start(trainer(rank=rank, ranks=2), Method())
        for found, own in zip(callback.instances, filled(rank), strict=True):
            assert torch.equal(found, own)
    callback.load_state_dict(states["augmentation"])
    callback.on_fit_start(trainer(rank=0, ranks=1), Method())
    assert callback.instances.seed.tolist() == [0, 1, 2, 10, 11, 12], "one rank takes all"
    dealt = [share_of([filled(0), filled(1)], rank, 4).seed.tolist() for rank in range(4)]
    assert sorted(seed for seeds in dealt for seed in seeds) == [0, 1, 2, 10, 11, 12] and all(dealt)


def test_bad_input():
    for settings, message in (
        ({"copies": 0}, "copies: expected a finite number above 0"),
        ({"turn": -1.0}, "turn: expected a finite number of at least 0"),
        ({"texture": "marble"}, "texture: expected one of 'skin', 'picture'"),
        ({"square": 0.5}, "square: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            SelfSupervisedAugmentation(**settings)
    with pytest.raises(ValueError, match="does not say which hands it fitted"):
        SelfSupervisedAugmentation().on_fit_start(trainer(), SimpleNamespace())


EXPERIMENT = {
    "model": {
        "class_path": "lightning_modules.dhpe.DHPE",
        "init_args": {"backbone": "small", "joint_maps": "small", "refinement_steps": 1, "warmup_steps": 1, "lr": 1e-3},
    },
    "data": {
        "class_path": "datamodules.rendered.RenderedHandsData",
        "init_args": {
            "domains": "clean",
            "modalities": ["rgb"],
            "image_size": 32,
            "batch_size": 2,
            "epoch_size": 12,  # six batches: the power goes out in mid-epoch
            "val_size": 1,
            "test_size": 1,
            "num_workers": 0,
        },
    },
    "monitor": "val/joints_root_mm",
}


CALLBACKS = [
    {"class_path": f"lightning_modules.callbacks.{name}", "init_args": settings}
    for name, settings in (
        ("shape_schedule.HierarchicalShapeLoss", {"threshold": 60.0}),
        ("self_augmentation.SelfSupervisedAugmentation", {"start_epoch": 0, "threshold": 90.0, "per_batch": 2}),
    )
]
STEPS = {"max_steps": 4, "val_check_interval": 2, "accelerator": "cpu", "num_sanity_val_steps": 0}
OPTIONS = ("--test_after_fit=false", "--picture_samples=0")
CUT = ("--trainer.callbacks+=tests.lightning_modules.squares.PowerCut", "--trainer.callbacks.at_step=3")


def check_identical(whole: Path, again: Path, ranks: int) -> None:
    """Two runs' last checkpoints hold the same, instances of every rank among it."""
    states = [torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (whole, again)]
    for name in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)
    ours = [name for name in states[0]["callbacks"] if "Shape" in name or "Augmentation" in name]
    assert len(ours) == 2
    for name in ours:
        torch.testing.assert_close(
            states[0]["callbacks"][name], states[1]["callbacks"][name], rtol=0, atol=0, equal_nan=True
        )
    held = states[1]["callbacks"][next(name for name in ours if "Augmentation" in name)]["ranks"]
    assert len(held) == ranks and all(len(own["seed"]) for own in held), "nothing fitted: the test would not see a set"


def test_a_run_cut_in_the_middle_ends_where_an_undisturbed_one_ends(train):
    config = train.write("dhpe", **EXPERIMENT, trainer=STEPS | {"callbacks": CALLBACKS})
    whole = train("fit", *OPTIONS, config=config, run_id="whole")
    with pytest.raises(RuntimeError, match="the power went out"):
        train("fit", *OPTIONS, *CUT, config=config, run_id="cut")
    again = train("fit", *OPTIONS, config=config, run_id="cut")
    check_identical(whole.folder, again.folder, ranks=1)


@pytest.mark.slow
def test_two_ranks_cut_in_the_middle_end_where_undisturbed_ones_end(train):
    two = {"devices": 2, "strategy": "ddp"}
    config = train.write("dhpe", **EXPERIMENT, trainer=STEPS | two | {"callbacks": CALLBACKS})
    command = [sys.executable, "train.py", "fit", *OPTIONS, f"--config={config}", f"--runs={train.runs}"]
    command.append("--data.val_size=2")  # one picture a rank
    for run_id, words, ends in (("whole", (), True), ("cut", CUT, False), ("cut", (), True)):
        environment = os.environ | {"RUN_ID": run_id}
        run = subprocess.run([*command, *words], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
        assert (run.returncode == 0) is ends, run.stderr[-3000:]
        assert ends or "the power went out" in run.stderr
    assert "Restored all states" in run.stderr
    (whole,) = train.runs.glob("*/whole")
    check_identical(whole, whole.parent / "cut", ranks=2)


def test_batches_of_one_step_draw_what_is_their_own():
    callback, method = SelfSupervisedAugmentation(start_epoch=0, per_batch=1), Method()
    batch = one_step(callback, method, trainer())
    first = callback.instances
    callback.on_train_batch_end(trainer(), method, None, batch, 1)  # accumulate_grad_batches: the step is the same
    later = callback.instances.rows(torch.arange(first.number, callback.instances.number))
    assert later.number and not set(later.seed.tolist()) & set(first.seed.tolist())


def test_ranks_draw_what_is_their_own():
    drawn = []
    for rank in (0, 1):
        callback = SelfSupervisedAugmentation(start_epoch=0)
        one_step(callback, Method(), trainer(rank=rank, ranks=2))
        drawn.append(callback.instances)
    assert not torch.equal(drawn[0].seed, drawn[1].seed) and not torch.equal(drawn[0].shape, drawn[1].shape)
