"""Procedural skin of the open hand: ten tones, lighter palm, nails, creases, mottling. Made of formulas, no picture.

Everything is a function of the place on the rest hand, so a texture has no seams and vertex colours agree with it. It
is plausible, not measured. Tones: E. Monk, "The Monk Skin Tone Scale" (2023), sRGB as published at skintone.google.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import sparse
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ops.checks import check_shape
from ops.hand_model.model import HandModel, open_hand
from ops.joints import MODEL_PARENTS

_MONK = ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420")
MONK_TONES = np.array([[int(tone[k : k + 2], 16) / 255 for k in (0, 2, 4)] for tone in _MONK])  # (10, 3) sRGB

_KNUCKLES, _DISTAL = (1, 4, 7, 10), (15, 3, 6, 12, 9)  # joints; the distal ones thumb to little, as the tips
_LINED = (*range(1, 13), 14, 15)  # joints with lines: the ball of the thumb has none of its own
_WRINKLED = (2, 3, 5, 6, 8, 9, 11, 12, 15)  # joints with wrinkles on their back
_FINGER_RADIUS = 0.013  # metres
_PALM_COLOUR, _PALM_SHARE = np.array([0.87, 0.67, 0.57]), (0.15, 0.55)  # share of it for white and for black skin
_NAIL_COLOUR, _NAIL_SHARE = np.array([0.93, 0.76, 0.70]), 0.3
_BLUSH = np.array([0.03, -0.05, -0.04])  # relative, at fingertips and knuckles
_CREASE_DEPTH, _WRINKLE_DEPTH, _LINE_TINT = 0.22, 0.10, np.array([0.7, 1.0, 1.0])
_TEXTURE_CREASE, _VERTEX_CREASE = 0.0010, 0.003  # metres: half width of a crease; vertices cannot carry thinner ones
_WAVELENGTHS, _WAVES = (0.012, 0.05), 24  # metres: range of the mottling, and how many waves add up
# (2, 3) standard deviation per channel of both fields: brightness, and red against green and blue
_MOTTLING = np.array([[0.035, 0.035, 0.035], [0.012, -0.006, -0.006]])


@dataclass(frozen=True)
class _Places:
    """What the skin needs to know of N places on the hand; all in [0, 1]."""

    spread: sparse.csr_array  # (N, V) shares of the vertices: takes what is known per vertex to the places
    palm: np.ndarray  # (N,) 0 back of the hand, 1 palm side
    crease: np.ndarray  # (N,)
    wrinkle: np.ndarray  # (N,)
    nail: np.ndarray  # (N,)
    blush: np.ndarray  # (N,)


def skin_texture(
    tone: int | Tensor, size: int | tuple[int, int] = 256, seed: int = 0, model: HandModel | None = None
) -> Tensor:
    """RGB texture (3, H, W) in [0, 1], sRGB, in the layout of the model's uv (v upwards: row 0 is v = 1).

    Args:
        tone: 0 (lightest) to 9 of the Monk scale, or an sRGB colour (3,) of the back of the hand.
        size: side, or (H, W), in pixels.
        seed: chooses the mottling.
        model: a model with uv and flexion axes; None is the open hand at 778 vertices.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"size: expected positive pixels, got {size}")
    model = model or _default_model()
    places = _texel_places(model, height, width)
    colours = _colours(model, places, _base_colour(tone), seed)
    return torch.from_numpy(colours.reshape(height, width, 3)).permute(2, 0, 1).float().contiguous()


def skin_albedo(model: HandModel, tone: int | Tensor, seed: int = 0) -> Tensor:
    """RGB colour (V, 3) in [0, 1], sRGB, of every vertex; arguments as for `skin_texture`."""
    return torch.from_numpy(_colours(model, _vertex_places(model), _base_colour(tone), seed)).float()


def _base_colour(tone: int | Tensor) -> np.ndarray:
    if isinstance(tone, Tensor):
        check_shape("tone", tone, (3,))
        colour = tone.detach().cpu().double().numpy()
        if not ((colour >= 0) & (colour <= 1)).all():
            raise ValueError(f"tone: expected sRGB in [0, 1], got {colour.tolist()}")
        return colour
    if not 0 <= tone < len(MONK_TONES):
        raise ValueError(f"tone: expected 0..{len(MONK_TONES) - 1} of the Monk scale or a colour (3,), got {tone}")
    return MONK_TONES[tone]


