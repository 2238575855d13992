"""Files in the layout of RHD_published_v2, with rendered open hands."""

import pickle
from pathlib import Path

import numpy as np

from benchmarks.generated.hands import Hands, in_order_of, inside, pack, pose_hands, project, render_hands, save_picture
from datamodules.label_files import camera_matrix
from datamodules.rhd import DEPTH_RANGE, LEFT_CLASSES, RIGHT_CLASSES, SIZE, TO_CANONICAL
from ops.joints import FINGERS, PART_NAMES

PERSON = 1
_OTHER_HAND = (0.5, 0.0, 0.0)  # metres: the hand that the record does not stand for is out of the picture


def write_rhd(folder: str | Path, train: int = 8, test: int = 4, seed: int = 0) -> None:
    """Write `training` and `evaluation` with so many records each; every other one stands for a left hand."""
    for part, count, part_seed in (("training", train, 2 * seed), ("evaluation", test, 2 * seed + 1)):
        annotation = {i: _write_record(Path(folder) / part, i, part_seed * 1_000_003 + i) for i in range(count)}
        # protocol 2: the published file is read by Python 2 and 3
        (Path(folder) / part / f"anno_{part}.pickle").write_bytes(pickle.dumps(annotation, protocol=2))


def _write_record(folder: Path, record: int, seed: int) -> dict[str, np.ndarray]:
    """Write the pictures of one record and give its entry."""
    side = record % 2
    focal = np.random.default_rng(seed).uniform(263, 306)
    K = camera_matrix(focal, focal, 160.0, 160.0)
    hand = pose_hands([side], seed)
    pictures = render_hands(hand, K, SIZE, seed)
    there = pictures.depth[0] > 0
    raw = np.where(there, np.rint(pictures.depth[0] / DEPTH_RANGE * 0xFFFF), 0xFFFF).astype(np.uint16)
    classes = _classes(side)[pictures.parts[0]]
    classes[-40:][~there[-40:]] = PERSON
    for kind, picture in (("color", pictures.rgb[0]), ("depth", pack(1, 0, raw)), ("mask", classes)):
        save_picture(folder / kind / f"{record:05d}.png", picture)
    return _entry(hand, pose_hands([1 - side], seed + 1).moved(_OTHER_HAND), K)


def _entry(hand: Hands, other: Hands, K: np.ndarray) -> dict[str, np.ndarray]:
    left, right = (other, hand) if hand.sides[0] else (hand, other)
    xyz = np.concatenate([in_order_of(TO_CANONICAL, both.joints[0]) for both in (left, right)])
    uv = project(xyz, K)
    uv_visible = np.concatenate([uv, inside(uv, SIZE)[:, None]], 1)
    return {"xyz": xyz.astype(np.float32), "uv_vis": uv_visible, "K": K.astype(np.float32)}


def _classes(side: int) -> np.ndarray:
    """RHD's class of each of our labels 0 to 20: thumb to little, each tip, middle, base; then the palm."""
    first, palm = RIGHT_CLASSES if side else LEFT_CLASSES
    bones = {"tip": 0, "distal": 0, "middle": 1, "proximal": 2}
    table = [0, palm]
    for name in PART_NAMES[1:]:
        finger, bone = name.split("_")
        row = 1 if (finger, bone) == ("thumb", "distal") else bones[bone]
        table.append(first + 3 * FINGERS.index(finger) + row)
    return np.array(table, dtype=np.uint8)
