"""Feature vectors of colour pictures, by name: pictures (B, 3, S, S) in [0, 1] to features (B, F); `features` says F.

"small" is our own, for CPUs: 0.03 G multiply-adds at 128 x 128. All others are transformers' `AutoBackbone`s, built
from their configurations; pretrained weights come on request only, from a folder or the Hugging Face hub.
"""

from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.networks.trunks import PYRAMID_WIDTHS, small_pyramid
from ops.checks import check_choice, check_shape, require_module

BackboneName = Literal["small", "resnet18", "resnet50", "convnextv2-tiny", "dinov2-small"]
# what ImageNet's networks expect, and a fair scale for any picture of colours
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CELLS, _FEATURES = 4, 512
_SMALLEST = 32  # pixels: below it the small one's last maps are empty


def build_backbone(name: BackboneName, pretrained: str | None = None) -> nn.Module:
    """The backbone of that name.

    Args:
        name: small, or one of transformers'.
        pretrained: folder, or name on the Hugging Face hub, of weights to begin with; of the same architecture.
    """
    check_choice("backbone", name, get_args(BackboneName))
    if name != "small":
        return TransformersBackbone(name, pretrained)
    if pretrained is not None:
        raise ValueError(
            f"pretrained: backbone '{name}' has no weights on file, got '{pretrained}'; take resnet18 or a larger one"
        )
    return SmallBackbone()


def centred(picture: Tensor) -> Tensor:
    """Colours (B, 3, H, W) in [0, 1] less their usual mean, in units of their usual deviation."""
    mean, std = (picture.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (picture - mean) / std


def resized(picture: Tensor, size: int) -> Tensor:
    """Pictures (B, C, S, S) of `size` pixels a side, smoothed where they shrink."""
    if picture.shape[-1] == size:
        return picture
    return F.interpolate(picture, size, mode="bilinear", antialias=picture.shape[-1] > size, align_corners=False)


class SmallBackbone(nn.Module):
    """Residual blocks after an early reduction; 4 x 4 cells are kept: where a feature lies matters to a pose.

    Features are normalised, picture by picture, before they are cut at zero: large first steps else push them below it
    for good, and equation 2 is met by features that vanish.
    """

    features = _FEATURES

    def __init__(self) -> None:
        super().__init__()
        layers = [*small_pyramid(3), nn.AdaptiveAvgPool2d(_CELLS), nn.Flatten()]
        layers.append(nn.Linear(PYRAMID_WIDTHS[-1] * _CELLS**2, _FEATURES))
        layers.append(nn.LayerNorm(_FEATURES, elementwise_affine=False))
        self.layers = nn.Sequential(*layers, nn.ReLU(inplace=True))

    def forward(self, picture: Tensor) -> Tensor:
        """Features (B, 512) of pictures (B, 3, S, S) in [0, 1], S at least 32."""
        check_shape("picture", picture, ("B", 3, "S", "S"))
        if picture.shape[-1] < _SMALLEST:
            raise ValueError(f"picture: expected at least {_SMALLEST} pixels a side, got {picture.shape[-1]}")
        return self.layers(centred(picture))


class TransformersBackbone(nn.Module):
    """The last feature maps of one of transformers' backbones, averaged over the picture."""

    def __init__(self, name: str, pretrained: str | None = None) -> None:
        super().__init__()
        remedy = "pip install -c constraints.txt 'handful[backbones]', or take the backbone 'small'"
        transformers = require_module("transformers", f"backbone '{name}'", remedy)
        self.network = transformers.AutoBackbone.from_config(_configuration(transformers, name))
        if pretrained is not None:
            self.network = _pretrained(self.network, name, pretrained)
        self.features = int(self.network.channels[-1])

    def forward(self, picture: Tensor) -> Tensor:
        """Features (B, F) of pictures (B, 3, S, S) in [0, 1]."""
        check_shape("picture", picture, ("B", 3, "S", "S"))
        maps = self.network(centred(picture)).feature_maps[-1]
        return F.adaptive_avg_pool2d(maps, 1).flatten(1)


def _configuration(transformers: Any, name: str) -> Any:
    """The architecture of that name; only its last stage is asked for."""
    if name == "resnet18":
        sizes = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
        return transformers.ResNetConfig(**sizes, out_features=["stage4"])
    if name == "resnet50":
        return transformers.ResNetConfig(out_features=["stage4"])
    if name == "convnextv2-tiny":
        sizes = {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]}
        return transformers.ConvNextV2Config(**sizes, out_features=["stage4"])
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12, "image_size": 518, "patch_size": 14}
    return transformers.Dinov2Config(**sizes, out_features=["stage12"])


def _pretrained(network: Any, name: str, source: str) -> nn.Module:
    """The same architecture with the weights of a folder or of the hub."""
    wanted = network.config
    try:
        # of its class, since AutoBackbone itself asks the hub for what is a folder here
        known = type(network).from_pretrained(source, out_features=wanted.out_features)
    except Exception as error:  # a missing name and a missing network raise many classes of error
        raise FileNotFoundError(
            f"pretrained '{source}': no such folder, and the Hugging Face hub did not give it "
            f"({str(error).splitlines()[0]}); download it where there is a network and name its folder"
        ) from error
    for size in ("model_type", "hidden_sizes", "hidden_size", "depths", "layer_type"):
        got, expected = getattr(known.config, size, None), getattr(wanted, size, None)
        if got != expected:
            raise ValueError(
                f"pretrained '{source}': expected weights of '{name}', whose {size} is {expected}, got {got}"
            )
    return known


def masked_apart(picture: Tensor, mask: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) where masks (B, 1, S, S) are 1, black elsewhere; both get gradients."""
    return picture * mask.to(picture.dtype)


def features_of_both(backbone: nn.Module, picture: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, F) of pictures and of their masked selves.

    The latter with the statistics that batch norm keeps of pictures, as in refinement: in a batch of both, the spread
    that it divides by is the one between black surroundings and none, beside which hands hardly differ.
    """
    features = backbone(picture)
    learning = [module for module in backbone.modules() if module.training]
    try:
        for module in learning:
            module.training = False
        return features, backbone(masked_apart(picture, mask))
    finally:
        for module in learning:
            module.training = True
