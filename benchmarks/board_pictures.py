"""Drawings of the board: inputs with the truth, and beside them what every method makes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from datamodules.batch import HandBatch
from lightning_modules.page import PageEntry, write_page
from lightning_modules.prediction import HandPrediction
from ops.drawing import (
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    Picture,
    bgr_bytes,
    caption,
    draw_skeleton,
    enlarge,
    shade_depth,
    write_picture,
)
from ops.hand_model import open_hand

CELL = 256  # pixels along a drawn picture


class Shown(NamedTuple):
    """Hands to draw."""

    batch: HandBatch  # the first hands
    prediction: HandPrediction  # of at least these


def draw_board(path: Path, shown: Mapping[str, Shown]) -> None:
    """A PNG: a row per hand; the truth in the crop of the first method, then each method's joints in its own crop."""
    columns = []
    for name, hands in shown.items():
        if not columns:
            columns.append(_column("truth", hands, true=True))
        columns.append(_column(name, hands, true=False))
    write_picture(path, np.hstack([np.vstack(column) for column in columns]))


def _column(title: str, shown: Shown, true: bool) -> list[Picture]:
    batch, cells = shown.batch, []
    for i in range(len(batch["key"])):
        picture = seen(batch, i)
        factor = max(1, round(CELL / len(picture)))
        cell = enlarge(picture, factor)
        draw_skeleton(
            cell,
            batch["joints_2d"][i].numpy() if true else placed(shown, i),
            (TRUE_COLOUR if true else PREDICTED_COLOUR),
            factor,
        )
        cell = cv2.resize(cell, (CELL, CELL), interpolation=cv2.INTER_AREA)
        caption(cell, title)
        cells.append(cell)
    return cells


def seen(batch: HandBatch, i: int) -> Picture:
    """What the method sees of hand i."""
    if "rgb" in batch:
        return bgr_bytes(batch["rgb"][i])
    centre, half = float(batch["cube_centre"][i, 2]), float(batch["cube_side"][i]) / 2
    return shade_depth(batch["depth"][i, 0].numpy(), centre - half, centre + half)


def placed(shown: Shown, i: int) -> np.ndarray:
    """Predicted joints (21, 2) in the picture; what says no place is laid over the truth by its wrist."""
    batch, prediction = shown
    mirrored = bool(batch["mirrored"][i])
    if prediction.joints_2d is not None:
        pixels = prediction.joints_2d[i].numpy().copy()
        if mirrored:
            pixels[:, 0] = seen(batch, i).shape[1] - 1 - pixels[:, 0]
        return pixels
    joints = prediction.joints_3d[i] * torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0])
    joints = joints - joints[0] + batch["joints_3d"][i, 0]
    rays = joints @ batch["K"][i].T
    return (rays[:, :2] / rays[:, 2:]).numpy()


def write_real_page(path: Path, shown: Mapping[str, Shown]) -> None:
    """One HTML file with real pictures: for the machine it is made on, as the pictures are their owners'."""
    faces = {side: open_hand(side).faces for side in ("left", "right")}
    entries = []
    for name, hands in shown.items():
        for i, key in enumerate(hands.batch["key"]):
            picture = seen(hands.batch, i)
            overlay = picture.copy()
            draw_skeleton(overlay, placed(hands, i), PREDICTED_COLOUR)
            mirrored = bool(hands.batch["mirrored"][i])
            picture, overlay = (each[:, ::-1] if mirrored else each for each in (picture, overlay))
            mesh = {}
            if hands.prediction.vertices is not None:
                mesh = {
                    "vertices": hands.prediction.vertices[i].numpy(),
                    "faces": faces["right" if int(hands.prediction.side[i]) else "left"],
                }
            entries.append(
                PageEntry(
                    f"{name}: {key}",
                    np.ascontiguousarray(picture[..., ::-1]),
                    np.ascontiguousarray(overlay[..., ::-1]),
                    hands.prediction.joints_3d[i].numpy(),
                    **mesh,
                    facts={"weights": name},
                )
            )
    write_page(path, entries, "Real pictures, none of them trained on")
