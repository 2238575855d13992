"""A run that is killed and started again ends where an undisturbed one ends: 2 + 2 steps equal 4."""

import pytest
import torch

from tests.command_line import TOY

# batches depend on the epoch and the place in it, which is what a sampler must remember
RENDERED = {
    "class_path": "datamodules.rendered.RenderedHandsData",
    "init_args": {
        "domains": "clean",
        "batch_size": 2,
        "epoch_size": 12,  # six batches: the kill comes in mid-epoch
        "val_size": 2,
        "test_size": 2,
        "image_size": 16,
        "num_workers": 0,
    },
}
EXPERIMENT = {
    "model": {"class_path": "tests.toys.ToyMethod", "init_args": {"image_size": 16, "lr": 0.05}},
    "data": RENDERED,
    "trainer": TOY["trainer"] | {"max_steps": 4, "val_check_interval": 2},
}
OPTIONS = ("--test_after_fit=false", "--picture_samples=0")


def state(cli) -> dict:
    return torch.load(cli.folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_killed_run_ends_where_an_undisturbed_one_ends(train):
    config = train.write("resume", **EXPERIMENT)
    whole = train("fit", *OPTIONS, config=config, run_id="whole")
    with pytest.raises(RuntimeError, match="the power went out"):
        train("fit", *OPTIONS, "--model.fail_at_step=2", config=config, run_id="killed")
    again = train("fit", *OPTIONS, config=config, run_id="killed")

    assert again.trainer.global_step == 4
    torch.testing.assert_close(again.model.joints, whole.model.joints, rtol=0, atol=0)
    assert again.model.seen == whole.model.seen[4:], "the samples after the kill are not those that were left"
    assert len(set(whole.model.seen)) == 8
    left, right = state(whole), state(again)
    for name in ("optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=0)
    assert left["lr_schedulers"][0]["last_epoch"] == 4
    assert left["loops"]["fit_loop"]["state_dict"] == right["loops"]["fit_loop"]["state_dict"]


@pytest.mark.parametrize("validated", [True, False])
def test_a_finished_run_that_is_given_more_steps_goes_on_in_mid_epoch(train, validated):
    config = train.write("resume", **EXPERIMENT)
    options = OPTIONS if validated else (*OPTIONS, "--trainer.limit_val_batches=0")
    short = train("fit", *options, "--trainer.max_steps=3", config=config, run_id="more")
    longer = train("fit", *options, "--trainer.max_steps=6", config=config, run_id="more")
    assert longer.trainer.global_step == 6
    assert (len(short.model.seen), len(longer.model.seen)) == (6, 6)
    assert len({*short.model.seen, *longer.model.seen}) == 12, "one epoch of 12 samples, each seen once"
