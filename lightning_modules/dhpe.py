"""DHPE: hand pose and shape from one colour picture, learnt from skeletons and masks by rendering the hand it finds.

Baek, Kim, Kim: Pushing the Envelope for RGB-based Dense 3D Hand Pose Estimation via Neural Rendering, CVPR 2019.

The idea: meshes of real hands are labelled nowhere, masks and skeletons are. So the network says 63 numbers, a
differentiable hand and a renderer turn them into a skeleton and a mask, and both are compared with labels. The mask
counts only for hands whose skeleton is already near (eq. 12), since a mask says little about a hand that is elsewhere.
At test time the 63 numbers go on to descend towards what can be seen without labels (eq. 13). Hands already fitted give
new training pictures, in other shapes and from other sides (`callbacks.self_augmentation`).

In order: 2D evidence f_E2D (features F, heat maps), mesh estimator f_E3D and refiner f_Ref by turns (eq. 5, 6),
projection f_Proj (`normalised_hand`), losses (`dhpe_losses`, eq. 2, 3, 6, 8-12), refinement (eq. 13).

What we changed or chose, the paper's values being unknown to us: the hand is the open hand, posed by 45 coefficients of
its principal components about its mean pose; it turns about the middle finger's knuckle, from upright, and is seen
through a pinhole; the scale is a logarithm; the refiner says a change; a weak prior on pose and shape decides what
labels leave open; losses of places, maps and masks have a unit in which a bad guess costs about 1; joints whose heat
maps say nothing are drawn to the crop's middle; the renderer is that of `ops.render`.

Letters: B batch, J 21 joints, V vertices, S pixels of the picture's side.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from datamodules.batch import HandBatch, check_batch
from lightning_modules.dhpe_losses import (
    articulation_loss,
    cotangent_laplacian,
    heat_map_loss,
    laplacian_loss,
    masked_feature_loss,
    mean_pixels,
    place_loss,
    refiner_loss,
    silhouette_loss,
)
from lightning_modules.distance import Distance, DistanceRule
from lightning_modules.earlier_step import BeginsWithWeights, earlier_weights, part_of_weights
from lightning_modules.figures import JointFigures, of_own_mesh
from lightning_modules.losses import mean_of_valid
from lightning_modules.method import HandMethod, as_pictured, pixels_as_pictured, rotations_as_pictured
from lightning_modules.networks.backbones import BackboneName, masked_apart
from lightning_modules.networks.hand_evidence import Evidence, HandEvidence
from lightning_modules.networks.joint_maps import JointMapSize
from lightning_modules.normalised_hand import (
    BONE_END,
    ROOT,
    SIZE,
    HandProjection,
    NormalisedHand,
    PoseSpace,
    View,
    in_camera,
    normalise,
    normalised_places,
    picture_camera,
    picture_pixels,
    view_of,
)
from lightning_modules.picture_figures import PictureFigures
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.refinement import Refined, refine
from ops.checks import check_choice, check_finite, check_not_negative, check_positive
from ops.hand_model import open_hand
from ops.hand_model.conventions import own_points
from ops.render import render

NEEDS = ("rgb", "K", "mirrored", "side")
LABELS = ("joints_3d", "joints_2d", "joint_valid", "has_3d", "has_2d", "has_mask", "convention")


class HandEstimate(NamedTuple):
    """What the method makes of B pictures; the crop's frame (`normalised_hand`), right hands."""

    evidence: Evidence
    places: list[Tensor]  # (B, J, 2) after each turn of the refiner
    parameters: Tensor  # (B, 63)
    hand: NormalisedHand


class FittedHands(NamedTuple):
    """The hands of the last training batch as they were estimated; without gradients."""

    parameters: Tensor  # (B, 63)
    pixels: Tensor  # (B,) mean distance of the 2D joints from their labels, in a crop of 224 pixels


