"""f_s of Neverova et al. (CVIU 2017, table 1): which of 20 hand parts each pixel of a depth picture shows.

The paper's network classifies patches: convolutions with shift-and-pool (OverFeat), which keeps the resolution, then
two hidden layers of 500 units per pixel. Written densely, shift-and-pool is pooling at stride 1 followed by dilated
layers: what a pixel sees, 32 x 32 pixels, and what it says are the same.

Its batch normalisation takes the statistics of all pixels of the same picture, in training and test: instance norm, so
that a picture's labels do not depend on what else is in the batch.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ops.checks import check_choice, check_shape
from ops.joints import PART_NAMES

PARTS = len(PART_NAMES)
RECEPTIVE_FIELD = 32  # pixels


class PartClassifier(nn.Module):
    """Scores of the parts, before softmax.

    Args:
        widths: channels of the three convolutions.
        hidden: units of the two hidden layers.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), hidden: int = 500) -> None:
        super().__init__()
        for name, width in (*((f"widths[{i}]", width) for i, width in enumerate(widths)), ("hidden", hidden)):
            if width < 1:
                raise ValueError(f"{name}: expected at least 1 channel, got {width}")
        first, second, third = widths
        self.first = nn.Conv2d(1, first, 5, padding="same", bias=False)
        self.second = nn.Conv2d(first, second, 5, padding="same", bias=False)
        self.third = nn.Conv2d(second, third, 5, padding="same", bias=False)
        self.fourth = nn.Conv2d(third, hidden, 1, bias=False)
        self.fifth = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.scores = nn.Conv2d(hidden, PARTS, 1)
        self.norms = nn.ModuleList(nn.InstanceNorm2d(width, affine=True) for width in (*widths, hidden, hidden))

    def forward(self, picture: Tensor, stride: int = 1) -> Tensor:
        """Scores (B, 20, H / stride, W / stride) of pictures (B, 1, H, W).

        Args:
            picture: local-contrast-normalised depth.
            stride: 1 says all pixels; 2 every second pixel of every second row, at a quarter of the cost. But for the
                pixels that normalisation takes its statistics over, it is the same function.
        """
        check_shape("picture", picture, ("B", 1, "H", "W"))
        check_choice("stride", stride, (1, 2))
        if picture.shape[2] % 2 or picture.shape[3] % 2:
            raise ValueError(f"picture: expected even height and width, got {tuple(picture.shape[2:])}")
        spread = 2 // stride  # pixels of the thinner grid between neighbours after the first pooling
        maps = self._layer(0, F.conv2d(picture, self.first.weight, padding=2))
        # windows reach one pixel down and right here, two pixels up and left below: the view stays in the middle
        maps = F.max_pool2d(F.pad(maps, (0, 2 - stride) * 2), 2, stride)
        maps = self._layer(1, F.conv2d(maps, self.second.weight, padding=2 * spread, dilation=spread))
        maps = F.max_pool2d(F.pad(maps, (spread, 0) * 2), 2, 1, dilation=spread)
        maps = self._layer(2, F.conv2d(maps, self.third.weight, padding=4 * spread, dilation=2 * spread))
        maps = self._layer(3, self.fourth(maps))
        return self.scores(self._layer(4, self.fifth(maps)))

    def _layer(self, number: int, maps: Tensor) -> Tensor:
        """Normalised over the picture, rectified: never negative, so that a padding of 0 is nothing to the pooling."""
        return F.relu(self.norms[number](maps))
