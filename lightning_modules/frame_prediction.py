"""One hand in one frame: predict around where it is predicted to be, restore its part map, write what came out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.batch import LEFT, HandBatch
from lightning_modules.overlay import draw_overlay
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import write_joints, write_mesh, write_predictions
from ops.camera import project
from ops.drawing import Picture
from ops.hand_model import open_hand
from ops.patch_restoration import PatchDictionary, restore


class Refined(NamedTuple):
    """A prediction, and the crop that it was made from."""

    prediction: HandPrediction
    centre: np.ndarray  # (3,) metres, camera frame, of the crop


def predict_refined(
    method: LightningModule, crop: Callable[[np.ndarray], HandBatch], centre: np.ndarray, rounds: int
) -> Refined:
    """Predict, then crop anew around the middle of the predicted hand, `rounds` times in all.

    Methods are trained on crops around the hand's centroid, which a hand finder only knows roughly: the mesh's, or that
    of the joints where there is no mesh.

    Args:
        method: gives a HandPrediction.
        crop: the batch of one around a centre (3,), metres, camera frame.
        centre: to begin with.
        rounds: predictions made, at least 1.
    """
    for _ in range(rounds):
        seen = centre
        prediction = predict_once(method, crop(seen))
        hand = prediction.joints_3d if prediction.vertices is None else prediction.vertices
        centre = hand[0].mean(0).numpy()
    return Refined(prediction, seen)


def predict_once(method: LightningModule, batch: HandBatch) -> HandPrediction:
    """What a method predicts of a batch, in the camera's frame."""
    with torch.no_grad():
        prediction = method.predict_step(batch, 0)
    if prediction.frame != Frame.ABSOLUTE:
        raise ValueError(
            f"{type(method).__name__} gives joints in the frame '{prediction.frame}', but the overlay needs the "
            "camera's; choose the checkpoint of a method that gives these with --ckpt"
        )
    return prediction


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


def write_results(
    files: dict[str, Path],
    facts: dict[str, object],
    frame: Picture,
    seen: Picture,
    K: Tensor,
    batch: HandBatch,
    prediction: HandPrediction,
    parts: dict[str, np.ndarray],
) -> None:
    """Write overlay, joints, meshes (where the method has one) and prediction file of the one hand of `prediction`.

    A reader of the prediction file has the frame, not the crop: `joints_2d` are the frame's pixels there, and a part
    picture of the crop is left out.

    Args:
        files: paths under "overlay.png", "joints.json", "mesh.obj", "mesh.glb" and "prediction.npz".
        facts: written beside the joints.
        frame: (H, W, 3) what the camera saw, to draw on.
        seen: (S, S, 3) the crop, not mirrored.
        K: (3, 3) of the frame.
        batch: the crop, not mirrored.
        prediction: of one hand, absolute.
        parts: part maps (S, S) of that crop to draw, by name.
    """
    model = open_hand()
    if prediction.hand_model != model.id:
        raise ValueError(f"prediction made with hand model '{prediction.hand_model}', expected '{model.id}'")
    joints, vertices = prediction.joints_3d[0], None if prediction.vertices is None else prediction.vertices[0]
    if vertices is None:
        files = {kind: path for kind, path in files.items() if not kind.startswith("mesh")}
    left = facts["side"] == "left"
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    hand = joints, vertices, model
    cv2.imwrite(
        str(files["overlay.png"]), draw_overlay(frame, seen, K, batch["crop"][0], *hand, str(facts["method"]), parts)
    )
    facts = {**facts, "hand_model": prediction.hand_model, "joint_convention": prediction.convention}
    if prediction.confidence is not None:
        facts["confidence"] = round(float(prediction.confidence[0]), 4)
    pixels = project(joints[None], K)
    write_joints(files["joints.json"], joints, pixels[0], facts)
    if vertices is not None:
        for kind in ("mesh.obj", "mesh.glb"):
            write_mesh(files[kind], vertices, model.faces, mirrored=left)
    in_frame = replace(prediction, joints_2d=pixels, parts=None)
    write_predictions(files["prediction.npz"], in_frame, batch["key"])
    for path in files.values():
        print(f"wrote       {path}")
