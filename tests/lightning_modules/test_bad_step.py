"""A step that is no number: the run stops before its weights are spoilt, and the step can be taken again."""

import errno

import pytest
import torch

import train as command
from lightning_modules import checkpoint_io, restore
from lightning_modules.callbacks.bad_step import BadStep
from lightning_modules.callbacks.run_logs import run_loggers
from lightning_modules.method import HandMethod
from lightning_modules.replay import replay
from tests.command_line import TOY


class Spoilt(HandMethod):
    """Its loss, or the gradient of a finite loss, is no number at a step of choice."""

    hand_model_id = "toy-hand"

    def __init__(self, loss_at: float = -1.0, gradient_at: float = -1.0, report_domains: list[str] | None = None):
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.ones(3))

    @property
    def source_needs(self):
        return {"every": [], "some": []}

    def estimate(self, batch):
        return self.weight

    def losses(self, estimate, batch):
        near = estimate.square().sum() * torch.rand(())
        if self.training and self.global_step == self.hparams.loss_at:
            near = near * torch.nan
        if self.training and self.global_step == self.hparams.gradient_at:
            near = near + torch.sqrt(estimate - estimate.detach()).sum()  # 0, with an infinite slope
        return {"near": near, "total": near}

    def measure(self, estimate, batch, stage):
        self.log(f"{stage}/joints_root_mm", 1.0, batch_size=2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    "what, message", [("loss_at", "training loss: expected a finite"), ("gradient_at", "gradient: exp")]
)
def test_the_run_stops_and_the_step_is_kept(train, monkeypatch, capsys, what, message):
    monkeypatch.setattr(restore, "METHODS", ("tests.",))
    model = {"class_path": "tests.lightning_modules.test_bad_step.Spoilt", "init_args": {what: 2.0}}
    config = train.write("spoilt", model=model, data=TOY["data"], trainer=TOY["trainer"] | {"val_check_interval": 1})
    with pytest.raises(ValueError, match=message) as stop:
        train("fit", "--picture_samples=0", config=config, run_id="a")
    folder = train.runs / "spoilt" / "a"
    file = folder / "bad_steps" / "step_0000002_rank0.ckpt"
    assert f"python train.py replay {file}" in stop.value.__notes__[0]
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    kept = torch.load(file, weights_only=True)
    assert kept["state_dict"]["weight"].isfinite().all() and kept["batch"]["key"] == ["toy/4", "toy/5"]
    kept["batch"]["depth"][0, 0, 0, 0] = torch.nan
    torch.save(kept, file)
    monkeypatch.setattr("sys.argv", ["train.py", "replay", str(file)])
    command.main()
    said = capsys.readouterr().out
    assert "2 samples: toy/4, toy/5" in said and "batch depth: not finite" in said
    assert ("loss near: nan" in said) == (what == "loss_at") and "gradient of weight: not finite" in said
    with pytest.raises(ValueError, match=r"last.ckpt: a checkpoint, but not of a step that failed"):
        replay(folder / "checkpoints" / "last.ckpt")


def test_a_step_is_replayed_with_its_random_numbers(train, monkeypatch):
    monkeypatch.setattr(restore, "METHODS", ("tests.",))
    model = {"class_path": "tests.lightning_modules.test_bad_step.Spoilt", "init_args": {"gradient_at": 1.0}}
    losses, of = [], Spoilt.losses

    def noted(self, estimate, batch):
        terms = of(self, estimate, batch)
        losses.append((self.training, terms["near"].item()))
        return terms

    monkeypatch.setattr(Spoilt, "losses", noted)
    with pytest.raises(ValueError, match="gradient: exp"):
        train("fit", "--picture_samples=0", config=train.write("spoilt", **TOY | {"model": model}), run_id="a")
    (file,) = (train.runs / "spoilt" / "a" / "bad_steps").iterdir()
    last = [loss for training, loss in losses if training][-1]
    assert f"loss near: {last:g}" in replay(file)


def test_weights_that_are_no_numbers_replace_no_checkpoint(train, monkeypatch):
    """As on a GPU, where not every step is looked at."""
    monkeypatch.setattr(restore, "METHODS", ("tests.",))
    monkeypatch.setattr(BadStep, "on_before_optimizer_step", lambda *_: None)
    model = {"class_path": "tests.lightning_modules.test_bad_step.Spoilt", "init_args": {"gradient_at": 2.0}}
    config = train.write("spoilt", model=model, data=TOY["data"], trainer=TOY["trainer"] | {"val_check_interval": 1})
    with pytest.raises(
        ValueError, match=r"weights: expected finite numbers, .* at step 3; the checkpoint before is good"
    ):
        train("fit", "--picture_samples=0", config=config, run_id="a")
    last = torch.load(train.runs / "spoilt" / "a" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2 and last["state_dict"]["weight"].isfinite().all()


# -- what is refused at the start


@pytest.mark.parametrize(
    "number, words", [(errno.EROFS, "Read-only file system"), (errno.EDQUOT, "Disk quota exceeded")]
)
def test_a_run_folder_that_cannot_be_written_is_refused_before_the_run(train, monkeypatch, capsys, number, words):
    def refuse(*_: object) -> None:
        raise OSError(number, words)

    monkeypatch.setattr(checkpoint_io.os, "fsync", refuse)
    with pytest.raises(SystemExit) as stop:
        train("fit", run_id="a")
    assert stop.value.code == 2
    assert f"cannot be written ({words}" in capsys.readouterr().err


def test_a_run_folder_under_a_file_is_refused_by_name(train, capsys):
    train.runs.write_text("a file")
    with pytest.raises(SystemExit):
        train("fit", run_id="a")
    assert "runs/toy/a/.probe: cannot be written" in capsys.readouterr().err


def test_an_id_that_wandb_knows_from_another_experiment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "first" / "night" / "wandb" / "offline-run-20260101_000000-night").mkdir(parents=True)
    taken = r"RUN_ID 'night': W&B has a run of the id 'night' in .*first/night, another one.*choose another"
    with pytest.raises(ValueError, match=taken):
        run_loggers(tmp_path / "second" / "night", "second")
    monkeypatch.setenv("WANDB_RUN_ID", "night")
    with pytest.raises(ValueError, match=r"RUN_ID 'day': W&B has a run of the id 'night' in .*first/night"):
        run_loggers(tmp_path / "first" / "day", "first")
