"""Cameras: OpenCV axes (x right, y down, z forward), metres; integer pixel (u, v) is a pixel's centre.

Resizing by s maps u' = (u + 0.5) s - 0.5. `K` always belongs to the picture at hand.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ops.checks import check_choice, check_finite, check_shape


@dataclass(frozen=True)
class PinholeCamera:
    """Perspective camera: u = fx x / z + cx. `K`: (B, 3, 3) or (3, 3), pixels."""

    K: Tensor

    def __post_init__(self) -> None:
        check_intrinsics(self.K)

    def project(self, points: Tensor) -> Tensor:
        """Pixels (B, N, 2) of camera-frame points (B, N, 3), metres."""
        return project(points, self.K)


@dataclass(frozen=True)
class WeakPerspectiveCamera:
    """Scaled orthographic camera: u = scale x + centre_u. `scale`: (B,) pixels per metre, `centre`: (B, 2) pixels."""

    scale: Tensor
    centre: Tensor

    def __post_init__(self) -> None:
        check_shape("scale", self.scale, ("B",))
        check_shape("centre", self.centre, ("B", 2))

    def project(self, points: Tensor) -> Tensor:
        """Pixels (B, N, 2) of points (B, N, 3), metres; z does not matter."""
        return points[..., :2] * self.scale[:, None, None] + self.centre[:, None]


Camera = PinholeCamera | WeakPerspectiveCamera

# (fx, fy, cx, cy, width, height) of depth cameras. Sources: dataset scripts and papers (nyu, icvl, msra, hands2017,
# stb); sr305 as stored with public frames; realsense-d435 is a typical value: read your own device's where you can.
CAMERA_PRESETS: dict[str, tuple[float, float, float, float, int, int]] = {
    "nyu": (588.036865, 587.075073, 320.0, 240.0, 640, 480),
    "icvl": (240.99, 240.96, 160.0, 120.0, 320, 240),
    "msra": (241.42, 241.42, 160.0, 120.0, 320, 240),
    "hands2017": (475.065948, 475.065857, 315.944855, 245.287079, 640, 480),
    "sr300": (475.065948, 475.065857, 315.944855, 245.287079, 640, 480),
    "sr305": (476.007, 476.007, 313.683, 242.755, 640, 480),
    "stb-sk": (475.62768, 474.77709, 336.41179, 238.77962, 640, 480),
    "realsense-d435": (385.0, 385.0, 320.0, 240.0, 640, 480),
}


def intrinsics(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """The (3, 3) matrix K, pixels."""
    matrix = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    check_intrinsics(matrix)
    return matrix


def camera_preset(name: str) -> tuple[Tensor, tuple[int, int]]:
    """K (3, 3) and (height, width) of a named camera."""
    check_choice("camera", name, CAMERA_PRESETS)
    fx, fy, cx, cy, width, height = CAMERA_PRESETS[name]
    return intrinsics(fx, fy, cx, cy), (height, width)


def check_intrinsics(K: Tensor) -> None:
    """Raise unless K is (3, 3) or (B, 3, 3), finite, with positive focal lengths and a last row 0 0 1."""
    check_shape("K", K, (3, 3) if K.ndim == 2 else ("B", 3, 3))
    check_finite("K", K)
    focal = torch.stack([K[..., 0, 0], K[..., 1, 1]])
    if not bool((focal > 0).all()):
        raise ValueError(f"K: expected positive focal lengths (pixels), got {focal.min().item():g}; check fx and fy")
    if not bool((K[..., 2, :] == K.new_tensor([0.0, 0.0, 1.0])).all()):
        raise ValueError("K: expected the last row to be 0 0 1; transpose it or divide by K[2, 2]")


def project(points: Tensor, K: Tensor) -> Tensor:
    """Pinhole projection.

    Args:
        points: (B, N, 3) metres, camera frame, z > 0.
        K: (B, 3, 3) or (3, 3), pixels.

    Returns:
        (B, N, 2) pixels.
    """
    homogeneous = points @ K.transpose(-1, -2)
    return homogeneous[..., :2] / homogeneous[..., 2:]


def unproject(pixels: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    """Camera-frame points (B, N, 3), metres, of pixels (B, N, 2) at depth (B, N), metres."""
    K = K if K.ndim == 3 else K[None]
    (a, b), (c, d) = (K[:, i, :2].unbind(-1) for i in (0, 1))
    # written out: the last row of K is 0 0 1, and ONNX has no solver
    inverse = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2)) / (a * d - b * c)[:, None, None]
    rays = (pixels - K[:, None, :2, 2]) @ inverse.transpose(1, 2)
    return torch.cat([rays, torch.ones_like(depth)[..., None]], -1) * depth[..., None]


def resize_affine(scale: float | Tensor) -> Tensor:
    """The (2, 3) map of pixel centres under resizing: u' = (u + 0.5) s - 0.5."""
    scale = torch.as_tensor(scale, dtype=torch.float32)
    shift = 0.5 * scale - 0.5
    zero = torch.zeros_like(scale)
    return torch.stack([torch.stack([scale, zero, shift]), torch.stack([zero, scale, shift])])


def crop_affine(centre: Tensor, side: Tensor, size: int) -> Tensor:
    """Maps from a picture's pixels to the pixels of a square crop of it.

    Args:
        centre: (B, 2) the crop's centre, pixels of the picture.
        side: (B,) the crop's side, pixels of the picture.
        size: side of the crop, pixels of the crop.

    Returns:
        (B, 2, 3) affine maps.
    """
    scale = size / side
    zero = torch.zeros_like(scale)
    # the centre of the square goes to the centre of the crop, which lies between its middle pixels
    shift = (size - 1) / 2 - centre * scale[:, None]
    rows = [torch.stack([scale, zero, shift[:, 0]], -1), torch.stack([zero, scale, shift[:, 1]], -1)]
    return torch.stack(rows, 1)


def cube_crop(centre: Tensor, side: Tensor, K: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The square crop whose side covers a cube's at the depth of the cube's centre: side_px = fx side / z.

    Args:
        centre: (B, 3) metres, camera frame, z > 0: goes to the middle of the crop.
        side: (B,) of the cube, metres.
        K: (B, 3, 3) pixels of the whole picture; the crop is square in pixels, sized by fx.
        size: side of the crop, pixels of the crop.

    Returns:
        (B, 2, 3) affine maps from the picture's pixels to the crop's, and K (B, 3, 3) of the crop.
    """
    affine = crop_affine(project(centre[:, None], K)[:, 0], K[:, 0, 0] * side / centre[:, 2], size)
    return affine, transform_intrinsics(K, affine)


def transform_intrinsics(K: Tensor, affine: Tensor) -> Tensor:
    """K (B, 3, 3) of a picture after its pixels were moved by `affine` (B, 2, 3)."""
    bottom = torch.zeros_like(K)
    bottom[..., 2, 2] = 1
    return torch.cat([affine @ K, bottom[..., 2:, :]], -2)
