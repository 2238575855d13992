"""Parameters of hands to a batch of the contract: posed, placed, rendered straight into the crop, sensed."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.batch import RIGHT, HandBatch
from datamodules.hand_sampler import CUBE_SIDE, HandParameters
from datamodules.sensor_noise import add_sensor_noise
from ops.camera import crop_affine, project, transform_intrinsics
from ops.hand_model import HandModel
from ops.hand_model.layer import HandLayer
from ops.render.labels import face_parts, render_labels

Modality = Literal["depth", "parts", "rgb"]
MODALITIES: tuple[Modality, ...] = ("depth", "parts", "rgb")


class HandRenderer(torch.nn.Module):
    """Renders hands of one model; holds what does not change from batch to batch.

    Args:
        model: the right hand.
        image_size: side of the square crop, pixels.
        modalities: pictures to make; the mask comes with any of them.
        convention: joint convention of the labels.
    """

    def __init__(
        self,
        model: HandModel,
        image_size: int = 128,
        modalities: Sequence[Modality] = ("depth", "parts"),
        convention: str = "open",
    ) -> None:
        super().__init__()
        if model.part_labels is None:
            raise ValueError(f"hand model '{model.name}' has no part labels; use ops.hand_model.open_hand()")
        self.image_size = image_size
        self.modalities = tuple(modalities)
        self.convention = convention
        self.hand_model_id = model.id
        self.layer = HandLayer(model, pose_space="matrix", convention=convention)
        faces = torch.from_numpy(model.faces)
        self.register_buffer("faces", faces, persistent=False)
        labels = face_parts(torch.from_numpy(model.part_labels), faces)
        self.register_buffer("part_of_face", labels, persistent=False)

    @torch.no_grad()
    def forward(self, parameters: HandParameters) -> HandBatch:
        """The batch of the contract but for `domain` and `key`, on the device of the parameters."""
        hand = self.layer(parameters.pose, parameters.shape, parameters.global_rotation)
        move = (parameters.hand_centre - hand.vertices.mean(1))[:, None]
        batch = self._geometry(parameters, hand.vertices + move, hand.joints + move)
        batch.update(self._pictures(parameters, batch))
        return batch

    def _geometry(self, parameters: HandParameters, vertices: Tensor, joints: Tensor) -> HandBatch:
        """Labels and the crop's camera: a square whose side covers the cube at the centre's depth."""
        centre = parameters.cube_centre
        side = torch.full_like(centre[:, 0], CUBE_SIDE)
        pixel = project(centre[:, None], parameters.camera)[:, 0]
        crop = crop_affine(pixel, parameters.camera[:, 0, 0] * side / centre[:, 2], self.image_size)
        K = transform_intrinsics(parameters.camera, crop)
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
        depth, parts = render_labels(batch["vertices"], self.faces, batch["K"], self.image_size, self.part_of_face)
        scale = batch["crop"][:, 0, 0].contiguous()
        depth, parts = add_sensor_noise(depth, parts, parameters.noise, parameters.noise_key, scale)
        pictures = HandBatch(mask=(parts > 0)[:, None].float())
        if "depth" in self.modalities:
            pictures["depth"] = depth
        if "parts" in self.modalities:
            pictures["parts"] = parts
        yes = torch.ones(len(depth), dtype=torch.bool, device=depth.device)
        no = ~yes
        return HandBatch(
            **pictures,
            has_rgb=no,
            has_depth=yes if "depth" in self.modalities else no,
            has_mask=yes,
            has_parts=yes if "parts" in self.modalities else no,
            has_mesh=yes,
            has_3d=yes,
            has_2d=yes,
        )
