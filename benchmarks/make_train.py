"""`make train` in a fresh clone of this commit: how long it takes, and what the trained model is worth.

    python -m benchmarks.make_train [--nyu FOLDER] [--save]

- `minutes`, of which `install_minutes`: from the clone to the final table.
- `test_<domain>_<joints, vertices or mean_pose>_<alignment>_mm`: that table, on the rendered test splits.
- `nyu_frame_<alignment>_mm`: `predict.py` on depth_1_0000001.png of FOLDER, with its nyu_test_groundtruth_label.txt.xz.
"""

import argparse
import csv
import re
import subprocess
import tempfile
import time
from pathlib import Path

from rich.table import Table

from benchmarks.report import emit

ROOT = Path(__file__).parent.parent
FRAME, LABELS = "depth_1_0000001.png", "nyu_test_groundtruth_label.txt.xz"


def main() -> None:
    """Measure, print, and store if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nyu", type=Path, help=f"folder with {FRAME} and {LABELS}")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    arguments = parser.parse_args()
    if arguments.nyu is not None and not (arguments.nyu / FRAME).is_file():
        parser.error(f"--nyu: no {FRAME} in {arguments.nyu}")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        figures = measure(clone)
        if arguments.nyu is not None:
            figures |= nyu_frame(clone, arguments.nyu.resolve())
        table = Table("figure", "value", title="make train, fresh clone")
        for name, value in figures.items():
            table.add_row(name, f"{value:.1f}")
        emit("make_train", figures, table, arguments.save, clone)


def measure(clone: Path) -> dict[str, float]:
    """Installs and trains in `clone`."""
    start = time.monotonic()
    subprocess.run(["make", "install"], cwd=clone, check=True)
    installed = time.monotonic()
    subprocess.run(["make", "train"], cwd=clone, check=True)
    minutes = {"minutes": time.monotonic() - start, "install_minutes": installed - start}
    figures = {name: round(seconds / 60, 2) for name, seconds in minutes.items()}
    (metrics,) = clone.glob("runs/*/*/metrics.csv")
    return figures | final_errors(metrics)


def final_errors(metrics: Path) -> dict[str, float]:
    """The test's errors, from the last row of a run's metrics."""
    with open(metrics, newline="") as file:
        *_, last = csv.DictReader(file)
    return {
        name.replace("/", "_"): round(float(value), 2)
        for name, value in last.items()
        if name.startswith("test/") and name.endswith("_mm") and value
    }


def nyu_frame(clone: Path, folder: Path) -> dict[str, float]:
    """Errors of the trained model's joints on a real frame."""
    words = [".venv/bin/python", "predict.py", str(folder / FRAME), "--labels", str(folder / LABELS)]
    said = subprocess.run(words, cwd=clone, check=True, capture_output=True, text=True).stdout
    errors = re.search(r"^  absolute (\S+)  root (\S+)  procrustes (\S+)$", said, re.MULTILINE)
    if errors is None:
        raise RuntimeError(f"predict.py: expected a line of errors, got:\n{said}")
    names = ("absolute", "root", "procrustes")
    return {f"nyu_frame_{name}_mm": float(error) for name, error in zip(names, errors.groups(), strict=True)}


if __name__ == "__main__":
    main()
