"""What DHPE's networks are: f_E2D, which sees the picture, and f_E3D and f_Ref, which are one linear layer each.

Baek, Kim, Kim, CVPR 2019: features F of 2048 numbers, 21 heat maps; f_E3D 2153 to 63, f_Ref 2216 to 42.

Letters: B batch, F features, J 21 joints, P parameters of a hand, S pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.networks.backbones import BackboneName, build_backbone, features_of_both
from lightning_modules.networks.joint_maps import JOINTS, JointMaps, JointMapSize, joint_places

BELIEVED = 0.2  # height of a map, of 1 at a joint, from which its maximum is taken at its word


class Evidence(NamedTuple):
    """What f_E2D says of B pictures."""

    features: Tensor  # (B, F)
    masked_features: Tensor | None  # (B, F) of the pictures' true masks, where asked for
    maps: list[Tensor]  # (B, J, 32, 32) of each stage
    places: Tensor  # (B, J, 2) where the last maps are largest, in units of the crop's side; see `believed`
    heights: Tensor  # (B, J) of the maps there


class HandEvidence(nn.Module):
    """f_E2D, f_E3D and f_Ref. The linear layers say 0 before training: the method starts at the mean pose.

    Args:
        backbone: F.
        pretrained: folder or hub name of weights that F begins with.
        joint_maps: network of the heat maps.
        parameters: P.
        refiner: False: there is no f_Ref.
    """

    def __init__(
        self, backbone: BackboneName, pretrained: str | None, joint_maps: JointMapSize, parameters: int, refiner: bool
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, pretrained)
        self.joint_maps = JointMaps(joint_maps)
        inputs = self.backbone.features + 2 * JOINTS + parameters
        self.estimator = _zero_linear(inputs, parameters)
        self.refiner = _zero_linear(inputs + 3 * JOINTS, 2 * JOINTS) if refiner else None
        self.to(memory_format=torch.channels_last)  # faster convolutions

    def forward(self, picture: Tensor, mask: Tensor | None = None) -> Evidence:
        """f_E2D of pictures (B, 3, S, S) in [0, 1], and F of what masks (B, 1, S, S) leave of them."""
        if mask is None:
            features, masked = self.backbone(picture), None
        else:
            features, masked = features_of_both(self.backbone, picture, mask)
        maps = self.joint_maps(picture)
        places, heights = joint_places(maps[-1])
        return Evidence(features, masked, maps, believed(places, heights), heights)

    def change(self, features: Tensor, places: Tensor, parameters: Tensor) -> Tensor:
        """f_E3D, eq. 5: what to add to parameters (B, P), given features (B, F) and places (B, J, 2)."""
        return self.estimator(torch.cat([features, _centred(places), parameters], 1))

    def refined_places(self, features: Tensor, places: Tensor, parameters: Tensor, joints: Tensor) -> Tensor:
        """f_Ref, eq. 6: places (B, J, 2), better, given a hand of parameters (B, P) and joints (B, J, 3)."""
        if self.refiner is None:
            return places
        hand = torch.cat([joints[..., :2] - 0.5, joints[..., 2:]], -1).flatten(1)
        change = self.refiner(torch.cat([features, _centred(places), hand, parameters], 1))
        return places + change.unflatten(1, (JOINTS, 2))


def believed(places: Tensor, heights: Tensor) -> Tensor:
    """Places (B, J, 2), those of maps that say nearly nothing drawn to the crop's middle.

    The largest of many small numbers lies anywhere: estimators would be taught by noise until the maps are.
    """
    return 0.5 + (places - 0.5) * (heights / BELIEVED).clamp(0, 1)[..., None]


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _centred(places: Tensor) -> Tensor:
    """Places (B, J, 2) as linear layers take them, (B, 2 J): 0 is the middle of the crop."""
    return (places - 0.5).flatten(1)
