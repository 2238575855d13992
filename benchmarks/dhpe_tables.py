"""The ablation of DHPE's paper (figure 5) and the masks of its table 2, on rendered photographs and real pictures.

    python -m benchmarks.dhpe_tables --budget cpu --seeds 3 [--real FOLDER] [--list]

Sizes and arms stand in configs/benchmarks/dhpe_tables.yaml. Each arm x seed is one run of train.py; its figures are
kept in benchmarks/results/dhpe_tables/. What is there, made by the same command, is not run again. --real names a
folder with the real-world test set of Ge et al. (CVPR 2019), on which every run is judged as well, never trained or
chosen.
"""

import csv
import time
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
from rich.console import Group
from rich.table import Table

from benchmarks.dhpe_judged import ALIGNMENTS, MASK_MEASURES, SHOWN, judged, photo_pictures, real_pictures
from benchmarks.experiment_runs import (
    RUNS,
    Figures,
    Run,
    keep,
    kept_figures,
    listed,
    missing,
    options,
    read_budget,
    seeded,
    spread,
    table_parser,
    train,
)
from benchmarks.report import RESULTS, emit
from lightning_modules.restore import restore_method

CONFIG = Path("configs/benchmarks/dhpe_tables.yaml")
TABLE = "dhpe_tables"
UNREFINED = "without test refinement"  # of `full`
FIRST = "first stage"  # what all arms begin with
CONVENTION = "joints in the convention ge, calibrated on 59 of the 117 hands' labels"
_CALLBACKS = "lightning_modules.callbacks"
SCHEDULE = f"{_CALLBACKS}.shape_schedule.HierarchicalShapeLoss"
AUGMENTATION = f"{_CALLBACKS}.self_augmentation.SelfSupervisedAugmentation"
_CURVES = {"near_share": "shape/near_share", "val_joints_root_mm": "val/joints_root_mm"}  # of figure 5f


class Budget:
    """One budget of the configuration.

    Attributes:
        name: of the budget.
        pictures: of the test split, that figures are taken on.
        size: side of the pictures, pixels.
    """

    def __init__(self, name: str, config: Path = CONFIG) -> None:
        self.name, (self._content, self._base) = name, read_budget(config, name)
        self.pictures, self.size = self._base["pictures"], self._base["overrides"]["data.init_args.image_size"]

    def plan(self, seeds: int) -> list[Run]:
        """What all arms begin with, if anything, then their runs, seed by seed: a stopped command leaves tables."""
        first = []
        if config := self._base.get("first"):
            command = ["fit", f"--config={config}", *options(self._content["shared"] | seeded(0))]
            first = [Run(TABLE, self.name, FIRST, 0, command, by_settings=True)]
        arms = self._content["arms"].items()
        return first + [self._run(arm, facts, seed, *first) for seed in range(seeds) for arm, facts in arms]

    def _run(self, arm: str, facts: dict[str, Any], seed: int, first: Run | None = None) -> Run:
        near = {"threshold": self._base["threshold"]}
        schedule = {"schedule": facts.get("schedule", "hierarchical")} | near
        callbacks = [{"class_path": SCHEDULE, "init_args": schedule}]
        if facts.get("augmentation", True):
            callbacks.append({"class_path": AUGMENTATION, "init_args": self._base["augmentation"] | near})
        settings = self._content["shared"] | self._base["overrides"] | {"trainer.callbacks": callbacks}
        if first is not None:
            settings["model.init_args.init_from"] = str(first.best(Path(RUNS)))
        settings |= facts.get("overrides", {}) | seeded(seed)
        command = ["fit", f"--config={self._base['config']}", *options(settings)]
        return Run(TABLE, self.name, arm, seed, command, first.run_id if first else None)

    def figures(self, run: Run, runs_folder: Path) -> Figures:
        """What a run that is through says in domain, and how it learnt."""
        found = judged(restore_method(run.best(runs_folder)), photo_pictures(self.pictures, self.size))
        return found | learning_curves(run.folder(runs_folder) / "metrics.csv")


