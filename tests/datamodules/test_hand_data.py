import warnings
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from datamodules.augmentation import Augmentation
from datamodules.batch import HandBatch, check_batch
from datamodules.frames import BadFrame
from datamodules.hand_data import HandData
from datamodules.mixing import merge
from datamodules.sampler import EpochSampler
from datamodules.sources import RenderedSource
from tests.datamodules.fake_frames import FakeDataset


def data(sources=None, **settings):
    sources = sources or {
        "depth": FakeDataset("depth"),
        "rgb": FakeDataset("rgb", provides=("rgb", "3d", "mask", "parts", "mesh"), side=0),
        "clean": RenderedSource("clean"),
    }
    usual = {"batch_size": 8, "epoch_size": 40, "num_workers": 0, "image_size": 16, "val_size": 4, "test_size": 4}
    return HandData(sources, **usual | settings)


THREE = {"depth": 0.5, "rgb": 0.25, "clean": 0.25}


def test_readers_and_rendered_hands_share_a_batch():
    hide = {"clean": ["mesh"]}
    batches = list(data(weights=THREE, modalities=["depth"], hide=hide).train_dataloader())
    assert len(batches) == 5
    for batch in batches:
        check_batch(batch, needs=["rgb", "depth", "mask", "parts", "vertices", "K", "joints_3d", "palm", "crop"])
        names = np.array(batch["domain"])
        assert [(names == name).sum() for name in THREE] == [4, 2, 2]
        expected = {
            "has_depth": names != "rgb",
            "has_rgb": names == "rgb",
            "has_mask": names != "depth",
            "has_parts": names == "rgb",
            "has_mesh": names == "rgb",
            "has_3d": names != "",
            "has_2d": names != "",
        }
        for flag, there in expected.items():
            assert batch[flag].tolist() == there.tolist(), flag
        for flag, field in {"has_depth": "depth", "has_rgb": "rgb", "has_mesh": "vertices"}.items():
            blank = batch[field].flatten(1).abs().amax(1) == 0
            assert torch.equal(blank, ~batch[flag]), field
        assert (batch["parts"][torch.from_numpy(names != "rgb")] == 255).all()
        assert (batch["mirrored"].numpy() == (names == "rgb")).all()
        # every row is what its key says
        for name, key in zip(names, batch["key"], strict=True):
            assert key.startswith(f"{name}/")


def test_workers_and_the_device_give_what_this_process_gives():
    sources = {
        "depth": FakeDataset("depth"),
        "rgb": FakeDataset("rgb", provides=("rgb", "3d", "mask"), side=0),
        "clean": RenderedSource("clean"),
    }

    def batches(**settings):
        module = data(sources, weights=THREE, modalities=["depth"], seed=3, **settings)
        return [module.on_after_batch_transfer(batch, 0) for batch in module.train_dataloader()]

    here = batches()
    for other in (batches(num_workers=2), batches(render_on="device")):
        for ours, theirs in zip(here, other, strict=True):
            assert ours["key"] == theirs["key"] and ours["domain"] == theirs["domain"]
            for field in ("rgb", "depth", "mask", "K", "joints_2d"):
                # matrix products on other numbers of threads differ in the last bits of float32
                torch.testing.assert_close(ours[field], theirs[field], atol=1e-4, rtol=1e-5)


def keys_of_epochs(module, epochs):
    loader = module.train_dataloader()
    return [[key for batch in loader for key in batch["key"]] for _ in range(epochs)]


@pytest.mark.parametrize("per", ["batch", "epoch"])
def test_finite_sources_are_walked_in_whole_shuffled_passes_from_epoch_to_epoch(per):
    sources = {"a": FakeDataset("a", 20), "b": FakeDataset("b", 7)}
    epochs = keys_of_epochs(data(sources, weights={"a": 0.75, "b": 0.25}, per=per), 4)
    seen = {name: [key for epoch in epochs for key in epoch if key.startswith(name)] for name in sources}
    assert len(seen["a"]) == 120 and len(seen["b"]) == 40
    if per == "epoch":  # where the order within a pass is not the order of asking
        assert len(set(seen["b"])) == 7
        return
    for name, count in (("a", 20), ("b", 7)):
        passes = [seen[name][start : start + count] for start in range(0, len(seen[name]) - count + 1, count)]
        assert all(len(set(one)) == count for one in passes) and passes[0] != passes[1]


