"""What is told of the vertices of a mesh: joint regressor, fingertips, part labels, texture layout, MANO's indices."""

from collections import Counter

import numpy as np
from scipy.optimize import nnls

from ops.hand_model.build.retopology import Triangles
from ops.hand_model.build.rig import DISTAL_JOINTS, FINGER_JOINTS, TIP_FINGERS, unit
from ops.joints import MODEL_PARENTS, PART_NAMES

FIT_SAMPLES = 150  # hands that the regressor is fitted to; the others measure it
_NEAR = (0.030,) + (0.022,) * 15  # metres around a joint within which vertices may carry it
_MIN_WEIGHT, _MIN_CANDIDATES, _MORE_CANDIDATES = 0.05, 20, 30
_SUM_WEIGHT, _RIDGE = 100.0, 1e-3  # of the equations "sum is 1" and "coefficient is 0" beside the samples' metres

# Texture: the two islands (hand, and the little one of the palm's heel) cut out of MakeHuman's 2048 px body atlas.
ATLAS_SIZE, TEXTURE_WIDTH, TEXTURE_HEIGHT = 2048, 448, 400
_ISLAND_SPLIT = 0.3  # u of the atlas that separates the islands
_MARGIN, _GAP = 4, 6  # pixels around an island and between them

# Index constants of MANO that third-party code is full of: the rim that "seal" closes, and two sets of fingertips.
RING = (108, 79, 78, 121, 214, 215, 279, 239, 234, 92, 38, 122, 118, 117, 119, 120)
TIPS_A = (745, 317, 444, 556, 673)  # thumb to little, as manopth counts
TIPS_B = (744, 320, 443, 554, 671)  # as smplx counts


def joint_regressor(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, samples: np.ndarray, sample_joints: np.ndarray
) -> np.ndarray:
    """Non-negative, local weights (16, V), rows of sum 1, that give the joints of hands from their vertices.

    Args:
        vertices: (V, 3) mean hand.
        joints: (16, 3) its joints.
        weights: (V, 16) skinning weights.
        samples: (S, V, 3) hands to fit.
        sample_joints: (S, 16, 3) their joints.
    """
    regressor = np.zeros((16, len(vertices)))
    for joint, parent in enumerate(MODEL_PARENTS):
        distance = np.linalg.norm(vertices - joints[joint], axis=1)
        carries = weights[:, joint] + (weights[:, parent] if joint else 0) > _MIN_WEIGHT
        candidates = np.flatnonzero(carries & (distance < _NEAR[joint]))
        if len(candidates) < _MIN_CANDIDATES:
            candidates = np.argsort(np.where(carries, distance, np.inf))[:_MORE_CANDIDATES]
        count = len(candidates)
        positions = samples[:, candidates].transpose(0, 2, 1).reshape(-1, count)
        matrix = np.vstack([positions, np.full((1, count), _SUM_WEIGHT), _RIDGE * np.eye(count)])
        target = np.concatenate([sample_joints[:, joint].reshape(-1), [_SUM_WEIGHT], np.zeros(count)])
        solution, _ = nnls(matrix, target, maxiter=20000)
        regressor[joint, candidates] = solution / solution.sum()
    return regressor


def fingertips(vertices: np.ndarray, joints: np.ndarray, directions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Vertex (5,), thumb to little, that lies furthest along each last phalanx."""
    tips = []
    for joint in DISTAL_JOINTS:
        along = (vertices - joints[joint]) @ unit(directions[joint])
        tips.append(int(np.where(weights[:, joint] > 0.5, along, -np.inf).argmax()))
    return np.array(tips)


def part_labels(vertices: np.ndarray, joints: np.ndarray, directions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Part (V,) of every vertex, an index of PART_NAMES: its strongest bone; last phalanges are cut half way."""
    bone = weights.argmax(1)
    labels = np.zeros(len(vertices), np.int64)
    for finger in TIP_FINGERS:
        chain = FINGER_JOINTS[finger][1:] if finger == "thumb" else FINGER_JOINTS[finger]  # the thumb's ball is palm
        first = PART_NAMES.index(f"{finger}_proximal")
        for part, joint in enumerate(chain, start=first):
            labels[bone == joint] = part
        along = (vertices - joints[chain[-1]]) @ directions[chain[-1]]
        last = bone == chain[-1]
        labels[last & (along > 0.5 * along[last].max())] = first + len(chain)
    return labels


def texture_layout(atlas: np.ndarray) -> np.ndarray:
    """Texture coordinates (T, 2) in [0, 1] on the hand's own picture, from those (T, 2) in the body's atlas."""
    pixels = np.stack([atlas[:, 0], 1 - atlas[:, 1]], 1) * ATLAS_SIZE
    large = atlas[:, 0] > _ISLAND_SPLIT
    corner, end = _box(pixels[large])
    placed = pixels - corner
    small_corner, _ = _box(pixels[~large])
    placed[~large] = pixels[~large] - small_corner + [end[0] - corner[0] + _GAP, 0]
    return np.stack([placed[:, 0] / TEXTURE_WIDTH, 1 - placed[:, 1] / TEXTURE_HEIGHT], 1)


def _box(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel (2,) of an island with its margin."""
    return np.trunc(pixels.min(0)) - _MARGIN, np.ceil(pixels.max(0)) + _MARGIN


def mano_order(mesh: Triangles, vertices: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """New index (V,) of every vertex, such that rim and fingertips get the indices that MANO code knows.

    The rim starts at its uppermost vertex and runs so that capping triangles (RING[i - 1], RING[i], centre) face
    outwards. The second set of tips takes the vertices nearest to the first; all others fill the gaps in order.
    """
    rim = rim_loop(mesh.faces)
    rim = np.roll(rim, -int(vertices[rim, 1].argmax()))
    nearest = []
    for tip in tips:
        others = np.setdiff1d(mesh.faces[(mesh.faces == tip).any(1)], tip)
        nearest.append(others[np.linalg.norm(vertices[others] - vertices[tip], axis=1).argmin()])
    olds, wanted = np.concatenate([rim, tips, nearest]), np.array(RING + TIPS_A + TIPS_B)
    if len(rim) != len(RING) or len(np.unique(olds)) != len(wanted):
        raise ValueError(f"expected a rim of {len(RING)} vertices and ten more at the tips, got a rim of {len(rim)}")
    order = np.full(len(vertices), -1)
    order[olds] = wanted
    order[order < 0] = np.setdiff1d(np.arange(len(vertices)), wanted)
    return order


def rim_loop(faces: np.ndarray) -> np.ndarray:
    """The boundary of a mesh as one loop of vertices, against the direction of its faces."""
    edges = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    following = {b: a for a, b in edges if (b, a) not in edges}
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    return np.array(loop)


def rim_vertices(faces: np.ndarray) -> np.ndarray:
    """Vertices on edges with a single face, sorted."""
    uses = Counter(frozenset((face[k], face[k - 1])) for face in faces.tolist() for k in range(3))
    return np.array(sorted({vertex for edge, count in uses.items() if count == 1 for vertex in edge}))
