"""The cross-modal VAE on poses of real hands, without pictures: 2D to 3D and 3D to 3D, beside a direct regressor.

    DATASETS=<folder with stb/ and nyu/> python -m benchmarks.vae_real_poses --seeds 3 [--save]

    stb/B1Counting_BB.mat            trained on the first half of the sequence, tested on the second
    nyu/joint_1_{u,v,d}.csv[.xz]     trained on test frames 0 to 2439 (one actor), tested on 2440 to 8251 (another)

THESE ARE TEST LABELS OF BOTH DATASETS: models are trained on a part of them. The figures say whether the method learns
real poses; they are comparable with no published figure. Nothing is chosen on what is tested: every run has the same
settings and ends after the same steps. 2D joints are projections of the labels into the crop; the true length of one
bone gives the scale, as in the paper. Runs that are kept in benchmarks/results/ are not made again. A dataset whose
labels are not there is skipped.
"""

import argparse
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning
import torch
from rich.table import Table
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from benchmarks.experiment_runs import Figures, keep, kept_figures, spread
from benchmarks.report import RESULTS, emit
from datamodules.batch import FLAGS, RIGHT, HandBatch, rows_of
from datamodules.calibration_labels import layout_of, read_labels
from lightning_modules.cross_modal_vae import CrossModalVAE
from ops.camera import cube_crop, intrinsics, project

STEPS, BATCH, LR, WARMUP, KL_WEIGHT = 400, 64, 1e-3, 50, 1e-4
TESTED = 1024  # hands of a test batch
CUBE_SIDE = 0.3  # metres
ARMS = {
    "direct, 2D to 3D": {"pairs": ["2d-3d"], "variational": False},
    "2D to 3D": {"pairs": ["2d-3d"]},
    "2D to 3D, with 3D to 3D": {"pairs": ["2d-3d", "3d-3d"], "schedule": "jointly"},
    "3D to 3D": {"pairs": ["3d-3d"]},
}
COLUMNS = ("joints_root_mm", "joints_procrustes_mm", "eval_util_mm", "eval_util_auc_20_50", "mean_pose_root_mm")
COLUMNS += ("mean_pose_procrustes_mm",)


class Source(NamedTuple):
    """A dataset's labels, and how they are split."""

    file: str
    trained: int  # hands from the first on
    root_joints: tuple[str, str]


SOURCES = {
    "stb": Source("stb/B1Counting_BB.mat", 750, ("wrist", "ring_mcp")),
    "nyu": Source("nyu/joint_1_u.csv", 2440, ("wrist", "middle_mcp")),
}


class Poses(Dataset[HandBatch]):
    """Hands by their numbers, a batch at a time."""

    def __init__(self, hands: HandBatch) -> None:
        self.hands = hands

    def __len__(self) -> int:
        """Number of hands."""
        return len(self.hands["key"])

    def __getitem__(self, rows: list[int]) -> HandBatch:
        """The hands `rows`."""
        return rows_of(self.hands, rows)


def find(folder: Path, source: Source) -> Path | None:
    """The file of labels, plain or compressed."""
    there = [path for path in (folder / source.file, folder / f"{source.file}.xz") if path.is_file()]
    return there[0] if there else None


def hands_of(name: str, file: Path) -> HandBatch:
    """The labels of a file as a batch that has joints alone: right hands, in a crop of one pixel around each."""
    convention, labels = read_labels(name, file)
    joints, valid = (torch.from_numpy(array) for array in labels.canonical(layout_of(convention)))
    whole = valid.all(1)
    return batch_of(joints[whole].float(), name, convention)


def batch_of(joints: torch.Tensor, name: str, convention: str) -> HandBatch:
    """Joints (B, 21, 3), metres, camera frame, of right hands, as a batch."""
    count = len(joints)
    centre, side = joints.mean(1), torch.full((count,), CUBE_SIDE)
    # any camera: a crop around the hand takes away what tells cameras apart
    K = cube_crop(centre, side, intrinsics(1.0, 1.0, 0.0, 0.0).expand(count, 3, 3), 1)[1]
    yes = torch.ones(count, dtype=torch.bool)
    return HandBatch(
        mask=torch.zeros(count, 1, 1, 1),  # says how many pixels the crop has; there is no picture
        K=K,
        joints_3d=joints,
        joints_2d=project(joints, K),
        joint_valid=yes[:, None].repeat(1, 21),
        cube_centre=centre,
        cube_side=side,
        side=torch.full((count,), RIGHT),
        mirrored=~yes,
        convention=[convention] * count,
        domain=[name] * count,
        key=[f"{name}/{i}" for i in range(count)],
        **{flag: yes if flag in ("has_2d", "has_3d") else ~yes for flag in FLAGS},
    )


