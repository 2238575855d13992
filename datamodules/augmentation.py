"""Augmentation of training batches where the model is: picture, camera, joints, mesh and masks together.

All random numbers come from the samples' keys and the step: a resumed run changes its samples as an unbroken one would,
and no generator of the process is touched.
"""

from dataclasses import dataclass, fields
from zlib import crc32

import numpy as np
import torch

from datamodules.augment_geometry import move_hands
from datamodules.augment_pictures import (
    blur_colours,
    erase,
    lose_depth,
    noisy_colours,
    noisy_depth,
    other_background,
    shift_colours,
)
from datamodules.batch import HandBatch
from datamodules.streams import Draws, Keys, keys_of
from datamodules.transforms import mirror


@dataclass(frozen=True)
class Augmentation:
    """What may change, and how far; 0 leaves it. Amounts are drawn uniformly up to the number, signs either way.

    Args:
        rotation: of the camera about its axis, degrees.
        scale: the hand becomes up to 1 + scale times as large, or as small; its cube stays.
        translation: of the crop, share of its side.
        flip: chance that left and right change places: for methods that take both, since all others see right hands.
        background: chance that colours off the hand become clutter, where the hand's mask is known.
        brightness: added to colours in [0, 1].
        contrast: relative.
        saturation: relative.
        hue: share of the colour circle.
        blur: standard deviation of a Gaussian, pixels.
        noise: standard deviation of noise on colours in [0, 1].
        erasing: chance that a rectangle of up to a fifth of the picture is lost: another colour, no depth.
        depth_noise: standard deviation, metres.
        depth_holes: share of the picture that loses its depth, in blocks.
    """

    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    flip: float = 0.0
    background: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    erasing: float = 0.0
    depth_noise: float = 0.0
    depth_holes: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), _MOST.get(field.name, 1.0)
            if not 0 <= value <= most:
                raise ValueError(f"augment.{field.name}: expected 0 to {most:g}, got {value}")


_MOST = {"rotation": 180.0, "scale": 0.5, "translation": 0.5, "hue": 0.5, "blur": 10.0, "depth_noise": 0.05}


def augment(batch: HandBatch, options: Augmentation, seed: int, step: int) -> HandBatch:
    """The batch with its samples changed, on the device it is on; a sample's changes depend on (seed, step, key) alone.

    Args:
        batch: any batch of the contract.
        options: what may change.
        seed: of the run.
        step: optimiser steps done: a record that comes again is changed anew.
    """
    keys = keys_of("augment", seed, step, np.array([crc32(key.encode()) for key in batch["key"]]))
    return _pictures(_geometry(batch, options, keys), options, keys)


class _Amounts:
    """Random numbers (B, ...) on the batch's device, by purpose."""

    def __init__(self, keys: Keys, like: torch.Tensor) -> None:
        self._keys, self._like = keys, like

    def uniform(self, purpose: str, low: float, high: float, shape: tuple[int, ...] = ()) -> torch.Tensor:
        drawn = Draws(keys_of(purpose, self._keys)).uniform(low, high, shape)
        return torch.from_numpy(drawn).to(self._like)

    def chance(self, purpose: str, share: float) -> torch.Tensor:
        return self.uniform(purpose, 0, 1) < share

    @property
    def key(self) -> torch.Tensor:
        """(B,) int64 in 0..2^32 - 1: of what is drawn for every pixel."""
        return torch.from_numpy((self._keys >> np.uint64(32)).astype(np.int64)).to(self._like.device)


def _geometry(batch: HandBatch, options: Augmentation, keys: Keys) -> HandBatch:
    amounts = _Amounts(keys, batch["K"])
    if options.flip:
        batch = mirror(batch, amounts.chance("flip", options.flip))
    if not (options.rotation or options.scale or options.translation):
        return batch
    angle = torch.deg2rad(amounts.uniform("rotation", -options.rotation, options.rotation))
    factor = (1 + options.scale) ** amounts.uniform("scale", -1, 1)
    size = next(batch[name].shape[-1] for name in ("rgb", "depth", "mask", "parts") if name in batch)
    shift = amounts.uniform("translation", -options.translation, options.translation, (2,))
    # by whole pixels: a shift alone then resamples nothing
    return move_hands(batch, angle, factor, torch.round(shift * size))


def _pictures(batch: HandBatch, options: Augmentation, keys: Keys) -> HandBatch:
    amounts = _Amounts(keys, batch["K"])
    batch = HandBatch(**batch)
    if "rgb" in batch:
        rgb = batch["rgb"]
        if options.background and "mask" in batch:
            rows = amounts.chance("background", options.background) & batch["has_mask"] & batch["has_rgb"]
            rgb = other_background(rgb, batch["mask"], rows, amounts.key)
        jitter = {
            "brightness": amounts.uniform("brightness", -options.brightness, options.brightness),
            "contrast": (1 + options.contrast) ** amounts.uniform("contrast", -1, 1),
            "saturation": (1 + options.saturation) ** amounts.uniform("saturation", -1, 1),
            "hue": amounts.uniform("hue", -options.hue, options.hue),
        }
        rgb = shift_colours(rgb, **{name: value for name, value in jitter.items() if getattr(options, name)})
        if options.blur:
            rgb = blur_colours(rgb, amounts.uniform("blur", 0, options.blur), options.blur)
        if options.noise:
            rgb = noisy_colours(rgb, amounts.uniform("noise", 0, options.noise), amounts.key)
        batch["rgb"] = rgb * batch["has_rgb"][:, None, None, None]
    if "depth" in batch and options.depth_noise:
        spread = amounts.uniform("depth noise", 0, options.depth_noise)
        batch["depth"] = noisy_depth(batch["depth"], spread, amounts.key)
    if "depth" in batch and options.depth_holes:
        share = amounts.uniform("depth holes", 0, options.depth_holes)
        batch["depth"] = lose_depth(batch["depth"], share, amounts.key)
    if options.erasing:
        rows = amounts.chance("erasing", options.erasing)
        batch = erase(batch, rows, amounts.uniform("place", 0, 1, (4,)), amounts.uniform("colour", 0, 1, (3,)))
    return batch
