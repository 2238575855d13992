"""DeepHPS: hand pose and shape from one depth picture, learnt from synthetic and real depth together.

Malik, Elhayek, Nunnari, Varanasi, Tamaddon, Heloir, Stricker: DeepHPS: End-to-end Estimation of 3D Hand Pose and Shape
by Learning from Synthetic Depth, 3DV 2018.

The idea: three independent networks look at the cropped depth picture and say how pose, bone scales and shape differ
from a reference hand. The hand pose and shape layer (HPSL, `ops.hand_model.pose_shape_layer`) turns these 26 + 6 + 7
numbers into joints and a mesh, so that losses on joints and vertices train all three networks end to end. Synthetic
pictures have both labels, real ones joints only: the mesh term counts where a mesh exists, and training on both domains
together brings meshes to real pictures.

What we changed: the reference hand is the open hand; the picture is a 300 mm cube at 128 x 128; the trunks are
ResNet-18 or smaller, the paper's being unknown to us; the rotation may leave the pose network as 6D (Zhou et al. 2019),
which axis-angle is not, continuous; a soft joint-limit penalty keeps fingers anatomical.

Letters: B batch, J 21 joints, V vertices.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from datamodules.batch import HandBatch, check_batch
from lightning_modules.figures import JointFigures
from lightning_modules.losses import PointLoss, joint_limit_loss, point_loss
from lightning_modules.method import HandMethod, as_pictured, pixels_as_pictured, rotations_as_pictured
from lightning_modules.metrics import SuccessRate
from lightning_modules.networks.trunks import PICTURE_SIZE, TrunkName, build_trunk
from lightning_modules.prediction import Frame, HandPrediction
from ops.camera import project
from ops.checks import check_choice, check_finite, check_not_negative, check_positive, check_shape
from ops.hand_model import open_hand
from ops.hand_model.conventions import convention_points, joints_in_conventions, own_points
from ops.hand_model.pose_shape_layer import (
    POSE_SIZE,
    SCALE_SIZE,
    SHAPE_SIZE,
    HandPoseShapeLayer,
    articulation_limits,
)
from ops.rotation import axis_angle_to_matrix, rotation_6d_to_matrix

NEEDS = ("depth", "K", "cube_centre", "cube_side", "mirrored", "side")
LABELS = ("joints_3d", "joint_valid", "has_3d", "has_mesh", "convention", "hand_model")
SUCCESS_THRESHOLDS = (20.0, 30.0, 40.0, 60.0, 80.0)  # mm
DECIMETRE = 0.1  # unit of the losses, metres: hands are of size 1, penalties in radians weigh as much


class HandEstimate(NamedTuple):
    """What the networks and HPSL make of B pictures; metres, camera frame, right hands."""

    vertices: Tensor  # (B, V, 3)
    joints: Tensor  # (B, 21, 3)
    translation: Tensor  # (B, 3) shift of the wrist from where it rests
    rotation: Tensor  # (B, 3, 3) about the wrist
    articulation: Tensor  # (B, 20) radians, Theta without its first six
    bone_scales: Tensor  # (B, 6) alpha
    shape: Tensor  # (B, 7) beta
    rotations: Tensor  # (B, 16, 3, 3) of the bones, hand -> camera


class DeepHPS(HandMethod):
    """The method: three trunks, HPSL, losses, metrics, optimiser.

    Args:
        pose_trunk: trunk of the pose network, and the shared one.
        scale_trunk: trunk of the bone-scale network.
        shape_trunk: trunk of the shape network.
        shared_trunk: one trunk feeds all three heads (the paper has three independent networks).
        rotation: how the pose network says the global rotation: "axis-angle" (the paper's 26 numbers) or "6d".
        learn_bone_scale: False keeps alpha = 1.
        learn_shape: False keeps beta = 0.
        loss: of a point: "squared" (the paper's 1/2 ||.||^2) or "distance".
        vertex_weight: of L_V against L_J (the paper: equal).
        limit_weight: of the joint-limit penalty, per rad^2.
        prior_weight: of ||alpha - 1||^2 / scale_sigma^2 + ||beta||^2, which decides what joints alone leave open.
        lr: largest learning rate of AdamW.
        weight_decay: of AdamW.
        warmup_steps: steps of linear warm-up; a half cosine to zero follows over the rest of the run.
        convention: joint convention of predictions on pictures without labels; labels may be in any that is on file.
        report_domains: domains whose errors are logged one by one as well, as `val/<domain>/...`.
    """

    shares = ("mesh", "3d")
    export_fields = ("depth", "cube_centre", "cube_side")

    def __init__(
        self,
        pose_trunk: TrunkName = "resnet18",
        scale_trunk: TrunkName = "resnet18",
        shape_trunk: TrunkName = "resnet18",
        shared_trunk: bool = False,
        rotation: Literal["6d", "axis-angle"] = "6d",
        learn_bone_scale: bool = True,
        learn_shape: bool = True,
        loss: PointLoss = "squared",
        vertex_weight: float = 1.0,
        limit_weight: float = 0.1,
        prior_weight: float = 1e-3,
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        warmup_steps: int = 200,
        convention: str = "open",
        report_domains: tuple[str, ...] | list[str] = (),
    ) -> None:
        super().__init__()
        check_choice("rotation", rotation, ("6d", "axis-angle"))
        check_choice("loss", loss, get_args(PointLoss))
        check_positive(lr=lr)
        check_not_negative(vertex_weight=vertex_weight, limit_weight=limit_weight, prior_weight=prior_weight)
        check_not_negative(weight_decay=weight_decay, warmup_steps=warmup_steps)
        self.save_hyperparameters()
        self.hpsl = HandPoseShapeLayer(open_hand("right"), convention)
        low, high = articulation_limits(self.hpsl.model)
        self.register_buffer("limits", torch.stack([low, high]), persistent=False)
        # before training, the reference hand stands in the middle of the cube
        centre = torch.tensor(self.hpsl.model.v_template.mean(0), dtype=torch.float32)
        self.register_buffer("reference_centre", centre, persistent=False)
        self._build_networks()
        domains = list(report_domains)
        self.figures = nn.ModuleDict({stage: JointFigures(stage, domains, with_mesh=True) for stage in ("val", "test")})
        self.success = nn.ModuleDict({per: SuccessRate(SUCCESS_THRESHOLDS, per) for per in ("hand", "joint")})

    def _build_networks(self) -> None:
        hyper = self.hparams
        self.pose_trunk = build_trunk(hyper.pose_trunk)
        # a shared trunk is registered once; None, not Identity, so that no code can run two by mistake
        self.scale_trunk = None if hyper.shared_trunk else build_trunk(hyper.scale_trunk)
        self.shape_trunk = None if hyper.shared_trunk else build_trunk(hyper.shape_trunk)
        pose_outputs = POSE_SIZE + (3 if hyper.rotation == "6d" else 0)
        self.pose_head = zero_head(self.pose_trunk.features, pose_outputs)
        self.scale_head = zero_head((self.scale_trunk or self.pose_trunk).features, SCALE_SIZE)
        self.shape_head = zero_head((self.shape_trunk or self.pose_trunk).features, SHAPE_SIZE)
        self.to(memory_format=torch.channels_last)  # 1.5 times faster on a CPU

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What `every` source of an experiment must give, and what at least one (`some`); flags of the contract."""
        return {"every": ["depth", "3d"], "some": ["mesh"] if self.hparams.vertex_weight > 0 else []}

    @property
    def hand_model_id(self) -> str:
        """Id of the hand model whose vertices this network predicts."""
        return self.hpsl.model.id

    def estimate(self, batch: HandBatch) -> HandEstimate:
        """Hands in the depth pictures of a batch."""
        check_batch(batch, NEEDS)
        return self(batch["depth"], batch["cube_centre"], batch["cube_side"])

    def exported(self, batch: HandBatch) -> dict[str, Tensor]:
        """Joints (B, 21, 3), vertices (B, V, 3), rotations (B, 16, 3, 3), bone scales (B, 6) and shape (B, 7)."""
        said = self(*(batch[name] for name in self.export_fields))._asdict()
        return {name: said[name] for name in ("joints", "vertices", "rotations", "bone_scales", "shape")}

    def forward(self, depth: Tensor, cube_centre: Tensor, cube_side: Tensor) -> HandEstimate:
        """Hands in cropped depth pictures.

        Args:
            depth: (B, 1, 128, 128) metres, 0 = missing.
            cube_centre: (B, 3) metres, camera frame.
            cube_side: (B,) metres.
        """
        picture = normalise_depth(depth, cube_centre, cube_side)
        if depth.shape[-1] != PICTURE_SIZE:
            raise ValueError(
                f"depth: expected pictures of {PICTURE_SIZE} x {PICTURE_SIZE} pixels, got side {depth.shape[-1]}; "
                f"set data.image_size to {PICTURE_SIZE}"
            )
        outputs = self._heads(picture)
        # half precision is for the networks: it would move vertices by millimetres
        with torch.autocast(depth.device.type, enabled=False):
            return self._hands(*(output.to(cube_centre.dtype) for output in outputs), cube_centre, cube_side)

    def _heads(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the three networks say of normalised pictures: (B, 26 or 29), (B, 6), (B, 7), 0 is the reference."""
        features = self.pose_trunk(picture)
        scale_features = self.scale_trunk(picture) if self.scale_trunk is not None else features
        shape_features = self.shape_trunk(picture) if self.shape_trunk is not None else features
        return self.pose_head(features), self.scale_head(scale_features), self.shape_head(shape_features)

    def _hands(
        self, offsets: Tensor, scale_offsets: Tensor, shape: Tensor, cube_centre: Tensor, cube_side: Tensor
    ) -> HandEstimate:
        bone_scales = 1 + scale_offsets * float(self.hparams.learn_bone_scale)
        shape = shape * float(self.hparams.learn_shape)
        shifts, turns, articulation = offsets.split([3, offsets.shape[1] - 23, 20], 1)
        if self.hparams.rotation == "6d":
            turned = rotation_6d_to_matrix(turns + turns.new_tensor([1.0, 0, 0, 0, 1, 0]))
        else:
            turned = axis_angle_to_matrix(turns)
        towards = rotation_onto(torch.nn.functional.normalize(cube_centre, dim=-1))
        rotation = towards @ turned
        shifts = 0.5 * cube_side[:, None] * shifts
        centre = cube_centre + (towards @ shifts[..., None]).squeeze(-1)
        translation = centre - rotation @ self.reference_centre  # Theta counts from the wrist
        pose = torch.cat([translation, torch.zeros_like(translation), articulation], 1)  # Theta, rotation beside it
        hands = self.hpsl(pose, bone_scales, shape, rotation)
        numbers = translation, rotation, articulation, bone_scales, shape
        return HandEstimate(hands.vertices, hands.joints, *numbers, hands.rotations)

    def joints_as_labelled(self, estimate: HandEstimate, batch: HandBatch) -> Tensor:
        """Joints (B, 21, 3) of an estimate, each hand's in the convention of its labels."""
        given = self.hparams.convention
        return joints_in_conventions(estimate.joints, estimate.rotations, batch["convention"], given)

    # -- losses, in the order of the paper: L = L_J + 1[mesh] L_V, then what keeps the hand a hand

    def losses(self, estimate: HandEstimate, batch: HandBatch) -> dict[str, Tensor]:
        """Named terms and their weighted `total`, of an estimate against the labels of `batch`."""
        self._check_labels(batch)
        hyper = self.hparams
        joint_valid = batch["joint_valid"] & batch["has_3d"][:, None]
        joints = self.joints_as_labelled(estimate, batch)
        terms = {"joints": point_loss(joints, batch["joints_3d"], joint_valid, hyper.loss, DECIMETRE)}
        terms["vertices"] = terms["joints"].new_zeros(())
        if "vertices" in batch:
            mesh_valid = batch["has_mesh"][:, None].expand(-1, estimate.vertices.shape[1])
            terms["vertices"] = point_loss(estimate.vertices, batch["vertices"], mesh_valid, hyper.loss, DECIMETRE)
        terms["limits"] = joint_limit_loss(estimate.articulation, *self.limits)
        terms["prior"] = parameter_prior(estimate.bone_scales, estimate.shape)
        terms["total"] = (
            terms["joints"]
            + hyper.vertex_weight * terms["vertices"]
            + hyper.limit_weight * terms["limits"]
            + hyper.prior_weight * terms["prior"]
        )
        return terms

    def _check_labels(self, batch: HandBatch) -> None:
        check_batch(batch, LABELS)
        foreign = set(batch["hand_model"]) - {self.hand_model_id, ""}
        if foreign:
            raise ValueError(
                f"batch['hand_model']: expected '{self.hand_model_id}', got {sorted(foreign)}; "
                "its vertices mean other places: render with the same hand model or clear has_mesh"
            )

    # -- figures

    def measure(self, estimate: HandEstimate, batch: HandBatch, stage: str) -> None:
        """Feed and log the stage's errors; in a test the success rates, too."""
        joints = self.joints_as_labelled(estimate, batch)
        logged = self.figures[stage].update(joints, batch, estimate.vertices)
        self.log_dict(logged, on_step=False, on_epoch=True, add_dataloader_idx=False)
        if stage == "test":
            valid = batch["joint_valid"] & batch["has_3d"][:, None]
            for metric in self.success.values():
                metric.update(joints, batch["joints_3d"], valid)

    def on_test_epoch_end(self) -> None:
        """Log the success rates, one number a threshold."""
        for per, metric in self.success.items():
            for threshold, share in zip(SUCCESS_THRESHOLDS, metric.compute(), strict=True):
                self.log(f"test/success_{per}_{threshold:.0f}mm", share)
            metric.reset()

    # -- predictions

    def predict_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> HandPrediction:
        """Hands as pictured: what was mirrored to look like a right hand is mirrored back.

        Joints are in the convention of the batch's labels where it has one, with the dataset's own points beside them.
        """
        estimate = self.estimate(batch)
        check_finite("batch['depth']", batch["depth"])  # training does not pay for this
        conventions = set(batch.get("convention", ()))
        convention = conventions.pop() if len(conventions) == 1 else self.hparams.convention
        given = estimate.joints, estimate.rotations
        with torch.autocast(batch["depth"].device.type, enabled=False):
            joints = joints_in_conventions(*given, convention, self.hparams.convention)
            pixels = project(joints, batch["K"])
            own = own_points(convention)
            points = convention_points(*given, own, self.hparams.convention) if own else None
        mirrored = batch["mirrored"]
        return HandPrediction(
            joints_3d=as_pictured(joints, mirrored),
            joints_2d=pixels_as_pictured(pixels, mirrored, batch["depth"].shape[-1]),
            vertices=as_pictured(estimate.vertices, mirrored),
            parts=None,
            side=batch["side"],
            confidence=None,
            frame=Frame.ABSOLUTE,
            hand_model=self.hand_model_id,
            convention=convention,
            points=None if points is None else as_pictured(points, mirrored),
            point_set=own,
            rotations=rotations_as_pictured(estimate.rotations, mirrored),
            shape=torch.cat([estimate.bone_scales, estimate.shape], 1),
        )


def normalise_depth(depth: Tensor, cube_centre: Tensor, cube_side: Tensor) -> Tensor:
    """Depth along the line of sight to the cube's centre, in cube units: -1 the near face, +1 the far face.

    A hand off the optical axis looks as if turned towards the camera, but its depth, measured along z, is sheared.
    Measured along the line of sight, depth and outline agree, and the hand looks the same wherever it is held.

    Args:
        depth: (B, 1, S, S) metres along z, 0 = missing; the square crop whose side covers the cube's at its centre.
        cube_centre: (B, 3) metres, camera frame.
        cube_side: (B,) metres.

    Returns:
        (B, 1, S, S) in [-1, 1]; +1 also where depth is missing or outside the cube.
    """
    check_shape("depth", depth, ("B", 1, "S", "S"))
    check_shape("cube_centre", cube_centre, (depth.shape[0], 3))
    check_shape("cube_side", cube_side, (depth.shape[0],))
    size = depth.shape[-1]
    half = 0.5 * cube_side[:, None]
    sight = torch.nn.functional.normalize(cube_centre, dim=-1)
    steps = (torch.arange(size, device=depth.device, dtype=depth.dtype) + 0.5) * (2 / size) - 1  # -1..1 over the crop
    # a pixel's point is z (a, b, 1): its projection onto the line of sight is z (a sight_x + b sight_y + sight_z)
    a, b = (cube_centre[:, i, None] + half * steps for i in (0, 1))
    along_u = (a / cube_centre[:, 2:] * sight[:, :1])[:, None, None, :]  # (B, 1, 1, S)
    along_v = (b / cube_centre[:, 2:] * sight[:, 1:2] + sight[:, 2:])[:, None, :, None]  # (B, 1, S, 1)
    distance = cube_centre.norm(dim=-1)[:, None, None, None]
    unit = (depth * (along_u + along_v)).sub_(distance).div_(half[:, :, None, None])
    outside = (depth <= 0) | (unit < -1)
    return unit.clamp_(max=1).masked_fill_(outside, 1)


def rotation_onto(sight: Tensor) -> Tensor:
    """The smallest rotations (B, 3, 3) that turn the optical axis onto unit vectors (B, 3), z > 0."""
    x, y, z = sight.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, zero, x, zero, zero, y, -x, -y, zero], -1).unflatten(-1, (3, 3))  # of (0, 0, 1) x sight
    identity = torch.eye(3, dtype=sight.dtype, device=sight.device)
    return identity + cross + cross @ cross / (1 + z)[:, None, None]


def parameter_prior(bone_scales: Tensor, shape: Tensor, scale_sigma: float = 0.1) -> Tensor:
    """Mean () over the batch of ||alpha - 1||^2 / sigma^2 + ||beta||^2, of (B, 6) and (B, 7).

    Bone scales and the controls for lengths overlap; this picks one of the hands that fit alike.
    """
    return (((bone_scales - 1) / scale_sigma).square().sum(1) + shape.square().sum(1)).mean()


def zero_head(features: int, outputs: int) -> nn.Linear:
    """A linear layer that says 0 before training: the networks start at the reference hand."""
    head = nn.Linear(features, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