def run(source: Source, arm: str, hands: HandBatch, seed: int, steps: int = STEPS) -> dict[str, float]:
    """Train an arm on a source's first hands, test it on the others; figures by the names of `COLUMNS`."""
    lightning.seed_everything(seed, verbose=False)
    count = len(hands["key"])
    if count <= source.trained:
        raise ValueError(f"{source.file}: expected more than {source.trained} whole hands, got {count}; get it anew")
    method = CrossModalVAE(
        **ARMS[arm],
        encoder="small",
        root_joints=source.root_joints,
        kl_weight=KL_WEIGHT,
        lr=LR,
        warmup_steps=WARMUP,
        noise_seed=seed,
        convention=hands["convention"][0],
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=steps, enable_checkpointing=False, **quiet)
    trained = Poses(rows_of(hands, range(source.trained)))
    order = RandomSampler(trained, num_samples=steps * BATCH, generator=torch.Generator().manual_seed(seed))
    trainer.fit(method, DataLoader(trained, batch_size=None, sampler=BatchSampler(order, BATCH, drop_last=True)))
    tested = Poses(rows_of(hands, range(source.trained, count)))
    in_turn = BatchSampler(SequentialSampler(tested), TESTED, drop_last=False)
    trainer.test(method, DataLoader(tested, batch_size=None, sampler=in_turn), verbose=False)
    return {name: round(float(trainer.callback_metrics[f"test/{name}"]), 4) for name in COLUMNS}


def kept(name: str, arm: str, hands: HandBatch, seed: int) -> Figures:
    """Figures of a run of the source `name`: those of an earlier one with these very settings, or of a new one."""
    source = SOURCES[name]
    settings = {"steps": STEPS, "batch": BATCH, "lr": LR, "warmup_steps": WARMUP, "kl_weight": KL_WEIGHT}
    identity = {**settings, **ARMS[arm], "seed": seed, "trained": source.trained, "root": list(source.root_joints)}
    path = RESULTS / "vae_real_poses" / f"{name}-{arm.replace(', ', '-').replace(' ', '-')}-seed{seed}.json"
    figures = kept_figures(path, identity)
    if figures is None:
        start = time.monotonic()
        figures = run(source, arm, hands, seed)
        keep(path, identity, figures, (time.monotonic() - start) / 60)
        print(f"{path.stem}: {figures['joints_root_mm']:.1f} mm", flush=True)
    return figures


def tables(folder: Path, seeds: int, names: Sequence[str] = tuple(SOURCES)) -> Iterator[tuple[Table, Figures]]:
    """A table and figures, seed by seed, of each source whose labels are there."""
    for name in names:
        file = find(folder, SOURCES[name])
        if file is None:
            print(f"skipped {name}: no {SOURCES[name].file} in {folder}; set DATASETS to the folder that holds it")
            continue
        hands = hands_of(name, file)
        table = Table(f"test labels of {name}", "seeds", *(column.replace("_", " ") for column in COLUMNS))
        figures: Figures = {}
        for arm in ARMS:
            found = [kept(name, arm, hands, seed) for seed in range(seeds)]
            each = {column: [one[column] for one in found] for column in COLUMNS}
            table.add_row(arm, str(seeds), *(spread(each[c], 3 if "auc" in c else 2) for c in COLUMNS))
            figures |= {f"{name}, {arm}, {column}": values for column, values in each.items()}
        yield table, figures


def main() -> None:
    """Train, test, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    datasets = Path(os.environ.get("DATASETS", "."))
    parser.add_argument("--labels", type=Path, default=datasets, help="folder with stb/ and nyu/ (default: $DATASETS)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", choices=tuple(SOURCES), default=tuple(SOURCES))
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/vae_real_poses.json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers|.*should be a positive")
    found = list(tables(arguments.labels, arguments.seeds, arguments.sources))
    if not found:
        raise SystemExit("vae_real_poses: no labels, nothing measured")
    grid = Table.grid()
    for table, _ in found:
        grid.add_row(table)
    emit("vae_real_poses", {name: value for _, each in found for name, value in each.items()}, grid, arguments.save)


if __name__ == "__main__":
    main()
