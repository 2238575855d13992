"""Hands in a user's pictures: predict around where they are, restore part maps, write what came out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.batch import LEFT, RIGHT, HandBatch, rows_of
from lightning_modules.confidence import LEAST, confidence_of
from lightning_modules.overlay import draw_overlay
from lightning_modules.placing import in_camera
from lightning_modules.prediction import HandPrediction, hand_of
from lightning_modules.prediction_files import write_joints, write_mesh, write_predictions
from ops.camera import project
from ops.drawing import Picture, write_picture
from ops.hand_model import open_hand
from ops.patch_restoration import PatchDictionary, restore
from ops.rotation import matrix_to_axis_angle

SIDES = {LEFT: "left", RIGHT: "right"}
ROUNDS = 3  # of a depth frame: each crops anew around the hand just predicted
STRAY = 0.15  # metres: a hand predicted farther from where it was found was not


class Sight(Protocol):
    """A picture and where its hand is."""

    name: str
    path: Path
    K: Tensor  # (3, 3)
    camera: str
    centre: np.ndarray | None  # (3,) metres, camera frame, where the hand was found; None: a photograph
    frame: int | None  # its number in a video; None: a picture of its own
    notes: dict[str, object]

    @staticmethod
    def crops(
        sights: "Sequence[Sight]", side: int, size: int, centres: Sequence[np.ndarray | None] | None = None
    ) -> HandBatch:
        """A batch of what they show; left hands come mirrored."""

    def shown(self, seen: HandBatch) -> tuple[Picture, Picture]:
        """The whole picture and a crop of it, to draw on."""


class Hand(NamedTuple):
    """What was predicted of one picture."""

    prediction: HandPrediction  # of one hand, absolute
    seen: HandBatch  # the crop that it was made from, as pictured
    confidence: float | None
    rule: str  # by which the confidence was found
    sides: dict[str, float]  # confidence of each side that was tried

    @property
    def is_sure(self) -> bool:
        """Whether the picture seems to show the predicted hand."""
        return self.confidence is None or self.confidence >= LEAST[self.rule]


def predict_hands(method: LightningModule, sights: Sequence[Sight], sides: Sequence[int]) -> list[Hand]:
    """Predict the hands of pictures of one kind, all in one batch.

    Args:
        method: gives a HandPrediction.
        sights: the pictures.
        sides: which hand it may be, 0 left, 1 right; of several the one with the highest confidence is given.
    """
    tried = [_predict_side(method, sights, side) for side in sides]
    chosen = []
    for hands in zip(*tried, strict=True):
        if len(hands) > 1 and any(hand.confidence is None for hand in hands):
            raise ValueError(f"side 'both': {type(method).__name__} says no confidence to compare; say right or left")
        best = max(hands, key=lambda hand: hand.confidence or 0)
        compared = {SIDES[int(hand.prediction.side)]: round(hand.confidence or 0, 4) for hand in hands}
        chosen.append(best._replace(sides=compared if len(hands) > 1 else {}))
    return chosen


def _predict_side(method: LightningModule, sights: Sequence[Sight], side: int) -> list[Hand]:
    size = method.crop_size
    centres = [sight.centre for sight in sights]
    rounds = 1 if centres[0] is None else ROUNDS
    for turn in range(rounds):
        batch = sights[0].crops(sights, side, size, centres)
        with torch.no_grad():
            prediction = method.predict_step(batch, 0)
        if turn < rounds - 1:
            # methods are trained on crops around the hand's centroid, which a hand finder only knows roughly
            hand = prediction.joints_3d if prediction.vertices is None else prediction.vertices
            centres = [_near(at, found) for at, found in zip(hand.mean(1).numpy(), centres, strict=True)]
    seen = batch
    if side == LEFT:
        seen = sights[0].crops(sights, RIGHT, size, centres)
    prediction = in_camera(prediction, seen)
    confidence, rule = confidence_of(method, prediction, batch, seen)
    return [
        Hand(hand_of(prediction, i), rows_of(seen, [i]), None if confidence is None else float(confidence[i]), rule, {})
        for i in range(len(sights))
    ]


def refining_hands(method: LightningModule, sight: Sight, hand: Hand, iterations: Sequence[int]) -> dict[int, Hand]:
    """The hand of one photograph after each of some iterations of refinement, by a method that refines."""
    side = int(hand.prediction.side)
    found = method.predictions_by_iteration(sight.crops([sight], side, method.crop_size), iterations)
    placed = [hand_of(in_camera(prediction, hand.seen), 0) for prediction in found]
    return {step: hand._replace(prediction=each) for step, each in zip(iterations, placed, strict=True)}


def _near(predicted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Where a hand was predicted, unless that is far from where it was found."""
    return predicted if np.linalg.norm(predicted - found) <= STRAY else found


