"""Options that every run shares, and the Trainer options that --help shows; nothing heavy is imported here."""

from typing import Literal, NamedTuple


class Option(NamedTuple):
    """One option of the command line."""

    type: object
    default: object
    help: str


SUBCOMMANDS = ("fit", "validate", "test")

RUN_OPTIONS = {
    "experiment": Option(str | None, None, "Name of the run's parent folder; the configuration's name if not given."),
    "runs": Option(str, "runs", "Folder of all runs: RUNS/EXPERIMENT/RUN_ID/; RUN_ID comes from the environment."),
    "monitor": Option(str, "val/joints_root_mm", "Metric whose smallest value makes the best checkpoint."),
    "save_every": Option(int, 0, "Write last.ckpt every n-th step besides after validations; 0: then alone."),
    "picture_samples": Option(int, 8, "Validation samples drawn into pictures/ after each validation; 0: none."),
    "predictions": Option(bool, True, "Write what a test predicts to predictions/<source>.npz, for `evaluate`."),
    "predictions_keep": Option(list[str], [], "Of [vertices, parts] what predictions/ holds beside joints."),
    "protocols": Option(bool, True, "Judge validation and test by the datasets' own protocols, too."),
    "wandb": Option(
        Literal["auto", "online", "offline", "disabled"],
        "auto",
        "Log to W&B; auto: as WANDB_MODE says, else online where there is an account, offline where there is none.",
    ),
    "send_checkpoints": Option(bool, False, "Log best.ckpt and last.ckpt as a W&B artifact at the end."),
    "report": Option(bool, True, "Write report.html: curves, tables, pictures, what the run is made of."),
    "test_after_fit": Option(bool, True, "Test the best checkpoint after fit and print the final table."),
}

# Lightning documents more; they work all the same.
TRAINER_HELP = {
    "accelerator": "cpu, gpu or auto.",
    "devices": "Number of devices per node, their indices, or auto.",
    "num_nodes": "Number of machines.",
    "strategy": "ddp, fsdp ...; auto takes ddp for several devices.",
    "precision": "32-true, bf16-mixed, 16-mixed ...",
    "max_epochs": "Stop after this many epochs; -1: never.",
    "max_steps": "Stop after this many optimiser steps; -1: never.",
    "max_time": "Stop after this time, DD:HH:MM:SS.",
    "limit_train_batches": "Batches per training epoch (int) or share of them (float).",
    "limit_val_batches": "Batches per validation (int) or share of them (float).",
    "val_check_interval": "Validate after so many training batches (int), or share of an epoch (float).",
    "check_val_every_n_epoch": "Validate after every n-th epoch.",
    "log_every_n_steps": "Log every n-th step.",
    "gradient_clip_val": "Clip gradients at this norm.",
    "fast_dev_run": "Run one batch of each loop (or n) and write nothing.",
}

CKPT_PATH_HELP = (
    "Checkpoint to go on from (fit) or to judge (test, validate; default: the experiment's newest best). A FILE brings "
    "its own model hyperparameters, which win over the configuration and the command line; `last` (fit), the newest of "
    "this RUN_ID, leaves them in charge."
)