def learning_curves(metrics: Path) -> Figures:
    """Shares of instances under the threshold by epoch, errors of validation, and the step of each, of a run's file."""
    curves: dict[str, list[float]] = {}
    with open(metrics, newline="") as file:
        rows = list(csv.DictReader(file))
    for name, column in _CURVES.items():
        there = [row for row in rows if row.get(column)]
        curves[name] = [round(float(row[column]), 4) for row in there]
        curves[f"{name}_steps"] = [int(row["step"]) + 1 for row in there]
    if absent := [column for name, column in _CURVES.items() if not curves[name]]:
        raise ValueError(f"{metrics}: no {', '.join(absent)}; the run did not reach the end of an epoch")
    return curves


def real_result(run: Run) -> Path:
    """Where a run's figures on real pictures are kept."""
    return RESULTS / run.table / run.budget / f"real-{run.name}.json"


def real_figures(run: Run) -> Figures | None:
    """A run's figures on real pictures, if they are there."""
    return kept_figures(real_result(run), {"weights": run.run_id})


def judge_on_real(run: Run, runs_folder: Path, folder: Path, size: int) -> None:
    """Judge a run on real pictures, and keep the figures."""
    start = time.monotonic()
    found = judged(restore_method(run.best(runs_folder)), real_pictures(folder, size))
    keep(real_result(run), {"weights": run.run_id}, found, (time.monotonic() - start) / 60)


