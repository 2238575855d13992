"""Part labels of pictures at three grains: 20 hand parts, palm and five fingers, or the hand as one."""

import torch
from torch import Tensor

from ops.checks import check_choice
from ops.hand_model.model import BONE_GROUP_NAMES
from ops.joints import BACKGROUND, PALM, PART_NAMES, UNLABELLED

GRAINS = {20: PART_NAMES, 6: BONE_GROUP_NAMES, 1: ("hand",)}  # names of labels 1, 2, ...


def group_parts(labels: Tensor, parts: int) -> Tensor:
    """Turn labels of 20 parts into coarser ones of the same shape.

    Args:
        labels: (...) uint8, 0 background, 1 palm, 2-20 finger parts, 255 unlabelled.
        parts: 20 (unchanged), 6 (1 palm, 2-6 thumb to little) or 1 (1 hand). Background and unlabelled stay.
    """
    check_choice("parts", parts, GRAINS)
    if labels.dtype != torch.uint8:
        raise TypeError(f"labels: expected uint8, got {labels.dtype}; convert with .to(torch.uint8)")
    table = torch.full((256,), UNLABELLED, dtype=torch.uint8)
    table[BACKGROUND] = BACKGROUND
    for label, name in enumerate(PART_NAMES, start=PALM):
        table[label] = {20: label, 6: PALM + BONE_GROUP_NAMES.index(name.split("_")[0]), 1: PALM}[parts]
    return table.to(labels.device)[labels.long()]
