"""Weak labels: what is accepted and what not, that labels are touched where they lack, and a run cut in the middle."""

import cv2
import pytest
import torch

from datamodules.patch_dictionary import build_dictionary
from lightning_modules.callbacks.weak_labels import WeakLabels, draw_restored
from ops.hand_model import open_hand
from ops.joints import PART_NAMES
from ops.patch_restoration import PatchDictionary
from tests.lightning_modules.squares import EDGE, hand_batch, knowing, method, true_parts

PALM, THUMB_TIP, INDEX_TIP = 1, PART_NAMES.index("thumb_tip") + 1, PART_NAMES.index("index_tip") + 1


def dictionary(*maps, hand_model=None, crop_size=72):
    stored = torch.stack(maps or (true_parts(),)).numpy()
    return PatchDictionary(stored, hand_model or open_hand().id, 0, "toy/1", crop_size)


def callback(folder, *maps, **arguments):
    path = folder / "toy.safetensors"
    dictionary(*maps).save(path)
    weak = WeakLabels(str(path), **arguments)
    weak.setup(None, method(), "fit")
    return weak


def unsure():
    """Maps in which a corner of the palm is called index tip: its barycentre is far off."""
    parts = true_parts().clone()
    parts[20:24, 20:24] = INDEX_TIP
    return parts


def taught(weak, module, batch):
    """The batch after the callback, and what was logged."""
    logged = {}
    module.log_dict = lambda figures, **_: logged.update(figures)
    weak.on_train_batch_start(None, module, batch, 0)
    return batch, logged


def test_a_map_whose_parts_came_nearer_to_the_joints_becomes_the_label(tmp_path):
    batch = hand_batch()
    before = {name: batch[name].clone() for name in ("parts", "has_parts")}
    held = dict(batch)
    batch, logged = taught(callback(tmp_path), knowing(method(), unsure()).eval(), batch)
    assert batch["has_parts"].tolist() == [True, True]
    assert torch.equal(batch["parts"][1, EDGE:-EDGE, EDGE:-EDGE], true_parts())
    assert not batch["parts"][1, :EDGE].any(), "what no network sees is background, not a label to learn"
    assert torch.equal(batch["parts"][0], before["parts"][0])
    for name, value in before.items():
        assert torch.equal(held[name], value), "tensors that others hold are left alone"
    assert logged["weak/accepted_share"] == 1
    # index: 16 pixels around 43.5 and 16 around 21.5 have their middle 11 pixels off along both axes; the palm's 384
    # pixels lost 16, 8 pixels from its middle: it moved by 16 / 384 * 8 = 1 / 3
    assert logged["weak/gain_px"].item() == pytest.approx((11 + 1 / 3) * 2**0.5 / 3, rel=1e-4)


def test_the_gain_is_a_mean_over_the_joints_that_count(tmp_path):
    batch = hand_batch()
    batch["joint_valid"][:, 4] = False
    _, logged = taught(callback(tmp_path), knowing(method(), unsure()).eval(), batch)
    assert logged["weak/gain_px"].item() == pytest.approx((11 + 1 / 3) * 2**0.5 / 2, rel=1e-4)


def test_a_map_that_lost_a_finger_is_rejected(tmp_path):
    erased = true_parts().clone()
    erased[erased == THUMB_TIP] = PALM
    batch, logged = taught(callback(tmp_path, erased), knowing(method(), unsure()).eval(), hand_batch())
    assert batch["has_parts"].tolist() == [True, False] and (batch["parts"][1] == 255).all()
    assert logged["weak/accepted_share"] == 0 and logged["weak/gain_px"] < 0


def test_equal_is_no_better(tmp_path):
    batch, logged = taught(callback(tmp_path), knowing(method()).eval(), hand_batch())
    assert batch["has_parts"].tolist() == [True, False] and logged["weak/gain_px"] == 0


def test_what_needs_no_label_or_has_no_joints_is_left_alone(tmp_path):
    weak, module = callback(tmp_path), knowing(method(), unsure()).eval()
    for fields in ({"has_parts": torch.tensor([True, True])}, {"has_2d": torch.tensor([True, False])}):
        batch, logged = taught(weak, module, hand_batch() | fields)
        assert torch.equal(batch["has_parts"], fields.get("has_parts", torch.tensor([True, False])))
        assert not logged
    batch = hand_batch(2, (False, False))
    batch["depth"][0] = 0  # no hand to be seen: nothing to restore
    batch, logged = taught(weak, module, batch)
    assert batch["has_parts"].tolist() == [False, True] and logged["weak/accepted_share"] == 0.5
    batch = hand_batch(2, (False, False))
    batch["depth"].zero_()
    assert taught(weak, module, batch)[1]["weak/accepted_share"] == 0


