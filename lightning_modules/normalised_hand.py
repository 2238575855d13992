"""The crop's own frame, and a hand placed in it by 63 numbers.

Baek, Kim, Kim (CVPR 2019), f_Proj: pose, shape and a camera of quaternion, scale and translation to joints, mesh and
mask. The frame: x and y in units of the crop's side g with (0, 0) the upper left corner of the picture, so that pixel u
of a picture of S pixels lies at (u + 1/2) / S: skeleton and mask are one affine map apart. z counts from the root, the
middle finger's knuckle, in the same unit at the root's depth, z_root g / f.

A hand p, metres from its root, at scale s and place t is seen along parallels at s p + t. Through a pinhole it is seen
at c + (s p + t - c) / (1 + z / phi), c the camera's principal point, phi = f / g, both in this frame: the same numbers
then mean a hand that is no larger where it is nearer, and labels of a real hand can be met exactly. The paper's camera
looks along parallels.

Letters: B batch, N points, V vertices, S pixels of the picture's side.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ops.camera import WeakPerspectiveCamera, unproject
from ops.checks import check_choice, check_shape
from ops.hand_model import HandModel
from ops.hand_model.conventions import convention_points, joints_in_conventions
from ops.hand_model.layer import HandLayer
from ops.joints import CANONICAL_JOINTS
from ops.rotation import quaternion_to_matrix

PoseSpace = Literal["pca", "axis-angle"]
SIZES = {"pose": 45, "shape": 10, "quaternion": 4, "scale": 1, "translation": 3}
SIZE = sum(SIZES.values())  # 63
ROOT, BONE_END = CANONICAL_JOINTS.index("middle_mcp"), CANONICAL_JOINTS.index("middle_pip")
_NEAREST = 0.2  # share of the root's depth: nothing is projected from nearer
USUAL_SCALE = 3.5  # crop sides per metre, of a crop 1.5 times as large as a hand's 19 cm
# the open hand's fingers point along -x, its back to +y: turned so that it stands up before the camera, palm to it
_UPRIGHT = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class View(NamedTuple):
    """How a pinhole camera sees the crop's frame."""

    centre: Tensor  # (B, 2) its principal point
    focal: Tensor  # (B,) its focal length, crop sides


class NormalisedHand(NamedTuple):
    """Hands in the crop's frame; all of it gets gradients."""

    vertices: Tensor  # (B, V, 3)
    joints: Tensor  # (B, 21, 3) canonical order, in the projection's convention
    rotations: Tensor  # (B, 16, 3, 3) of the bones, hand -> camera
    metric_joints: Tensor  # (B, 21, 3) metres from the root, camera axes
    scale: Tensor  # (B, 1) crop sides per metre at the root's depth
    place: Tensor  # (B, 3) of the root
    view: View | None  # None: along parallels

    def placed(self, points: Tensor) -> Tensor:
        """Points (B, N, 3), metres from the root, where they are seen."""
        seen = self.scale[:, None] * points + self.place[:, None]
        if self.view is None:
            return seen
        centre, depth = self.view.centre[:, None], seen[..., 2:]
        nearer = (1 + depth / self.view.focal[:, None, None]).clamp_min(_NEAREST)
        return torch.cat([centre + (seen[..., :2] - centre) / nearer, depth], -1)