def rows(runs: list[Run]) -> dict[str, list[dict[str, float]]]:
    """Row of the table to the figures of every seed that is there, single numbers; on real pictures as `real_...`.

    What a run says before it refines is there as `unrefined_...`, but in the row that is no arm.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for run in runs:
        ends = {run.arm: -1} | ({UNREFINED: 0} if run.arm == "full" else {})
        for row, end in ends.items():
            found.setdefault(row, [])
            if (own := run.figures()) is None:
                continue
            real = {f"real_{name}": value for name, value in (real_figures(run) or {}).items()}
            names = [f"{which}joints_{a}_mm" for which in ("", "real_") for a in ALIGNMENTS] + list(MASK_MEASURES)
            both = own | real
            before = {f"unrefined_{name}": both[name][0] for name in names if name in both and end != 0}
            found[row].append({name: both[name][end] for name in names if name in both} | before)
    return found


def constants(runs: list[Run]) -> dict[str, float]:
    """Errors of the constant pose that suits the test labels best, by column; the same for all runs."""
    for run in runs:
        if (own := run.figures()) is not None:
            real = {f"real_{name}": value for name, value in (real_figures(run) or {}).items()}
            both = own | real
            return {
                f"{which}joints_{a}_mm": both[f"{which}mean_pose_{a}_mm"]
                for which in ("", "real_")
                for a in ALIGNMENTS
                if f"{which}mean_pose_{a}_mm" in both
            }
    return {}


def summary(runs: list[Run]) -> tuple[list[Table], dict[str, float | list[float]]]:
    """Joints and masks, row by row, as means and spreads over the seeds that are there; and the curves of figure 5."""
    errors = [f"{which}joints_{a}_mm" for which in ("", "real_") for a in ALIGNMENTS]
    heads = ("seeds", "root", "Procrustes", "real, root", "real, Procrustes")
    joints = Table("joints, mm", *heads, caption=CONVENTION)
    unrefined = Table("joints before refinement, mm", *heads)
    masks = Table("masks, %", "seeds", "pixels", "classes", "mean IoU", "IoU by frequency")
    figures: dict[str, float | list[float]] = {}
    if fixed := constants(runs):
        joints.add_row("constant pose", "", *(f"{fixed[c]:.2f}" if c in fixed else "-" for c in errors))
        figures |= {f"constant pose: {column}": value for column, value in fixed.items()}
    before = [f"unrefined_{name}" for name in errors]
    for row, each in rows(runs).items():
        for table, columns in ((joints, errors), (unrefined, before), (masks, MASK_MEASURES)):
            if table is unrefined and row == UNREFINED:
                continue
            table.add_row(row, str(len(each)), *(spread([one[c] for one in each if c in one]) for c in columns))
        figures[f"seeds: {row}"] = len(each)
        for column in (*errors, *before, *MASK_MEASURES):
            if values := [one[column] for one in each if column in one]:
                figures[f"{row}: {column}"] = round(mean(values), 3)
    return [joints, unrefined, masks], figures | curves(runs)


def curves(runs: list[Run]) -> dict[str, list[float]]:
    """Means over the seeds of what figure 5 draws: by iterations of refinement, and by steps of training."""
    figures: dict[str, list[float]] = {}
    for arm in ("full", "constant shape weight"):
        own = [(found, real_figures(run) or {}) for run in runs if run.arm == arm and (found := run.figures())]
        for name in (*_CURVES, *(f"{curve}_steps" for curve in _CURVES)) if own else ():
            figures[f"{arm}: {name}"] = _mean_curve([each[name] for each, _ in own])
        for which, i in (("", 0), ("real_", 1)) if arm == "full" else ():
            for a in ALIGNMENTS:
                if there := [each[i][f"joints_{a}_mm"] for each in own if each[i]]:
                    figures[f"refinement: {which}joints_{a}_mm"] = _mean_curve(there)
    return figures


def _mean_curve(each: list[list[float]]) -> list[float]:
    return [round(mean(values), 4) for values in zip(*each, strict=True)]


def draw(figures: dict[str, list[float]], path: Path) -> None:
    """Figures 5e, error by iterations of refinement, and 5f, scheduled against constant weight."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(16, 4.5), dpi=110, layout="constrained")
    for which, label in (("", "rendered"), ("real_", "real")):
        for a, style in zip(ALIGNMENTS, ("-", "--"), strict=True):
            if curve := figures.get(f"refinement: {which}joints_{a}_mm"):
                axes[0].plot(SHOWN[: len(curve)], curve, style, marker=".", label=f"{label}, {a}")
    axes[0].set(xlabel="iterations of refinement", ylabel="joint error, mm", title="Figure 5e")
    for axis, name in zip(axes[1:], _CURVES, strict=True):
        for arm, label in (("full", "scheduled"), ("constant shape weight", "constant")):
            if curve := figures.get(f"{arm}: {name}"):
                axis.plot(figures[f"{arm}: {name}_steps"], curve, marker=".", label=label)
        axis.set(xlabel="steps", title="Figure 5f")
    axes[1].set(ylabel="share of training instances under the threshold")
    axes[2].set(ylabel="joint error of validation, root-aligned, mm")
    for axis in axes:
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def make(runs: list[Run], budget: Budget, runs_folder: Path, real: Path | None) -> None:
    """Run what is missing, and judge on real pictures what was not yet, where there are some."""
    absent = {run.run_id for run in missing(runs, runs_folder)}
    for run in runs:
        if run.run_id in absent:
            print(f"run {run.name}", flush=True)
            train(run, runs_folder, budget.figures)
        if real is not None and real_figures(run) is None and run.best(runs_folder).is_file():
            judge_on_real(run, runs_folder, real, budget.size)


def main() -> None:
    """Make what is missing, then print and save the tables."""
    parser = table_parser(__doc__)
    parser.add_argument("--real", type=Path, help="folder of Ge et al.'s real-world test set, to judge on as well")
    arguments = parser.parse_args()
    budget = Budget(arguments.budget)
    runs = budget.plan(arguments.seeds)
    listed(runs, arguments.runs)
    if arguments.real is None:
        print("real pictures: no folder is named by --real, so no run is judged on them now")
    if not arguments.list:
        make(runs, budget, arguments.runs, arguments.real)
    tables, figures = summary(runs)
    if not arguments.list:
        draw(figures, RESULTS / TABLE / budget.name / "figures.png")
    emit(f"{TABLE}_{budget.name}", figures, Group(*tables), save=not arguments.list)


if __name__ == "__main__":
    main()