def test_rejected_maps_are_drawn(tmp_path):
    weak, module = callback(tmp_path, rejected_samples=3), knowing(method()).eval()
    for _ in range(2):
        taught(weak, module, hand_batch(2, (False, False)))
    run = type("Run", (), {"fast_dev_run": False, "is_global_zero": True, "global_step": 7})
    run.default_root_dir = tmp_path
    weak.on_validation_end(run, module)
    sheet = cv2.imread(str(tmp_path / "pictures" / "rejected_step_0000007.png"))
    assert sheet.shape == (2 * 192, 2 * 3 * 192, 3)  # 3 of 4, two a row
    run.global_step = 9
    weak.on_validation_end(run, module)
    assert len(list((tmp_path / "pictures").iterdir())) == 1, "nothing was rejected since"
    batch = hand_batch(1, (False,))
    cell = draw_restored(batch, weak.judge(module, batch), 0)
    assert (cell[120, 192 + 120] == 200).all() and (cell[120, 384 + 120] == 200).all(), "the palm is grey in N and N*"


def test_bad_input(tmp_path):
    for argument, value in (("window", 4), ("backend", "kd-tree"), ("rejected_samples", -1)):
        with pytest.raises(ValueError, match=f"{argument}: expected"):
            WeakLabels("toy.safetensors", **{argument: value})
    nowhere = WeakLabels(str(tmp_path / "nowhere.safetensors"))
    nowhere.setup(None, method(), "test")  # read where it is used
    with pytest.raises(FileNotFoundError, match=r"nowhere.safetensors: no such patch dictionary"):
        nowhere.setup(None, method(), "fit")
    path = tmp_path / "other.safetensors"
    dictionary(hand_model="mano").save(path)
    with pytest.raises(ValueError, match="hand_model is 'mano'"):
        WeakLabels(str(path)).setup(None, method(), "fit")
    dictionary(crop_size=48).save(path)
    weak = WeakLabels(str(path))
    weak.setup(None, method(), "fit")
    with pytest.raises(ValueError, match=r"maps of crops of 48 pixels, but pictures here have 72.*--crop-size 72"):
        taught(weak, knowing(method()), hand_batch())


WEAK_STEP = {
    "model": {
        "class_path": "lightning_modules.neverova.Neverova",
        "init_args": {"widths": [3, 4, 5], "hidden": 6, "training_resolution": 24, "lr": 0.1},
    },
    "data": {
        "class_path": "datamodules.rendered.RenderedHandsData",
        "init_args": {
            "domains": {"clean": 0.5, "sensor": 0.5},
            "hide": {"sensor": ["mesh", "parts"]},
            "image_size": 72,
            "batch_size": 4,
            "epoch_size": 24,  # six batches: the power goes out in mid-epoch
            "val_size": 1,
            "test_size": 1,
            "num_workers": 0,
        },
    },
    "monitor": "val/parts_to_joints_px",
}


def test_a_weak_run_cut_in_the_middle_ends_where_an_undisturbed_one_ends(train, tmp_path):
    path = tmp_path / "rendered.safetensors"
    build_dictionary(maps=12).save(path)
    weak = {"class_path": "lightning_modules.callbacks.weak_labels.WeakLabels", "init_args": {"dictionary": str(path)}}
    steps = {"max_steps": 4, "val_check_interval": 2, "accelerator": "cpu", "num_sanity_val_steps": 0}
    steps["log_every_n_steps"] = 1
    config = train.write("weak", **WEAK_STEP, trainer=steps | {"callbacks": [weak]})
    options = ("--test_after_fit=false", "--picture_samples=0")
    whole = train("fit", *options, config=config, run_id="whole")
    cut = ("--trainer.callbacks+=tests.lightning_modules.squares.PowerCut", "--trainer.callbacks.at_step=3")
    with pytest.raises(RuntimeError, match="the power went out"):
        train("fit", *options, *cut, config=config, run_id="cut")
    again = train("fit", *options, config=config, run_id="cut")
    states = [torch.load(cli.folder / "checkpoints" / "last.ckpt", weights_only=True) for cli in (whole, again)]
    for name in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)
    assert again.trainer.global_step == states[1]["global_step"] == 4
    rows = (whole.folder / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("weak/accepted_share_step")
    shares = {float(cell) for row in rows[1:] if (cell := row.split(",")[column])}
    assert max(shares) > 0, "nothing was accepted: the test would not see the weak step"
