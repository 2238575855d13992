"""Tables 2 to 4 and figures 6 and 8 of Neverova et al. (CVIU 2017) on rendered domains, beside the paper's numbers.

    python -m benchmarks.neverova_tables --budget cpu --seeds 3 [--list]

Sizes and arms stand in configs/benchmarks/neverova_tables.yaml. Each arm x seed is one run of train.py, and each seed's
f_s of rendered hands alone is restored once; figures are kept in benchmarks/results/neverova_tables/. What is there,
made by the same command, is not made again, so that the whole can be stopped and continued. Restoration and weak labels
take the dictionary runs/patches.safetensors; it is built if it is not there, and must hold the paper's 36 M patches.
"""

import time
from pathlib import Path
from statistics import mean

import matplotlib
import numpy as np
import torch
from rich.console import Console, Group
from rich.table import Table

from benchmarks.experiment_runs import Figures, Run, keep, kept_figures, listed, spread, table_parser, train
from benchmarks.neverova_maps import part_maps, restored, scores, voted
from benchmarks.neverova_runs import TABLE, TARGET, THRESHOLDS, Budget
from benchmarks.report import RESULTS, emit
from datamodules.fingerprint import stored_fingerprints
from datamodules.patch_dictionary import build_dictionary
from ops.joints import PART_NAMES
from ops.patch_restoration import PatchDictionary, crf
from ops.patch_restoration.backends import chosen_backend

DICTIONARY = Path("runs/patches.safetensors")  # of configs/neverova_weak.yaml
MAPS, PATCHES = 66_000, 36_000_000
# no rows of the paper: what the number of patches matters, and the best that restoring could do
THIRD, TRUTH = "equation 2, a third of the maps", "equation 2, of the true maps"
# the paper's, per pixel and per class
RESTORATION: dict[str, tuple[float, float] | None] = {
    "none": (51.03, 39.38),
    "NN without integration": (48.76, 39.72),
    "NN and equation 2": (54.55, 46.38),
    "CRF, Potts": (53.10, 43.64),
    "CRF, overlap": (52.45, 42.68),
    THIRD: None,
    TRUTH: None,
}
SUPERVISION: dict[str, tuple[float, float] | None] = {
    "supervised": (51.03, 39.38),
    "longer": None,
    "weak": (57.18, 47.20),
    "labelled": None,
}
JOINTS = {"direct": (13.3, 17.3), "cascade": (12.6, 16.9), "source parts": (12.1, 16.5), "full": (11.2, 14.8)}
SCORES = ("per_pixel_pct", "per_class_pct")


