"""The batch contract: what every source gives and every method takes.

Letters: B batch, H W picture, V vertices. Space: OpenCV camera (x right, y down, z forward), metres, float32. Integer
pixel (u, v) is a pixel's centre. Joints are canonical (`ops.joints.CANONICAL_JOINTS`). A loss touches only what the
`has_*` flags say; a field without its flag holds zeros, never NaN.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from ops.checks import check_shape

LEFT, RIGHT = 0, 1


class HandBatch(TypedDict, total=False):
    """One batch of hands. Pictures and geometry belong to the crop, not to the original picture."""

    # pictures
    rgb: Tensor  # (B, 3, H, W) in [0, 1]
    depth: Tensor  # (B, 1, H, W) metres, 0 = missing
    mask: Tensor  # (B, 1, H, W) 1 on the hand, 0 elsewhere, float32
    parts: Tensor  # (B, H, W) uint8: 0 background, 1 palm, 2-20 finger parts, 255 unlabelled
    # geometry
    K: Tensor  # (B, 3, 3) pixels of the picture in this batch
    joints_3d: Tensor  # (B, 21, 3) metres, camera frame
    joints_2d: Tensor  # (B, 21, 2) pixels of the picture in this batch
    joint_valid: Tensor  # (B, 21) bool
    palm: Tensor  # (B, 3) metres, camera frame: the dataset's palm point
    vertices: Tensor  # (B, V, 3) metres, camera frame
    cube_centre: Tensor  # (B, 3) metres, camera frame: centre of the crop cube; 0 without joints in 3D
    cube_side: Tensor  # (B,) metres
    crop: Tensor  # (B, 2, 3) affine map: pixels of the original picture -> pixels of this picture
    original_size: Tensor  # (B, 2) height and width of the original picture
    # facts
    side: Tensor  # (B,) int64: 0 left, 1 right, of the hand as pictured
    mirrored: Tensor  # (B,) bool: picture and labels were mirrored to look like a right hand
    convention: list[str]  # joint convention of the labels, per sample
    domain: list[str]  # name of the source, per sample
    hand_model: list[str]  # id of the hand model that made `vertices`, "" where there is none
    key: list[str]  # dataset/split/record, per sample
    has_rgb: Tensor  # (B,) bool, and so on
    has_depth: Tensor
    has_mask: Tensor
    has_parts: Tensor
    has_mesh: Tensor
    has_3d: Tensor
    has_2d: Tensor


FLAGS = ("has_rgb", "has_depth", "has_mask", "has_parts", "has_mesh", "has_3d", "has_2d")
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "rgb": ("B", 3, "H", "W"),
    "depth": ("B", 1, "H", "W"),
    "mask": ("B", 1, "H", "W"),
    "parts": ("B", "H", "W"),
    "K": ("B", 3, 3),
    "joints_3d": ("B", 21, 3),
    "joints_2d": ("B", 21, 2),
    "joint_valid": ("B", 21),
    "palm": ("B", 3),
    "vertices": ("B", "V", 3),
    "cube_centre": ("B", 3),
    "cube_side": ("B",),
    "crop": ("B", 2, 3),
    "original_size": ("B", 2),
    "side": ("B",),
    "mirrored": ("B",),
    **{flag: ("B",) for flag in FLAGS},
}


_DTYPES = {"parts": torch.uint8, "side": torch.int64, "original_size": torch.int64} | dict.fromkeys(
    ("joint_valid", "mirrored", *FLAGS), torch.bool
)  # all others are float32


def rows_of(batch: HandBatch, rows: Sequence[int]) -> HandBatch:
    """Some samples of a batch, in the order of `rows`."""
    places = list(rows)
    return HandBatch(
        **{
            field: value[torch.tensor(places, device=value.device)]
            if isinstance(value, Tensor)
            else [value[place] for place in places]
            for field, value in batch.items()
        }
    )


def join_batches(batches: Sequence[HandBatch]) -> HandBatch:
    """Samples of several batches that have the same fields, as one."""
    fields = {tuple(sorted(batch)) for batch in batches}
    if len(fields) != 1:
        raise ValueError(f"batches: expected at least one, and the same fields in all, got {sorted(fields)}")
    return HandBatch(
        **{
            field: torch.cat([batch[field] for batch in batches])
            if isinstance(batches[0][field], Tensor)
            else [value for batch in batches for value in batch[field]]
            for field in batches[0]
        }
    )


def check_batch(batch: HandBatch, needs: Sequence[str] = ()) -> None:
    """Raise unless every tensor of `batch` has its contract's shape and dtype and the fields in `needs` are there."""
    missing = [field for field in needs if field not in batch]
    if missing:
        raise ValueError(
            f"batch of domain {sorted(set(batch.get('domain', ['unknown'])))}: missing {', '.join(missing)}; "
            "choose a source that provides them or a configuration that does not use them"
        )
    for field, value in batch.items():
        if isinstance(value, Tensor):
            if field not in _SHAPES:
                raise ValueError(f"batch field '{field}' is not in the contract (datamodules/batch.py)")
            check_shape(f"batch['{field}']", value, _SHAPES[field])
            dtype = _DTYPES.get(field, torch.float32)
            if value.dtype != dtype:
                raise TypeError(f"batch['{field}']: expected {dtype}, got {value.dtype}; convert it in the reader")
    sizes = {field: len(value) for field, value in batch.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"batch: all fields must have one length, got {sizes}")
    pictures = {name: tuple(batch[name].shape[-2:]) for name in ("rgb", "depth", "mask", "parts") if name in batch}
    if len(set(pictures.values())) > 1:
        raise ValueError(f"batch: all pictures must have one height and width, got {pictures}; K belongs to one size")
