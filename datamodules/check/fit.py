"""Which hand are these joints, and in which order? Rigid fits of the open hand in a few bends tell.

A rigid fit never mirrors, so a left hand fits the right one badly: whichever side fits better is the side of the
labels. The same fit with the joints in a wrong order is worse than in the right one. One frame may mislead (a flat
hand is its own mirror image, nearly); the majority of a set does not.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from datamodules.batch import LEFT, RIGHT
from ops.hand_model import HandLayer, open_hand
from ops.rotation import rigid_alignment

MIN_JOINTS = 10  # fewer do not tell left from right: fingertips alone lie nearly in a plane
_BENDS = (0.0, 0.35, 0.7, 1.0)  # of the fingers, as a share of their largest flexion
_THUMB_BENDS = (0.0, 0.6)
_THUMB = slice(13, 16)  # model joints
_FINGERTIP_FIRST = (0,) + tuple(1 + 4 * finger + joint for finger in range(5) for joint in (3, 2, 1, 0))
_LITTLE_FIRST = (0,) + tuple(1 + 4 * finger + joint for finger in (4, 3, 2, 1, 0) for joint in range(4))
ORDERS: dict[str, tuple[int, ...]] = {
    "as labelled": tuple(range(21)),
    "each finger tip first": _FINGERTIP_FIRST,
    "little finger first": _LITTLE_FIRST,
    "little finger first, tips first": tuple(_LITTLE_FIRST[i] for i in _FINGERTIP_FIRST),
}


@dataclass(frozen=True, eq=False)
class HandFit:
    """Of N hands; those with fewer than `MIN_JOINTS` joints are left out."""

    side: Tensor  # (N,) the side that fits better: 0 left, 1 right
    scale: Tensor  # (N,) spread of the joints over that of the open hand stretched out
    order: str  # the order of ORDERS that fits best, in the median


@cache
def hand_bends() -> Tensor:
    """(T, 21, 3) float64: joints of the right open hand in a few bends, metres."""
    model = open_hand()
    axes, limits = torch.from_numpy(model.flexion_axes), torch.from_numpy(model.limits)[:, 0, 1]
    poses = []
    for bend in _BENDS:
        for thumb in _THUMB_BENDS:
            shares = torch.full((16,), bend, dtype=torch.float64)
            shares[_THUMB] = thumb
            poses.append((axes * (limits * shares)[:, None])[1:].flatten())
    pose = torch.stack(poses)
    shape = pose.new_zeros(len(pose), model.shapedirs.shape[-1])
    return HandLayer(model).double()(pose, shape).joints


def fit_hands(joints: Tensor, valid: Tensor) -> HandFit | None:
    """Fit N hands, joints (N, 21, 3) metres with validity (N, 21); None: no hand has joints enough."""
    enough = valid.sum(-1) >= MIN_JOINTS
    if not enough.any():
        return None
    joints, valid = joints[enough].double(), valid[enough].double()
    residuals = {name: _residuals(joints[:, order], valid[:, order]) for name, order in ORDERS.items()}
    typical = {name: float(residual.min(0).values.median()) for name, residual in residuals.items()}
    side = residuals["as labelled"].argmin(0)
    return HandFit(side, _scale(joints, valid), min(typical, key=typical.get))


def _residuals(joints: Tensor, valid: Tensor) -> Tensor:
    """(2, N) root mean square distance to the best bend of the left and of the right hand, metres."""
    sides = {}
    for side, mirror in ((LEFT, -1.0), (RIGHT, 1.0)):
        best = torch.full_like(joints[:, 0, 0], torch.inf)
        for template in hand_bends() * torch.tensor([mirror, 1.0, 1.0]):
            moved = rigid_alignment(template.expand_as(joints), joints, valid, scale=True)
            squared = (moved - joints).square().sum(-1)
            best = torch.minimum(best, ((squared * valid).sum(-1) / valid.sum(-1)).sqrt())
        sides[side] = best
    return torch.stack([sides[LEFT], sides[RIGHT]])


def _scale(joints: Tensor, valid: Tensor) -> Tensor:
    """(N,) spread of the labelled joints over the spread of the same joints of the open hand, stretched out."""
    weights = valid[..., None] / valid.sum(-1)[:, None, None]
    spreads = []
    for hand in (joints, hand_bends()[:1].expand_as(joints)):
        centred = hand - (weights * hand).sum(1, keepdim=True)
        spreads.append((weights * centred.square()).sum((1, 2)).sqrt())
    return spreads[0] / spreads[1]
