"""f_r of Neverova et al. (CVIU 2017, table 1): joints from a depth picture and the regions of their parts.

Each joint has a small inception network of its own, which beats one network for all. All of them look at the same
picture; of the two 3x3 branches, one sees the feature maps and the other only what lies in the joint's region. The J
networks run as one: convolutions in J groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ops.checks import check_positive, check_shape

PICTURE_SIZE, GRID = 24, 12  # pixels of the picture, and of the feature maps after pooling
_FIRST, _REDUCED, _LOCAL, _POOLED, _POINTWISE = 32, 16, 8, 8, 16  # channels of c1, c2x1, c2x2, c232, c241
_INCEPTION = 2 * _LOCAL + _POOLED + _POINTWISE


class PartRegressor(nn.Module):
    """J networks, three numbers each.

    Args:
        joints: J, how many networks.
        hidden: units of each network's fully connected layer.
    """

    def __init__(self, joints: int, hidden: int = 1200) -> None:
        super().__init__()
        check_positive(joints=joints, hidden=hidden)
        self.joints = joints
        self.first = GroupedConvolution(1, _FIRST, 3, joints, shared_input=True)
        self.whole = nn.Sequential(
            GroupedConvolution(_FIRST, _REDUCED, 1, joints), GroupedConvolution(_REDUCED, _LOCAL, 3, joints)
        )
        self.local = nn.Sequential(
            GroupedConvolution(_FIRST, _REDUCED, 1, joints), GroupedConvolution(_REDUCED, _LOCAL, 3, joints)
        )
        self.pooled = GroupedConvolution(_FIRST, _POOLED, 1, joints)
        self.pointwise = GroupedConvolution(_FIRST, _POINTWISE, 1, joints)
        features = _INCEPTION * GRID**2
        self.hidden = nn.Parameter(torch.randn(joints, features, hidden) * (2 / features) ** 0.5)
        self.norm = nn.BatchNorm1d(joints * hidden)
        # before training, every joint is said to be in the middle
        self.head = nn.Parameter(torch.zeros(joints, hidden, 3))
        self.bias = nn.Parameter(torch.zeros(joints, 3))

    def forward(self, picture: Tensor, regions: Tensor) -> Tensor:
        """What the networks say of each joint: (B, J, 3).

        Args:
            picture: (B, 1, 24, 24) local-contrast-normalised depth.
            regions: (B, J, 12, 12) 1 where a joint's network looks closely, else 0.
        """
        check_shape("picture", picture, ("B", 1, PICTURE_SIZE, PICTURE_SIZE))
        check_shape("regions", regions, (picture.shape[0], self.joints, GRID, GRID))
        maps = F.max_pool2d(self.first(picture), 2)  # (B, J * 32, 12, 12)
        masked = maps.unflatten(1, (self.joints, _FIRST)) * regions[:, :, None].to(maps.dtype)
        branches = (
            self.whole(maps),
            self.local(masked.flatten(1, 2)),
            self.pooled(F.max_pool2d(F.pad(maps, (0, 1, 0, 1)), 2, 1)),
            self.pointwise(maps),
        )
        inception = torch.cat([branch.unflatten(1, (self.joints, -1)) for branch in branches], 2)  # (B, J, 40, 12, 12)
        hidden = torch.einsum("bjf,jfh->bjh", inception.flatten(2), self.hidden)
        hidden = F.relu(self.norm(hidden.flatten(1))).unflatten(1, (self.joints, -1))
        return torch.einsum("bjh,jhc->bjc", hidden, self.head) + self.bias


class GroupedConvolution(nn.Sequential):
    """Convolution that keeps the size, batch norm and ReLU, in `groups` networks beside each other.

    Args:
        before: channels of each network's input.
        width: channels of each network's output.
        kernel: side, pixels.
        groups: networks.
        shared_input: all networks read the same `before` channels.
    """

    def __init__(self, before: int, width: int, kernel: int, groups: int, shared_input: bool = False) -> None:
        inputs, apart = (before, 1) if shared_input else (before * groups, groups)
        super().__init__(
            nn.Conv2d(inputs, width * groups, kernel, padding=kernel // 2, groups=apart, bias=False),
            nn.BatchNorm2d(width * groups),
            nn.ReLU(inplace=True),
        )
