"""The comparison of the DeepHPS paper: clean only, sensor only, joint training; without shape, without bone scales.

    python -m benchmarks.deephps_tables --budget cpu --seeds 3 [--list]

Sizes and arms stand in configs/benchmarks/deephps_tables.yaml. Each arm x seed is one run of train.py; its figures are
kept in benchmarks/results/deephps_tables/. What is there, made by the same command, is not run again, so that the whole
can be stopped and continued; a run that was cut off goes on from its last checkpoint.
"""

from pathlib import Path
from statistics import mean

from rich.table import Table

from benchmarks.experiment_runs import (
    Figures,
    Run,
    figures_of_test,
    listed,
    options,
    read_budget,
    seeded,
    spread,
    table_parser,
    train,
)
from benchmarks.report import emit

CONFIG = Path("configs/benchmarks/deephps_tables.yaml")
COLUMNS = ("joints_absolute", "joints_root", "joints_procrustes", "vertices_root", "vertices_procrustes")
REFERENCE = ("mean_pose_absolute", "mean_pose_root", "mean_pose_procrustes")


def plan(budget: str, seeds: int, config: Path = CONFIG) -> list[Run]:
    """All runs of a budget, seed by seed: a stopped command leaves whole comparisons."""
    content, base = read_budget(config, budget)
    runs = []
    for seed in range(seeds):
        for arm, overrides in content["arms"].items():
            settings = content["shared"] | base["overrides"] | overrides | seeded(seed)
            command = ["fit", f"--config={base['config']}", *options(settings)]
            runs.append(Run("deephps_tables", budget, arm, seed, command))
    return runs


def final_figures(run: Run, runs_folder: Path) -> Figures:
    """The last test's errors, without `_mm`."""
    names = [f"{name}_mm" for name in COLUMNS + REFERENCE]
    found = figures_of_test(run.folder(runs_folder) / "metrics.csv", names)
    return {name.removesuffix("_mm"): value for name, value in found.items()}


def summary(runs: list[Run]) -> tuple[Table, dict[str, float]]:
    """Mean and spread over the seeds that are there, arm by arm."""
    table = Table("mm on the sensor test split", "seeds", *(c.replace("_", " ") for c in COLUMNS))
    figures: dict[str, float] = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        done = [found for run in runs if run.arm == arm and (found := run.figures())]
        cells = []
        for column in COLUMNS:
            values = [found[column] for found in done]
            cells.append(spread(values))
            if values:
                figures[f"{arm.replace(' ', '_')}_{column}_mm"] = round(mean(values), 3)
                figures[f"{arm.replace(' ', '_')}_seeds"] = len(values)
        table.add_row(arm, str(len(done)), *cells)
    constant = next((found for run in runs if (found := run.figures())), None)
    if constant:
        table.add_row("constant mean pose", "", *(f"{constant[name]:.2f}" for name in REFERENCE), "-", "-")
    return table, figures


def main() -> None:
    """Run what is missing, then print and save the table."""
    arguments = table_parser(__doc__).parse_args()
    runs = plan(arguments.budget, arguments.seeds)
    absent = listed(runs, arguments.runs)
    for number, run in enumerate([] if arguments.list else absent, 1):
        print(f"run {number} of {len(absent)}: {run.name}", flush=True)
        train(run, arguments.runs, final_figures)
    table, figures = summary(runs)
    emit(f"deephps_tables_{arguments.budget}", figures, table, save=not arguments.list)


if __name__ == "__main__":
    main()
