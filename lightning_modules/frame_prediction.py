"""One hand in one frame: predict around where it is predicted to be, and write what came out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from datamodules.batch import HandBatch
from lightning_modules.overlay import draw_overlay
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.prediction_files import write_joints, write_mesh, write_predictions
from ops.camera import project
from ops.hand_model import open_hand


def predict_refined(
    method: LightningModule, crop: Callable[[np.ndarray], HandBatch], centre: np.ndarray, rounds: int
) -> HandPrediction:
    """Predict, then crop anew around the predicted mesh's centroid, `rounds` times in all.

    Methods are trained on crops around the hand's centroid, which a hand finder only knows roughly.

    Args:
        method: gives a HandPrediction.
        crop: the batch of one around a centre (3,), metres, camera frame.
        centre: to begin with.
        rounds: predictions made, at least 1.
    """
    for _ in range(rounds):
        with torch.no_grad():
            prediction = method.predict_step(crop(centre), 0)
        if prediction.frame != Frame.ABSOLUTE or prediction.vertices is None:
            raise ValueError(
                f"{type(method).__name__} gives no mesh in the camera's frame, which the overlay needs; "
                "choose the checkpoint of a method that does with --ckpt"
            )
        centre = prediction.vertices[0].mean(0).numpy()
    return prediction


def write_results(
    files: dict[str, Path],
    facts: dict[str, object],
    depth: np.ndarray,
    K: Tensor,
    batch: HandBatch,
    prediction: HandPrediction,
) -> None:
    """Write overlay, joints, mesh and prediction file of the one hand of `prediction`.

    A reader of the prediction file has the frame, not the crop: `joints_2d` are the frame's pixels there, and a part
    picture of the crop is left out.

    Args:
        files: paths under "overlay.png", "joints.json", "mesh.obj" and "prediction.npz".
        facts: written beside the joints.
        depth: (H, W) metres, the frame.
        K: (3, 3) of the frame.
        batch: the crop to draw on, not mirrored.
        prediction: of one hand, absolute.
    """
    model = open_hand()
    if prediction.hand_model != model.id:
        raise ValueError(f"prediction made with hand model '{prediction.hand_model}', expected '{model.id}'")
    joints, vertices = prediction.joints_3d[0], prediction.vertices[0]
    left = facts["side"] == "left"
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    near = float(batch["cube_centre"][0, 2] - batch["cube_side"][0] / 2)
    cube = (near, near + float(batch["cube_side"][0]))
    picture = draw_overlay(
        depth, batch["depth"][0, 0].numpy(), K, batch["crop"][0], cube, joints, vertices, model, str(facts["method"])
    )
    cv2.imwrite(str(files["overlay.png"]), picture)
    facts = {**facts, "hand_model": prediction.hand_model, "joint_convention": prediction.convention}
    pixels = project(joints[None], K)
    write_joints(files["joints.json"], joints, pixels[0], facts)
    write_mesh(files["mesh.obj"], vertices, model.faces, mirrored=left)
    in_frame = replace(prediction, joints_2d=pixels, parts=None)
    write_predictions(files["prediction.npz"], in_frame, batch["key"])
    for path in files.values():
        print(f"wrote       {path}")
