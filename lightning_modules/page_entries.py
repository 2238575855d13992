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
    if len(entries) == 1:
        return entries[0]
    name = f"{entries[0].name} to {entries[-1].name}"
    return replace(entries[0], name=name, steps_name="frame", **_stacked(entries))


def refined_entry(by_iteration: Mapping[int, PageEntry]) -> PageEntry:
    """Entries of one picture after some iterations of refinement as one with a slider; a single entry as it is."""
    entries = list(by_iteration.values())
    if len(entries) == 1:
        return entries[0]
    facts = {**entries[-1].facts, "iterations": ", ".join(map(str, by_iteration))}
    return replace(entries[-1], facts=facts, steps_name="iteration", **_stacked(entries))


def _stacked(entries: Sequence[PageEntry]) -> dict[str, np.ndarray]:
    fields = ["picture", "overlay", "joints"] + ([] if entries[0].vertices is None else ["vertices"])
    return {name: np.stack([getattr(entry, name) for entry in entries]) for name in fields}
