"""Predictions as entries of a page: the crop with and without what was predicted, and the hand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

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


def stepped_entry(by_number: Mapping[int, PageEntry], steps_name: Literal["iteration", "frame"]) -> PageEntry:
    """Entries of one side's hand as one with a slider and the facts that all share; a single entry as it is.

    Args:
        by_number: of a refinement's iterations or a video's frames, in order; each without steps of its own.
        steps_name: what the numbers count.
    """
    entries = list(by_number.values())
    first, last = entries[0], entries[-1]
    if first is last:
        return first
    name = first.name if first.name == last.name else f"{first.name} to {last.name}"
    facts = {fact: said for fact, said in last.facts.items() if all(entry.facts.get(fact) == said for entry in entries)}
    fields = ["picture", "overlay", "joints"] + ([] if last.vertices is None else ["vertices"])
    steps = {field: np.stack([getattr(entry, field) for entry in entries]) for field in fields}
    return replace(last, name=name, facts=facts, steps_name=steps_name, numbers=tuple(by_number), **steps)
