"""W&B without network and account: what an offline run's file says, over a stop, and what is refused."""

import pytest

from lightning_modules.callbacks.run_logs import run_loggers
from lightning_modules.callbacks.wandb_run import WandbRun
from tests import wandb_file
from tests.test_resume import EXPERIMENT, OPTIONS


@pytest.fixture
def no_account(train, monkeypatch):
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(train.folder / "no-netrc"))


def test_an_offline_run_that_was_stopped_is_one_run_with_all_that_it_is_made_of(train, no_account, caplog):
    import wandb

    config = train.write("toy", **EXPERIMENT | {"trainer": EXPERIMENT["trainer"] | {"log_every_n_steps": 1}})
    options = (*OPTIONS, "--send_checkpoints=true")
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        with pytest.raises(RuntimeError, match="the power went out"):
            train("fit", *options, "--model.fail_at_step=3", config=config, run_id="night")
        wandb.finish(exit_code=1)
        cli = train("fit", *options, config=config, run_id="night")
        wandb.finish()
    assert sum("wandb sync" in record.message for record in caplog.records) == 2, "said once a start"

    pieces = sorted((cli.folder / "wandb").glob("offline-run-*-night/*.wandb"))
    assert len(pieces) == 2
    for piece in pieces:
        wandb_file.wait_for_end(piece)
        run, said = wandb_file.run(piece), wandb_file.config(piece)
        assert (run.run_id, run.run_group, run.project) == ("night", "toy", "handful")
        assert said["hand_model"] == "toy-hand" and said["experiment"] == "toy"
        assert len(said["commit"].removesuffix("-dirty")) >= 7
        assert said["data_fingerprint"]["clean"].startswith("clean/")
        assert said["data"]["init_args"]["batch_size"] == 2 and said["model"]["init_args"]["lr"] == 0.05
    rows = [wandb_file.history(piece) for piece in pieces]
    losses = [{r["trainer/global_step"]: r["train/loss"] for r in each if "train/loss" in r} for each in rows]
    assert [set(each) for each in losses] == [{0, 1}, {2, 3}] or [set(each) for each in losses] == [{0, 1, 2}, {2, 3}]
    assert any("val/joints_root_mm" in row for row in rows[1])
    assert wandb_file.artifacts(pieces[0]) == {}, "only a run that came to its end sends its checkpoints"
    assert wandb_file.artifacts(pieces[1]) == {"checkpoints-night": ["best.ckpt", "last.ckpt"]}


def test_online_needs_an_account_and_says_so(train, no_account):
    with pytest.raises(ValueError, match=r"wandb: online needs an account; `wandb login` first, or --wandb=offline"):
        run_loggers(train.runs / "toy" / "a", "toy", "online")


def test_the_option_wins_over_the_environment_and_takes_no_other_word(train, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "online")
    assert len(run_loggers(train.runs / "toy" / "a", "toy", "disabled")) == 1
    with pytest.raises(SystemExit):
        train("fit", "--wandb=on-line")
    assert "option 'wandb': expected one of auto, online, offline, disabled, got 'on-line'" in capsys.readouterr().err


def test_a_run_that_wandb_knows_as_another_experiments_is_refused(monkeypatch):
    class Run:
        id, config = "night", {"experiment": "first"}

    monkeypatch.setattr("lightning_modules.callbacks.wandb_run._runs", lambda trainer: [Run])
    with pytest.raises(ValueError, match=r"W&B run 'night' belongs to experiment 'first', this is 'second'"):
        WandbRun({"experiment": "second"}).on_fit_start(None, None)
