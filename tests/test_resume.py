"""A run that is killed and started again ends where an undisturbed one ends: 2 + 2 steps equal 4."""

import errno
import multiprocessing
import os
import signal
import time

import pytest
import torch

from datamodules.hand_data import _prepare_worker
from lightning_modules import early_signals
from lightning_modules.callbacks import safe_stop
from lightning_modules.callbacks.run_state import check_continuation, random_state, set_random_state
from lightning_modules.callbacks.safe_stop import SafeStop, is_preempted, requeue, signals_given_back
from lightning_modules.checkpoint_io import write_whole
from tests.command_line import TOY
from tests.toys import ToyMethod

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


# -- signals


# 0: within an interval; 1: the step is validated; 2: behind a validation, with rows that no flush has written
@pytest.mark.parametrize(
    "number, after", [(signal.SIGUSR1, 0), (signal.SIGUSR1, 1), (signal.SIGTERM, 2), (signal.SIGINT, 0)]
)
def test_a_run_told_to_stop_saves_behind_the_step_and_goes_on_as_if_nothing_had_been(train, number, after):
    trainer = EXPERIMENT["trainer"] | {"log_every_n_steps": 1}
    model = {"class_path": "tests.toys.ToyMethod", "init_args": EXPERIMENT["model"]["init_args"] | {"noise": 0.1}}
    config = train.write("resume", **EXPERIMENT | {"trainer": trainer, "model": model})
    whole = train("fit", *OPTIONS, config=config, run_id="whole")
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        told = (f"--model.signal_at_step={after}", f"--model.signal={int(number)}")
        train("fit", *OPTIONS, *told, config=config, run_id="cut")
    assert stop.value.code == 128 + number and signal.getsignal(number) == before
    again = train("fit", *OPTIONS, config=config, run_id="cut")
    assert again.model.seen == whole.model.seen[2 * (after + 1) :], "no step is done twice, none is left out"
    torch.testing.assert_close(again.model.joints, whole.model.joints, rtol=0, atol=0)
    rows = [(cli.folder / "metrics.csv").read_text() for cli in (whole, again)]
    assert rows[0] == rows[1] and rows[0].count("\n") > 6


def test_ctrl_c_says_that_it_saves_and_a_second_one_aborts_at_once(tmp_path, capfd):
    stop = SafeStop(tmp_path / "last.ckpt")
    with signals_given_back():
        stop.setup(None, None, "fit")
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT and "saving behind this step" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_run_does_not_end_the_workers_that_it_needs_to_end_its_step(number):
    def worker() -> None:
        _prepare_worker(0)
        os.kill(os.getpid(), number)
        time.sleep(0.01)

    process = multiprocessing.get_context("fork").Process(target=worker)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_run_says_where_it_begins(train, monkeypatch):
    said = []
    monkeypatch.setattr("lightning_modules.callbacks.run_state.rank_zero_info", said.append)
    config = train.write("resume", **EXPERIMENT)
    train("fit", *OPTIONS, "--trainer.max_steps=2", config=config, run_id="night")
    last = train("fit", *OPTIONS, config=config, run_id="night").folder / "checkpoints" / "last.ckpt"
    assert said == ["run night: begins at step 0", f"run night: goes on from {last} at step 2"]


def test_a_warning_while_a_run_starts_stops_it_behind_its_first_step(train, monkeypatch):
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr("lightning_modules.callbacks.safe_stop.requeue", lambda: None)
    early_signals.note_early_signals()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        monkeypatch.delenv("SLURM_JOB_ID")
        with pytest.raises(SystemExit) as stop:
            train("fit", *OPTIONS, config=train.write("resume", **EXPERIMENT), run_id="early")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stop.value.code == 128 + signal.SIGUSR1 and early_signals.noted == []
    last = train.runs / "resume" / "early" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 1


def test_a_run_that_died_before_its_first_checkpoint_begins_its_logs_anew(train):
    trainer = EXPERIMENT["trainer"] | {"log_every_n_steps": 1}
    config = train.write("resume", **EXPERIMENT | {"trainer": trainer})
    whole = train("fit", *OPTIONS, config=config, run_id="whole")
    with pytest.raises(RuntimeError, match="the power went out"):
        train("fit", *OPTIONS, "--model.fail_at_step=1", config=config, run_id="cut")
    cut = train.runs / "resume" / "cut" / "metrics.csv"
    assert cut.is_file() and not (cut.parent / "checkpoints" / "last.ckpt").exists()
    train("fit", *OPTIONS, config=config, run_id="cut")
    assert cut.read_text() == (whole.folder / "metrics.csv").read_text()


