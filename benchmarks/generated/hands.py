"""Open hands of either side placed before any camera: what generated files show, with labels that fit the pixels."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from datamodules.appearance import Appearance, backgrounds, draw_appearance, skin_table
from datamodules.domains import DOMAINS
from datamodules.hand_sampler import HandSampler
from datamodules.streams import keys_of
from datamodules.wrist import closed_faces
from ops.hand_model import HandLayer, HandModel, open_hand
from ops.hand_model.conventions import OWN_JOINTS
from ops.render import face_parts, render_labels, render_labels_rgb, vertex_light

_MIRROR = np.array([-1.0, 1.0, 1.0], dtype=np.float32)


class Hands(NamedTuple):
    """Posed hands in a camera's frame, metres. N hands, V vertices."""

    vertices: np.ndarray  # (N, V, 3) float32
    joints: np.ndarray  # (N, 21, 3) float32, canonical
    sides: np.ndarray  # (N,) 0 left, 1 right

    def moved(self, shift: Sequence[float], rotation: np.ndarray | None = None) -> "Hands":
        """The hands in another camera's frame: rotated, then shifted."""
        turn = np.eye(3) if rotation is None else rotation
        vertices, joints = ((points @ turn.T + shift).astype(np.float32) for points in (self.vertices, self.joints))
        return Hands(vertices, joints, self.sides)


class Pictures(NamedTuple):
    """What a camera of H x W pixels sees of N hands."""

    rgb: np.ndarray  # (N, H, W, 3) uint8
    depth: np.ndarray  # (N, H, W) float32 metres, 0 where no hand is
    parts: np.ndarray  # (N, H, W) uint8, 0 background, 1 palm, 2-20 finger parts


def pose_hands(
    sides: Sequence[int], seed: int, distance: tuple[float, float] = (0.45, 0.6), spread: float = 0.05
) -> Hands:
    """Hands of the rendered domain `clean`.

    Args:
        sides: (N,) 0 left, 1 right.
        seed: other seeds give other hands.
        distance: metres before the camera, lowest and highest.
        spread: largest distance from the optical axis along x and y, metres.
    """
    sides = np.asarray(sides)
    model, layer, _, _ = _right_hand()
    parameters = HandSampler(DOMAINS["clean"], model).sample(seed, "train", 0, np.arange(len(sides)))
    with torch.no_grad():
        hand = layer(parameters.pose, parameters.shape, parameters.global_rotation)
    draws = np.random.default_rng(seed)
    xy = draws.uniform(-spread, spread, (len(sides), 2))
    places = np.concatenate([xy, draws.uniform(*distance, (len(sides), 1))], 1).astype(np.float32)[:, None]
    mirror = np.where(sides[:, None, None] == 0, _MIRROR, 1).astype(np.float32)
    middle = hand.vertices.mean(1, keepdim=True)
    vertices, joints = ((points - middle).numpy() * mirror + places for points in (hand.vertices, hand.joints))
    return Hands(vertices, joints, sides)


def render_hands(hands: Hands, K: np.ndarray, size: tuple[int, int], seed: int) -> Pictures:
    """Pictures of hands by a camera K (3, 3), pixels, of size (height, width), before blurred clutter."""
    model, _, right_faces, part_of_face = _right_hand()
    keys = keys_of("generated", seed, np.arange(len(hands.sides)))
    look = draw_appearance(keys, keys)
    K = torch.from_numpy(np.asarray(K, dtype=np.float32))
    made = []
    for i, side in enumerate(hands.sides):
        faces = right_faces[0 if side else 1]
        vertices = torch.from_numpy(hands.vertices[i : i + 1])
        clutter = backgrounds(look.key[i : i + 1], max(size))[..., : size[0], : size[1]].contiguous()
        one = Appearance(*(field[i : i + 1] for field in look))
        colours = skin_table(model)[one.skin] * vertex_light(vertices, faces, one.lamp)
        made.append(render_labels_rgb(vertices, faces, K, size, part_of_face, colours, clutter))
    depth, parts, rgb = (torch.cat(pictures).numpy() for pictures in zip(*made, strict=True))
    return Pictures(rgb.transpose(0, 2, 3, 1).copy(), depth[:, 0], parts)


def render_depth(hands: Hands, K: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Depth (N, H, W) float32 metres, 0 where no hand is, and parts (N, H, W) uint8, as `render_hands` gives them."""
    _, _, right_faces, part_of_face = _right_hand()
    K = torch.from_numpy(np.asarray(K, dtype=np.float32))
    depth, parts = np.zeros((len(hands.sides), *size), np.float32), np.zeros((len(hands.sides), *size), np.uint8)
    for i, side in enumerate(hands.sides):
        vertices = torch.from_numpy(hands.vertices[i : i + 1])
        one, labels = render_labels(vertices, right_faces[0 if side else 1], K, size, part_of_face)
        depth[i], parts[i] = one[0, 0], labels[0]
    return depth, parts


def project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3)."""
    rays = points.astype(np.float64) @ np.asarray(K, dtype=np.float64).T
    return rays[..., :2] / rays[..., 2:]


def inside(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which pixels (..., 2) lie in a picture of size (height, width)."""
    return ((pixels >= 0) & (pixels <= (size[1] - 1, size[0] - 1))).all(-1)


def in_order_of(to_canonical: Sequence[int], joints: np.ndarray) -> np.ndarray:
    """Canonical joints (..., 21, 3) in a dataset's order, whose map is canonical[i] = dataset[to_canonical[i]]."""
    return joints[..., np.argsort(to_canonical), :]


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) RGB or (H, W) uint8 or uint16 as PNG or JPEG, by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    if not cv2.imwrite(str(path), bgr):
        raise OSError(f"{path}: could not be written; is the disk full?")


def pack(low: int, high: int, values: np.ndarray) -> np.ndarray:
    """16-bit values (H, W) as RGB (H, W, 3) uint8: low byte in channel `low`, high byte in channel `high`."""
    packed = np.zeros((*values.shape, 3), dtype=np.uint8)
    packed[..., low], packed[..., high] = values & 0xFF, values >> 8
    return packed


@lru_cache(maxsize=1)
def _right_hand() -> tuple[HandModel, HandLayer, tuple[Tensor, Tensor], Tensor]:
    """The right hand, its layer, faces of right and left hands, and the part of each face."""
    model = open_hand()
    faces = torch.from_numpy(closed_faces(model.faces))
    part_of_face = face_parts(torch.from_numpy(model.part_labels), faces)
    return model, HandLayer(model, pose_space="matrix", convention=OWN_JOINTS), (faces, faces.flip(1)), part_of_face
