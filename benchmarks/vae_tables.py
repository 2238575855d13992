"""The comparisons of the cross-modal VAE's paper: training pairs, a direct regressor, error by the share of labels.

    python -m benchmarks.vae_tables --budget cpu --seeds 3 [--list]

Sizes and arms stand in configs/benchmarks/vae_tables.yaml. Each arm x seed is one run of train.py; its figures are kept
in benchmarks/results/vae_tables/. What is there, made by the same command, is not run again.
"""

from pathlib import Path
from statistics import mean

from rich.table import Table

from benchmarks.experiment_runs import (
    Figures,
    Run,
    figures_of_test,
    last_values,
    missing,
    options,
    read_budget,
    seeded,
    spread,
    table_parser,
    train,
)
from benchmarks.report import emit
from ops.checks import check_choice

CONFIG = Path("configs/benchmarks/vae_tables.yaml")
COLUMNS = ("joints_root_mm", "joints_procrustes_mm", "eval_util_mm", "eval_util_auc_20_50")
COLUMNS += ("mean_pose_root_mm", "mean_pose_procrustes_mm")
IN_PICTURE = "joints_2d_px"  # of arms that decode 2D


def plan(budget: str, seeds: int, config: Path = CONFIG) -> list[Run]:
    """All runs of a budget, seed by seed: a stopped command leaves whole comparisons."""
    content, base = read_budget(config, budget)
    labelled = base["labelled"]
    arms = {arm: fully_labelled(labelled) | own for arm, own in content["arms"].items()}
    arms |= share_arms(content["shares"], labelled)
    runs = []
    for seed in range(seeds):
        for arm, overrides in arms.items():
            settings = content["shared"] | base["overrides"] | overrides | seeded(seed)
            runs.append(Run("vae_tables", budget, arm, seed, ["fit", f"--config={base['config']}", *options(settings)]))
    return runs


def fully_labelled(labelled: int) -> dict[str, object]:
    """Settings of an arm that has all labels: steps of that many hands."""
    return {
        "data.init_args.weights": {"labelled": 1.0},
        "data.init_args.hide": {},
        "data.init_args.batch_size": labelled,
        "data.init_args.sources.labelled.init_args.share": 1.0,
    }


def share_arms(shares: list[float], labelled: int) -> dict[str, dict[str, object]]:
    """Two arms a share of labelled recordings: without the others (`labels 5pct`), and with their pictures.

    Both see as many labelled hands a step; `labels 5pct and pictures` sees as many pictures of all recordings beside.
    """
    arms = {}
    for share in shares:
        own = {
            "model.init_args.pairs": ["rgb-3d", "rgb-rgb"],
            "data.init_args.sources.labelled.init_args.share": share,
        }
        arms[f"labels {100 * share:.0f}pct"] = fully_labelled(labelled) | own
        arms[f"labels {100 * share:.0f}pct and pictures"] = own | {"data.init_args.batch_size": 2 * labelled}
    return arms


def final_figures(run: Run, runs_folder: Path) -> Figures:
    """The last test's errors, and of 2D joints where the arm has them."""
    metrics = run.folder(runs_folder) / "metrics.csv"
    decodes_2d = last_values(metrics, [f"test/{IN_PICTURE}"])
    return figures_of_test(metrics, (*COLUMNS, IN_PICTURE) if decodes_2d else COLUMNS)


def summary(runs: list[Run]) -> tuple[Table, dict[str, float]]:
    """Mean and spread over the seeds that are there, arm by arm."""
    columns = (*COLUMNS, IN_PICTURE)
    table = Table("sensor test split", "seeds", *(column.replace("_", " ") for column in columns))
    figures: dict[str, float] = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        done = [found for run in runs if run.arm == arm and (found := run.figures())]
        cells = {column: [found[column] for found in done if column in found] for column in columns}
        table.add_row(arm, str(len(done)), *(spread(cells[c], 3 if "auc" in c else 2) for c in columns))
        figures |= {f"{arm.replace(' ', '_')}_{c}": round(mean(each), 4) for c, each in cells.items() if each}
        if done:
            figures[f"{arm.replace(' ', '_')}_seeds"] = len(done)
    return table, figures


def main() -> None:
    """Run what is missing, then print and save the table."""
    parser = table_parser(__doc__)
    parser.add_argument("--arms", nargs="+", help="run these alone of what is missing (default: all)")
    arguments = parser.parse_args()
    runs = plan(arguments.budget, arguments.seeds)
    for arm in arguments.arms or ():
        check_choice("arms", arm, [run.arm for run in runs if run.seed == 0])
    absent = [run for run in missing(runs, arguments.runs) if run.arm in (arguments.arms or (run.arm,))]
    print(f"to run, of {len(runs)} in all: {[run.name for run in absent]}")
    for number, run in enumerate([] if arguments.list else absent, 1):
        print(f"run {number} of {len(absent)}: {run.name}", flush=True)
        train(run, arguments.runs, final_figures)
    table, figures = summary(runs)
    left = [run.name for run in missing(runs, arguments.runs)]
    if left:
        print(f"a part of the table alone: {len(left)} of {len(runs)} runs are missing")
    emit(f"vae_tables_{arguments.budget}", figures | {"missing": left}, table, save=True)


if __name__ == "__main__":
    main()