def test_a_stopped_job_is_queued_again_by_its_id_or_its_place_in_an_array(tmp_path, monkeypatch):
    said = tmp_path / "said"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    requeue({})
    requeue({"SLURM_JOB_ID": "7"})
    requeue({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"})
    assert said.read_text().splitlines() == ["requeue 7", "requeue 8_3"]
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho not allowed >&2\nexit 1\n")
    with pytest.warns(match=r"job 7 could not be queued again \(not allowed\); submit it with the same RUN_ID"):
        requeue({"SLURM_JOB_ID": "7"})


@pytest.mark.parametrize(
    ("shown", "preempted"),
    [
        ("JobState=RUNNING PreemptTime=2026-11-21T20:54:38", True),
        ("JobState=RUNNING PreemptEligibleTime=2026-11-21T20:54:22 PreemptTime=None", False),
        ("JobState=CANCELLED PreemptTime=2026-11-21T20:54:38", False),
    ],
)
def test_a_job_that_makes_room_is_told_from_one_that_is_cancelled(tmp_path, monkeypatch, shown, preempted):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\n[ "$*" = "show job 7" ] && echo "{shown}"\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert is_preempted({"SLURM_JOB_ID": "7"}) is preempted
    assert not is_preempted({})
    with pytest.warns(match="job 8: SLURM does not say whether it was preempted"):
        assert not is_preempted({"SLURM_JOB_ID": "8"})


@pytest.mark.parametrize(
    ("number", "preempted"), [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGUSR1, False)]
)
def test_a_job_is_queued_again_after_a_warning_and_where_it_makes_room(train, monkeypatch, number, preempted):
    queued = []
    monkeypatch.setattr(safe_stop, "requeue", lambda: queued.append(number))
    monkeypatch.setattr(safe_stop, "is_preempted", lambda: preempted)
    told = ("--model.signal_at_step=1", f"--model.signal={int(number)}")
    with pytest.raises(SystemExit):
        train("fit", *OPTIONS, *told, config=train.write("resume", **EXPERIMENT), run_id="cut")
    assert len(queued) == (preempted or number == signal.SIGUSR1)


# -- damaged checkpoints


def test_a_damaged_checkpoint_is_skipped_by_name_and_the_one_before_it_is_used(train):
    config = train.write("resume", **EXPERIMENT)
    whole = train("fit", *OPTIONS, config=config, run_id="whole")
    cut = train("fit", *OPTIONS, config=config, run_id="cut")
    last = cut.folder / "checkpoints" / "last.ckpt"
    assert torch.load(last.with_name("previous.ckpt"), weights_only=True)["global_step"] == 2
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.warns(match=r"last.ckpt: cannot be read .*goes on from an older one"):
        again = train("fit", *OPTIONS, config=config, run_id="cut")
    assert again.model.seen == whole.model.seen[4:]
    torch.testing.assert_close(again.model.joints, whole.model.joints, rtol=0, atol=0)
    assert torch.load(last.with_name("previous.ckpt"), weights_only=True)["global_step"] == 2


def test_a_run_without_a_whole_checkpoint_does_not_begin_again_in_silence(train, capsys):
    config = train.write("resume", **EXPERIMENT)
    folder = train("fit", *OPTIONS, config=config, run_id="cut").folder / "checkpoints"
    for name in ("last.ckpt", "previous.ckpt"):
        (folder / name).write_bytes(b"foreign")
    with pytest.warns(match="previous.ckpt"), pytest.raises(SystemExit):
        train("fit", *OPTIONS, config=config, run_id="cut")
    assert "none of its checkpoints can be read (" in capsys.readouterr().err


def test_a_cut_off_last_does_not_take_the_place_of_the_whole_one_before_it(tmp_path):
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    torch.save({"step": 1}, previous)
    last.write_bytes(previous.read_bytes()[:-9])
    write_whole(last, b"new")
    assert torch.load(previous, weights_only=True) == {"step": 1} and last.read_bytes() == b"new"


def test_a_full_disk_leaves_what_was_there_and_says_what_to_do(tmp_path, monkeypatch):
    last = tmp_path / "last.ckpt"
    last.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"last.ckpt: cannot be written \(No space left.*--runs=.*are kept"):
        write_whole(last, b"new")
    assert last.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


# -- what may change


def test_random_numbers_go_on():
    state = random_state()
    first = torch.rand(3)
    set_random_state(state)
    torch.testing.assert_close(torch.rand(3), first, rtol=0, atol=0)


