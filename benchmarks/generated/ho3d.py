"""Files in the layout of HO-3D, versions 2 and 3, with rendered open hands."""

import pickle
from pathlib import Path

import numpy as np

from benchmarks.generated.hands import Hands, in_order_of, pack, pose_hands, render_hands, save_picture
from datamodules.ho3d import DEPTH_UNIT, OPENGL_TO_OPENCV, SIZE, SUFFIX, TO_CANONICAL, Version
from datamodules.label_files import camera_matrix

_CAMERA = camera_matrix(617.343, 617.343, 312.42, 241.42)
_SEQUENCES = {"train": "ABF10", "evaluation": "SM1"}


def write_ho3d(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0, version: Version = "v3") -> None:
    """Write `train` and `evaluation` with a sequence each, and their lists."""
    for part, count, part_seed in (("train", train, 2 * seed), ("evaluation", test, 2 * seed + 1)):
        sequence = Path(folder) / part / _SEQUENCES[part]
        hands = pose_hands([1] * count, part_seed)
        pictures = render_hands(hands, _CAMERA, SIZE, part_seed)
        for i in range(count):
            raw = np.rint(pictures.depth[i] / DEPTH_UNIT).astype(np.uint16)
            save_picture(sequence / "rgb" / f"{i:04d}.{SUFFIX[version]}", pictures.rgb[i])
            save_picture(sequence / "depth" / f"{i:04d}.png", pack(0, 1, raw))
            meta = sequence / "meta" / f"{i:04d}.pkl"
            meta.parent.mkdir(parents=True, exist_ok=True)
            meta.write_bytes(pickle.dumps(_meta(hands, i, part == "evaluation"), protocol=2))
        lines = "".join(f"{_SEQUENCES[part]}/{i:04d}\n" for i in range(count))
        (Path(folder) / f"{part}.txt").write_text(lines)


def _meta(hands: Hands, i: int, evaluation: bool) -> dict[str, object]:
    """Labels of one picture in OpenGL's axes; of an evaluation picture the root alone."""
    joints = in_order_of(TO_CANONICAL, hands.joints[i]).astype(np.float64) * OPENGL_TO_OPENCV
    common = {
        "camMat": _CAMERA,
        "objRot": np.zeros((3, 1)),
        "objTrans": np.zeros(3),
        "objName": "003_cracker_box",
        "objLabel": 3,
        "objCorners3D": np.zeros((8, 3)),
        "objCorners3DRest": np.zeros((8, 3)),
    }
    if evaluation:
        return common | {"handJoints3D": joints[0], "handBoundingBox": [0, 0, SIZE[1], SIZE[0]]}
    return common | {
        "handJoints3D": joints,
        "handPose": np.zeros(48),
        "handBeta": np.zeros(10),
        "handTrans": joints[0],
    }