class DHPE(BeginsWithWeights, HandMethod):
    """The method: networks, losses, refinement, prediction.

    Args:
        backbone: F; the paper's is resnet50.
        pretrained: folder or hub name of weights that F begins with.
        init_from: checkpoint or weights of DHPE that training begins with, or folder of an experiment's runs, whose
            newest best is taken.
        joint_maps: network of the heat maps; "full" is the paper's.
        pose_space: what the 45 numbers of the pose are.
        camera: how the hand is seen: "parallel" is the paper's; "pinhole" needs no other numbers than K.
        iterations: turns of estimator and refiner.
        refiner: False leaves the 2D joints as the heat maps say them.
        articulation_weight: of eq. 8.
        shape_weight: of eq. 9 beside the lambda of its schedule (callback `HierarchicalShapeLoss`); 0: skeletons only.
        laplacian_weight: of eq. 10 and 11, in training and refinement.
        feature_weight: of eq. 2.
        refiner_weight: of eq. 6.
        refiner_noise: standard deviation of what is added to the 63 numbers of a hand, in training, for one more turn
            of the refiner: at test time eq. 13 shows it hands that the estimator does not make; 0: no such turn.
        heat_map_weight: of eq. 3.
        prior_weight: of the mean of squared pose and shape parameters.
        heat_map_sigma: standard deviation of the heat maps' Gaussians, cells of 32 a side.
        refinement_steps: iterations of eq. 13 at prediction and test; 0: none.
        refinement_lr: their step.
        refinement_features: weight of the similarity of features in eq. 13.
        root_depth: how far away the hand is said to be, a rule of `distance.Distance`; the paper compares by "label".
        bone_length: metres; None is that of the mean hand.
        crop_size: pixels along the side of the crops of predictions on pictures of your own; as training's are.
        lr: largest learning rate of AdamW.
        weight_decay: of AdamW.
        warmup_steps: steps of linear warm-up; a half cosine to zero follows over the rest of the run.
        convention: joint convention of predictions on pictures without labels.
        learnt_conventions: others that the labels trained on have; 2D joints in pictures of datasets that are neither
            in these nor in `convention` come in `convention`.
        report_domains: domains whose figures are logged one by one as well, as `val/<domain>/...`.
    """

    shares = ("3d", "2d", "mask")
    export_fields = ("rgb", "K")

    def __init__(
        self,
        backbone: BackboneName = "resnet50",
        pretrained: str | None = None,
        init_from: str | None = None,
        joint_maps: JointMapSize = "full",
        pose_space: PoseSpace = "pca",
        camera: Literal["pinhole", "parallel"] = "pinhole",
        iterations: int = 3,
        refiner: bool = True,
        articulation_weight: float = 3.0,
        shape_weight: float = 1.0,
        laplacian_weight: float = 1.0,
        feature_weight: float = 0.1,
        refiner_weight: float = 0.3,
        refiner_noise: float = 0.0,
        heat_map_weight: float = 1.0,
        prior_weight: float = 1e-3,
        heat_map_sigma: float = 1.5,
        refinement_steps: int = 50,
        refinement_lr: float = 0.01,
        refinement_features: float = 0.1,
        root_depth: DistanceRule = "bone",
        bone_length: float | None = None,
        crop_size: int = 96,
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        warmup_steps: int = 200,
        convention: str = "open",
        learnt_conventions: tuple[str, ...] | list[str] = (),
        report_domains: tuple[str, ...] | list[str] = (),
    ) -> None:
        super().__init__()
        check_choice("camera", camera, ("pinhole", "parallel"))
        check_positive(lr=lr, refinement_lr=refinement_lr, heat_map_sigma=heat_map_sigma, iterations=iterations)
        check_positive(crop_size=crop_size)
        check_not_negative(articulation_weight=articulation_weight, shape_weight=shape_weight)
        check_not_negative(laplacian_weight=laplacian_weight, feature_weight=feature_weight)
        check_not_negative(refiner_weight=refiner_weight, heat_map_weight=heat_map_weight, prior_weight=prior_weight)
        check_not_negative(refinement_steps=refinement_steps, refinement_features=refinement_features)
        check_not_negative(weight_decay=weight_decay, warmup_steps=warmup_steps, refiner_noise=refiner_noise)
        self.save_hyperparameters()
        self.projection = HandProjection(open_hand("right"), pose_space, convention)
        model = self.projection.layer.model
        self.hand_model_id = model.id
        laplacian = cotangent_laplacian(model.v_template, model.faces)
        self.register_buffer("laplacian", torch.tensor(laplacian, dtype=torch.float32), persistent=False)
        if bone_length is None:
            joints = self.projection(self.projection.start[None]).metric_joints[0]  # of the mean hand
            bone_length = float((joints[BONE_END] - joints[ROOT]).norm())
        self.distance = Distance(root_depth, bone_length)
        self.crop_size = crop_size
        self.networks = HandEvidence(backbone, pretrained, joint_maps, SIZE, refiner)
        self.figures = nn.ModuleDict({stage: JointFigures(stage, report_domains, True) for stage in ("val", "test")})
        self.seen = nn.ModuleDict({stage: PictureFigures(stage) for stage in ("val", "test")})
        self.shape_schedule = None  # pixels (B,) -> lambda (B,) of eq. 12, set by a callback; None: always 1
        self.fitted: FittedHands | None = None

    @property
    def source_needs(self) -> dict[str, list[str]]:
        """What `every` source of an experiment must give, and what at least one (`some`); flags of the contract."""
        masks = self.hparams.shape_weight > 0 or self.hparams.feature_weight > 0
        return {"every": ["rgb", "3d", "2d"], "some": ["mask"] if masks else []}

    def take_weights(self, path: str) -> None:
        """Networks of an earlier experiment; its refiner is left out where there is none here."""
        weights = part_of_weights(earlier_weights(path, type(self), self.hand_model_id), "networks")
        if self.networks.refiner is None:
            weights = {name: value for name, value in weights.items() if not name.startswith("refiner.")}
        try:
            self.networks.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"init_from {path}: its networks are others ({str(error).splitlines()[-1].strip()}); give this "
                "experiment the backbone, joint_maps and refiner of that one"
            ) from error

    # -- f_E2D, then f_E3D and f_Ref by turns

    def estimate(self, batch: HandBatch) -> HandEstimate:
        """Hands in colour pictures."""
        check_batch(batch, NEEDS)
        return self(batch["rgb"], batch["K"], batch.get("mask"))

    def exported(self, batch: HandBatch) -> dict[str, Tensor]:
        """Joints (B, 21, 3), vertices (B, V, 3) and rotations (B, 16, 3, 3), without refinement."""
        hand, K, size = self(batch["rgb"], batch["K"]).hand, batch["K"], batch["rgb"].shape[-1]
        depth = self.distance.by_bone(hand, K, size)
        placed = (in_camera(points, depth, K, size) for points in (hand.joints, hand.vertices))
        return dict(zip(("joints", "vertices", "rotations"), (*placed, hand.rotations), strict=True))

    def forward(self, picture: Tensor, K: Tensor, mask: Tensor | None = None) -> HandEstimate:
        """Hands in colour pictures.

        Args:
            picture: (B, 3, S, S) in [0, 1].
            K: (B, 3, 3) of these pictures.
            mask: (B, 1, S, S) true ones, for the masked-feature loss alone.
        """
        view = self.view(K, picture.shape[-1])
        networks = self.networks
        evidence = networks(picture, mask if self.hparams.feature_weight > 0 else None)
        # half precision is for the networks: it would move vertices by millimetres
        with torch.autocast(picture.device.type, enabled=False):
            features, places = evidence.features.float(), evidence.places
            parameters, refined = self.projection.start.expand(picture.shape[0], SIZE), []
            for _ in range(self.hparams.iterations):
                hand = self.projection(parameters, view)
                refined.append(networks.refined_places(features, places, parameters, hand.joints))
                parameters = parameters + networks.change(features, places, parameters)
                places = refined[-1]
            return HandEstimate(evidence, refined, parameters, self.projection(parameters, view))

    def view(self, K: Tensor, size: int) -> View | None:
        """How hands are seen in pictures of `size` pixels with cameras K (B, 3, 3)."""
        return view_of(K, size) if self.hparams.camera == "pinhole" else None

    def silhouette(self, hand: NormalisedHand, size: int) -> Tensor:
        """f_Ren: (B, 1, S, S) coverage in [0, 1]."""
        camera = picture_camera(len(hand.vertices), size, hand.vertices)
        return render(hand.vertices, self.projection.layer.faces, camera, size, ("silhouette",))["silhouette"]

    # -- losses, in the order of the equations

    def losses(self, estimate: HandEstimate, batch: HandBatch) -> dict[str, Tensor]:
        """Named terms and their weighted `total`, of an estimate against the labels of `batch`."""
        check_batch(batch, LABELS)
        with torch.autocast(estimate.parameters.device.type, enabled=False):
            terms = self._terms(estimate, batch)
            hyper = self.hparams
            weights = {
                "features": hyper.feature_weight,
                "heat_maps": hyper.heat_map_weight,
                "refiner": hyper.refiner_weight,
                "articulation": hyper.articulation_weight,
                "silhouette": hyper.shape_weight,
                "laplacian": hyper.laplacian_weight,
                "prior": hyper.prior_weight,
            }
            terms["total"] = sum(weights[name] * term for name, term in terms.items())
        return terms

    def _terms(self, estimate: HandEstimate, batch: HandBatch) -> dict[str, Tensor]:
        evidence, hand, size = estimate.evidence, estimate.hand, batch["rgb"].shape[-1]
        places = normalised_places(batch["joints_2d"], size)
        valid = batch["joint_valid"] & batch["has_2d"][:, None]
        seen = valid & ((places > 0) & (places < 1)).all(-1)
        joints = self.projection.joints_in(hand, batch["convention"])
        pixels = mean_pixels(joints, places, valid)
        if self.training:
            self.fitted = FittedHands(estimate.parameters.detach(), pixels)
        has_mask, none = batch["has_mask"], hand.scale.new_zeros(())
        terms = {"features": none}
        if evidence.masked_features is not None:
            both = evidence.features.float(), evidence.masked_features.float()
            terms["features"] = mean_of_valid(masked_feature_loss(*both), has_mask)
        maps = heat_map_loss(evidence.maps, places, seen, self.hparams.heat_map_sigma)
        terms["heat_maps"] = mean_of_valid(maps, seen.any(1))
        terms["refiner"] = none
        if self.networks.refiner is not None:
            said = [*estimate.places, *self._shaken_turn(estimate)]
            terms["refiner"] = mean_of_valid(refiner_loss(said, places, valid), valid.any(1))
        terms["articulation"] = self._articulation(joints, batch, size)
        terms["silhouette"] = none
        # asked also where masks do not count: the schedule logs how many hands are near
        gate = 1.0 if self.shape_schedule is None else self.shape_schedule(pixels, has_mask)
        if self.hparams.shape_weight > 0 and "mask" in batch:
            errors = silhouette_loss(self.silhouette(hand, size), batch["mask"])
            terms["silhouette"] = mean_of_valid(gate * errors, has_mask)
        terms["laplacian"] = laplacian_loss(hand.vertices, self.laplacian).mean()
        terms["prior"] = estimate.parameters[:, :55].square().mean()
        return terms

    def _shaken_turn(self, estimate: HandEstimate) -> list[Tensor]:
        """What the refiner says in its last turn of hands a little off those estimated; in training, if asked for."""
        if not (self.training and self.hparams.refiner_noise > 0):
            return []
        parameters = estimate.parameters.detach()
        parameters = parameters + self.hparams.refiner_noise * torch.randn_like(parameters)
        joints = self.projection(parameters, estimate.hand.view).joints
        features = estimate.evidence.features.float()
        return [self.networks.refined_places(features, self._last_asked(estimate), parameters, joints)]

    @staticmethod
    def _last_asked(estimate: HandEstimate) -> Tensor:
        """The places (B, J, 2) that the refiner's last turn went on from."""
        return estimate.places[-2] if len(estimate.places) > 1 else estimate.evidence.places

    def _articulation(self, joints: Tensor, batch: HandBatch, size: int) -> Tensor:
        root = batch["joints_3d"][:, ROOT, 2]
        labelled = batch["has_3d"] & batch["joint_valid"][:, ROOT] & (root > 0)
        valid = batch["joint_valid"] & labelled[:, None]
        target = normalise(batch["joints_3d"], root, batch["K"], size)
        return mean_of_valid(articulation_loss(joints, target, valid), labelled)

    # -- refinement at test time

    def refine(self, estimate: HandEstimate, batch: HandBatch, keep_path: bool = False) -> Refined:
        """Eq. 13: what the 63 numbers descend to, towards the 2D joints and features of what the mesh covers.

        Each iteration the refiner says its last turn of training again, of the hand as it is now. Turn upon turn, fifty
        of them where training has three, its changes would add up and lead the hand away.

        Args:
            estimate: of the pictures of `batch`.
            batch: pictures, and the conventions of their labels, if there are any.
            keep_path: give the parameters of every iteration.
        """
        hyper = self.hparams
        with torch.inference_mode(False), torch.autocast(batch["rgb"].device.type, enabled=False):
            picture = batch["rgb"].clone()  # what Lightning made in inference mode cannot be differentiated
            with torch.no_grad():
                features = self.networks.backbone(picture)
            conventions = self._learnt_conventions(batch)
            view = self.view(batch["K"].clone(), picture.shape[-1])
            before = self._last_asked(estimate)

            def objective(parameters: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
                hand = self.projection(parameters, view)
                joints = self.projection.joints_in(hand, conventions)
                value = place_loss(joints[..., :2], places, torch.ones_like(places[..., 0], dtype=torch.bool))
                if hyper.refinement_features > 0:
                    covered = masked_apart(picture, self.silhouette(hand, picture.shape[-1]))
                    value = value + hyper.refinement_features * masked_feature_loss(
                        self.networks.backbone(covered), features
                    )
                value = value + hyper.laplacian_weight * laplacian_loss(hand.vertices, self.laplacian)
                with torch.no_grad():
                    return value, self.networks.refined_places(features, before, parameters, hand.joints)

            return refine(
                estimate.parameters,
                estimate.places[-1],
                objective,
                hyper.refinement_steps,
                hyper.refinement_lr,
                keep_path,
            )

    def _learnt_conventions(self, batch: HandBatch) -> str | list[str]:
        """In which conventions heat maps and refiner say the joints of these pictures, whatever their labels' are."""
        own, known = self.hparams.convention, {self.hparams.convention, *self.hparams.learnt_conventions}
        spoken = [name if name in known else own for name in batch.get("convention", ())]
        return spoken if len(set(spoken)) > 1 else (spoken or [own])[0]

    def refined(self, estimate: HandEstimate, batch: HandBatch) -> HandEstimate:
        """The estimate after refinement; as it was where no iterations are asked for."""
        if self.hparams.refinement_steps == 0:
            return estimate
        found = self.refine(estimate, batch)
        with torch.autocast(found.parameters.device.type, enabled=False):
            hand = self.projection(found.parameters, estimate.hand.view)
        return estimate._replace(places=[*estimate.places, found.places], parameters=found.parameters, hand=hand)

    # -- figures and predictions

    def said_of_distance(self) -> str:
        """How far away hands in pictures without labels are said to be, in words."""
        return self.distance.said()

    def measure(self, estimate: HandEstimate, batch: HandBatch, stage: str) -> None:
        """Errors of joints and mesh, and in the picture; in a test after refinement."""
        if stage == "test":
            estimate = self.refined(estimate, batch)
        with torch.autocast(estimate.parameters.device.type, enabled=False):
            self._measure(estimate, batch, stage)

    def _measure(self, estimate: HandEstimate, batch: HandBatch, stage: str) -> None:
        hand, size = estimate.hand, batch["rgb"].shape[-1]
        depth = self.distance(hand, batch)
        joints = self.projection.joints_in(hand, batch["convention"])
        judged = of_own_mesh(batch, self.hand_model_id, hand.vertices.shape[1])
        placed = [in_camera(points, depth, batch["K"], size) for points in (joints, hand.vertices)]
        logged = self.figures[stage].update(placed[0], judged, placed[1])
        valid = batch["joint_valid"] & batch["has_2d"][:, None]
        pixels = mean_pixels(joints, normalised_places(batch["joints_2d"], size), valid)
        found = self.silhouette(hand, size)
        logged |= self.seen[stage].update(pixels, found, batch.get("mask", torch.zeros_like(found)), batch["has_mask"])
        self.log_dict(logged, on_step=False, on_epoch=True, add_dataloader_idx=False)

    def predict_step(self, batch: HandBatch, batch_idx: int, dataloader_idx: int = 0) -> HandPrediction:
        """Hands as pictured: what was mirrored to look like a right hand is mirrored back.

        Joints are in the convention of the batch's labels where it has one, with the dataset's own points beside them;
        how far the hand is, is as good as the rule `root_depth`. Confidence is the mean height of the heat maps.
        """
        check_batch(batch, NEEDS)
        check_finite("batch['rgb']", batch["rgb"])  # training does not pay for this
        return self._prediction(self.refined(self(batch["rgb"], batch["K"]), batch), batch)

    @torch.no_grad()
    def predictions_by_iteration(self, batch: HandBatch, iterations: Sequence[int]) -> list[HandPrediction]:
        """What `predict_step` would say after each of these iterations of refinement, `refinement_steps` at most."""
        estimate = self(batch["rgb"], batch["K"])
        path = self.refine(estimate, batch, keep_path=True).path
        with torch.autocast(path.device.type, enabled=False):
            hands = {step: self.projection(path[step], estimate.hand.view) for step in iterations}
        return [self._prediction(estimate._replace(parameters=path[step], hand=hands[step]), batch) for step in hands]

    def _prediction(self, estimate: HandEstimate, batch: HandBatch) -> HandPrediction:
        conventions = set(batch.get("convention", ()))
        convention = conventions.pop() if len(conventions) == 1 else self.hparams.convention
        hand, size = estimate.hand, batch["rgb"].shape[-1]
        own, mirrored = own_points(convention), batch["mirrored"]
        with torch.autocast(batch["rgb"].device.type, enabled=False):
            joints = self.projection.joints_in(hand, convention)
            points = [joints, hand.vertices] + ([self.projection.points_in(hand, own)] if own else [])
            depth = self.distance(hand, batch)
            placed = [as_pictured(in_camera(each, depth, batch["K"], size), mirrored) for each in points]
        return HandPrediction(
            joints_3d=placed[0],
            joints_2d=pixels_as_pictured(picture_pixels(joints[..., :2], size), mirrored, size),
            vertices=placed[1],
            parts=None,
            side=batch["side"],
            confidence=estimate.evidence.heights.clamp(0, 1).mean(1),
            frame=Frame.ABSOLUTE,
            hand_model=self.hand_model_id,
            convention=convention,
            points=placed[2] if own else None,
            point_set=own,
            rotations=rotations_as_pictured(hand.rotations, mirrored),
            shape=estimate.parameters[:, 45:55],
        )
