"""Parameters of hands to a batch of the contract: posed, placed, rendered straight into the crop, sensed."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.appearance import backgrounds, skin_table
from datamodules.batch import RIGHT, HandBatch
from datamodules.cropping import ROOT, CropRule
from datamodules.hand_sampler import CUBE_SIDE, HandParameters, rows_of_parameters
from datamodules.photo import Photographer
from datamodules.photo_scene import PictureFolder
from datamodules.sensor_noise import add_sensor_noise
from datamodules.wrist import closed_faces
from ops.camera import PinholeCamera, crop_affine, cube_crop, project, transform_intrinsics
from ops.checks import check_choice
from ops.hand_model import HandLayer, HandModel
from ops.render import Light, Surface, face_parts, render, render_labels, render_labels_rgb, vertex_light

Modality = Literal["depth", "parts", "rgb"]
MODALITIES: tuple[Modality, ...] = ("depth", "parts", "rgb")


class HandRenderer(torch.nn.Module):
    """Renders hands of one model on the device it is moved to.

    Args:
        model: the right hand.
        image_size: side of the square crop, pixels.
        modalities: pictures to make; the mask comes with any of them.
        convention: joint convention of the labels.
        backgrounds: pictures to stand behind hands of photographs; None draws them.
        crop: how pictures are cut; None, and all but squares, is the cube around the detected centre. A square is moved
            by as much as the detection is off.

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
        backgrounds: PictureFolder | None = None,
        crop: CropRule | None = None,
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
        self.squares = crop if crop is not None and crop.around == "square" else None
        self.hand_model_id = model.id
        self.layer = HandLayer(model, pose_space="matrix", convention=convention)
        faces = torch.from_numpy(closed_faces(model.faces))
        self.register_buffer("faces", faces, persistent=False)
        labels = face_parts(torch.from_numpy(model.part_labels), faces)
        self.register_buffer("part_of_face", labels, persistent=False)
        if "rgb" in modalities:
            self.register_buffer("skins", skin_table(model), persistent=False)
        self._photographer = Photographer(model, image_size, backgrounds)

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
        if self.squares is None:
            crop, K = cube_crop(centre, side, parameters.camera, self.image_size)
        else:
            crop = self._square(self.squares, parameters, joints)
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

    def _square(self, rule: CropRule, parameters: HandParameters, joints: Tensor) -> Tensor:
        """Maps (B, 2, 3) from the whole picture to squares around its joints (B, 21, 3)."""
        camera = parameters.camera
        pixels = project(joints, camera)
        low, high = pixels.amin(1), pixels.amax(1)
        centre = (low + high) / 2 if rule.centre == "box" else pixels[:, ROOT]
        off = (parameters.cube_centre - parameters.hand_centre)[:, :2] / parameters.hand_centre[:, 2:]
        centre = centre + camera[:, 0, 0, None] * off
        return crop_affine(centre, rule.square * (high - low).amax(1), self.image_size)

    def _pictures(self, parameters: HandParameters, batch: HandBatch) -> HandBatch:
        depth, parts, rgb = self._seen(parameters, batch["vertices"], batch["K"])
        scale = batch["crop"][:, 0, 0].contiguous()
        depth, parts = add_sensor_noise(depth, parts, parameters.noise, parameters.noise_key, scale)
        yes = torch.ones(len(depth), dtype=torch.bool, device=depth.device)
        made = {"depth": depth, "parts": parts, "rgb": rgb}
        pictures = HandBatch(has_mask=yes, has_mesh=yes, has_3d=yes, has_2d=yes)
        # a forearm has depth, too
        if not (self.lean and "depth" in self.modalities) or parameters.photo.any():
            pictures["mask"] = (parts > 0)[:, None].float()
        for name in MODALITIES:
            pictures[f"has_{name}"] = yes if name in self.modalities else ~yes
            if name in self.modalities:
                pictures[name] = made[name]
        return pictures

    def _seen(self, parameters: HandParameters, vertices: Tensor, K: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Depth, parts, and rgb if wanted, of bare renders and of photographs."""
        photo = parameters.photo
        if not photo.any():
            return self._rendered(parameters, vertices, K)
        if vertices.device.type != "cpu":
            raise ValueError(
                "render_on 'device': photographs are made by workers on the CPU; set data.render_on=worker"
            )
        look = parameters.appearance
        rows = photo.nonzero()[:, 0]
        albedo = self.skins[look.skin[rows]] if "rgb" in self.modalities else None
        lamp = Light(*(field[rows] for field in look.lamp))
        scene = vertices[rows], parameters.global_rotation[rows], K[rows]
        taken = self._photographer.take(look.key[rows].numpy(), *scene, albedo, lamp)
        rgb = taken.rgb if taken.rgb is None or self.lean else taken.rgb * (1 / 255)
        if photo.all():
            return taken.depth, taken.parts, rgb
        bare = (~photo).nonzero()[:, 0]
        others = self._rendered(rows_of_parameters(parameters, bare), vertices[bare], K[bare])
        order = torch.argsort(torch.cat([rows, bare]))
        return tuple(
            None if mine is None else torch.cat([mine, other])[order]
            for mine, other in zip((taken.depth, taken.parts, rgb), others, strict=True)
        )

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
