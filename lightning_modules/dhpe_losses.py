"""The losses of Baek, Kim, Kim: Pushing the Envelope for RGB-based Dense 3D Hand Pose Estimation via Neural Rendering,
CVPR 2019, as pure functions in the order of its equations.

Places are in units of the crop's side: (0, 0) its upper left corner, (1, 1) its lower right one, depth in the same unit
(`normalised_hand`). Each function gives a value per sample; `mean_of_valid` of `losses` makes one of them. A loss that
the paper writes as a sum is a mean over what is summed, in the unit that its docstring names, so that it depends
neither on the picture's size nor on how many joints are labelled.

Letters: B batch, J joints, V vertices, F features, S pixels.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.networks.joint_maps import target_maps
from ops.checks import check_positive, check_shape

PLACE_UNIT = 0.1  # share of the crop's side that counts as 1: 22 pixels of the paper's 224, 2 to 3 cm
LEAST_AREA = 0.05  # share of the crop that a mask counts as at least
THRESHOLD_SIDE = 224.0  # pixels of the crop in which the threshold of eq. 12 is said, whatever the picture's size


def masked_feature_loss(features: Tensor, masked_features: Tensor) -> Tensor:
    """Eq. 2: || F(x) - F(x . m) ||^2, a mean over features; (B, F) each, both get gradients; (B,)."""
    check_shape("features", features, ("B", "F"))
    check_shape("masked_features", masked_features, tuple(features.shape))
    return (features - masked_features).square().mean(1)


def heat_map_loss(stages: list[Tensor], places: Tensor, valid: Tensor, sigma: float) -> Tensor:
    """Eq. 3: || f_J2D(x) - H ||^2 of every stage, H Gaussians around the true places.

    In units of || H ||^2 = pi sigma^2 for a joint: maps of zeros cost 1.

    Args:
        stages: maps (B, J, N, N) each; get gradients.
        places: (B, J, 2) true places.
        valid: (B, J) bool, which count.
        sigma: standard deviation of the Gaussians, cells.

    Returns:
        (B,) means over stages and valid joints.
    """
    check_positive(sigma=sigma)
    check_shape("places", places, (*stages[0].shape[:2], 2))
    target = target_maps(places, sigma, stages[0].shape[-1])
    errors = sum((maps.to(target.dtype) - target).square().sum((2, 3)) for maps in stages)
    return _mean_of_joints(errors / (len(stages) * math.pi * sigma**2), valid)


def place_loss(places: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """|| j2D - j2D* ||^2: (B, J, 2) each, get gradients, (B, J) bool; (B,) means, unit PLACE_UNIT^2."""
    check_shape("places", places, ("B", "J", 2))
    return _mean_of_joints(_squared_distance(places, target, valid), valid)


def refiner_loss(steps: list[Tensor], places: Tensor, valid: Tensor) -> Tensor:
    """Eq. 6: sum over iterations of `place_loss` of the places (B, J, 2) that the refiner says in each; (B,)."""
    return torch.stack([place_loss(step, places, valid) for step in steps]).sum(0)


def articulation_loss(joints: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Eq. 8: || [f_DHPE(x)]_J - j ||^2 on the normalised skeleton; (B, J, 3) each, (B, J) bool; (B,), PLACE_UNIT^2."""
    check_shape("joints", joints, ("B", "J", 3))
    return _mean_of_joints(_squared_distance(joints, target, valid), valid)


def silhouette_loss(silhouette: Tensor, mask: Tensor) -> Tensor:
    """Eq. 9: || [f_DHPE(x)]_M - m ||^2, in units of the mask's area: nothing rendered costs 1.

    Of a hand that is all but hidden, behind an arm say, the unit is a share of the picture: a few pixels of it would
    else cost hundreds, whatever is rendered.

    Args:
        silhouette: (B, 1, S, S) rendered coverage in [0, 1]; gets gradients.
        mask: (B, 1, S, S) true one.

    Returns:
        (B,).
    """
    check_shape("silhouette", silhouette, ("B", 1, "S", "S"))
    check_shape("mask", mask, tuple(silhouette.shape))
    area = mask.square().sum((1, 2, 3)).clamp_min(LEAST_AREA * mask.shape[-1] ** 2)
    return (silhouette - mask).square().sum((1, 2, 3)) / area