def _colours(model: HandModel, places: _Places, base: np.ndarray, seed: int) -> np.ndarray:
    """Colours (N, 3): palm and back, then blush, mottling, lines, and the nails on top."""
    light, dark = _PALM_SHARE
    share = dark + (light - dark) * base.mean()
    palm = np.maximum(base, base + share * (_PALM_COLOUR - base))  # never darker than the back
    colours = base + places.palm[:, None] * (palm - base)
    colours = colours * (1 + places.blush[:, None] * _BLUSH)
    mottling = places.spread @ _mottling(model.v_template, seed)  # (N, 2)
    colours *= 1 + mottling @ _MOTTLING
    lines = _CREASE_DEPTH * places.crease + _WRINKLE_DEPTH * places.wrinkle
    colours *= 1 - lines[:, None] * _LINE_TINT
    nail = palm + _NAIL_SHARE * (_NAIL_COLOUR - palm)
    return np.clip(colours + places.nail[:, None] * (nail - colours), 0, 1)


def _mottling(positions: np.ndarray, seed: int) -> np.ndarray:
    """Two smooth random fields (V, 2) of mean 0 and variance 1: sums of plane waves through space."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(2, _WAVES, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    wavelengths = np.exp(rng.uniform(*np.log(_WAVELENGTHS), size=(2, _WAVES, 1)))
    phases = rng.uniform(0, 2 * np.pi, size=(2, _WAVES, 1))
    waves = np.cos(2 * np.pi / wavelengths * (directions @ positions.T) + phases)  # (2, waves, V)
    return waves.sum(1).T * np.sqrt(2 / _WAVES)


@lru_cache(maxsize=1)
def _default_model() -> HandModel:
    return open_hand()


@lru_cache(maxsize=8)
def _vertex_places(model: HandModel) -> _Places:
    return _places(model, sparse.eye_array(len(model.v_template), format="csr"), _VERTEX_CREASE)


@lru_cache(maxsize=8)
def _texel_places(model: HandModel, height: int, width: int) -> _Places:
    """Places of all texels, row by row; those outside the hand copy the nearest inside, so that seams do not bleed."""
    if model.uv is None or model.uv_faces is None:
        raise ValueError(f"hand model '{model.name}' has no uv; textures need the open hand")
    vertices, shares = _rasterize_uv(model.uv, model.uv_faces, model.faces, height, width)
    outside = shares.sum(-1) == 0
    rows, columns = distance_transform_edt(outside, return_distances=False, return_indices=True)
    vertices, shares = vertices[rows, columns], shares[rows, columns]  # (H, W, 3)
    row_starts = np.arange(0, vertices.size + 1, 3)
    shape = height * width, len(model.v_template)
    spread = sparse.csr_array((shares.ravel(), vertices.ravel(), row_starts), shape=shape)
    return _places(model, spread, _TEXTURE_CREASE)


def _rasterize_uv(
    uv: np.ndarray, uv_faces: np.ndarray, faces: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and barycentric shares, each (H, W, 3), of the face over a texel's centre; shares 0 where none is."""
    vertices, shares = np.zeros((height, width, 3), np.int64), np.zeros((height, width, 3))
    pixels = np.stack([uv[:, 0] * width, (1 - uv[:, 1]) * height], 1) - 0.5  # pixel centres at integers
    for corners, face in zip(pixels[uv_faces], faces, strict=True):
        low, high = np.maximum(np.ceil(corners.min(0)), 0).astype(int), np.floor(corners.max(0)).astype(int) + 1
        y, x = np.mgrid[low[1] : min(high[1], height), low[0] : min(high[0], width)]
        edges = (corners[1:] - corners[0]).T  # (2, 2)
        if x.size == 0 or abs(np.linalg.det(edges)) < 1e-12:
            continue
        second, third = np.linalg.solve(edges, np.stack([x.ravel(), y.ravel()]) - corners[0][:, None])
        bary = np.stack([1 - second - third, second, third], 1)
        inside = (bary >= -1e-9).all(1)
        place = y.ravel()[inside], x.ravel()[inside]
        vertices[place], shares[place] = face, bary[inside]
    return vertices, shares


def _places(model: HandModel, spread: sparse.csr_array, crease_width: float) -> _Places:
    """Evaluate palm, lines, nails and blush at N places, each a mixture (N, V) of vertices."""
    if model.flexion_axes is None:
        raise ValueError(f"hand model '{model.name}' has no flexion axes; skin needs the open hand")
    frames = _bone_frames(model)
    positions, normals, weights = (spread @ part for part in (model.v_template, _vertex_normals(model), model.weights))
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    palm = _step(-(normals * (weights @ frames.backs)).sum(1), -0.35, 0.35)
    crease, wrinkle, nail, blush = (np.zeros(len(palm)) for _ in range(4))
    for joint in _LINED:
        near, along = frames.along(joint, positions, weights)
        # the crease at a finger's root lies in mid-phalanx, where the web ends
        centre = 0.45 * frames.lengths[joint] if joint in _KNUCKLES else 0.0
        crease = np.maximum(crease, near * palm * _line(along - centre, crease_width))
        if joint in _WRINKLED:
            ripples = sum(_line(along - shift, crease_width) for shift in (-0.003, 0.0, 0.003))
            wrinkle = np.maximum(wrinkle, near * (1 - palm) * np.minimum(ripples, 1))
        blush = np.maximum(blush, near * (1 - palm) * _line(along, 0.008))
    for joint, tip in zip(_DISTAL, model.tip_vertices, strict=True):
        reach = (positions - frames.joints[joint]) @ frames.bones[joint] / frames.lengths[joint]
        blush = np.maximum(blush, weights[:, joint] * palm * _step(reach / frames.lengths[joint], 0.2, 0.7))
        on_nail = _nail(model, joint, positions - model.v_template[tip], normals @ frames.backs[joint], frames)
        nail = np.maximum(nail, weights[:, joint] * on_nail)
    for start, middle, end in _palm_lines(frames.joints):
        distance = _curve_distance(positions, start, middle, end)
        crease = np.maximum(crease, weights[:, 0] * palm * _line(distance, crease_width))
    return _Places(spread, palm, crease, wrinkle * (1 - nail), nail, blush)


