"""Rotations as axis-angle, quaternion, 6D and matrix, and rigid alignment of point sets. All differentiable.

Shapes: `...` any leading axes, N points. Angles in radians, matrices act on column vectors.
"""

import torch
from torch import Tensor

from ops.checks import check_shape

_SMALL_SQUARED_ANGLE = 1e-8  # below it the Taylor series is exact to float64


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula in sinc form, with finite gradients at the zero rotation.

    Args:
        axis_angle: (..., 3) axis times angle, radians.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    x, y, z = axis_angle.unbind(-1)
    squared = (axis_angle * axis_angle).sum(-1)
    small = squared < _SMALL_SQUARED_ANGLE
    # both branches of torch.where get gradients: the unused one must not divide by zero
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    a = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)
    half_sine = torch.sin(angle / 2)  # 1 - cos(t) cancels for small t, 2 sin(t / 2)^2 does not
    b = torch.where(small, 0.5 - squared / 24, 2 * half_sine * half_sine / safe)
    ax, ay, az = a * x, a * y, a * z
    bx, by, bz = b * x, b * y, b * z
    xy, xz, yz = bx * y, bx * z, by * z
    rows = [1 - by * y - bz * z, xy - az, xz + ay]
    rows += [xy + az, 1 - bx * x - bz * z, yz - ax]
    rows += [xz - ay, yz + ax, 1 - bx * x - by * y]
    return torch.stack(rows, -1).reshape(*axis_angle.shape[:-1], 3, 3)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle (..., 3) of rotation matrices (..., 3, 3); the angle lies in [0, pi]."""
    quaternion = matrix_to_quaternion(matrix)
    real, vector = quaternion[..., :1], quaternion[..., 1:]
    sine = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, real)
    small = sine < 1e-7
    scale = torch.where(small, 2 * torch.ones_like(sine), angle / torch.where(small, torch.ones_like(sine), sine))
    return vector * scale


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4) as (w, x, y, z), w >= 0, of rotation matrices (..., 3, 3)."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    # four candidates, each times 2 |component|; the one with the largest component is well conditioned
    candidates = torch.stack(
        [
            torch.stack([1 + trace, _skew(m, 2, 1), _skew(m, 0, 2), _skew(m, 1, 0)], -1),
            torch.stack([_skew(m, 2, 1), 1 + 2 * m[..., 0, 0] - trace, _sym(m, 0, 1), _sym(m, 0, 2)], -1),
            torch.stack([_skew(m, 0, 2), _sym(m, 0, 1), 1 + 2 * m[..., 1, 1] - trace, _sym(m, 1, 2)], -1),
            torch.stack([_skew(m, 1, 0), _sym(m, 0, 2), _sym(m, 1, 2), 1 + 2 * m[..., 2, 2] - trace], -1),
        ],
        -2,
    )
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    quaternion = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) as (w, x, y, z); any non-zero length."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True).clamp_min(1e-12)).unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)


def rotation_6d_to_matrix(six: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) whose first two columns are Gram-Schmidt of (..., 6) (Zhou et al. 2019, eq. 15)."""
    first, second = six[..., :3], six[..., 3:]
    first = torch.nn.functional.normalize(first, dim=-1)
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def rigid_alignment(source: Tensor, target: Tensor, weights: Tensor | None = None, scale: bool = False) -> Tensor:
    """Move `source` onto `target` by the best rotation and translation (and scale): Procrustes, Umeyama 1991.

    Args:
        source: (B, N, 3) points.
        target: (B, N, 3) points.
        weights: (B, N) non-negative weights of the points; None weighs all alike.
        scale: fit one scale factor as well.

    Returns:
        (B, N, 3) the moved source. Never mirrors.
    """
    check_shape("source", source, ("B", "N", 3))
    check_shape("target", target, tuple(source.shape))
    rotation, translation, factor = rigid_motion(source, target, weights, scale)
    return factor[:, None, None] * (source @ rotation.transpose(1, 2)) + translation[:, None]


def rigid_motion(
    source: Tensor, target: Tensor, weights: Tensor | None = None, scale: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation (B, 3, 3), translation (B, 3) and scale (B,), 1 unless asked for, of `rigid_alignment`.

    target = scale * rotation @ source + translation.
    """
    weights = torch.ones_like(source[..., 0]) if weights is None else weights.to(source.dtype)
    weights = weights[..., None] / weights.sum(-1)[:, None, None].clamp_min(1e-12)
    source_mean = (weights * source).sum(1, keepdim=True)
    target_mean = (weights * target).sum(1, keepdim=True)
    a, b = source - source_mean, target - target_mean
    covariance = b.transpose(1, 2) @ (weights * a)
    u, s, vt = torch.linalg.svd(covariance)
    signs = torch.ones_like(s)
    signs[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    rotation = (u * signs[:, None]) @ vt
    factor = torch.ones_like(s[:, 0])
    if scale:
        factor = (s * signs).sum(-1) / (weights * a * a).sum((1, 2)).clamp_min(1e-20)
    translation = target_mean - factor[:, None, None] * (source_mean @ rotation.transpose(1, 2))
    return rotation, translation[:, 0], factor


def _skew(m: Tensor, i: int, j: int) -> Tensor:
    return m[..., i, j] - m[..., j, i]


def _sym(m: Tensor, i: int, j: int) -> Tensor:
    return m[..., i, j] + m[..., j, i]
