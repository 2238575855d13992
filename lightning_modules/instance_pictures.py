"""Hands held as parameters, and the labelled pictures that are rendered of them: skin, light, clutter behind.

All that a picture shows follows from its instance: parameters and a seed. Letters: N instances, S pixels.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datamodules.batch import FLAGS, RIGHT, HandBatch
from lightning_modules.normalised_hand import ROOT, HandProjection
from ops.camera import PinholeCamera, project
from ops.hand_model import HandModel
from ops.hand_model.skin import MONK_TONES, skin_albedo
from ops.render import Light, Surface, render

DOMAIN = "self"  # of the batch's samples
_GRIDS, _STRENGTHS = (3, 9, 30), (0.55, 0.3, 0.15)  # cells across the clutter's layers, coarse to fine
_SHIFT, _ZOOM = 0.05, 0.1  # of the crop, as training data has them: share of its side, factor within 1 / 1.1 to 1.1
_CUBE_SIDE = 0.3  # metres
_MADE = ("has_rgb", "has_mask", "has_3d", "has_2d")


class Instances(NamedTuple):
    """N hands, on the CPU."""

    pose: Tensor  # (N, 45) of `HandProjection`, and so on
    shape: Tensor  # (N, 10)
    quaternion: Tensor  # (N, 4)
    distance: Tensor  # (N,) metres from the camera to the root, which lies on the optical axis
    colour: Tensor  # (N, 3) of the hand's back, in [0, 1]; NaN: one of the ten tones
    seed: Tensor  # (N,) int64, of light, mottling, tone, crop and clutter

    @classmethod
    def empty(cls) -> "Instances":
        """None."""
        floats = [torch.zeros(0, *shape) for shape in ((45,), (10,), (4,), (), (3,))]
        return cls(*floats, torch.zeros(0, dtype=torch.int64))

    @property
    def number(self) -> int:
        """N; `len` is that of the tuple."""
        return len(self.seed)

    def rows(self, rows: Tensor) -> "Instances":
        """Some of them, in the order of (M,) int64."""
        return Instances(*(field[rows] for field in self))

    def joined(self, others: "Instances") -> "Instances":
        """These, then the others."""
        return Instances(*(torch.cat(pair) for pair in zip(self, others, strict=True)))

    def newest(self, count: int) -> "Instances":
        """The last so many."""
        return Instances(*(field[-count:] for field in self))


class _Look(NamedTuple):
    """What seeds say of N pictures."""

    albedo: Tensor  # (N, V, 3)
    light: Light
    clutter: Tensor  # (N, 3, S, S)
    shift: Tensor  # (N, 2) share of the crop's side
    zoom: Tensor  # (N,)


@torch.no_grad()
def picture_instances(instances: Instances, projection: HandProjection, size: int, square: float) -> HandBatch:
    """A batch of the contract without meshes, on the device of `projection`.

    Args:
        instances: N hands.
        projection: whose parameters they have.
        size: S.
        square: side of the crop over the larger side of the box around the 2D joints; its centre is the root.
    """
    device = projection.start.device
    placed = [field.to(device) for field in instances]
    pose, shape, quaternion, distance = placed[:4]
    hand = projection.layer(pose, shape, projection.rotation(quaternion))
    move = functional.pad(distance[:, None], (2, 0)) - hand.joints[:, ROOT]
    vertices, joints = hand.vertices + move[:, None], hand.joints + move[:, None]
    look = _look(instances, projection.layer.model, size, device)
    K = _cameras(joints, look, size, square)
    faces = projection.layer.faces
    pictures = render(
        vertices,
        faces,
        PinholeCamera(K),
        size,
        ("silhouette", "rgb"),
        surface=Surface(colours=look.albedo),
        light=look.light,
        background=look.clutter,
    )
    count = instances.number
    yes = torch.ones(count, dtype=torch.bool, device=device)
    flags = {flag: yes if flag in _MADE else ~yes for flag in FLAGS}
    identity = torch.eye(3, device=device)[:2].expand(count, 2, 3)
    return HandBatch(
        rgb=pictures["rgb"],
        mask=(pictures["silhouette"] > 0.5).float(),
        K=K,
        crop=identity,
        original_size=torch.full((count, 2), size, device=device),
        joints_3d=joints,
        joints_2d=project(joints, K),
        joint_valid=yes[:, None].expand(count, 21),
        cube_centre=functional.pad(distance[:, None], (2, 0)),
        cube_side=torch.full((count,), _CUBE_SIDE, device=device),
        side=torch.full((count,), RIGHT, device=device),
        mirrored=~yes,
        convention=[projection.convention] * count,
        domain=[DOMAIN] * count,
        hand_model=[""] * count,
        key=[f"{DOMAIN}/{seed}" for seed in instances.seed.tolist()],
        **flags,
    )


def _cameras(joints: Tensor, look: _Look, size: int, square: float) -> Tensor:
    """K (N, 3, 3) of crops around the root, which lies on the optical axis."""
    rays = joints[..., :2] / joints[..., 2:]
    side = square * (rays.amax(1) - rays.amin(1)).amax(1) * look.zoom
    K = torch.zeros(len(joints), 3, 3, device=joints.device)
    K[:, 0, 0] = K[:, 1, 1] = size / side
    K[:, :2, 2] = (size - 1) / 2 + size * look.shift
    K[:, 2, 2] = 1
    return K


def _look(instances: Instances, model: HandModel, size: int, device: torch.device) -> _Look:
    albedos, directions, brightness, clutter, places = [], [], [], [], []
    for colour, seed in zip(instances.colour, instances.seed.tolist(), strict=True):
        random = np.random.default_rng(seed)
        tone = int(random.integers(len(MONK_TONES)))
        albedos.append(skin_albedo(model, tone if colour.isnan().any() else colour.clamp(0, 1), seed))
        directions.append(random.normal(size=3) * [1.0, 1.0, 0.6] - [0.0, 0.5, 1.0])  # from above, the camera's half
        brightness.append([random.uniform(0.25, 0.6), random.uniform(0.35, 0.8)])  # ambient, directional
        places.append([*random.uniform(-_SHIFT, _SHIFT, 2), (1 + _ZOOM) ** random.uniform(-1, 1)])
        layers = [torch.from_numpy(random.random((1, 3, cells, cells), np.float32)) for cells in _GRIDS]
        stretched = [functional.interpolate(layer, size, mode="bilinear", align_corners=False) for layer in layers]
        clutter.append(sum(strength * layer for strength, layer in zip(_STRENGTHS, stretched, strict=True)))
    where = {"dtype": torch.float32, "device": device}
    ambient, directional = torch.tensor(np.array(brightness), **where)[..., None].expand(-1, -1, 3).unbind(1)
    place = torch.tensor(np.array(places), **where)
    return _Look(
        torch.stack(albedos).to(device),
        Light(torch.tensor(np.array(directions), **where), ambient, directional),
        torch.cat(clutter).to(device),
        place[:, :2],
        place[:, 2],
    )
