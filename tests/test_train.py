"""The command line: traps of LightningCLI with interpolation, run folders, early refusal of what is mistyped."""

import csv
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules.callbacks.predictions import TestPredictions
from lightning_modules.callbacks.run_report import RunReport
from lightning_modules.prediction_files import read_predictions
from lightning_modules.preflight import preflight
from tests.command_line import TOY

ROOT = Path(__file__).parent.parent


def saved_config(cli) -> dict:
    return yaml.safe_load((cli.folder / "config.yaml").read_text())


# -- interpolation and overrides


def test_an_override_reaches_what_refers_to_it(train):
    cli = train("fit", "--data.image_size=24")
    assert (cli.datamodule.image_size, cli.model.image_size) == (24, 24)
    assert saved_config(cli)["model"]["init_args"]["image_size"] == 24


def test_one_file_may_refer_to_keys_of_another(train):
    data = train.write("data", data={"class_path": "tests.toys.ToyData", "init_args": {"image_size": 20}})
    method = train.write("method", model=TOY["model"], trainer=TOY["trainer"])
    cli = train("fit", f"--config={data}", "--test_after_fit=false", config=method)
    assert cli.model.image_size == 20
    assert cli.folder.parent.name == "method"


@pytest.mark.parametrize("option", ["--model.lr=0.25", "--model.init_args.lr=0.25"])
def test_sweeps_write_options_with_dashes_and_an_equals_sign(train, option):
    assert train("fit", option, "--test_after_fit=false", "--trainer.max_steps=1").model.lr == 0.25


# -- what is wrong is refused, early and by name

WRONG = {
    "unknown method option": (["--model.learning=1"], r"'model.learning': ToyMethod does not take 'learning'"),
    "near miss": (["--model.image_sise=1"], r"did you mean 'image_size'"),
    "wrong type": (["--model.lr=fast"], r"'model.lr': expected float, got 'fast'"),
    "wrong type, apart": (["--model.init_args.image_size", "wide"], r"expected int, got 'wide'"),
    "wrong choice": (["--model.kind=odd"], r"expected Literal\['plain', 'fancy'\], got 'odd'"),
    "wrong type of several": (["--model.fail_at_step=soon"], r"expected int \| None, got 'soon'"),
    "unknown trainer option": (["--trainer.max_step=1"], r"did you mean 'max_steps'"),
    "unknown group": (["--modle.lr=1"], r"unknown option 'modle.lr'; did you mean 'model'"),
    "unknown option": (["--expriment=a"], r"did you mean 'experiment'"),
    "unknown class": (["--model.class_path=tests.toys.ToyMehtod"], r"no class 'ToyMehtod'; did you mean 'ToyMethod'"),
    "unknown module": (["--model.class_path=tests.toy.ToyMethod"], r"no module 'tests.toy'"),
    "no such file": (["--config=nowhere.yaml"], r"'nowhere.yaml' cannot be read"),
    "a word": (["--trainer.max_steps", "5", "stray"], r"'stray' is no option; options are --key=value"),
    "no such checkpoint": (["--ckpt_path=none.ckpt"], r"'ckpt_path': no such file none.ckpt"),
    "an option of the run": (["--picture_samples=x"], r"'picture_samples': expected int, got 'x'"),
    "a seed": (["--seed_everything=x"], r"'seed_everything': expected a whole number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_refused_by_name_with_exit_code_2(train, capsys, case):
    arguments, message = WRONG[case]
    with pytest.raises(SystemExit) as stop:
        preflight(["fit", f"--config={train.write()}", *arguments])
    assert stop.value.code == 2

    assert re.search(message, capsys.readouterr().err)


def test_a_mistake_in_the_file_is_refused_too(train, capsys):
    model = {"class_path": "tests.toys.ToyMethod", "init_args": {"lrr": 1}}
    with pytest.raises(SystemExit):
        preflight(["fit", f"--config={train.write(model=model)}"])
    assert "'model.init_args.lrr'" in capsys.readouterr().err


RIGHT = {
    "choice and exponent": ["--model=tests.toys.ToyMethod", "--model.kind=fancy", "--model.lr=1e-3"],
    "reference": ["--model=tests.toys.ToyMethod", "--model.image_size=${data.image_size}"],
    "value apart, appended list": [
        "--model=tests.toys.ToyMethod",
        "--model.lr",
        "-3",
        "--trainer.callbacks+=ModelSummary",
        "--trainer.callbacks.a=2",
    ],
    "a class elsewhere": ["--model=somewhere.else.Method", "--model.anything=1", "--seed_everything=1"],
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_passes_without_a_word(case, capsys):
    preflight(["fit", *RIGHT[case]])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model=lightning_modules.deephps.DeepHPS", "--model.loss=foo"],
            r"'model.loss': expected Literal\['squared', 'distance'\], got 'foo'",
        ),
        (
            ["--config", "configs/deephps_rendered.yaml", "--data.augment.rotatoin=3"],
            r"'data.augment.rotatoin'; did you mean 'rotation'",
        ),
    ],
)
def test_names_that_stand_for_choices_and_fields_of_settings_are_known(capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        preflight(["fit", *arguments])
    assert re.search(message, capsys.readouterr().err)


def test_an_experiment_has_to_be_named(capsys):
    with pytest.raises(SystemExit):
        preflight(["fit", "--model.lr=1"])
    assert "no --config given" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--model.lr=fast", "--model.lrr=1", "stray"])
def test_a_mistake_costs_less_than_five_seconds(train, option):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "train.py", "fit", f"--config={train.write()}", option]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 2, result.stderr
    assert option.partition("=")[0].rpartition(".")[2] in result.stderr and "Traceback" not in result.stderr
    # of the processor: others on the machine must not make the test fail
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def test_the_full_parser_has_the_last_word(train, capsys):
    # a string where a list of callbacks belongs is beyond the early check
    with pytest.raises(SystemExit) as stop:
        train("fit", "--trainer.callbacks=[nonsense.Callback]")
    assert stop.value.code == 2
    assert "trainer.callbacks" in capsys.readouterr().err


