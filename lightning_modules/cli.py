"""LightningCLI with what every run here shares: the run folder, its callbacks and loggers, a test at the end."""

import logging
import sys
from argparse import SUPPRESS
from pathlib import Path

from jsonargparse import set_parsing_settings
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from lightning_modules.batch_predictions import BatchPredictions
from lightning_modules.callbacks.bad_step import BadStep
from lightning_modules.callbacks.checkpoints import LastStep, ModelFacts, check_facts, run_checkpoint
from lightning_modules.callbacks.final_table import FinalTable
from lightning_modules.callbacks.out_of_room import OutOfRoom
from lightning_modules.callbacks.pictures import ValidationPictures
from lightning_modules.callbacks.predictions import TestPredictions
from lightning_modules.callbacks.progress import run_progress
from lightning_modules.callbacks.protocol_figures import ProtocolFigures
from lightning_modules.callbacks.run_logs import RunCSVLogger, run_loggers
from lightning_modules.callbacks.run_report import RunReport
from lightning_modules.callbacks.run_state import RunState
from lightning_modules.callbacks.safe_stop import SafeStop, signals_given_back
from lightning_modules.callbacks.wandb_run import WandbRun
from lightning_modules.checkpoint_io import SafeCheckpointIO, check_writable
from lightning_modules.preflight import experiment_name
from lightning_modules.protocols import protocols_of
from lightning_modules.restore import newest_readable, read_checkpoint
from lightning_modules.run_folder import (
    LAST,
    RUN_ID,
    check_tasks,
    folder_of_checkpoint,
    is_launched,
    newest_best,
    settle_run_id,
)
from lightning_modules.run_options import CKPT_PATH_HELP, RUN_OPTIONS, SUBCOMMANDS, TRAINER_HELP

# Lightning's group titles are first lines of docstrings; ours say what the group is.
GROUP_TITLES = {
    "Customize every aspect": "The trainer (the common ones of Lightning's options)",
    "<class 'lightning": "The method (--model.help=<class path> lists its options)",
    "A DataModule standardizes": "The data (--data.help=<class path> lists its options)",
}

# Lightning recommends services by its maker at every start.
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
    lambda record: "Tip: For" not in record.getMessage()
)


class HandParser(LightningArgumentParser):
    """A parser whose --help is short: common Trainer options in a line each, rare ones left out."""

    def format_help(self) -> str:
        """The help text; options are only hidden while it is written (jsonargparse drops what is hidden for good)."""
        spoken = [(action, action.help) for action in self._actions]  # argparse has no public way to its options
        for action in self._actions:
            group, _, name = action.dest.partition(".")
            if group == "trainer" and name:
                action.help = TRAINER_HELP.get(name, SUPPRESS)
            elif action.dest == "ckpt_path":
                action.help = CKPT_PATH_HELP
        for group in self._action_groups:
            known = [title for start, title in GROUP_TITLES.items() if str(group.title).startswith(start)]
            group.title = known[0] if known else group.title
        try:
            return super().format_help()
        finally:
            for action, text in spoken:
                action.help = text