class HandProjection(nn.Module):
    """Parameters (B, 63) to hands: [pose 45 | shape 10 | quaternion 4 | scale 1 | translation 3].

    Pose counts from the model's mean pose, in its principal components or axis-angle; the quaternion (w, x, y, z), of
    any length, from a hand that stands upright, palm to the camera; the scale is the logarithm of crop sides per
    metre over a usual one; the translation moves the root from the middle of the crop.

    Args:
        model: the right hand.
        pose_space: what the 45 numbers of the pose are.
        convention: joint convention of the joints.
    """

    def __init__(self, model: HandModel, pose_space: PoseSpace = "pca", convention: str = "open") -> None:
        super().__init__()
        check_choice("pose_space", pose_space, ("pca", "axis-angle"))
        components = model.shapedirs.shape[-1]
        if components != SIZES["shape"]:
            raise ValueError(f"model '{model.name}': expected {SIZES['shape']} shape components, got {components}")
        self.layer = HandLayer(model, pose_space, flat_hand_mean=False, convention=convention)
        self.convention = convention
        self.register_buffer("upright", torch.tensor(_UPRIGHT), persistent=False)
        start = torch.zeros(SIZE)
        start[SIZES["pose"] + SIZES["shape"]] = 1  # w of the quaternion: the paper's zeros are no rotation
        self.register_buffer("start", start, persistent=False)  # (63,) h_0
        self.register_buffer("centre", torch.tensor([0.5, 0.5, 0.0]), persistent=False)

    def forward(self, parameters: Tensor, view: View | None = None) -> NormalisedHand:
        """The hands of parameters (B, 63), seen through a pinhole or along parallels."""
        check_shape("parameters", parameters, ("B", SIZE))
        pose, shape, quaternion, scale, translation = parameters.split(list(SIZES.values()), 1)
        metric = self.layer(pose, shape, self.rotation(quaternion))
        root = metric.joints[:, ROOT, None]
        place = self.centre + translation
        hand = NormalisedHand(
            metric.vertices,
            metric.joints,
            metric.rotations,
            metric.joints - root,
            USUAL_SCALE * scale.exp(),
            place,
            view,
        )
        return hand._replace(vertices=hand.placed(metric.vertices - root), joints=hand.placed(hand.metric_joints))

    def rotation(self, quaternion: Tensor) -> Tensor:
        """(B, 3, 3) hand -> camera."""
        return quaternion_to_matrix(quaternion) @ self.upright

    def joints_in(self, hand: NormalisedHand, conventions: str | list[str]) -> Tensor:
        """Joints (B, 21, 3) in other conventions, one per hand or one for all."""
        return hand.placed(joints_in_conventions(hand.metric_joints, hand.rotations, conventions, self.convention))

    def points_in(self, hand: NormalisedHand, points: str) -> Tensor:
        """A dataset's own points (B, P, 3) by the name of their set."""
        return hand.placed(convention_points(hand.metric_joints, hand.rotations, points, self.convention))


def view_of(K: Tensor, size: int) -> View:
    """How the camera K (B, 3, 3) of pictures of `size` pixels sees the crop's frame."""
    return View((K[:, :2, 2] + 0.5) / size, K[:, 0, 0] / size)


def picture_camera(batch: int, size: int, like: Tensor) -> WeakPerspectiveCamera:
    """The camera that shows the crop's frame in pictures of `size` pixels: u = S x - 1/2."""
    return WeakPerspectiveCamera(like.new_full((batch,), size), like.new_full((batch, 2), -0.5))


def normalised_places(pixels: Tensor, size: int) -> Tensor:
    """Places (B, N, 2) in units of the crop's side of pixels (B, N, 2) of a picture of `size` pixels."""
    return (pixels + 0.5) / size


def picture_pixels(places: Tensor, size: int) -> Tensor:
    """The inverse of `normalised_places`."""
    return places * size - 0.5


def normalise(points: Tensor, root_depth: Tensor, K: Tensor, size: int) -> Tensor:
    """Camera-frame points in the crop's frame.

    Args:
        points: (B, N, 3) metres, z > 0.
        root_depth: (B,) metres, z of the root.
        K: (B, 3, 3) of the picture.
        size: S, pixels of the picture's side.

    Returns:
        (B, N, 3); xy is where the camera sees them, z (z - z_root) f / (z_root S).
    """
    homogeneous = points @ K.transpose(1, 2)
    pixels = homogeneous[..., :2] / homogeneous[..., 2:]
    depth = (points[..., 2] - root_depth[:, None]) / metres_per_side(root_depth, K, size)[:, None]
    return torch.cat([normalised_places(pixels, size), depth[..., None]], -1)


def in_camera(points: Tensor, root_depth: Tensor, K: Tensor, size: int) -> Tensor:
    """The inverse of `normalise`: (B, N, 3) of the crop's frame to metres, camera frame."""
    depth = root_depth[:, None] + points[..., 2] * metres_per_side(root_depth, K, size)[:, None]
    return unproject(picture_pixels(points[..., :2], size), depth, K)


def metres_per_side(root_depth: Tensor, K: Tensor, size: int) -> Tensor:
    """z_root g / f (B,): what the crop's side measures at the root's depth."""
    return root_depth * size / K[:, 0, 0]


def depth_of_bone(hand: NormalisedHand, bone_length: float, K: Tensor, size: int) -> Tensor:
    """Root depth (B,) at which the first bone of the middle finger is as long as stated.

    Args:
        hand: in pictures of `size` pixels.
        bone_length: metres, from the middle finger's knuckle to its next joint.
        K: (B, 3, 3) of the pictures.
        size: S.
    """
    bone = hand.scale[:, 0] * (hand.metric_joints[:, BONE_END] - hand.metric_joints[:, ROOT]).norm(dim=-1)  # sides
    return bone_length / bone * K[:, 0, 0] / size
