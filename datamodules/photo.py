"""Photographs of rendered hands: a forearm, a room or a picture behind, shadow, things before it, and the camera.

On the CPU only, in the workers that make batches. Everything is drawn from the samples' keys. Labels stay those of the
hand that is seen: forearm and occluders take away mask, parts and, occluders, depth; joints and mesh are never hidden.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from datamodules.photo_camera import photograph
from datamodules.photo_scene import PictureFolder, cast_shadow, draw_background, occlude, rngs
from datamodules.wrist import arm_faces, forearms, wrist_rim
from ops.hand_model import HandModel
from ops.render import Light, face_parts, render_labels, render_labels_rgb, vertex_light

_FINER = 2  # rendered pixels per pixel and direction: edges of photographs are smooth
_ARMED, _SHADED, _OCCLUDED = 0.85, 0.4, 0.25  # shares of photographs


class Photographs(NamedTuple):
    """B of them."""

    depth: Tensor  # (B, 1, S, S) metres, of hand and arm; 0 where nothing, or a thing before them, is seen
    parts: Tensor  # (B, S, S) uint8, of what is seen of the hand
    rgb: Tensor | None  # (B, 3, S, S) uint8


class Photographer:
    """Takes square photographs of one hand model.

    Args:
        model: the right hand, with part labels.
        size: S, pixels.
        backgrounds: pictures to stand behind the hands; None draws rooms.
    """

    def __init__(self, model: HandModel, size: int, backgrounds: PictureFolder | None = None) -> None:
        self.size, self._backgrounds = size, backgrounds
        self._rim = torch.from_numpy(wrist_rim(model.faces))
        self._faces = torch.from_numpy(arm_faces(model.faces, len(model.v_template)))
        parts = face_parts(torch.from_numpy(model.part_labels), torch.from_numpy(model.faces))
        self._part_of_face = torch.zeros(len(self._faces), dtype=torch.uint8)
        self._part_of_face[: len(parts)] = parts

    def take(
        self, keys: np.ndarray, vertices: Tensor, rotation: Tensor, K: Tensor, albedo: Tensor | None, lamp: Light
    ) -> Photographs:
        """Photographs of B hands.

        Args:
            keys: (B,) int64, of all that is drawn.
            vertices: (B, V, 3) metres, camera frame.
            rotation: (B, 3, 3) hand frame -> camera frame.
            K: (B, 3, 3) pixels of the photographs.
            albedo: (B, V, 3) colours of the hand; None takes no colours, only their labels.
            lamp: the light.
        """
        skin = torch.zeros_like(vertices) if albedo is None else albedo
        generators = rngs(keys)
        solid, colours = self._with_arms(keys, generators, vertices, rotation, skin)
        depth, parts = render_labels(solid, self._faces, K, self.size, self._part_of_face, closed=True)
        lit = colours * vertex_light(solid, self._faces, lamp)
        finer = K.clone()
        finer[:, :2] *= _FINER
        finer[:, :2, 2] += (_FINER - 1) / 2
        scene = solid, self._faces, finer, _FINER * self.size, self._part_of_face
        cover, _, painted = render_labels_rgb(*scene, lit, closed=True)
        taken = [
            self._taken(rng, *each)
            for rng, *each in zip(generators, cover.numpy(), painted.numpy(), depth.numpy(), parts.numpy(), strict=True)
        ]
        rgb = None if albedo is None else torch.from_numpy(np.stack(taken))
        return Photographs(depth, parts, rgb)

    def _with_arms(
        self, keys: np.ndarray, generators: list, vertices: Tensor, rotation: Tensor, skin: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Vertices and colours of hands with their arms; an arm that is not there is a cover over the rim."""
        arms = forearms(keys, vertices, self._rim, skin, rotation)
        there = torch.tensor([rng.random() < _ARMED for rng in generators])[:, None, None]
        middle = vertices[:, self._rim].mean(1, keepdim=True)
        rings = torch.where(there, arms.vertices, middle)
        return torch.cat([vertices, rings], 1), torch.cat([skin, arms.colours], 1)

    def _taken(
        self, rng: np.random.Generator, cover: np.ndarray, painted: np.ndarray, depth: np.ndarray, parts: np.ndarray
    ) -> np.ndarray:
        """One photograph (3, S, S) uint8; what hides the hand is taken out of depth and parts, in place."""
        size = self.size
        scene = draw_background(rng, size) if self._backgrounds is None else self._backgrounds.crop(rng, size)
        share = np.empty((size, size), np.float32)
        _shares(cover[0], share)
        if rng.random() < _SHADED:
            scene = cast_shadow(rng, scene, share)
        _lay_over(scene, share, painted)
        if rng.random() < _OCCLUDED:
            hidden = occlude(rng, scene, parts > 0)
            parts[hidden], depth[:, hidden] = 0, 0
        return photograph(rng, scene).transpose(2, 0, 1)


@njit(cache=True, nogil=True)
def _shares(cover, share):  # noqa: ANN001, ANN202 - numba infers
    # share (S, S) of each pixel that is covered, of finer depth (n S, n S)
    finer = len(cover) // len(share)
    for y in range(len(share)):
        for x in range(len(share)):
            seen = 0
            for i in range(finer):
                for j in range(finer):
                    seen += cover[finer * y + i, finer * x + j] > 0
            share[y, x] = np.float32(seen) / (finer * finer)


@njit(cache=True, nogil=True)
def _lay_over(scene, share, painted):  # noqa: ANN001, ANN202
    # the means of finer pixels (3, n S, n S), black where nothing is, before the scene (S, S, 3)
    finer = painted.shape[1] // len(scene)
    for y in range(len(scene)):
        for x in range(len(scene)):
            if share[y, x] > 0:
                for c in range(3):
                    total = np.float32(0)
                    for i in range(finer):
                        for j in range(finer):
                            total += painted[c, finer * y + i, finer * x + j]
                    behind = (np.float32(1) - share[y, x]) * scene[y, x, c]
                    scene[y, x, c] = np.uint8(behind + total / (finer * finer) + np.float32(0.5))