class HandCLI(LightningCLI):
    """The command line of train.py; experiments are configuration files, methods and data are class paths in them."""

    def __init__(self) -> None:
        # ${data...} from the model's section: below a subcommand the parser must make such a path relative
        set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        with signals_given_back():
            super().__init__(
                model_class=LightningModule,
                datamodule_class=LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                # "omegaconf" without the plus resolves ${...} before overrides: dependants would keep the old value
                parser_class=HandParser,
                parser_kwargs={"parser_mode": "omegaconf+"},
                save_config_kwargs={"overwrite": True},  # a requeued run writes the same file again
                seed_everything_default=0,
                auto_configure_optimizers=False,
            )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Fit, validate and test; predict.py does the rest."""
        # checkpoints hold tensors and plain types only, so weights_only needs no choice
        return {name: LightningCLI.subcommands()[name] | {"weights_only", "verbose"} for name in SUBCOMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a run."""
        group = parser.add_argument_group("The run")
        for name, option in RUN_OPTIONS.items():
            group.add_argument(f"--{name}", type=option.type, default=option.default, help=option.help)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would build whatever class a checkpoint names; `_take_arguments_of` is what we do."""

    def before_instantiate_classes(self) -> None:
        """Settle the run folder, and the checkpoint to go on from."""
        try:
            self._settle_run()
        except (ValueError, OSError) as error:
            self.parser.error(str(error))

    def _settle_run(self) -> None:
        config = self.config[self.subcommand]
        self.experiment = config.experiment = config.experiment or experiment_name(sys.argv[1:])
        self.resumed = None
        if self.subcommand == "fit":
            launched = is_launched()
            if config.ckpt_path == "last" and not launched:
                raise ValueError(f"ckpt_path 'last' is the newest of one run: set {RUN_ID}=<run id>, or name the file")
            self.folder = Path(config.runs, self.experiment, settle_run_id())
            if not config.trainer.fast_dev_run:
                check_writable(self.folder)
            if config.ckpt_path == "last" or (launched and config.ckpt_path is None):
                self.resumed, config.ckpt_path = newest_readable(self.folder), None
        else:
            config.ckpt_path = str(config.ckpt_path or newest_best(config.runs, self.experiment))
            print(f"{self.subcommand}: checkpoint {config.ckpt_path}")
            run = folder_of_checkpoint(config.ckpt_path) or Path(config.runs, self.experiment, "foreign")
            self.folder = run / self.subcommand
        if config.ckpt_path is not None:
            self._take_arguments_of(config.ckpt_path)

    def _take_arguments_of(self, checkpoint: str) -> None:
        """The method's arguments as a checkpoint file has them: its weights fit no others."""
        facts = check_facts(read_checkpoint(checkpoint), checkpoint)
        model = self.config[self.subcommand].model
        if facts["class_path"] != model.class_path:
            raise ValueError(
                f"checkpoint {checkpoint}: of {facts['class_path']}, but the configuration names {model.class_path}; "
                "give the configuration it was trained with"
            )
        stored = {"class_path": facts["class_path"], "init_args": facts["init_args"]}
        try:
            self.config = self.parser.parse_object({self.subcommand: {"model": stored}}, self.config)
        except SystemExit:
            print(f"checkpoint {checkpoint}: its arguments do not fit {model.class_path} as it is now", file=sys.stderr)
            raise
        taken = self.config[self.subcommand].model.init_args
        for name, value in model.init_args.items():
            if taken[name] != value:
                print(f"{self.subcommand}: the checkpoint's {name}={taken[name]} wins over {value}")

    def instantiate_classes(self) -> None:
        """Build method, data and trainer; what a constructor refuses is the user's to mend, so no traceback."""
        try:
            super().instantiate_classes()
        except (ValueError, FileNotFoundError) as error:
            # jsonargparse lists every type it tried, on every level; the constructor's own words are the first cause
            while error.__cause__ is not None:
                error = error.__cause__
            self.parser.error(str(error))

    def instantiate_trainer(self, **kwargs: object) -> Trainer:
        """The configuration's Trainer in the run folder, with our callbacks and loggers."""
        config = self.config[self.subcommand]
        kwargs["default_root_dir"] = str(self.folder)
        if config.trainer.logger in (None, True) and not config.trainer.fast_dev_run:
            fitting = self.subcommand == "fit"
            kwargs["logger"] = (
                run_loggers(self.folder, self.experiment, config.wandb) if fitting else [RunCSVLogger(self.folder)]
            )
        given = self._get(self.config_init, "trainer").get("plugins") or []
        kwargs["plugins"] = [*(given if isinstance(given, list) else [given]), SafeCheckpointIO()]
        if config.trainer.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stdout.isatty()
        self.trainer_defaults["callbacks"] = self.run_callbacks()
        trainer = super().instantiate_trainer(**kwargs)
        check_tasks(trainer.num_nodes * trainer.num_devices)
        return trainer

    def run_callbacks(self) -> list[Callback]:
        """What every run carries besides the callbacks of its configuration."""
        config = self.config[self.subcommand]
        self._dump_config()
        callbacks = [FinalTable(), ModelFacts(self.config_dump["model"]), OutOfRoom()]
        if config.trainer.enable_progress_bar is not False:
            callbacks.append(run_progress())
        recorded = self.subcommand == "fit" and not config.trainer.fast_dev_run
        predictions = BatchPredictions()
        if recorded and config.report:
            callbacks.append(RunReport(self.folder, f"{self.experiment}/{self.folder.name}", predictions))
        if config.predictions and self.subcommand != "validate" and not config.trainer.fast_dev_run:
            callbacks.append(TestPredictions(self.folder / "predictions", config.predictions_keep, predictions))
        # of this project's data; others have no datasets that a protocol knows
        datasets = getattr(self.datamodule, "evaluated_datasets", {}) if config.protocols else {}
        if protocols := protocols_of(datasets):
            folder = None if config.trainer.fast_dev_run else self.folder / "figures"
            callbacks.append(ProtocolFigures(protocols, folder, predictions))
        if recorded and config.trainer.enable_checkpointing is not False:
            callbacks += [
                run_checkpoint(self.folder, config.monitor),
                LastStep(last := self.folder / "checkpoints" / LAST),
                SafeStop(last, config.save_every),
                RunState(self.config_dump["data"]),
                BadStep(self.folder / "bad_steps", self.config_dump["model"]),
            ]
        if recorded:
            sent = self.folder / "checkpoints" if config.send_checkpoints else None
            callbacks.append(WandbRun(self.config_dump, sent))
        if recorded and config.picture_samples > 0:
            callbacks.append(ValidationPictures(self.folder / "pictures", config.picture_samples))
        return callbacks

    def fit(self, ckpt_path: str | None = None, **kwargs: object) -> None:
        """Train; a run that was stopped goes on. Its config.yaml does not say so: it is to start the run anew."""
        self.trainer.fit(ckpt_path=ckpt_path or self.resumed, **kwargs)

    def test(self, **kwargs: object) -> None:
        """Test; the final table says what Lightning's own would."""
        self.trainer.test(verbose=False, **kwargs)

    def after_fit(self) -> None:
        """Test the best checkpoint; the final table is drawn from it."""
        if not self.config.fit.test_after_fit or self.trainer.fast_dev_run or self.trainer.interrupted:
            return
        checkpoints = self.trainer.checkpoint_callback
        best = "best" if checkpoints and checkpoints.best_model_path else None
        if best is None:
            rank_zero_info("no best checkpoint (nothing was validated or kept): the last weights are tested")
        self.test(model=self.model, datamodule=self.datamodule, ckpt_path=best)