def _nail(model: HandModel, joint: int, offset: np.ndarray, facing: np.ndarray, frames: "_Frames") -> np.ndarray:
    """1 on the nail of a finger, fading over its edge.

    Args:
        model: the hand.
        joint: the last joint of the finger.
        offset: (N, 3) from the fingertip's vertex.
        facing: (N,) cosine between normal and the finger's back.
        frames: of the bones.
    """
    length, side = frames.lengths[joint], model.flexion_axes[joint]
    own = model.v_template[model.weights[:, joint] > 0.9] @ side
    sideways = np.abs(offset @ side) / (np.ptp(own) / 2)
    behind = -offset @ frames.bones[joint] / length**2  # 0 at the tip, 1 at the joint
    lengthwise = _step(behind, 0.0, 0.06) * (1 - _step(behind, 0.5, 0.56))
    return lengthwise * (1 - _step(sideways, 0.65, 0.8)) * _step(facing, 0.25, 0.5)


@dataclass(frozen=True)
class _Frames:
    """Rest bones: joints (16, 3), vectors to the next joint or tip (16, 3), lengths (16,), backs (16, 3) unit."""

    joints: np.ndarray
    bones: np.ndarray
    lengths: np.ndarray
    backs: np.ndarray

    def along(self, joint: int, positions: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much places (N, 3) belong to the finger around a joint, and how far along its bone they lie, metres."""
        offset = positions - self.joints[joint]
        along = offset @ self.bones[joint] / self.lengths[joint]
        aside = np.sqrt(np.maximum((offset * offset).sum(1) - along**2, 0))
        parent = MODEL_PARENTS[joint]
        near = weights[:, joint] + (weights[:, parent] if parent > 0 else 0)
        return near * (1 - _step(aside, _FINGER_RADIUS, 1.3 * _FINGER_RADIUS)), along


def _bone_frames(model: HandModel) -> _Frames:
    joints = model.joint_regressor @ model.v_template
    bones = np.zeros((16, 3))
    for joint, parent in enumerate(MODEL_PARENTS):
        if parent >= 0:
            bones[parent] = joints[joint] - joints[parent]
    bones[list(_DISTAL)] = model.v_template[model.tip_vertices] - joints[list(_DISTAL)]
    backs = np.cross(bones, model.flexion_axes)
    backs[0] = [0, 1, 0]
    backs /= np.linalg.norm(backs, axis=1, keepdims=True)
    return _Frames(joints, bones, np.linalg.norm(bones, axis=1), backs)


def _vertex_normals(model: HandModel) -> np.ndarray:
    corners = model.v_template[model.faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(model.v_template)
    for k in range(3):
        np.add.at(normals, model.faces[:, k], face_normals)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _palm_lines(joints: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Heart, head and life line as quadratic curves (start, middle, end) on the palm's plane, placed by the joints."""
    wrist, thumb, index, middle, ring, little = (joints[j] for j in (0, 13, 1, 4, 10, 7))
    heart = (0.82 * little + 0.18 * wrist, 0.80 * ring + 0.20 * wrist, 0.5 * (index + middle))
    edge = 0.75 * index + 0.25 * thumb
    head = (edge, 0.62 * middle + 0.38 * wrist, 0.50 * little + 0.50 * wrist)
    life = (edge, 0.40 * middle + 0.60 * wrist, 0.25 * thumb + 0.75 * wrist)
    return [heart, head, life]


def _curve_distance(positions: np.ndarray, start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance (N,) in the palm's plane (x, z) to the quadratic curve that passes through `middle` half way."""
    t = np.linspace(0, 1, 17)[:, None]
    control = 2 * middle - (start + end) / 2
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    plane = [0, 2]
    first, second = curve[:-1, plane], curve[1:, plane]
    edge, offset = second - first, positions[:, None, plane] - first
    share = np.clip((offset * edge).sum(-1) / (edge * edge).sum(-1), 0, 1)
    return np.linalg.norm(offset - share[..., None] * edge, axis=-1).min(1)


def _line(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
