"""Predictions as entries of a page: the crop with and without what was predicted, and the hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from datamodules.batch import LEFT
from lightning_modules.frame_prediction import Hand, Sight, said_of
from lightning_modules.overlay import crop_overlay
from lightning_modules.page import PageEntry
from ops.drawing import part_colours
from ops.hand_model import open_hand

_SAID = ("camera", "side", "distance", "confidence", "confidence_by")


def entry_of(sight: Sight, hand: Hand, facts: Mapping[str, object]) -> PageEntry:
    """The entry of one picture."""
    model, prediction = open_hand(), hand.prediction
    vertices = None if prediction.vertices is None else prediction.vertices[0]
    plain, drawn = crop_overlay(sight.shown(hand.seen)[1], hand.seen["K"][0], prediction.joints_3d[0], vertices, model)
    said = dict(facts) | said_of(sight, hand)
    told = {name.replace("_", " "): str(said[name]) for name in ("method", "checkpoint", *_SAID) if name in said}
    shown: dict[str, np.ndarray] = {}
    if vertices is not None:
        faces = model.faces[:, ::-1].copy() if int(prediction.side) == LEFT else model.faces
        colours = part_colours()[model.part_labels + 1][:, ::-1].copy()
        shown = {"vertices": vertices.numpy(), "faces": faces, "colours": colours}
    joints = prediction.joints_3d[0].numpy()
    return PageEntry(sight.name, plain[..., ::-1].copy(), drawn[..., ::-1].copy(), joints, facts=told, **shown)


def joined_entries(entries: Sequence[PageEntry]) -> PageEntry:
    """Entries of one video's frames as one with a slider; a single entry as it is."""
    first = entries[0]
    if len(entries) == 1:
        return first
    fields = ["picture", "overlay", "joints"] + ([] if first.vertices is None else ["vertices"])
    steps = {name: np.stack([getattr(entry, name) for entry in entries]) for name in fields}
    return replace(first, name=f"{first.name} to {entries[-1].name}", steps_name="frame", **steps)
