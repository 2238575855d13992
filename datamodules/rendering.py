"""Parameters of hands to a batch of the contract: posed, placed, rendered straight into the crop, sensed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.appearance import backgrounds, skin_table
from datamodules.batch import RIGHT, HandBatch
from datamodules.hand_sampler import CUBE_SIDE, HandParameters
from datamodules.sensor_noise import add_sensor_noise
from ops.camera import PinholeCamera, cube_crop, project
from ops.checks import check_choice
from ops.hand_model import HandLayer, HandModel
from ops.render import Surface, face_parts, render, render_labels, render_labels_rgb, vertex_light

Modality = Literal["depth", "parts", "rgb"]
MODALITIES: tuple[Modality, ...] = ("depth", "parts", "rgb")


class HandRenderer(torch.nn.Module):
    """Renders hands of one model on the device it is moved to.

    Args:
        model: the right hand.
        image_size: side of the square crop, pixels.
        modalities: pictures to make; the mask comes with any of them.
        convention: joint convention of the labels.

    Attributes:
        lean: give what a worker should send: rgb as uint8, and no mask where depth says the same; fresh shared memory
            costs more than making them is worth. Who takes the batch completes it (`datamodules.hand_data`).
    """

    lean = False

    def __init__(
        self,
        model: HandModel,
        image_size: int = 128,
        modalities: Sequence[Modality] = ("depth", "parts"),
        convention: str = "open",
    ) -> None:
        super().__init__()
        for name in modalities:
            check_choice("modalities", name, MODALITIES)
        if model.part_labels is None:
            raise ValueError(f"hand model '{model.name}' has no part labels; use ops.hand_model.open_hand()")
        if image_size < 1:
            raise ValueError(f"image_size: expected a positive number of pixels, got {image_size}")
        self.image_size = image_size
        self.modalities = tuple(modalities)
        self.convention = convention
        self.hand_model_id = model.id
        self.layer = HandLayer(model, pose_space="matrix", convention=convention)
        faces = torch.from_numpy(closed_faces(model.faces))
        self.register_buffer("faces", faces, persistent=False)
        labels = face_parts(torch.from_numpy(model.part_labels), faces)
        self.register_buffer("part_of_face", labels, persistent=False)
        if "rgb" in modalities:
            self.register_buffer("skins", skin_table(model), persistent=False)

    @torch.no_grad()
    def forward(self, parameters: HandParameters) -> HandBatch:
        """The batch of the contract but for `domain` and `key`, on the device of the parameters."""
        hand = self.layer(parameters.pose, parameters.shape, parameters.global_rotation)
        move = (parameters.hand_centre - hand.vertices.mean(1))[:, None]
        batch = self._geometry(parameters, hand.vertices + move, hand.joints + move)
        batch.update(self._pictures(parameters, batch))
        return batch

    def _geometry(self, parameters: HandParameters, vertices: Tensor, joints: Tensor) -> HandBatch:
        """Labels and the crop's camera."""
        centre = parameters.cube_centre
        side = torch.full_like(centre[:, 0], CUBE_SIDE)
        crop, K = cube_crop(centre, side, parameters.camera, self.image_size)
        return HandBatch(
            K=K,
            crop=crop,
            original_size=parameters.original_size,
            cube_centre=centre,
            cube_side=side,
            vertices=vertices,
            joints_3d=joints,
            joints_2d=project(joints, K),
            joint_valid=torch.ones(joints.shape[:2], dtype=torch.bool, device=joints.device),
            side=parameters.side,
            mirrored=parameters.side != RIGHT,
            convention=[self.convention] * len(joints),
            hand_model=[self.hand_model_id] * len(joints),
        )

    def _pictures(self, parameters: HandParameters, batch: HandBatch) -> HandBatch:
        depth, parts, rgb = self._rendered(parameters, batch["vertices"], batch["K"])
        scale = batch["crop"][:, 0, 0].contiguous()
        depth, parts = add_sensor_noise(depth, parts, parameters.noise, parameters.noise_key, scale)
        yes = torch.ones(len(depth), dtype=torch.bool, device=depth.device)
        made = {"depth": depth, "parts": parts, "rgb": rgb}
        pictures = HandBatch(has_mask=yes, has_mesh=yes, has_3d=yes, has_2d=yes)
        if not (self.lean and "depth" in self.modalities):
            pictures["mask"] = (parts > 0)[:, None].float()
        for name in MODALITIES:
            pictures[f"has_{name}"] = yes if name in self.modalities else ~yes
            if name in self.modalities:
                pictures[name] = made[name]
        return pictures

    def _rendered(
        self, parameters: HandParameters, vertices: Tensor, K: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Depth, parts, and rgb if wanted; all without antialiasing, as cameras' depth and labels are."""
        size = self.image_size
        if "rgb" not in self.modalities:
            return *render_labels(vertices, self.faces, K, size, self.part_of_face, closed=True), None
        look = parameters.appearance
        albedo, background = self.skins[look.skin], backgrounds(look.key, size)
        if vertices.device.type == "cpu":
            colours = albedo * vertex_light(vertices, self.faces, look.lamp)
            scene = vertices, self.faces, K, size, self.part_of_face
            pictures = render_labels_rgb(*scene, colours, background, closed=True)
            rgb = pictures[2] if self.lean else pictures[2] * (1 / 255)
            return pictures[0], pictures[1], rgb
        wanted = render(
            vertices,
            self.faces,
            PinholeCamera(K),
            size,
            ("depth", "parts", "rgb"),
            part_of_face=self.part_of_face,
            surface=Surface(colours=albedo),
            light=look.lamp,
            background=background.float() / 255,
            antialias=False,
        )
        return wanted["depth"], wanted["parts"], wanted["rgb"].clamp(0, 1)


def closed_faces(faces: np.ndarray) -> np.ndarray:
    """Faces (F + N - 2, 3) with the one open rim, N vertices at the wrist, covered by a fan: an arm is not hollow."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there = set(map(tuple, edges.tolist()))
    following = {int(a): int(b) for a, b in edges if (b, a) not in there}
    rim = [min(following)]
    while len(rim) < len(following):
        rim.append(following[rim[-1]])
    fan = [(rim[0], rim[i + 1], rim[i]) for i in range(1, len(rim) - 1)]
    return np.concatenate([faces, np.array(fan, dtype=faces.dtype).reshape(-1, 3)])