def test_what_a_source_hides_is_not_in_its_batches():
    rgb = FakeDataset("rgb", provides=("rgb", "3d", "mask", "parts", "mesh"))
    shown, hidden = (
        next(iter(data({"rgb": rgb}, hide=hide).train_dataloader())) for hide in ({}, {"rgb": ["mesh", "parts"]})
    )
    assert {"vertices", "parts"} <= set(shown) and not {"vertices", "parts"} & set(hidden)


def test_every_step_augments_anew():
    module = data({"depth": FakeDataset("depth")}, augment=Augmentation(rotation=90.0))
    batch = next(iter(module.train_dataloader()))
    views = []
    for step in (3, 4, 3):
        module.trainer = SimpleNamespace(training=True, global_step=step)
        views.append(module.on_after_batch_transfer(HandBatch(batch), 0)["joints_3d"])
    assert torch.equal(views[0], views[2]) and not torch.allclose(views[0], views[1])


def test_the_fingerprint_says_what_is_trained_on():
    def fingerprint(source):
        return data({"set": source}).training_fingerprint()["set"]

    one = fingerprint(FakeDataset("depth", 12))
    assert one == fingerprint(FakeDataset("depth", 12))
    # as many records of other files
    assert len({one, fingerprint(FakeDataset("other", 12)), fingerprint(FakeDataset("depth", 13))}) == 3
    whole, half = (fingerprint(RenderedSource("sensor", share=share)) for share in (1, 0.5))
    assert half == whole + " share 0.5"
    endless, ended = (fingerprint(RenderedSource("photo", frames=frames)) for frames in (None, 100))
    assert ended == endless + " frames 100"


def test_a_growing_set_is_walked_anew_when_it_has_grown():
    sources = {"real": FakeDataset("real", 12), "grown": FakeDataset("grown", 30, grows=10)}
    weights = {"real": {0: 1.0, 1: 0.5}, "grown": {0: 0.0, 1: 0.5}}
    epochs = keys_of_epochs(data(sources, weights=weights), 4)
    records = [{int(key.split("/")[2]) for key in epoch if key.startswith("grown")} for epoch in epochs]
    # 20 draws of 0, 20, 30 and 30 records; the last two epochs walk on
    assert [len(one) for one in records[:3]] == [0, 20, 20] and records[1] == set(range(20))
    assert records[2] | records[3] == set(range(30))


def test_the_seed_changes_order_and_crops_of_training_alone():
    first, other = (data(weights=THREE, modalities=["depth"], hide={"clean": ["mesh"]}, seed=seed) for seed in (0, 1))
    one, two = next(iter(first.train_dataloader())), next(iter(other.train_dataloader()))
    assert one["key"] != two["key"]
    one, two = (list(module.test_dataloader()) for module in (first, other))
    for a, b in zip(one, two, strict=True):
        assert a["key"] == b["key"] and torch.equal(a["K"], b["K"])


def test_evaluation_takes_evenly_spaced_records_and_shows_every_label():
    module = data(weights=THREE, evaluate_on=["rgb", "depth"], hide={"rgb": ["mesh"], "clean": ["mesh"]})
    for _ in range(2):  # later walks, too
        keys = [key for batch in module.val_dataloader() for key in batch["key"]]
        assert keys == [f"{name}/val/{i}" for name in ("rgb", "depth") for i in (0, 5, 10, 15)]
    assert next(iter(module.val_dataloader()))["has_mesh"][:4].all()
    everything = data({"a": FakeDataset("a", 11)}, val_size=None, test_size=None)
    assert sum(len(batch["key"]) for batch in everything.test_dataloader()) == 11