def restored_parts(prediction: HandPrediction, dictionary: PatchDictionary) -> np.ndarray:
    """The predicted part map of one hand (H, W) uint8, restored from a dictionary of rendered right hands.

    Restored is the middle of the crop that the dictionary's maps show.
    """
    if prediction.parts is None:
        raise ValueError("dictionary: the method predicts no part map to restore; leave --dictionary out")
    parts = prediction.parts[0]
    size, (height, width) = dictionary.crop_size, dictionary.size
    if tuple(parts.shape) != (size, size):
        raise ValueError(
            f"dictionary: its maps are of crops of {size} pixels, but the method sees {parts.shape[1]}: parts would be "
            f"of another size; build it with --crop-size {parts.shape[1]}"
        )
    left = bool(prediction.side[0] == LEFT)
    parts = parts.flip(-1) if left else parts.clone()
    top, along = (size - height) // 2, (size - width) // 2
    middle = parts[top : top + height, along : along + width]
    if middle.any():  # without a hand there is nothing to restore
        middle.copy_(restore(middle[None].contiguous(), dictionary).maps[0])
    return (parts.flip(-1) if left else parts).numpy()


def result_files(folder: Path, name: str, kinds: Sequence[str]) -> dict[str, Path]:
    """Where the results of one picture go, by kind: overlay.png, joints.json, mesh.obj, mesh.glb, prediction.npz."""
    return {kind: folder / f"{name}_{kind}" for kind in kinds}


def refuse_overwriting(files: dict[str, Path]) -> None:
    """Raise where one of the files is there."""
    if there := [str(path) for path in files.values() if path.exists()]:
        raise FileExistsError(f"{', '.join(there)}: there already; give --overwrite or another --out")


def write_results(
    files: dict[str, Path],
    facts: dict[str, object],
    sight: Sight,
    hand: Hand,
    parts: dict[str, np.ndarray],
) -> list[Path]:
    """Write overlay, joints, meshes (where the method has one) and prediction file of one hand; the paths written.

    A reader of the prediction file has the frame, not the crop: `joints_2d` are the frame's pixels there, and a part
    picture of the crop is left out.

    Args:
        files: paths by kind (`result_files`); only these are written.
        facts: written beside the joints; `method` is drawn, too.
        sight: the picture.
        hand: of it.
        parts: part maps (S, S) of the crop to draw, by name.
    """
    model, prediction = open_hand(), hand.prediction
    if prediction.hand_model != model.id:
        raise ValueError(f"prediction made with hand model '{prediction.hand_model}', expected '{model.id}'")
    joints, vertices = prediction.joints_3d[0], None if prediction.vertices is None else prediction.vertices[0]
    if vertices is None:
        files = {kind: path for kind, path in files.items() if not kind.startswith("mesh")}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = project(joints[None], sight.K)
    if "overlay.png" in files:
        pictures = sight.shown(hand.seen)
        drawn = draw_overlay(
            *pictures, sight.K, hand.seen["crop"][0], joints, vertices, model, str(facts["method"]), parts
        )
        write_picture(files["overlay.png"], drawn)
    if "joints.json" in files:
        write_joints(files["joints.json"], joints, pixels[0], facts | said_of(sight, hand))
    for kind in {"mesh.obj", "mesh.glb"} & set(files):
        write_mesh(files[kind], vertices, model.faces, mirrored=int(prediction.side) == LEFT)
    if "prediction.npz" in files:
        in_frame = replace(prediction, joints_2d=pixels, parts=None)
        write_predictions(files["prediction.npz"], in_frame, hand.seen["key"])
    return list(files.values())


def said_of(sight: Sight, hand: Hand) -> dict[str, object]:
    """What the joints' file says of one hand beside its joints."""
    prediction = hand.prediction
    facts: dict[str, object] = {
        "picture": str(sight.path),
        "camera": sight.camera,
        "K": sight.K.tolist(),
        "side": SIDES[int(prediction.side)],
        **sight.notes,
        "hand_model": prediction.hand_model,
        "joint_convention": prediction.convention,
    }
    if hand.sides:
        facts["sides_compared"] = hand.sides
    if hand.confidence is not None:
        facts |= {"confidence": round(hand.confidence, 4), "confidence_by": hand.rule, "hand_seen": hand.is_sure}
    facts["pose"] = None if prediction.rotations is None else _rounded(axis_angles(prediction.rotations)[0])
    facts["shape"] = None if prediction.shape is None else _rounded(prediction.shape[0])
    facts["pose_is"] = "axis-angle, radians: of the wrist from the camera, of each of 15 joints from its parent"
    facts["shape_is"] = "components of the hand model's shape, in standard deviations"
    return facts


def axis_angles(rotations: Tensor) -> Tensor:
    """Axis-angle (B, 16, 3) of each bone from its parent, of rotations (B, 16, 3, 3) from the hand to the camera."""
    parents = [0, *(0 if bone % 3 == 1 else bone - 1 for bone in range(1, 16))]  # fingers of three bones
    local = rotations[:, parents].mT @ rotations
    return matrix_to_axis_angle(torch.cat([rotations[:, :1], local[:, 1:]], 1))


def _rounded(numbers: Tensor) -> list:
    return torch.round(numbers.double(), decimals=5).tolist()