def test_a_constructors_error_ends_with_its_remedy_and_exit_code_2(train, capsys):
    with pytest.raises(SystemExit) as stop:
        train("fit", "--model.lr=-1")
    assert stop.value.code == 2
    assert "lr: expected a positive learning rate, got -1; set model.init_args.lr" in capsys.readouterr().err


# -- the run folder


def test_a_run_leaves_config_metrics_checkpoints_and_pictures_in_its_folder(train, capsys):
    cli = train("fit", run_id="first")
    folder = train.runs / "toy" / "first"
    assert cli.folder == folder
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "config.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "pictures/step_0000004.png",
        "predictions/toy.npz",
        "report.html",
    }
    table = capsys.readouterr().out
    assert "Test errors, mm" in table and "mean pose" in table and "Procrustes" in table


def test_a_test_leaves_its_predictions_under_their_keys(train):
    cli = train("fit", run_id="first")
    prediction, keys = read_predictions(cli.folder / "predictions" / "toy.npz")
    assert keys == [f"toy/{i}" for i in range(8)]
    expected = cli.model.joints.detach() + torch.tensor([0, 0, 0.5])
    torch.testing.assert_close(prediction.joints_3d, expected.expand(8, 21, 3))
    assert prediction.vertices is None
    (cli.folder / "test" / "predictions").mkdir(parents=True)
    (cli.folder / "test" / "predictions" / "toy.rank0007.npz").write_text("cut off")
    train("test", "--data.length=4")
    assert read_predictions(cli.folder / "test" / "predictions" / "toy.npz")[1] == [f"toy/{i}" for i in range(4)]


def test_vertices_and_parts_are_kept_on_request(train, tmp_path):
    cli = train("fit", "--predictions_keep=[parts]", run_id="first")
    prediction, _ = read_predictions(cli.folder / "predictions" / "toy.npz")
    assert prediction.vertices is None and prediction.parts.shape == (8, 2, 2) and (prediction.parts == 3).all()
    with pytest.raises(ValueError, match="predictions_keep: expected one of 'vertices', 'parts', got 'mesh'"):
        TestPredictions(tmp_path, ["mesh"])


def test_a_requeued_run_goes_on_in_the_same_folder(train):
    train("fit", "--test_after_fit=false", run_id="same")
    cli = train("fit", "--trainer.max_steps=8", "--test_after_fit=false", run_id="same")
    assert cli.trainer.global_step == 8
    assert len(cli.model.seen) == 4 * 2  # only the steps after the first four
    assert saved_config(cli)["trainer"]["max_steps"] == 8
    with open(cli.folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["val/joints_root_mm"]] == [3, 7]


