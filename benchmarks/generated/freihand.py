"""Files in the layout of FreiHAND_pub_v2, with rendered open hands, whose 778 vertices stand where MANO's would."""

import json
from pathlib import Path

import numpy as np

from benchmarks.generated.hands import pose_hands, render_hands, save_picture
from datamodules.freihand import SIZE, VERSIONS
from datamodules.label_files import camera_matrix


def write_freihand(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0) -> None:
    """Write `training`, with `train` poses before four backgrounds each, `evaluation`, and their annotations."""
    for part, count, part_seed in (("training", train, 2 * seed), ("evaluation", test, 2 * seed + 1)):
        _write_part(Path(folder), part, count, part_seed * 1_000_003)


def _write_part(folder: Path, part: str, count: int, seed: int) -> None:
    hands = pose_hands([1] * count, seed, distance=(0.55, 0.8), spread=0.02)
    focal = np.random.default_rng(seed).uniform(440, 500)
    K = camera_matrix(focal, focal, 112.0, 112.0)
    for version in range(len(VERSIONS) if part == "training" else 1):
        pictures = render_hands(hands, K, SIZE, seed + version)
        for i, rgb in enumerate(pictures.rgb):
            save_picture(folder / part / "rgb" / f"{i + version * count:08d}.jpg", rgb)
            if part == "training" and version == 0:
                save_picture(folder / part / "mask" / f"{i:08d}.jpg", (pictures.parts[i] > 0).astype(np.uint8) * 255)
    labels = {"K": np.tile(K, (count, 1, 1)), "xyz": hands.joints, "verts": hands.vertices}
    for name, values in labels.items():
        (folder / f"{part}_{name}.json").write_text(json.dumps(values.astype(float).tolist()))
