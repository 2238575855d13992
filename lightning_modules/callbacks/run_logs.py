"""Loggers of a run folder: metrics.csv that a requeue continues, and W&B that needs neither network nor account."""

import csv
import os
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

WANDB_PROJECT = "handful"


class _ContinuedWriter(ExperimentWriter):
    """Writes metrics.csv after the rows that are there; Lightning's own deletes them."""

    def _check_log_dir_exists(self) -> None:
        if os.path.isfile(self.metrics_file_path):
            with open(self.metrics_file_path, newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def log_hparams(self, params: dict[str, object]) -> None:
        """Nothing: config.yaml says them."""


class RunCSVLogger(CSVLogger):
    """`<run folder>/metrics.csv`; a run that goes on appends to the rows of the steps it does not do again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="")

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer, made at first use on rank 0."""
        if rank_zero_only.rank == 0 and self._experiment is None:
            Path(self.save_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _ContinuedWriter(log_dir=self.log_dir)
        return super().experiment

    @rank_zero_only
    def keep_before(self, step: int) -> None:
        """Drop the rows of `step` and later, which a run that goes on from there logs again, and what is cut off."""
        path = Path(self.save_dir, "metrics.csv")
        if not path.is_file():
            return
        if step == 0:  # the columns, too, come in the order of a new run
            path.unlink()
            return
        with open(path, newline="") as file:
            first, *rows = list(csv.reader(file)) or [[]]
        if "step" not in first:
            return
        place = first.index("step")
        kept = [row for row in rows if len(row) == len(first) and row[place].isdecimal() and int(row[place]) < step]
        written = path.with_name(".metrics.csv.writing")
        with open(written, "w", newline="") as file:
            csv.writer(file).writerows([first, *kept])
        os.replace(written, path)


def run_loggers(folder: Path, experiment: str, mode: str = "auto") -> list[Logger]:
    """metrics.csv always; W&B as `mode` says.

    Args:
        folder: the run folder; its name is also the W&B run's id, so that a requeue continues the same W&B run.
        experiment: groups the runs of one experiment in W&B.
        mode: online, offline or disabled; auto takes WANDB_MODE, or else offline where there is no account.
    """
    loggers: list[Logger] = [RunCSVLogger(folder)]
    asked = os.environ.get("WANDB_MODE") if mode == "auto" else mode
    if asked == "disabled":
        return loggers
    wandb_id = os.environ.get("WANDB_RUN_ID", folder.name)
    _refuse_a_taken_id(wandb_id, folder)
    import wandb  # a second of import that disabled spares

    offline = asked in ("offline", "dryrun")
    if not offline and not wandb.login(prompt=False, verify=False):
        if mode == "online":
            raise ValueError("wandb: online needs an account; `wandb login` first, or --wandb=offline")
        offline = asked is None
    if offline:
        rank_zero_info(
            f"W&B: logging offline into {folder / 'wandb'}; send it with `wandb sync`, or `wandb login` beforehand"
        )
    # W&B falls back to a temporary folder where its own does not exist yet
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    wandb_logger = WandbLogger(
        project=os.environ.get("WANDB_PROJECT", WANDB_PROJECT),
        name=f"{experiment}/{folder.name}",
        group=experiment,
        id=wandb_id,
        save_dir=folder,
        resume="allow",
        offline=offline,
        # Lightning's `offline` only sets the environment, which W&B has read by now
        mode="offline" if offline else "online" if mode == "online" else None,
        settings=wandb.Settings(silent=offline),  # offline it has nothing to say that was not said above
    )
    return [*loggers, wandb_logger]


def _refuse_a_taken_id(wandb_id: str, folder: Path) -> None:
    """Raise if the run of this id that W&B has files of lies in another folder of the same runs."""
    for piece in folder.parent.parent.glob(f"*/*/wandb/*run-????????_??????-{wandb_id}"):
        if (other := piece.parent.parent) != folder:
            raise ValueError(
                f"RUN_ID '{folder.name}': W&B has a run of the id '{wandb_id}' in {other}, another one, and would log "
                "both as one; choose another RUN_ID, or --wandb=disabled"
            )
