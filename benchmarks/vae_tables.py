"""The comparisons of the cross-modal VAE's paper: training pairs, a direct regressor, error by the share of labels.

    python -m benchmarks.vae_tables --budget cpu --seeds 3 [--list]

Sizes and arms stand in configs/benchmarks/vae_tables.yaml. Each arm x seed is one run of train.py; its figures are kept
in benchmarks/results/vae_tables/. What is there, made by the same command, is not run again.
"""

import argparse
from pathlib import Path
from statistics import mean

import yaml
from rich.table import Table

from benchmarks.experiment_runs import Figures, Run, figures_of_test, missing, options, seeded, spread, train
from benchmarks.report import emit

CONFIG = Path("configs/benchmarks/vae_tables.yaml")
COLUMNS = ("joints_root", "joints_procrustes", "mean_pose_root", "mean_pose_procrustes")


def plan(budget: str, seeds: int, config: Path = CONFIG) -> list[Run]:
    """All runs of a budget, seed by seed: a stopped command leaves whole comparisons."""
    content = yaml.safe_load(config.read_text())
    if budget not in content["budgets"]:
        raise ValueError(f"budget: expected one of {', '.join(content['budgets'])}, got {budget!r}; add it to {config}")
    base = content["budgets"][budget]
    arms = content["arms"] | share_arms(content["shares"])
    runs = []
    for seed in range(seeds):
        for arm, overrides in arms.items():
            settings = content["shared"] | base["overrides"] | overrides | seeded(seed)
            runs.append(Run("vae_tables", budget, arm, seed, ["fit", f"--config={base['config']}", *options(settings)]))
    return runs


def share_arms(shares: list[float]) -> dict[str, dict[str, object]]:
    """Two arms a share of labels: without, `labels 5pct`, with (`labels 5pct and pictures`) pictures without any."""
    arms = {}
    for share in shares:
        for unlabelled in (False, True) if share < 1 else (True,):
            arms[f"labels {100 * share:.0f}pct{' and pictures' if unlabelled and share < 1 else ''}"] = {
                "model.init_args.pairs": ["rgb-3d", "rgb-rgb"],
                "model.init_args.labelled_share": share,
                "model.init_args.use_unlabelled": unlabelled,
            }
    return arms


def final_figures(run: Run, runs_folder: Path) -> Figures:
    """The last test's errors, without `_mm`."""
    found = figures_of_test(run.folder(runs_folder) / "metrics.csv", [f"{name}_mm" for name in COLUMNS])
    return {name.removesuffix("_mm"): value for name, value in found.items()}


def summary(runs: list[Run]) -> tuple[Table, dict[str, float]]:
    """Mean and spread over the seeds that are there, arm by arm."""
    table = Table("mm on the sensor test split", "seeds", *(column.replace("_", " ") for column in COLUMNS))
    figures: dict[str, float] = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        done = [found for run in runs if run.arm == arm and (found := run.figures())]
        table.add_row(arm, str(len(done)), *(spread([found[column] for found in done]) for column in COLUMNS))
        for column in COLUMNS if done else ():
            figures[f"{arm.replace(' ', '_')}_{column}_mm"] = round(mean(found[column] for found in done), 3)
    return table, figures


def main() -> None:
    """Run what is missing, then print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", default="cpu", help="one of the budgets in the configuration")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing, run nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs themselves")
    arguments = parser.parse_args()
    runs = plan(arguments.budget, arguments.seeds)
    absent = missing(runs, arguments.runs)
    print(f"{len(runs) - len(absent)} of {len(runs)} runs are there; missing: {[run.name for run in absent]}")
    for number, run in enumerate([] if arguments.list else absent, 1):
        print(f"run {number} of {len(absent)}: {run.name}", flush=True)
        train(run, arguments.runs, final_figures)
    table, figures = summary(runs)
    emit(f"vae_tables_{arguments.budget}", figures, table, save=not arguments.list)


if __name__ == "__main__":
    main()
