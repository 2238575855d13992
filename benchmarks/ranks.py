"""One process against two of half the batch: the same losses, weights and metrics; what options change beside it.

    python -m benchmarks.ranks

DeepHPS with its smallest networks on rendered hands, a few steps. Its batch normalisation is exchanged for a
normalisation of each sample: on CPUs every process would normalise its own half (GPUs: --trainer.sync_batchnorm=true).
The validation's 13 hands are no multiple of the batch: were the last batch filled up or counted twice, metrics would
differ. The last arm has hands without a mesh alone in some halves, where the shape's networks get no gradient, and
epochs that do not divide by the processes: it has to end, without find_unused_parameters.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table
from torch import Tensor, nn

from benchmarks.report import emit
from lightning_modules.run_folder import LAST

ROOT = Path(__file__).parent.parent
BATCH, STEPS = 8, 6
_TRACE = "losses.txt"
_TWO = {"trainer.devices": 2, "trainer.strategy": "ddp"}
_HALF = {"data.batch_size": BATCH // 2}
ONE = "1 process"
ARMS: dict[str, dict[str, object]] = {
    ONE: {},
    "2 processes, half the batch": _TWO | _HALF,
    "1 process, half the batch, 2 accumulated": _HALF | {"trainer.accumulate_grad_batches": 2},
    "2 processes, half the batch, bf16": _TWO | _HALF | {"trainer.precision": "bf16-mixed"},
}
UNEVEN = _TWO | {
    "data.batch_size": 1,
    "data.domains": "{clean: 0.25, sensor: 0.75}",
    "data.hide": "{sensor: [mesh, parts]}",
    "data.epoch_size": 7,
}


class Arm(NamedTuple):
    """What a run ended with."""

    losses: list[float]  # of every step, the mean of all its samples
    weights: dict[str, Tensor]
    metrics: dict[str, float]  # of the last validation
    steps: int


class EvenTerms(Callback):
    """Normalises samples instead of batches, and writes the loss of all processes' samples."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Exchange layers before the optimiser sees them."""
        for module in list(pl_module.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    setattr(module, name, nn.GroupNorm(1, child.num_features))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Tensor], batch: object, batch_idx: int
    ) -> None:
        """One line per batch."""
        loss = trainer.strategy.reduce(outputs["loss"].detach().float().clone(), reduce_op="mean")
        if trainer.is_global_zero:
            with open(Path(trainer.default_root_dir, _TRACE), "a") as file:
                file.write(f"{loss.item():.9g}\n")


def experiment() -> dict:
    """What all arms share."""
    trunks = {name: "tiny" for name in ("pose_trunk", "scale_trunk", "shape_trunk")}
    trainer = {"max_steps": STEPS, "val_check_interval": 1.0, "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    trainer |= {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    data = {"domains": "clean", "modalities": ["depth"], "batch_size": BATCH, "epoch_size": BATCH * STEPS // 2}
    data |= {"val_size": 13, "test_size": 2, "num_workers": 0}
    return {
        "seed_everything": 0,
        "test_after_fit": False,
        "picture_samples": 0,
        "protocols": False,
        "trainer": trainer | {"callbacks": [{"class_path": "benchmarks.ranks.EvenTerms"}]},
        "model": {"class_path": "lightning_modules.deephps.DeepHPS", "init_args": trunks | {"warmup_steps": 2}},
        "data": {"class_path": "datamodules.rendered.RenderedHandsData", "init_args": data},
    }


def run(folder: Path, name: str, changes: dict[str, object]) -> Arm:
    """Run an arm to its end."""
    config = folder / "ranks.yaml"
    config.write_text(yaml.safe_dump(experiment()))
    run_id = "".join(letter if letter.isalnum() else "-" for letter in name)
    command = [sys.executable, "train.py", "fit", f"--config={config}", f"--runs={folder / 'runs'}"]
    command += [f"--{key}={value}" for key, value in changes.items()]
    environ = os.environ | {"RUN_ID": run_id, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    made = folder / "runs" / config.stem / run_id
    last = torch.load(made / "checkpoints" / LAST, weights_only=True)
    per_step = int(str(changes.get("trainer.accumulate_grad_batches", 1)))
    losses = [float(line) for line in (made / _TRACE).read_text().split()]
    steps = [sum(losses[i : i + per_step]) for i in range(0, len(losses), per_step)]  # each is divided by their number
    weights = {key: value for key, value in last["state_dict"].items() if isinstance(value, Tensor)}
    return Arm(steps, weights, _validated(made / "metrics.csv"), last["global_step"])


def _validated(metrics: Path) -> dict[str, float]:
    """Figures of the last validation."""
    found: dict[str, float] = {}
    with open(metrics, newline="") as file:
        for row in csv.DictReader(file):
            found |= {name: float(value) for name, value in row.items() if name.startswith("val/") and value}
    return found


def differences(arm: Arm, one: Arm) -> dict[str, float]:
    """Largest differences of an arm from one process: losses and metrics relative, weights as they are."""
    shared = [(arm.metrics[name], value) for name, value in one.metrics.items()]
    return {
        "loss": max(_relative(a, b) for a, b in zip(arm.losses, one.losses, strict=True)),
        "metric": max(_relative(a, b) for a, b in shared),
        "weight": max(
            (arm.weights[name].double() - value.double()).abs().max().item() for name, value in one.weights.items()
        ),
    }


def _relative(left: float, right: float) -> float:
    return abs(left - right) / max(abs(right), 1e-6)


def main() -> None:
    """Run the arms, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results")
    given = parser.parse_args()
    shown = Table(
        "arm", "last loss", "joints, mm", "loss differs", "metric differs", "weight differs", title="Processes"
    )
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        arms = {arm: run(Path(name), arm, changes) for arm, changes in ARMS.items()}
        for arm, found in arms.items():
            print(f"{arm}: {differences(found, arms[ONE])}", file=sys.stderr, flush=True)
        uneven = run(Path(name), "uneven", UNEVEN)
    for arm, found in arms.items():
        far = differences(found, arms[ONE])
        joints = found.metrics["val/joints_root_mm"]
        shown.add_row(arm, f"{found.losses[-1]:.6f}", f"{joints:.4f}", *(f"{value:.1e}" for value in far.values()))
        short = "_".join("".join(letter if letter.isalnum() else " " for letter in arm).split())
        figures |= {f"{short}_{what}_differs": float(f"{value:.3g}") for what, value in far.items()}
        figures |= {f"{short}_joints_root_mm": round(joints, 4)}
    shown.add_row(f"2 processes, uneven ({uneven.steps} steps)", f"{uneven.losses[-1]:.6f}", "ended", "", "", "")
    emit("ranks", figures | {"uneven_steps": uneven.steps, "steps": STEPS}, shown, given.save)


if __name__ == "__main__":
    main()