def laplacian_loss(vertices: Tensor, laplacian: Tensor) -> Tensor:
    """Eq. 10 and 11: mean over vertices of || (L v) ||, the surface's roughness.

    Kanazawa et al.: Learning Category-Specific Mesh Reconstruction from Image Collections, ECCV 2018.

    Args:
        vertices: (B, V, 3); get gradients.
        laplacian: (V, V), see `cotangent_laplacian`.

    Returns:
        (B,) in the unit of the vertices.
    """
    check_shape("vertices", vertices, ("B", "V", 3))
    check_shape("laplacian", laplacian, (vertices.shape[1],) * 2)
    # one product for all hands: `laplacian @ vertices` would copy L for each, a fifth of a step of training
    flat = vertices.mT.reshape(-1, vertices.shape[1])  # (3 B, V)
    rough = F.linear(flat, laplacian).unflatten(0, (-1, 3))  # (B, 3, V)
    # sqrt has no gradient at 0: a roughness of a millionth counts as none
    return (rough.square().sum(1) + 1e-12).sqrt().mean(1)


def hierarchical_gate(pixels: Tensor, threshold: float) -> Tensor:
    """Eq. 12: 1 where the skeleton lies within `threshold` pixels of its labels, else 0: lambda of L_Sh by instance.

    Args:
        pixels: (B,) mean distance of the 2D joints from their labels, in a crop of 224 pixels.
        threshold: pixels; an instance exactly at it is not within.
    """
    return (pixels < threshold).to(pixels.dtype)


def mean_pixels(joints: Tensor, places: Tensor, valid: Tensor) -> Tensor:
    """Mean distance (B,) of joints (B, J, 2 or 3) from places (B, J, 2) in a crop of 224 pixels; infinite without any.

    Where nothing is labelled nothing is known to be near. Without gradients.
    """
    distance = THRESHOLD_SIDE * (joints.detach()[..., :2] - places).norm(dim=-1)
    mean = torch.where(valid, distance, 0).sum(1) / valid.sum(1).clamp_min(1)
    return torch.where(valid.any(1), mean, torch.inf)


def cotangent_laplacian(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The Laplacian (V, V) of a mesh: row i of L v is sum_j w_ij (v_i - v_j), w_ij = (cot a + cot b) / 2.

    a and b are the angles opposite edge ij; a rim's edge has one.

    Args:
        vertices: (V, 3) of the mesh at rest.
        faces: (F, 3).
    """
    count = len(vertices)
    laplacian = np.zeros((count, count))
    for corner in range(3):
        apex, i, j = (faces[:, (corner + k) % 3] for k in range(3))
        a, b = vertices[i] - vertices[apex], vertices[j] - vertices[apex]
        weights = 0.5 * (a * b).sum(1) / np.linalg.norm(np.cross(a, b), axis=1).clip(1e-12)
        np.add.at(laplacian, (np.concatenate([i, j]), np.concatenate([j, i])), -np.tile(weights, 2))
        np.add.at(laplacian, (np.concatenate([i, j]),) * 2, np.tile(weights, 2))
    return laplacian


def _squared_distance(points: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    check_shape("target", target, tuple(points.shape))
    target = torch.where(valid[..., None], target, points.detach())  # no NaN of an invalid joint reaches a gradient
    return ((points - target) / PLACE_UNIT).square().sum(-1)


def _mean_of_joints(errors: Tensor, valid: Tensor) -> Tensor:
    """(B,) means over the valid of errors (B, J); 0 where none is."""
    check_shape("valid", valid, tuple(errors.shape))
    kept = torch.where(valid, errors, torch.zeros_like(errors))
    return kept.sum(1) / valid.sum(1).clamp_min(1)