class Method(lightning.LightningModule):
    """Notes the samples that it sees."""

    def __init__(self, path=None, needs=None, stop=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.path, self.source_needs = path, needs

    def training_step(self, batch, _):
        picture = float(batch["depth"].double().sum())
        with open(f"{self.path}-{self.global_rank}", "a") as file:
            file.write(" ".join(batch["key"]) + f" {picture:.3f}\n")
        return (self.weight * batch["depth"].mean()).sum()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class SlurmSignal(Callback):
    """What Lightning does when SLURM announces the end of a job, in the middle of an epoch."""

    def __init__(self, folder, step):
        self.folder, self.step = folder, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(trainer._checkpoint_connector.hpc_save_path(self.folder))


def trainer_of(folder, *callbacks, steps=12, **settings):
    return lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **{"enable_checkpointing": False} | settings,
    )


def mixed(**settings):
    sources = {
        "depth": FakeDataset("depth", 30),
        "grown": FakeDataset("grown", 30, grows=10),
        "clean": RenderedSource("clean"),
    }
    weights = {"depth": 0.5, "grown": {0: 0.25, 1: 0.375}, "clean": {0: 0.25, 1: 0.125}}
    augment = Augmentation(rotation=90, depth_noise=0.01)
    return data(sources, weights=weights, augment=augment, modalities=["depth"], **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_exactly_what_an_unbroken_one_would(tmp_path, workers):
    trainer_of(tmp_path, SlurmSignal(tmp_path, 7)).fit(Method(tmp_path / "unbroken"), mixed())
    (stopped,) = tmp_path.glob("hpc_ckpt_*.ckpt")
    resumed = Method(tmp_path / "resumed")
    trainer_of(tmp_path).fit(resumed, mixed(num_workers=workers), ckpt_path=stopped, weights_only=True)
    unbroken = (tmp_path / "unbroken-0").read_text().splitlines()
    assert len(unbroken) == 12 and len(set(unbroken)) == 12
    again = (tmp_path / "resumed-0").read_text().splitlines()  # step 7 is in the middle of the second epoch
    assert [line.split()[:-1] for line in again] == [line.split()[:-1] for line in unbroken[7:]]
    pictures = [[float(line.split()[-1]) for line in lines] for lines in (again, unbroken[7:])]
    np.testing.assert_allclose(*pictures, rtol=1e-4)  # augmented alike; rendered on another number of threads


def test_two_ranks_that_resume_share_out_what_is_left():
    def rank_of(number, state=None):
        module = mixed(batch_size=4)
        loader = module._loader(module._training_mixture(), EpochSampler(40, 4, number, 2))
        if state is not None:
            loader.load_state_dict(state)
        return loader

    whole = [[batch["key"] for _ in range(2) for batch in rank_of(number)] for number in (0, 1)]
    alone = [batch["key"] for batch in mixed(batch_size=4).train_dataloader()]
    assert sorted(key for rank in whole for keys in rank[:5] for key in keys) == sorted(
        key for keys in alone for key in keys
    )  # ranks together see what one alone sees
    for number in (0, 1):
        broken = rank_of(number)
        walk = iter(broken)
        for _ in range(3):
            next(walk)
        continued = rank_of(number, broken.state_dict())
        assert [batch["key"] for batch in continued] == whole[number][3:5]


@pytest.mark.slow
def test_two_processes_that_resume_see_what_two_unbroken_ones_would(tmp_path):
    settings = {"devices": 2, "strategy": "ddp_fork", "enable_checkpointing": True}
    every = ModelCheckpoint(tmp_path / "kept", "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer_of(tmp_path, every, steps=5, **settings).fit(Method(tmp_path / "unbroken"), mixed(batch_size=4))
    kept = tmp_path / "kept" / "step=2.ckpt"
    trainer_of(tmp_path, steps=5, **settings).fit(
        Method(tmp_path / "resumed"), mixed(batch_size=4), ckpt_path=kept, weights_only=True
    )
    for rank in (0, 1):
        unbroken, again = ((tmp_path / f"{name}-{rank}").read_text().splitlines() for name in ("unbroken", "resumed"))
        assert [line.split()[:-1] for line in again] == [line.split()[:-1] for line in unbroken[2:]]


# -- what is refused


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_record_stops_training_by_its_files_name(workers):
    module = data({"a": FakeDataset("a", 20, bad=[3])}, num_workers=workers)
    with pytest.raises(BadFrame, match=r"a/3\.png: cut off; copy it again"):
        list(module.train_dataloader())


@pytest.mark.parametrize("workers", [0, 2])
def test_some_bad_records_are_replaced_counted_and_reported(workers):
    module = data({"a": FakeDataset("a", 20, bad=[3, 4, 19])}, num_workers=workers, max_bad_samples=3)
    loader = module.train_dataloader()
    for epoch in (0, 1):
        with pytest.warns(UserWarning, match=f"3 bad samples in epoch {epoch}, replaced.*\n.*cut off"):
            keys = [key for batch in loader for key in batch["key"]]
        assert len(keys) == 40
        good = [key for key in keys if key not in ("a/train/5", "a/train/0")]
        assert len(set(good)) == 15 and keys.count("a/train/5") == 6 and keys.count("a/train/0") == 4
    with pytest.raises(BadFrame, match=r"bad record number 3 of epoch 0; max_bad_samples is 2"):
        list(data({"a": FakeDataset("a", 20, bad=[3, 4, 19])}, max_bad_samples=2).train_dataloader())


def test_nothing_is_reported_where_nothing_is_bad():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(data({"a": FakeDataset("a")}, max_bad_samples=3).train_dataloader())


def test_evaluation_replaces_nothing():
    module = data({"a": FakeDataset("a", 20, bad=[5])}, max_bad_samples=9)
    with pytest.raises(BadFrame, match="cut off"):
        list(module.val_dataloader())


def fit(module, needs, folder):
    trainer_of(folder, steps=1).fit(Method(folder / "seen", needs), module)


NEEDS = {"every": ["depth"], "some": ["mesh"]}


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        (
            {"a": FakeDataset("a"), "b": FakeDataset("b", provides=("rgb", "3d"))},
            {"evaluate_on": ["a"]},
            "source 'b': Method needs 'depth' from every source to train on, and it gives 3d, rgb; leave it out",
        ),
        (
            {"a": FakeDataset("a", provides=("depth", "mesh")), "b": FakeDataset("b", provides=("rgb", "3d"))},
            {"weights": {"a": 1.0}, "evaluate_on": ["b"]},
            "source 'b': Method needs 'depth' from every source to evaluate on",
        ),
        ({"a": FakeDataset("a")}, {}, "sources: Method needs 'mesh' from at least one to train on, but 'a' gives"),
        (
            {"a": FakeDataset("a"), "clean": RenderedSource()},
            {"modalities": ["rgb"]},
            "source 'clean': Method needs 'depth' .* add 'depth' to data.modalities",
        ),
        (
            {"a": FakeDataset("a"), "clean": RenderedSource()},
            {"hide": {"clean": ["mesh"]}},
            "needs 'mesh' from at least one",
        ),
        (
            {"a": FakeDataset("a", provides=("depth", "mesh")), "clean": RenderedSource()},
            {},
            r"'a' \(42 vertices of hand model 'a hand'\) and 'clean' \(778 .*hide one: hide: \{clean: \[mesh\]\}",
        ),
        (  # as many vertices do not make them one hand
            {"a": FakeDataset("a", provides=("depth", "mesh")), "b": FakeDataset("b", provides=("depth", "mesh"))},
            {},
            r"'a' \(42 vertices of hand model 'a hand'\) and 'b' \(42 vertices of hand model 'b hand'\) cannot share",
        ),
        ({"a": FakeDataset("a", 0)}, {}, "source 'a': empty in epoch 0"),
        ({"a": FakeDataset("a", 3)}, {}, "val_size: a/val has 3 frames, got 4"),
    ],
)
def test_what_an_experiment_cannot_use_is_refused_before_training(sources, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit(data(sources, **settings), NEEDS, tmp_path)
    assert not (tmp_path / "seen-0").exists()


def test_a_flag_hidden_by_the_configuration_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"needs 'mask' .* \(data.hide hides it\); show it, or leave 'clean' out"):
        fit(data({"clean": RenderedSource()}, hide={"clean": ["mask"]}), {"every": ["mask"], "some": []}, tmp_path)