FACTS = {"ranks": 2, "accumulate_grad_batches": 1, "data": {"init_args": {"batch_size": 4}}, "fingerprint": {"a": "x"}}
CHANGED = {
    "ranks": ({"ranks": 1}, r"a.ckpt: made with ranks=2, here it is 1.*as many processes"),
    "steps": ({"accumulate_grad_batches": 4}, r"accumulate_grad_batches=1, here it is 4"),
    "data": ({"data": {"init_args": {"batch_size": 8}}}, r"data.init_args.batch_size=4, here it is 8.*another RUN_ID"),
    "one more": ({"data": {"init_args": {"batch_size": 4, "seed": 1}}}, r"data.init_args.seed=None, here it is 1"),
    "set": ({"fingerprint": {"a": "y"}}, r"fingerprint.a=x, here it is y.*copy of the data"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_run_does_not_go_on_with_other_samples(case):
    change, message = CHANGED[case]
    check_continuation(FACTS, FACTS, "a.ckpt")
    with pytest.raises(ValueError, match=message):
        check_continuation(FACTS, FACTS | change, "a.ckpt")


def test_a_run_may_go_on_with_other_workers_and_not_with_another_seed_of_its_data(train):
    config = train.write("resume", **EXPERIMENT)
    train("fit", *OPTIONS, "--trainer.max_steps=2", config=config, run_id="a")
    with pytest.raises(ValueError, match=r"last.ckpt: made with data.init_args.seed=0, here it is 1"):
        train("fit", *OPTIONS, "--data.seed=1", config=config, run_id="a")
    assert train("fit", *OPTIONS, "--data.val_size=1", config=config, run_id="a").trainer.global_step == 4


def test_checkpoints_are_written_every_so_many_steps(train):
    config = train.write("resume", **EXPERIMENT)
    options = (*OPTIONS, "--trainer.limit_val_batches=0", "--save_every=3", "--model.fail_at_step=3")
    with pytest.raises(RuntimeError, match="the power went out"):
        train("fit", *options, config=config, run_id="a")
    last = torch.load(train.runs / "resume" / "a" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3 and last["handful_run"]["fingerprint"]["clean"].startswith("clean/")


def test_a_signal_between_accumulated_batches_waits_for_their_step(train):
    trainer = EXPERIMENT["trainer"] | {"accumulate_grad_batches": 2}
    config = train.write("resume", **EXPERIMENT | {"trainer": trainer})
    options = (*OPTIONS, "--trainer.limit_val_batches=0")
    whole = train("fit", *options, config=config, run_id="whole")
    with pytest.raises(SystemExit):
        told = ("--model.signal_at_step=1", f"--model.signal={int(signal.SIGTERM)}")
        train("fit", *options, *told, config=config, run_id="cut")
    again = train("fit", *options, config=config, run_id="cut")
    assert again.model.seen == whole.model.seen[8:], "two batches of two samples a step; two steps are done"
    torch.testing.assert_close(again.model.joints, whole.model.joints, rtol=0, atol=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("where", ["last step", "test"])
def test_a_run_told_to_stop_at_its_end_leaves_the_test_to_the_next_job(train, monkeypatch, where, number):
    config = train.write("resume", **EXPERIMENT)
    tested, told = [], []
    step = ToyMethod.test_step

    def test_step(self, batch, place):
        if where == "test" and not told:
            told.append(os.kill(os.getpid(), number))
        tested.append(place)
        return step(self, batch, place)

    monkeypatch.setattr(ToyMethod, "test_step", test_step)
    options = ("--picture_samples=0", "--data.test_size=6")
    at_end = ("--model.signal_at_step=3", f"--model.signal={int(number)}") if where == "last step" else ()
    with pytest.raises(SystemExit) as stop:
        train("fit", *options, *at_end, config=config, run_id="cut")
    assert stop.value.code == 128 + number and len(tested) == (where == "test")
    train("fit", *options, config=config, run_id="cut")
    assert tested[-3:] == [0, 1, 2]


def test_other_accumulation_is_refused(train):
    config = train.write("resume", **EXPERIMENT)
    train("fit", *OPTIONS, "--trainer.max_steps=2", config=config, run_id="a")
    with pytest.raises(ValueError, match="accumulate_grad_batches=1, here it is 2"):
        train("fit", *OPTIONS, "--trainer.accumulate_grad_batches=2", config=config, run_id="a")


def test_last_is_written_where_nothing_is_better(train, monkeypatch):
    def judge(self, batch, stage):
        self.log(f"{stage}/joints_root_mm", float(self.global_step))

    monkeypatch.setattr(ToyMethod, "_judge", judge)
    config = train.write("resume", **EXPERIMENT)
    with pytest.raises(RuntimeError):
        train("fit", *OPTIONS, "--trainer.max_steps=8", "--model.fail_at_step=5", config=config, run_id="a")
    folder = train.runs / "resume" / "a" / "checkpoints"
    steps = {name: torch.load(folder / f"{name}.ckpt", weights_only=True)["global_step"] for name in ("best", "last")}
    assert steps == {"best": 2, "last": 4}
