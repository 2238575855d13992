"""Hand parts and joints, after Neverova et al. (CVIU 2017): which parts belong to a joint, where they lie, how well a
part map agrees with the joints, and the regions that a joint's network looks at.

Letters: B batch, J joints of the table, S side of a map in pixels.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ops.checks import check_choice, check_shape
from ops.hand_model import HandLayer, open_hand
from ops.joints import BACKGROUND, CANONICAL_JOINTS, FINGERS, PALM, PART_NAMES

_LABELS = len(PART_NAMES) + 1  # with the background


class JointTable(NamedTuple):
    """Which parts of the hand belong to which joints."""

    joints: tuple[int, ...]  # J canonical joints
    members: Tensor  # (J, 21) bool: labels that belong to each


def nearest_parts() -> dict[str, list[str]]:
    """The part whose barycentre is nearest to each of the 21 joints, in pictures of rendered hands (1 to 4 pixels)."""
    parts = {"wrist": ["palm"], "thumb_cmc": ["palm"]}
    for finger in FINGERS:
        own = [part for part in PART_NAMES if part.startswith(finger)]
        joints = [joint for joint in CANONICAL_JOINTS if joint.startswith(finger) and joint not in parts]
        parts |= {joint: [part] for joint, part in zip(joints, own, strict=True)}
    return parts


def joint_table(parts: Mapping[str, Sequence[str]]) -> JointTable:
    """The table of a configuration: names of canonical joints, each with the names of its parts."""
    if not parts:
        raise ValueError("joint_parts: expected at least one joint with its parts, got none")
    for joint, own in parts.items():
        check_choice("joint_parts: joint", joint, CANONICAL_JOINTS)
        if isinstance(own, str) or not own:
            raise ValueError(f"joint_parts: expected a list of parts for '{joint}', got {own!r}")
        for part in own:
            check_choice(f"joint_parts: part of '{joint}'", part, PART_NAMES)
    names = [joint for joint in CANONICAL_JOINTS if joint in parts]
    members = torch.zeros(len(names), _LABELS, dtype=torch.bool)
    for row, joint in zip(members, names, strict=True):
        row[[PART_NAMES.index(part) + PALM for part in parts[joint]]] = True
    return JointTable(tuple(CANONICAL_JOINTS.index(joint) for joint in names), members)


def regions_of(maps: Tensor, members: Tensor) -> Tensor:
    """(B, J, S, S) bool: pixels of the parts that belong to each joint.

    Args:
        maps: (B, S, S) labels of the batch contract; what is unlabelled belongs to no joint.
        members: (J, 21) bool.
    """
    check_shape("maps", maps, ("B", "S", "S"))
    labels = torch.where(maps < _LABELS, maps, BACKGROUND).long()
    return members.T[labels].permute(0, 3, 1, 2)  # (B, S, S, J) before


def barycentres(maps: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Mean pixels (u, v) of each joint's parts, (B, J, 2), and (B, J) bool, whether the map shows any of them.

    Args:
        maps: (B, S, S) labels of the batch contract.
        members: (J, 21) bool.
    """
    regions = regions_of(maps, members).float()
    place = torch.arange(maps.shape[-1], dtype=regions.dtype, device=maps.device)
    count = regions.sum((2, 3))
    u = regions.sum(2) @ place / count.clamp_min(1)
    v = regions.sum(3) @ place / count.clamp_min(1)
    return torch.stack([u, v], -1), count > 0


def map_quality(maps: Tensor, joints_2d: Tensor, valid: Tensor, members: Tensor) -> Tensor:
    """Q(N) = sum over joints of ||barycentre of its parts - joint||, pixels; the smaller the better: (B,).

    A joint whose parts the map lacks costs half the map's side, wherever it is: else erasing a finger would pass for
    an improvement, the paper's own failure case.

    Args:
        maps: (B, S, S) labels of the batch contract.
        joints_2d: (B, J, 2) pixels of the maps.
        valid: (B, J) bool: which joints count.
        members: (J, 21) bool.
    """
    check_shape("joints_2d", joints_2d, (len(maps), len(members), 2))
    check_shape("valid", valid, tuple(joints_2d.shape[:2]))
    places, there = barycentres(maps, members)
    distance = torch.where(there, (places - joints_2d).norm(dim=-1), maps.shape[-1] / 2)
    return torch.where(valid, distance, 0).sum(1)


def opened(regions: Tensor, side: int) -> Tensor:
    """Morphological opening: what squares of `side` x `side` pixels inside a region cover, (B, J, S, S) bool."""
    check_shape("regions", regions, ("B", "J", "S", "S"))
    if not 1 <= side <= regions.shape[-1]:
        raise ValueError(f"opening: expected a square of 1 to {regions.shape[-1]} pixels, got {side}")
    eroded = -F.max_pool2d(-regions.float(), side, 1)
    return F.max_pool2d(F.pad(eroded, (side - 1,) * 4), side, 1) > 0


def joint_regions(maps: Tensor, members: Tensor, opening: int, grid: int) -> Tensor:
    """Where each joint's network looks closely: (B, J, grid, grid) bool, cells that its opened parts touch.

    A part so thin that opening leaves nothing of it counts as it is: fingertips are two or three pixels.

    Args:
        maps: (B, S, S) labels of the batch contract.
        members: (J, 21) bool.
        opening: side of the opening's square, pixels; 1 leaves regions as they are.
        grid: side of the result, a divisor of S.
    """
    regions = regions_of(maps, members)
    kept = opened(regions, opening)
    regions = kept | (regions & ~kept.any(-1).any(-1)[..., None, None])
    return F.max_pool2d(regions.float(), maps.shape[-1] // grid) > 0


def disc_regions(places: Tensor, radius: float, side: int, grid: int) -> Tensor:
    """(B, J, grid, grid) bool: cells of a picture of `side` pixels whose centre is within `radius` of (B, J, 2)."""
    cell = side / grid
    middle = (torch.arange(grid, dtype=places.dtype, device=places.device) + 0.5) * cell - 0.5  # pixels
    across = (places[..., 0, None] - middle).square()[..., None, :]
    down = (places[..., 1, None] - middle).square()[..., :, None]
    return across + down <= radius**2


def completion(joints: Sequence[int]) -> Tensor:
    """(21, J) weights that make 21 joints of the J of a table: the others stand on the line between their neighbours.

    Where on the line is as on the fingers of the open hand. A fingertip that is not in the table is where the finger's
    last joint is.

    Args:
        joints: J canonical joints, the wrist among them.
    """
    if 0 not in joints:
        raise ValueError("joint_parts: expected the wrist among the joints, errors are measured from it; add 'wrist'")
    rest = HandLayer(open_hand())(torch.zeros(1, 45), torch.zeros(1, 10)).joints[0].double().numpy()
    weights = np.zeros((len(CANONICAL_JOINTS), len(joints)))
    for finger in range(len(FINGERS)):
        chain = [0, *range(1 + 4 * finger, 5 + 4 * finger)]
        along = np.cumsum([0, *np.linalg.norm(np.diff(rest[chain], axis=0), axis=1)])
        known = [place for place, joint in enumerate(chain) if joint in joints]
        for column in (joints.index(chain[place]) for place in known):
            said = [float(joints.index(chain[place]) == column) for place in known]
            weights[chain, column] = np.interp(along, along[known], said)
    return torch.from_numpy(weights).float()