def test_what_fits_is_trained_on(tmp_path):
    fit(data({"a": FakeDataset("a"), "clean": RenderedSource()}), NEEDS, tmp_path)
    assert (tmp_path / "seen-0").exists()


def test_meshes_that_differ_do_not_merge():
    pieces = [
        (torch.tensor([0]), {"vertices": torch.zeros(1, v, 3), "domain": [name], "hand_model": [f"{name} hand"]})
        for name, v in (("a", 5), ("b", 7))
    ]
    with pytest.raises(ValueError, match=r"'a' \(5 vertices of hand model 'a hand'\) and 'b' \(7 .*\{b: \[mesh\]\}"):
        merge(pieces)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"nyu": 1.0}}, "weights: expected one of 'depth', 'rgb', 'clean', got 'nyu'"),
        ({"weights": {"depth": 0.5, "rgb": 0.4}}, "expected a sum of 1, got 0.9"),
        ({"evaluate_on": ["nyu"]}, "evaluate_on: expected one of"),
        ({"hide": {"nyu": ["mesh"]}}, "hide: expected one of 'depth'"),
        ({"hide": {"rgb": ["joints"]}}, "hide: expected one of 'parts'"),
        ({"max_bad_samples": -1}, "max_bad_samples: expected at least 0"),
        ({"image_size": 0}, "image_size: expected at least 1"),
        ({"val_size": 0}, "val_size: expected at least 1"),
        ({"test_size": 5000}, "test_size: clean/test has 2000 frames, got 5000; take 1 to 2000, or null"),
        ({"render_on": "gpu"}, "render_on: expected one of"),
        ({"modalities": ["colour"]}, "modalities: expected one of"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        data(**settings)


def test_no_source_at_all_is_refused():
    with pytest.raises(ValueError, match="sources: expected at least one"):
        HandData({})


def test_a_configuration_builds_the_sources(train):
    fake = "tests.datamodules.fake_frames.FakeDataset"
    init = {
        "sources": {
            "nyu": {"class_path": fake, "init_args": {"name": "nyu"}},
            "clean": {"class_path": "datamodules.sources.RenderedSource", "init_args": {"domain": "clean"}},
        },
        "weights": {"nyu": {0: 0.75, 1: 0.5}, "clean": {0: 0.25, 1: 0.5}},
        "evaluate_on": ["nyu"],
        "batch_size": 4,
        "epoch_size": 8,
        "val_size": 2,
        "test_size": 2,
        "image_size": 16,
        "num_workers": 0,
        "modalities": ["depth"],
        "crop": {"centre_jitter": 0.005},
        "augment": {"rotation": 30, "depth_noise": 0.002},
    }
    config = train.write(
        "mixed",
        model={"class_path": "tests.toys.ToyMethod", "init_args": {"image_size": 16}},
        data={"class_path": "datamodules.hand_data.HandData", "init_args": init},
        trainer={"max_steps": 4, "accelerator": "cpu", "num_sanity_val_steps": 0},
    )
    cli = train("fit", "--picture_samples=0", config=config, run_id="one")
    seen = [sum(key.startswith("nyu") for key in cli.model.seen[i : i + 4]) for i in range(0, 16, 4)]
    assert seen == [3, 3, 2, 2] and cli.datamodule.augmentation.rotation == 30
    again = (cli.folder / "config.yaml").read_text()
    assert "RenderedSource" in again and "0.75" in again


def test_a_domain_that_is_reported_must_be_evaluated_on(tmp_path):
    method = Method(tmp_path / "seen", {"every": [], "some": []})
    method.report_domains = ["clean", "cleen"]
    with pytest.raises(ValueError, match=r"model\.report_domains: expected one of 'clean', got 'cleen'"):
        trainer_of(tmp_path).fit(method, data({"clean": RenderedSource("clean")}))
