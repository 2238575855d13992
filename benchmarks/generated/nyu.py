"""Files in the layout of NYU Hand Pose, with rendered open hands."""

from pathlib import Path

import numpy as np
import scipy.io

from benchmarks.generated.hands import pack, pose_hands, project, render_depth, save_picture
from benchmarks.generated.points import nyu36
from benchmarks.generated.surroundings import before_person
from datamodules.nyu import SIZE, K
from ops.joints import NYU36

BACKGROUND_MM = 2001  # what the published frames have behind the hand
_CAMERAS = ((0.0, 0.0, 0.0), (-0.05, 0.0, 0.02), (0.05, 0.0, 0.02))  # metres that the hand lies elsewhere for each


def write_nyu(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0) -> None:
    """Write `train` and `test` with so many frames of three cameras each."""
    for part, count, part_seed in (("train", train, 2 * seed), ("test", test, 2 * seed + 1)):
        if count:
            _write_part(Path(folder) / part, count, part_seed)


def _write_part(folder: Path, count: int, seed: int) -> None:
    hands = pose_hands([1] * count, seed, distance=(0.55, 0.8))
    xyz = np.zeros((3, count, len(NYU36), 3))
    uvd = np.zeros_like(xyz)
    for camera, shift in enumerate(_CAMERAS):
        seen = hands.moved(shift)
        depths, _ = render_depth(seen, K, SIZE)
        for frame, depth in enumerate(before_person(depths, BACKGROUND_MM, seed), 1):
            save_picture(folder / f"depth_{camera + 1}_{frame:07d}.png", pack(2, 1, depth))
        points = nyu36(seen.joints)
        xyz[camera] = points * (1000, -1000, 1000)  # y up
        uvd[camera] = np.concatenate([project(points, K), 1000 * points[..., 2:]], -1)
    names = np.array([NYU36], dtype=object)
    arrays = {"joint_names": names, "joint_xyz": xyz, "joint_uvd": uvd}
    scipy.io.savemat(folder / "joint_data.mat", arrays, do_compression=True)
