"""Where a hand's mesh ends: a cover over its open rim, or a forearm, rings that go on from it, bare or in a sleeve.

A forearm is background to every label: no part, vertex or joint of the contract is on it; it hides what lies behind.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.streams import Draws, Keys, keys_of
from ops.rotation import axis_angle_to_matrix

_RINGS = (0.01, 0.03, 0.06, 0.10, 0.15, 0.21, 0.28)  # metres from the rim
_WIDER = 0.9  # an arm's radius grows by this share along the rings
_FLEXION, _DEVIATION = 0.45, 0.2  # radians: spread of the wrist's bend, up and down, and sideways
_BEND = (0.1, 0.35, 0.7, 1.0, 1.0, 1.0, 1.0)  # share of the bend that each ring has
_SLEEVED = 0.5  # share of arms in a sleeve
_SLEEVE_FROM = 4  # a sleeve begins at one of the first rings
_SLEEVE_WIDER = (1.06, 1.35)


class Forearm(NamedTuple):
    """What follows the V vertices of B hands; R rings of N vertices and a middle of the last one."""

    vertices: Tensor  # (B, R N + 1, 3) metres, camera frame
    colours: Tensor  # (B, R N + 1, 3) in [0, 1], albedo


def wrist_rim(faces: np.ndarray) -> np.ndarray:
    """The vertices (N,) of the one open rim of faces (F, 3), each followed by the next along the faces' own edges."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there = set(map(tuple, edges.tolist()))
    following = {int(a): int(b) for a, b in edges if (b, a) not in there}
    rim = [min(following)]
    while len(rim) < len(following):
        rim.append(following[rim[-1]])
    return np.array(rim)


def closed_faces(faces: np.ndarray) -> np.ndarray:
    """Faces (F + N - 2, 3) with the one open rim, N vertices at the wrist, covered by a fan: an arm is not hollow."""
    rim = wrist_rim(faces)
    fan = np.stack([np.full(len(rim) - 2, rim[0]), rim[2:], rim[1:-1]], 1)
    return np.concatenate([faces, fan.astype(faces.dtype)])


def arm_faces(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Faces (F', 3) of the hand's (F, 3), which has V vertices, and of its arm, which ends in a fan."""
    rim = wrist_rim(faces)
    count = len(rim)
    rings = [rim, *(vertices + k * count + np.arange(count) for k in range(len(_RINGS)))]
    walls = []
    for inner, outer in pairwise(rings):
        ahead, beyond = np.roll(inner, -1), np.roll(outer, -1)
        walls += [np.stack([inner, outer, ahead], 1), np.stack([ahead, outer, beyond], 1)]
    last = rings[-1]
    cap = np.stack([last, np.full(count, vertices + len(_RINGS) * count), np.roll(last, -1)], 1)
    return np.concatenate([faces, *walls, cap]).astype(faces.dtype)


def forearms(keys: Keys, vertices: Tensor, rim: Tensor, skin: Tensor, rotation: Tensor) -> Forearm:
    """Arms of hands, each bent at the wrist by a draw of its key.

    Args:
        keys: (B,) of the draws.
        vertices: (B, V, 3) metres, camera frame.
        rim: (N,) vertices around the wrist.
        skin: (B, V, 3) colours of the hand.
        rotation: (B, 3, 3) hand frame -> camera frame; in the hand's frame fingers point along -x, y is the back.
    """
    draws = Draws(keys_of("forearm", keys))
    wrist = vertices[:, rim]  # (B, N, 3)
    middle = wrist.mean(1, keepdim=True)
    axes = rotation.mT  # (B, 3, 3): rows are the hand's x, y, z in the camera's frame
    bend = torch.from_numpy(draws.normal((2,)) * [_FLEXION, _DEVIATION]).to(vertices.dtype).clamp(-1.2, 1.2)
    turn = bend[:, :1] * axes[:, 2] + bend[:, 1:] * axes[:, 1]
    fabric, begins, wide = _sleeves(draws, len(_RINGS))
    rings, colours = [], []
    place, before = middle, 0.0
    for k, (distance, share) in enumerate(zip(_RINGS, _BEND, strict=True)):
        turned = axis_angle_to_matrix(turn * share)
        place = place + (distance - before) * (turned @ axes[:, 0, :, None]).mT
        before = distance
        sleeved = torch.from_numpy(k >= begins)[:, None, None]
        radius = (1 + _WIDER * distance) * torch.where(sleeved, torch.from_numpy(wide)[:, None, None], 1.0)
        rings.append(place + radius.to(vertices.dtype) * ((wrist - middle) @ turned.mT))
        bare = skin[:, rim].mean(1, keepdim=True).expand(-1, len(rim), -1)
        colours.append(torch.where(sleeved, torch.from_numpy(fabric)[:, None].to(skin.dtype), bare))
    ends = rings[-1].mean(1, keepdim=True)
    return Forearm(torch.cat([*rings, ends], 1), torch.cat([*colours, colours[-1][:, :1]], 1))


def _sleeves(draws: Draws, rings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours (B, 3), first rings (B,) and widths (B,) of sleeves; bare arms have theirs beyond the last ring."""
    colour = draws.uniform(0.05, 0.95, (1,)) * (1 - 0.5 * draws.uniform(shape=(3,)))
    worn = draws.uniform() < _SLEEVED
    first = np.where(worn, np.floor(draws.uniform(0, _SLEEVE_FROM)), rings)
    return colour, first, draws.uniform(*_SLEEVE_WIDER)