def test_the_test_of_an_early_checkpoint_leaves_the_rows_behind_it(train):
    # joints of zeros move off the hands: the first validation is the best
    cli = train("fit", "--model.lr=100", "--trainer.val_check_interval=2")
    best, last = (
        torch.load(cli.folder / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    )
    assert best["global_step"] == 2 < last["global_step"] == 4
    with open(cli.folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["val/joints_root_mm"]] == [1, 3]
    seconds = next(each.seconds for each in cli.trainer.callbacks if isinstance(each, RunReport))
    assert seconds >= last["callbacks"]["RunReport"]["seconds"] > best["callbacks"]["RunReport"]["seconds"]


def test_checkpoints_hold_tensors_and_plain_types_only(train):
    cli = train("fit", "--test_after_fit=false")
    for name in ("best", "last"):
        checkpoint = torch.load(cli.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["handful"]["class_path"] == "tests.toys.ToyMethod"
        assert checkpoint["handful"]["init_args"]["image_size"] == 16
        assert checkpoint["handful"]["hand_model"] == "toy-hand"


def test_a_checkpoint_file_brings_its_hyperparameters_and_last_does_not(train):
    file = train("fit", "--test_after_fit=false", run_id="a").folder / "checkpoints" / "last.ckpt"
    more = ("--model.lr=0.5", "--test_after_fit=false")
    assert train("fit", f"--ckpt_path={file}", *more, run_id="b").model.lr == 0.05
    assert train("fit", "--ckpt_path=last", *more, run_id="a").model.lr == 0.5
    assert train("fit", *more, run_id="a").model.lr == 0.5  # a requeue


def test_a_run_named_by_a_sweeps_agent_goes_on_too(train, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "sweep3")
    assert train("fit", "--test_after_fit=false").folder.name == "sweep3"
    cli = train("fit", "--trainer.max_steps=8", "--test_after_fit=false")
    assert cli.folder.name == "sweep3" and len(cli.model.seen) == 4 * 2


def test_ranks_do_not_go_on_from_what_lies_in_the_folder_of_a_new_run(train, monkeypatch):
    folder = train("fit", "--test_after_fit=false", run_id="new").folder
    monkeypatch.setenv("RUN_ID_MADE", "new")  # as the parent that made the id hands it down
    rank = train("fit", "--test_after_fit=false", run_id="new")
    assert rank.folder == folder and len(rank.model.seen) == 4 * 2


# -- the end of a run


def checkpoint(cli, name: str) -> dict:
    return torch.load(cli.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_a_run_shorter_than_the_interval_of_validations_is_validated_and_tested(train, capsys):
    cli = train("fit", "--trainer.max_steps=2", "--trainer.val_check_interval=4")
    assert checkpoint(cli, "best")["global_step"] == checkpoint(cli, "last")["global_step"] == 2
    assert "Test errors, mm" in capsys.readouterr().out


def test_the_last_steps_are_in_the_last_checkpoint(train):
    cli = train("fit", "--trainer.max_steps=3", "--trainer.val_check_interval=2", "--test_after_fit=false")
    assert checkpoint(cli, "last")["global_step"] == 3
    torch.testing.assert_close(checkpoint(cli, "last")["state_dict"]["joints"], cli.model.joints.detach())


@pytest.mark.parametrize("option", ["--trainer.limit_val_batches=0", "--trainer.check_val_every_n_epoch=5"])
def test_a_run_without_validation_keeps_and_tests_its_last_weights(train, capsys, caplog, option):
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        cli = train("fit", "--trainer.max_steps=6", option)
    assert checkpoint(cli, "last")["global_step"] == 6
    assert "Test errors, mm" in capsys.readouterr().out
    assert any("the last weights are tested" in record.message for record in caplog.records)


def test_steps_after_the_last_validated_epoch_are_kept(train):
    cli = train("fit", "--trainer.max_steps=12", "--trainer.check_val_every_n_epoch=2", "--test_after_fit=false")
    assert checkpoint(cli, "best")["global_step"] == 8
    assert checkpoint(cli, "last")["global_step"] == 12


def test_a_runs_own_config_starts_the_same_experiment_anew(train):
    first = train("fit", "--test_after_fit=false", run_id="first")
    train("fit", "--trainer.max_steps=5", "--test_after_fit=false", run_id="first")  # a requeue
    again = train("fit", config=first.folder / "config.yaml", run_id="again")
    assert again.folder == train.runs / "toy" / "again"
    assert len(again.model.seen) == 5 * 2


def test_last_needs_a_run_to_be_the_last_of(train, capsys):
    with pytest.raises(SystemExit):
        train("fit", "--ckpt_path=last")
    assert "set RUN_ID=" in capsys.readouterr().err


def test_test_takes_the_newest_best_checkpoint_and_says_which(train, capsys):
    cli = train("fit", "--test_after_fit=false")
    capsys.readouterr()
    tested = train("test")
    said = capsys.readouterr().out
    assert str(cli.folder / "checkpoints" / "best.ckpt") in said and "Test errors" in said
    assert tested.folder == cli.folder / "test"
    torch.testing.assert_close(tested.model.joints, cli.model.joints)


@pytest.mark.parametrize("subcommand", ["test", "validate"])
@pytest.mark.parametrize("named", [False, True])
def test_a_checkpoints_own_arguments_win_where_it_is_judged(train, capsys, subcommand, named):
    cli = train("fit", "--test_after_fit=false", "--model.kind=fancy", "--model.lr=0.125")
    file = [f"--ckpt_path={cli.folder / 'checkpoints' / 'best.ckpt'}"] if named else []
    capsys.readouterr()
    judged = train(subcommand, *file)
    assert (judged.model.hparams.kind, judged.model.lr) == ("fancy", 0.125)
    assert "the checkpoint's kind=fancy wins over plain" in capsys.readouterr().out


def test_a_checkpoint_of_another_method_is_refused_by_name(train, capsys):
    file = train("fit", "--test_after_fit=false").folder / "checkpoints" / "best.ckpt"
    other = train.write("other", **TOY | {"model": {"class_path": "tests.toys.FlatHand"}})
    with pytest.raises(SystemExit) as stop:
        train("test", f"--ckpt_path={file}", config=other)
    assert stop.value.code == 2
    assert "of tests.toys.ToyMethod, but the configuration names tests.toys.FlatHand" in capsys.readouterr().err


def test_a_checkpoint_with_arguments_of_older_code_is_refused_by_name(train, capsys):
    cli = train("fit", "--test_after_fit=false")
    file, content = train.folder / "old.ckpt", checkpoint(cli, "best")
    content["handful"]["init_args"]["forgotten"] = 1
    torch.save(content, file)
    with pytest.raises(SystemExit) as stop:
        train("test", f"--ckpt_path={file}")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "old.ckpt: its arguments do not fit" in error and "forgotten" in error


@pytest.mark.parametrize("subcommand", ["fit", "test"])
def test_what_is_no_checkpoint_is_refused(train, capsys, subcommand):
    (train.folder / "text.ckpt").write_text("no")
    for name, message in (("text.ckpt", "cannot be read"), ("nowhere.ckpt", "no such file")):
        with pytest.raises(SystemExit) as stop:
            train(subcommand, f"--ckpt_path={train.folder / name}")
        assert stop.value.code == 2 and message in capsys.readouterr().err


def test_test_without_a_checkpoint_says_how_to_get_one(train, capsys):
    with pytest.raises(SystemExit):
        train("test")
    assert "make train" in capsys.readouterr().err


# -- help


def test_help_without_a_subcommand_is_at_hand_and_short():
    result = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "configs/<experiment>.yaml" in result.stdout


def test_help_of_fit_is_readable(monkeypatch, capsys):
    from lightning_modules.cli import HandCLI

    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--help"])
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as stop:
        HandCLI()
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert len(text.splitlines()) < 150
    assert "win over the configuration" in " ".join(text.split())
    assert "--trainer.model_registry" not in text


def test_train_py_is_thin_and_names_no_method():
    text = (ROOT / "train.py").read_text()
    assert len(text.splitlines()) <= 60
    assert not any(name in text.lower() for name in ("deephps", "neverova", "dhpe", "vae"))


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
def test_ranks_share_one_run_folder_and_what_they_go_on_from(train, monkeypatch, named):
    monkeypatch.delenv("RUN_ID", raising=False)
    if named:
        monkeypatch.setenv("WANDB_RUN_ID", "sweep3")
    command = [sys.executable, "train.py", "fit", f"--config={train.write()}", f"--runs={train.runs}"]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    for steps in (2, 3) if named else (2,):  # the second goes on from the first: ranks that disagree would not end
        result = subprocess.run([*command, f"--trainer.max_steps={steps}"], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        (folder,) = (train.runs / "toy").iterdir()
        last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] == steps
        assert (folder / "checkpoints" / "best.ckpt").exists() and (folder / "metrics.csv").exists()
        assert result.stdout.count("Test errors") == 1
    assert ("Restored all states" in result.stderr) is named


def test_another_interpreter_is_told_what_to_do(tmp_path):
    for program in ("train.py", "predict.py"):
        # -S: without the packages that are installed
        words = [sys.executable, "-S", program, "fit" if program == "train.py" else "frame.png"]
        result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env={"PATH": ""})
        assert result.returncode == 2 and "make install" in result.stderr, result.stderr
        assert "Traceback" not in result.stderr
