"""Files in the layout that `datamodules/synhand5m.yaml` describes, with rendered open hands."""

from pathlib import Path

import numpy as np

from benchmarks.generated.hands import pose_hands, render_depth, save_picture
from datamodules.label_files import camera_matrix
from datamodules.synhand5m_layout import DEFAULT_LAYOUT, read_layout
from ops.joints import CANONICAL_JOINTS


def write_synhand5m(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0) -> None:
    """Write `train` and `test` with so many frames each; the mesh's 1193 points are vertices of the open hand."""
    for part, count, part_seed in (("train", train, 2 * seed), ("test", test, 2 * seed + 1)):
        if count:
            _write_part(Path(folder) / part, count, part_seed)


def _write_part(folder: Path, count: int, seed: int) -> None:
    layout = read_layout(DEFAULT_LAYOUT)
    size = tuple(layout["size"])
    K = camera_matrix(**layout["camera"])
    hands = pose_hands([1] * count, seed)
    depths, parts = render_depth(hands, K, size)
    palm = 0.5 * (hands.joints[:, 0] + hands.joints[:, CANONICAL_JOINTS.index("middle_mcp")])
    joints = np.concatenate([hands.joints, palm[:, None]], 1)
    mesh = hands.vertices[:, np.arange(layout["vertices"]["count"]) % hands.vertices.shape[1]]
    for i in range(count):
        save_picture(_place(folder, layout["depth"], i), np.rint(depths[i] * 1000).astype(np.uint16))
        save_picture(_place(folder, layout["mask"], i), (parts[i] > 0).astype(np.uint8) * 255)
        for name, points in (("joints", joints[i]), ("vertices", mesh[i])):
            file = _place(folder, layout[name], i)
            file.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(file, points / (layout[name]["unit"] * np.array(layout[name]["axes"])), fmt="%.4f")


def _place(folder: Path, section: dict, index: int) -> Path:
    return folder / section["pattern"].format(index=index)