class Restoration:
    """What patch restoration makes of one seed's maps, kept as runs are."""

    def __init__(self, run: Run, pictures: int, dictionary: PatchDictionary) -> None:
        self.run, self.pictures, self.dictionary = run, pictures, dictionary
        self.path = RESULTS / TABLE / run.budget / f"restored-seed{run.seed}.json"

    def identity(self) -> dict[str, object]:
        """What the figures depend on besides the code."""
        return {
            "weights": self.run.run_id,
            "pictures": self.pictures,
            "dictionary": self.dictionary.checksum,
            "search": chosen_backend(torch.device("cpu"), self.dictionary),
            "alpha": crf.ALPHA,
            "test_splits": {name: found["parameters"] for name, found in stored_fingerprints().items()},
        }

    def figures(self) -> Figures | None:
        """The figures, if they are there."""
        return kept_figures(self.path, self.identity())

    def measure(self, runs_folder: Path) -> None:
        """Restore the maps, and keep the scores."""
        start = time.monotonic()
        maps, parts = part_maps(self.run.best(runs_folder), TARGET, self.pictures)
        rows = {"none": maps} | restored(maps, self.dictionary)
        rows[THIRD] = voted(maps, self.dictionary.first(-(-len(self.dictionary.maps) // 3)))
        rows[TRUTH] = voted(parts, self.dictionary)
        figures = {f"{row} {name}": value for row, each in rows.items() for name, value in scores(each, parts).items()}
        keep(self.path, self.identity(), figures, (time.monotonic() - start) / 60)


def score_rows(
    title: str, paper: dict[str, tuple[float, float] | None], found: dict[str, list[tuple[float, ...]]], base: str
) -> Table:
    """Accuracy per pixel and per class of the target's test split, and its gain over the row `base`, seed by seed."""
    table = Table(title, "seeds", "per pixel, %", "per class, %", "gain, points", "paper, %", "its gain")
    for row, said in paper.items():
        each, before = found.get(row, []), found.get(base, [])
        cells = [spread([one[i] for one in each]) for i in (0, 1)]
        pairs = list(zip(each, before, strict=True)) if row != base and len(each) == len(before) else []
        gains = [spread([one[i] - first[i] for one, first in pairs]) for i in (0, 1)] if pairs else []
        published = f"{said[0]:.2f} / {said[1]:.2f}" if said else ""
        its = [said[i] - paper[base][i] for i in (0, 1)] if said and row != base else []
        table.add_row(
            row, str(len(each)), *cells, " / ".join(gains), published, " / ".join(f"{gain:+.2f}" for gain in its)
        )
    return table


def joint_rows(found: dict[str, list[Figures]]) -> Table:
    """Joint errors on the target's test split, in the x-y plane and in space, and gains over direct regression."""
    table = Table(
        "(table 4) joints, mm", "seeds", "x and y", "3D", "less than direct, %", "paper, x and y / 3D", "its, %"
    )
    for arm, said in JOINTS.items():
        each, before = found.get(arm, []), found.get("direct", [])
        names = ("joints_xy_mm", "joints_absolute_mm")
        cells = [spread([one[name] for one in each]) for name in names]
        pairs = list(zip(each, before, strict=True)) if arm != "direct" and len(each) == len(before) else []
        gains = [spread([100 * (1 - one[name] / first[name]) for one, first in pairs], 1) for name in names if pairs]
        its = [f"{100 * (1 - said[i] / JOINTS['direct'][i]):.1f}" for i in (0, 1) if arm != "direct"]
        published = f"{said[0]:.1f} / {said[1]:.1f}"
        table.add_row(arm, str(len(each)), *cells, " / ".join(gains), published, " / ".join(its))
    return table


def summary(runs: list[Run], restorations: list[Restoration]) -> tuple[list[Table], dict[str, float | str]]:
    """The three tables and their means over the seeds that are there."""
    of_arm = {
        arm: [found for run in runs if run.arm == arm and (found := run.figures())] for arm in (*SUPERVISION, *JOINTS)
    }
    of_row = [found for each in restorations if (found := each.figures())]
    restoring = {
        row: [tuple(found[f"{row} {s}"] for s in SCORES) for found in of_row if f"{row} {SCORES[0]}" in found]
        for row in RESTORATION
    }
    learning = {arm: [tuple(found[f"{TARGET}_{s}"] for s in SCORES) for found in of_arm[arm]] for arm in SUPERVISION}
    source = [tuple(found[f"clean_{s}"] for s in SCORES) for found in of_arm["supervised"]]
    tables = [
        score_rows("(table 2) restored maps of rendered f_s", RESTORATION, restoring, "none"),
        score_rows("(table 3) f_s", SUPERVISION, learning, "supervised"),
        joint_rows(of_arm),
    ]
    figures: dict[str, float | str] = {}
    for table, rows in (("source", {"supervised": source}), ("restoration", restoring), ("supervision", learning)):
        for row, each in rows.items():
            for i, score in enumerate(SCORES if each else ()):
                figures[f"{table}: {row} {score}"] = round(mean(one[i] for one in each), 3)
    for arm in JOINTS:
        for name in ("joints_xy_mm", "joints_absolute_mm") if of_arm[arm] else ():
            figures[f"joints: {arm} {name}"] = round(mean(one[name] for one in of_arm[arm]), 3)
    for name in ("accepted_share", "gain_px") if of_arm["weak"] else ():
        figures[f"weak: {name}"] = round(mean(one[name] for one in of_arm["weak"]), 4)
    for arm, each in of_arm.items():
        figures[f"seeds: {arm}"] = len(each)
    return tables, figures


def draw(runs: list[Run], folder: Path) -> None:
    """Figure 6, accuracy by part before and after the weak step, and figure 8, success by the largest joint error."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (bars, curves) = pyplot.subplots(1, 2, figsize=(15, 5), dpi=110, layout="constrained")
    shown = {
        arm: [found for run in runs if run.arm == arm and (found := run.figures())] for arm in (*SUPERVISION, *JOINTS)
    }
    for place, (arm, colour) in enumerate({"supervised": "0.6", "longer": "tab:olive", "weak": "tab:blue"}.items()):
        if shown[arm]:
            heights = np.mean([found[f"{TARGET}_per_part_pct"] for found in shown[arm]], 0)
            bars.bar(np.arange(len(PART_NAMES)) + (place - 1) * 0.28, heights, 0.28, label=arm, color=colour)
    bars.set_xticks(range(len(PART_NAMES)), [name.replace("_", " ") for name in PART_NAMES], rotation=60, ha="right")
    bars.set(ylabel="pixels of the part found, %", title="Figure 6: parts of the target's test split")
    for arm in JOINTS:
        if shown[arm]:
            curves.plot(THRESHOLDS, 100 * np.mean([found["share_within"] for found in shown[arm]], 0), label=arm)
    curves.set(xlabel="largest joint error of a frame at most, mm", ylabel="frames, %", title="Figure 8", xlim=(0, 100))
    for axes in (bars, curves):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(folder / "figures.png")
    pyplot.close(figure)


def dictionary_of_the_paper(path: Path = DICTIONARY) -> PatchDictionary:
    """The dictionary that the weak step's configuration names, built if it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        build_dictionary(MAPS, console=Console()).save(path)
    dictionary = PatchDictionary.load(path)
    if dictionary.patches < PATCHES:
        raise ValueError(
            f"{path}: {dictionary.patches:,} patches, the tables take at least {PATCHES:,}; build it with "
            f"python -m datamodules.patch_dictionary {path} --maps {MAPS} --overwrite"
        )
    return dictionary


def main() -> None:
    """Make what is missing, then print and save the tables."""
    arguments = table_parser(__doc__).parse_args()
    budget = Budget(arguments.budget)
    runs = budget.plan(arguments.seeds)
    restorations = []
    if arguments.list and not DICTIONARY.is_file():
        print(f"{DICTIONARY} is not there, and with it what is known of restored maps; without --list it is built")
    else:
        pictures, dictionary = budget.restored_pictures, dictionary_of_the_paper()
        restorations = [Restoration(run, pictures, dictionary) for run in runs if run.arm == "supervised"]
    absent = listed(runs, arguments.runs)
    for seed in () if arguments.list else range(arguments.seeds):
        for run in absent:
            if run.seed == seed:
                print(f"run {run.name}", flush=True)
                train(run, arguments.runs, budget.figures)
        if restorations[seed].figures() is None:
            restorations[seed].measure(arguments.runs)
    tables, figures = summary(runs, restorations)
    if not arguments.list:
        draw(runs, RESULTS / TABLE / budget.name)
    emit(f"{TABLE}_{budget.name}", figures, Group(*tables), save=not arguments.list)


if __name__ == "__main__":
    main()
