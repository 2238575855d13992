"""Pose correctives and the pose space.

Correctives are geometric, not learned from scans: delta mush (Mancewicz et al. 2014: smooth the skinned surface, put
back the detail of the rest pose) says where each vertex should be, and a ridge regression on the entries of R - I says
how much of it 135 linear features can give.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ops.hand_model.build.annotation import rim_vertices
from ops.hand_model.build.poses import random_pose
from ops.hand_model.build.rig import PoseMaker, local_rotations, skin, world_rotations
from ops.joints import MODEL_PARENTS

TRAINING_POSES, SPACE_POSES, SEED = 500, 2000, 3
_SMOOTHINGS, _SMOOTHING_STEP = 6, 0.5
_RIDGE = 0.5
_NO_VARIANCE = 1e-9  # of the largest singular value
_MAX_OFFSET = 0.004  # metres
_BLEND_RIDGE = 1e-3  # keeps blended rotations invertible at sharp folds
_REACH, _MIN_INFLUENCE = 0.035, 0.02  # metres around a joint, and least weight, within which it may correct


@dataclass(frozen=True)
class Surface:
    """A skinned mesh: vertices (V, 3), faces (F, 3), weights (V, 16), joints (16, 3)."""

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    joints: np.ndarray


def pose_correctives(surface: Surface, maker: PoseMaker) -> np.ndarray:
    """Correctives (V, 3, 135) in metres per entry of R - I (joints 1-15, row-major)."""
    rng = np.random.default_rng(SEED)
    mush = _DeltaMush(surface)
    features, offsets = [], []
    for _ in range(TRAINING_POSES):
        local = local_rotations(random_pose(maker, rng))
        features.append((local[1:] - np.eye(3)).reshape(-1))
        offsets.append(mush.offsets(world_rotations(local)).reshape(-1))
    x, y = np.array(features), np.array(offsets)
    solution = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
    correctives = solution.T.reshape(len(surface.vertices), 3, -1)
    for joint, parent in enumerate(MODEL_PARENTS[1:], start=1):
        near = np.linalg.norm(surface.vertices - surface.joints[joint], axis=1) < _REACH
        influence = surface.weights[:, joint] + surface.weights[:, parent] * near
        correctives[influence < _MIN_INFLUENCE, :, 9 * joint - 9 : 9 * joint] = 0
    return correctives


def pose_space(maker: PoseMaker, published: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (45,) and principal components (45, 45) of random poses.

    Args:
        maker: gives the hinges.
        published: (45, 45) components whose signs and null space are kept, see `like_published`.
    """
    rng = np.random.default_rng(SEED)
    for _ in range(TRAINING_POSES):  # the poses of the correctives come first in the stream
        random_pose(maker, rng)
    poses = np.stack([random_pose(maker, rng)[1:].reshape(-1) for _ in range(SPACE_POSES)])
    mean = poses.mean(0)
    _, values, components = np.linalg.svd(poses - mean, full_matrices=False)
    return mean, like_published(components, values, published)


def like_published(components: np.ndarray, values: np.ndarray, published: np.ndarray) -> np.ndarray:
    """Fix what an SVD leaves open as it was published: the sign of a component, and the basis of the null space.

    Hinges turn about one axis, so 20 of the 45 components have no variance: any basis of that space is right, and which
    one comes out is rounding noise. The published rows are projected onto it: they return if and only if they span it.

    Args:
        components: (N, N) rows.
        values: (N,) their singular values, descending.
        published: (N, N) rows.
    """
    rank = int((values > _NO_VARIANCE * values[0]).sum())
    signs = np.sign((components[:rank] * published[:rank]).sum(1, keepdims=True))
    null = components[rank:]
    return np.concatenate([components[:rank] * signs, published[rank:] @ null.T @ null])


class _DeltaMush:
    """Smoothing that keeps the detail of the rest pose; the rim stays where skinning puts it."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.rim = rim_vertices(surface.faces)
        self.average = neighbour_average(surface.faces, len(surface.vertices))
        smooth = self._smooth(surface.vertices)
        frames = vertex_frames(smooth, surface.faces)
        self.detail = np.einsum("vba,vb->va", frames, surface.vertices - smooth)

    def offsets(self, world: np.ndarray) -> np.ndarray:
        """Rest-frame offsets (V, 3) that bring the skinned surface onto the mushed one.

        Args:
            world: (16, 3, 3) rotations of the bones.
        """
        surface = self.surface
        skinned, _, _ = skin(surface.vertices, surface.joints, surface.weights, world)
        smooth = self._smooth(skinned)
        mushed = smooth + np.einsum("vab,vb->va", vertex_frames(smooth, surface.faces), self.detail)
        blended = np.einsum("vj,jab->vab", surface.weights, world) + _BLEND_RIDGE * np.eye(3)
        offsets = np.linalg.solve(blended, (mushed - skinned)[..., None])[..., 0]
        offsets = np.clip(offsets, -_MAX_OFFSET, _MAX_OFFSET)
        offsets[self.rim] = 0
        return offsets

    def _smooth(self, vertices: np.ndarray) -> np.ndarray:
        smooth = vertices
        for _ in range(_SMOOTHINGS):
            smooth = (1 - _SMOOTHING_STEP) * smooth + _SMOOTHING_STEP * (self.average @ smooth)
            smooth[self.rim] = vertices[self.rim]
        return smooth


def neighbour_average(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """Matrix (V, V) that replaces every vertex by the mean of its neighbours."""
    edges = np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sparse.coo_matrix((np.ones(len(ends)), ends.T), shape=(count, count)).tocsr()
    adjacency.data[:] = 1
    return sparse.diags(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency


def vertex_frames(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Tangent, bitangent and normal of every vertex as columns (V, 3, 3); the tangent points to a fixed neighbour."""
    first, second, third = (vertices[faces[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], np.cross(second - first, third - first))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    neighbour = np.full(len(vertices), -1)
    for k in range(3):
        neighbour[faces[:, k]] = faces[:, (k + 1) % 3]
    tangents = vertices[neighbour] - vertices
    tangents -= normals * (tangents * normals).sum(1, keepdims=True)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-12
    return np.stack([tangents, np.cross(normals, tangents), normals], 2)
