"""The trained arms of the tables of Neverova et al., planned by configs/benchmarks/neverova_tables.yaml; their figures.

Arms that train f_s are judged by their part maps, those that train f_r by their joints.
"""

from pathlib import Path

import torch

from benchmarks.experiment_runs import RUNS, Figures, Run, figures_of_test, last_values, options, read_budget, seeded
from benchmarks.neverova_maps import part_maps, pictures_of, scores
from lightning_modules.metrics import MM
from lightning_modules.prediction_files import read_predictions
from lightning_modules.protocols.curves import success

CONFIG = Path("configs/benchmarks/neverova_tables.yaml")
TABLE = "neverova_tables"
SOURCE, TARGET = "clean", "sensor"
THRESHOLDS = tuple(range(0, 101, 4))  # mm, of figure 8
ERRORS = ("joints_xy_mm", "joints_absolute_mm", "joints_root_mm", "joints_procrustes_mm", "mean_pose_absolute_mm")


class Budget:
    """One budget of the configuration.

    Attributes:
        name: of the budget.
        pictures: of the test split, that figures are taken on.
        restored_pictures: of these, that patch restoration is measured on.
    """

    def __init__(self, name: str, config: Path = CONFIG) -> None:
        content, self._steps = read_budget(config, name)
        self.name, self._arms = name, content["arms"]
        self.pictures, self.restored_pictures = self._steps["pictures"], self._steps["restored_pictures"]

    def plan(self, seeds: int) -> list[Run]:
        """All runs, seed by seed: a stopped command leaves whole comparisons."""
        return [run for seed in range(seeds) for run in self._plan_of_seed(seed)]

    def _plan_of_seed(self, seed: int) -> list[Run]:
        runs: dict[str, Run] = {}
        for arm, facts in self._arms.items():
            base, before = self._steps[facts["step"]], runs.get(facts.get("from", ""))
            settings = {"model.init_args.init_from": before and str(before.best(Path(RUNS)))}
            settings |= base["overrides"] | facts.get("overrides", {}) | seeded(seed)
            command = ["fit", f"--config={base['config']}", *options(settings)]
            runs[arm] = Run(TABLE, self.name, arm, seed, command, before and before.run_id)
        return list(runs.values())

    def figures(self, run: Run, runs_folder: Path) -> Figures:
        """What a run that is through says, as the table keeps it."""
        if self._arms[run.arm]["step"] == "regression":
            metrics = run.folder(runs_folder) / "metrics.csv"
            curve = success_curve(run.folder(runs_folder) / "predictions" / f"{TARGET}.npz", self.pictures)
            return figures_of_test(metrics, ERRORS) | {"share_within": curve}
        figures = weak_figures(run.folder(runs_folder) / "metrics.csv")
        for domain in (SOURCE, TARGET):
            found = scores(*part_maps(run.best(runs_folder), domain, self.pictures))
            figures |= {f"{domain}_{name}": value for name, value in found.items()}
        return figures


def weak_figures(metrics: Path) -> Figures:
    """Of a weak step: share of restored maps that were learnt from, and how far restoring moved parts to joints."""
    names = {f"weak/{name}_epoch": name for name in ("accepted_share", "gain_px")}
    found = last_values(metrics, list(names))
    if not found and last_values(metrics, ["weak/accepted_share_step"]):
        raise ValueError(f"{metrics}: no {', '.join(names)}, although it learnt from weak labels; train it again")
    return {names[column]: round(value, 4) for column, value in found.items()}


def success_curve(predictions: Path, pictures: int) -> list[float]:
    """Share of frames whose largest joint error is at most each of THRESHOLDS, of predictions for the test pictures."""
    prediction, keys = read_predictions(predictions)
    row = {key: i for i, key in enumerate(keys)}
    largest = []
    for batch in pictures_of(TARGET, pictures):
        found = prediction.joints_3d[[row[key] for key in batch["key"]]]
        largest.append(MM * (found - batch["joints_3d"]).norm(dim=-1).amax(1))
    return [round(float(share), 4) for share in success(torch.cat(largest), THRESHOLDS)]
