"""From quads to triangles, and from 1649 vertices to 778 by collapsing edges onto one of their ends.

The cost is the quadric error (Garland and Heckbert 1997, "Surface simplification using quadric error metrics") summed
over several poses, so that folds keep their vertices. Survivors are original vertices: all that is known per vertex is
kept by selecting rows. Texture seams stay seams.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

VERTICES, RIM = 778, 16
_LENGTH_WEIGHT = 5e-2  # times edge length to the fourth: prefers short edges where the surface is flat
_MIN_NORMAL_COSINE = 0.3  # a collapse may not tilt a face further, in the first two poses
_MIN_FACE_QUALITY = 0.12  # twice the area over the longest edge squared (equilateral: 0.87)
_MAX_VALENCE = 11


@dataclass(frozen=True)
class Triangles:
    """Faces and their texture corners, both (F, 3), and the vertices (V,) of the source mesh that they count in."""

    rows: np.ndarray
    faces: np.ndarray
    uv_faces: np.ndarray


def triangulate(quads: np.ndarray, uv_quads: np.ndarray, vertices: np.ndarray) -> Triangles:
    """Cut every quad along its shorter diagonal."""
    diagonals = [np.linalg.norm(vertices[quads[:, a]] - vertices[quads[:, a + 2]], axis=1) for a in (0, 1)]
    first = diagonals[0] <= diagonals[1]
    corners = np.where(first[:, None, None], [[0, 1, 2], [0, 2, 3]], [[0, 1, 3], [1, 2, 3]]).reshape(len(quads), 6)
    faces, uv_faces = (np.take_along_axis(part, corners, 1).reshape(-1, 3) for part in (quads, uv_quads))
    return Triangles(np.arange(len(vertices)), faces, uv_faces)


def decimate(
    mesh: Triangles, poses: Sequence[np.ndarray], weights: Sequence[float], vertices: int, rim: int
) -> Triangles:
    """Collapse edges until `vertices` remain, of which `rim` on the boundary.

    Args:
        mesh: the fine mesh, V vertices.
        poses: the same hand in several poses, each (V, 3), the rest pose first.
        weights: how much the quadric error in each pose counts.
        vertices: number of vertices to keep.
        rim: number of boundary vertices to keep; they are thinned out first.
    """
    collapse = _Collapse(mesh, poses, weights)
    collapse.thin_rim(rim)
    collapse.thin_all(vertices)
    return collapse.result()


class _Collapse:
    """The mesh while it shrinks. An edge (a, b) collapses by moving a onto b."""

    def __init__(self, mesh: Triangles, poses: Sequence[np.ndarray], weights: Sequence[float]) -> None:
        self.points, self.weights = np.stack(poses), np.asarray(weights)  # (P, V, 3), (P,)
        self.faces = dict(enumerate(mesh.faces.tolist()))
        self.uv_faces = dict(enumerate(mesh.uv_faces.tolist()))
        self.faces_of: dict[int, set[int]] = defaultdict(set)
        for face, corners in self.faces.items():
            for vertex in corners:
                self.faces_of[vertex].add(face)
        uses = Counter(frozenset((f[k], f[k - 1])) for f in self.faces.values() for k in range(3))
        self.rim = {vertex for edge, count in uses.items() if count == 1 for vertex in edge}
        self.quadrics = _quadrics(self.points, mesh.faces)  # (V, P, 4, 4)
        self.version: Counter[int] = Counter()  # grows when a vertex's surroundings change: older costs are stale
        self.heap: list[tuple[float, int, int, int, int]] = []

    def thin_rim(self, count: int) -> None:
        """Collapse edges along the boundary until `count` vertices are left on it."""
        self._fill_heap(self.rim)
        while self.heap and len(self.rim) > count:
            a, b = self._pop()
            if a in self.rim and b in self.rim and len(self.faces_of[a] & self.faces_of[b]) == 1:
                self._try(a, b)

    def thin_all(self, count: int) -> None:
        """Collapse edges onto either end, never a rim vertex, until `count` vertices are left."""
        self._fill_heap(self.faces_of)
        while self.heap and len(self.faces_of) > count:
            a, b = self._pop()
            if a not in self.rim:
                self._try(a, b)

    def result(self) -> Triangles:
        """What is left, faces in their original order."""
        rows = np.array(sorted(self.faces_of))
        faces = np.searchsorted(rows, np.array(list(self.faces.values())))
        return Triangles(rows, faces, np.array(list(self.uv_faces.values())))

    def _neighbours(self, vertex: int) -> set[int]:
        return {other for face in self.faces_of[vertex] for other in self.faces[face]} - {vertex}

    def _fill_heap(self, vertices: set[int] | dict[int, set[int]]) -> None:
        self.heap.clear()
        for vertex in list(vertices):
            for other in self._neighbours(vertex):
                self._push(vertex, other)

    def _push(self, a: int, b: int) -> None:
        entry = (self._cost(a, b), self.version[a], self.version[b], a, b)
        heapq.heappush(self.heap, entry)

    def _pop(self) -> tuple[int, int]:
        """The cheapest edge whose cost is up to date; (-1, -1), which no test lets pass, when none is left."""
        while self.heap:
            _, version_a, version_b, a, b = heapq.heappop(self.heap)
            both = a in self.faces_of and b in self.faces_of
            if both and self.version[a] == version_a and self.version[b] == version_b:
                return a, b
        return -1, -1

    def _cost(self, a: int, b: int) -> float:
        homogeneous = np.append(self.points[:, b], np.ones((len(self.points), 1)), axis=1)  # (P, 4)
        errors = np.einsum("pi,pij,pj->p", homogeneous, self.quadrics[a] + self.quadrics[b], homogeneous)
        length = np.linalg.norm(self.points[0, a] - self.points[0, b])
        return float(self.weights @ np.maximum(errors, 0) + _LENGTH_WEIGHT * length**4)

    def _try(self, a: int, b: int) -> None:
        """Move a onto b, if that is legal."""
        if a < 0:
            return
        shared = self.faces_of[a] & self.faces_of[b]
        corners = self._corner_map(a, b, shared)
        around_a, around_b = self._neighbours(a), self._neighbours(b)
        if corners is None or len(around_a & around_b) != len(shared):
            return
        if len((around_a | around_b) - {a, b}) > _MAX_VALENCE or not self._keeps_shape(a, b, shared):
            return
        self._collapse(a, b, shared, corners)

    def _corner_map(self, a: int, b: int, shared: set[int]) -> dict[int, int] | None:
        """Texture corner of b for each of a; None where the collapse would tear or cross a seam."""
        corners: dict[int, int] = {}
        for face in shared:
            corner_a, corner_b = (self.uv_faces[face][self.faces[face].index(vertex)] for vertex in (a, b))
            if corners.setdefault(corner_a, corner_b) != corner_b:
                return None
        used = {self.uv_faces[face][self.faces[face].index(a)] for face in self.faces_of[a] - shared}
        return corners if used <= corners.keys() else None

    def _keeps_shape(self, a: int, b: int, shared: set[int]) -> bool:
        """Whether the faces that move neither flip (in two poses) nor become slivers (at rest)."""
        old = np.array([self.faces[face] for face in self.faces_of[a] - shared], dtype=int).reshape(-1, 3)
        new = np.where(old == a, b, old)
        before, after = (_normals(self.points[:2], faces) for faces in (old, new))  # (2, F, 3)
        sizes = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
        if ((before * after).sum(-1) < _MIN_NORMAL_COSINE * sizes).any():
            return False
        corners = self.points[0][new]  # (F, 3, 3)
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(1)
        return bool((np.linalg.norm(after[0], axis=-1) / longest**2 >= _MIN_FACE_QUALITY).all())

    def _collapse(self, a: int, b: int, shared: set[int], corners: dict[int, int]) -> None:
        for face in shared:
            for vertex in self.faces[face]:
                self.faces_of[vertex].discard(face)
            del self.faces[face], self.uv_faces[face]
        for face in self.faces_of.pop(a):
            k = self.faces[face].index(a)
            self.faces[face][k] = b
            self.uv_faces[face][k] = corners[self.uv_faces[face][k]]
            self.faces_of[b].add(face)
        self.rim.discard(a)
        self.quadrics[b] += self.quadrics[a]
        touched = self._neighbours(b) | {b}
        self.version.update(touched)
        for vertex in touched:
            for other in self._neighbours(vertex):
                self._push(vertex, other)
                self._push(other, vertex)


def _normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Face normals (P, F, 3), twice the area long, of points (P, V, 3)."""
    first, second, third = (points[:, faces[:, k]] for k in range(3))
    return np.cross(second - first, third - first)


def _quadrics(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted sum of squared-distance forms (V, P, 4, 4) of the planes around each vertex."""
    normals = _normals(points, faces)
    areas = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = normals / areas
    planes = np.append(normals, -(normals * points[:, faces[:, 0]]).sum(-1, keepdims=True), axis=-1)  # (P, F, 4)
    forms = areas[..., None] * planes[..., :, None] * planes[..., None, :]  # (P, F, 4, 4)
    quadrics = np.zeros((points.shape[1], len(points), 4, 4))
    for k in range(3):
        np.add.at(quadrics, faces[:, k], forms.swapaxes(0, 1))
    return quadrics
