"""The crop's frame and the hand in it: values by hand, true hands met exactly, one affine map to the mask's pixels."""

import math

import pytest
import torch

from lightning_modules.normalised_hand import (
    ROOT,
    SIZE,
    USUAL_SCALE,
    HandProjection,
    View,
    depth_of_bone,
    in_camera,
    normalise,
    normalised_places,
    picture_camera,
    picture_pixels,
    view_of,
)
from lightning_modules.picture_figures import overlap
from ops.hand_model import open_hand
from ops.joints import CANONICAL_JOINTS
from ops.render import render
from ops.rotation import quaternion_to_matrix
from tests.lightning_modules.rendered_hands import rendered_hands
from tests.ops.tiny_hand import tiny_hand

K = torch.tensor([[[100.0, 0, 24.5], [0, 100.0, 24.5], [0, 0, 1]]])
DEPTH = torch.tensor([0.5])


@pytest.fixture(scope="module")
def projection():
    return HandProjection(open_hand())


def some_parameters(count=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, SIZE, generator=generator) * 0.3).to(dtype)


def test_points_of_a_camera_in_the_crops_frame():
    points = torch.tensor([[[0.1, 0.0, 0.5], [0.0, 0.055, 0.55], [0.0, 0.0, 0.4]]])
    # u = 100 * 0.1 / 0.5 + 24.5 = 44.5, of 50 pixels: 45 / 50; the side measures 0.5 * 50 / 100 = 0.25 m there
    expected = torch.tensor([[[0.9, 0.5, 0], [0.5, 0.7, 0.2], [0.5, 0.5, -0.4]]])
    torch.testing.assert_close(normalise(points, DEPTH, K, 50), expected)
    torch.testing.assert_close(in_camera(expected, DEPTH, K, 50), points)
    corners = torch.tensor([[[-0.5, -0.5], [49.5, 49.5]]])
    assert normalised_places(corners, 50).tolist() == [[[0, 0], [1, 1]]]
    torch.testing.assert_close(picture_pixels(normalised_places(corners, 50), 50), corners)


def test_the_hand_starts_upright_in_its_mean_pose_with_its_root_in_the_middle(projection):
    hand = projection(projection.start[None])
    joints = dict(zip(CANONICAL_JOINTS, hand.joints[0], strict=True))
    torch.testing.assert_close(joints["middle_mcp"], torch.tensor([0.5, 0.5, 0.0]))
    assert joints["wrist"][1] > 0.7 and joints["middle_pip"][1] < 0.5, "fingers up"
    assert joints["thumb_tip"][0] > joints["little_mcp"][0], "a right hand, palm to the camera: its thumb to the right"
    mean = projection.layer(torch.zeros(1, 45), torch.zeros(1, 10)).joints[0]
    size = (hand.joints[0, 0] - hand.joints[0, ROOT]).norm() / (mean[0] - mean[ROOT]).norm()
    assert size.item() == pytest.approx(USUAL_SCALE)


def test_scale_and_place_say_what_they_say(projection):
    parameters = projection.start.clone()[None]
    parameters[0, 59], parameters[0, 60:] = math.log(2), torch.tensor([0.1, -0.2, 0.3])
    torch.testing.assert_close(
        projection(parameters).vertices,
        2 * (projection(projection.start[None]).vertices - projection.centre) + torch.tensor([0.6, 0.3, 0.3]),
    )


def test_through_a_pinhole_a_true_hand_is_met_exactly(projection):
    """Whatever its pose, the 63 numbers that put a hand where it is give the picture that the camera takes of it."""
    parameters = some_parameters()
    generator = torch.Generator().manual_seed(1)
    depth = 0.4 + torch.rand(3, generator=generator)
    camera = K.repeat(3, 1, 1)
    camera[:, :2, 2] += 40 * torch.randn(3, 2, generator=generator)  # crops off the optical axis
    parameters[:, 59] = (100 / (50 * depth) / USUAL_SCALE).log()
    parameters[:, 62] = 0
    hand = projection(parameters, view_of(camera, 50))
    torch.testing.assert_close(hand.joints[:, ROOT, :2], 0.5 + parameters[:, 60:62])
    place = in_camera((projection.centre + parameters[:, 60:])[:, None], depth, camera, 50)
    turned = projection.rotation(parameters[:, 55:59])
    metric = projection.layer(parameters[:, :45], parameters[:, 45:55], turned)
    move = place - metric.joints[:, ROOT, None]
    torch.testing.assert_close(hand.joints, normalise(metric.joints + move, depth, camera, 50), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        hand.vertices, normalise(metric.vertices + move, depth, camera, 50), atol=1e-5, rtol=1e-4
    )
    bone = (metric.joints[:, 10] - metric.joints[:, 9]).norm(dim=-1)
    for row in range(3):
        found = depth_of_bone(hand, bone[row].item(), camera, 50)[row]
        assert found.item() == pytest.approx(depth[row].item(), rel=1e-4)


def test_far_away_a_pinhole_sees_along_parallels(projection):
    parameters = some_parameters()
    far = View(torch.zeros(3, 2), torch.full((3,), 1e6))
    torch.testing.assert_close(
        projection(parameters, far).vertices, projection(parameters).vertices, atol=1e-5, rtol=1e-4
    )
    near = projection(parameters, View(torch.full((3, 2), 0.5), torch.full((3,), 0.1)))
    assert near.vertices.isfinite().all(), "what is behind the camera is not projected to infinity"


def test_skeleton_and_mask_are_one_affine_map_apart(projection):
    batch = rendered_hands(6, size=128)
    root = batch["joints_3d"][:, ROOT, 2]
    seen = normalise(batch["vertices"], root, batch["K"], 128)
    camera = picture_camera(6, 128, seen)
    covered = render(seen, projection.layer.faces, camera, 128)["silhouette"]
    assert overlap(covered, batch["mask"]).min() > 0.99
    joints = normalise(batch["joints_3d"], root, batch["K"], 128)[..., :2]
    torch.testing.assert_close(picture_pixels(joints, 128), batch["joints_2d"], atol=1e-3, rtol=0)
    torch.testing.assert_close(normalised_places(batch["joints_2d"], 128), joints, atol=1e-5, rtol=0)
    shifted = render(seen + torch.tensor([2 / 128, 0, 0]), projection.layer.faces, camera, 128)["silhouette"]
    assert overlap(shifted, batch["mask"]).max() < 0.97, "two pixels would be seen"


def test_joints_in_other_conventions_are_offsets_on_the_hand(projection):
    parameters = some_parameters()
    view = View(torch.full((3, 2), 0.5), torch.full((3,), 3.0))
    hand = projection(parameters, view)
    found = projection.joints_in(hand, ["open", "rhd", "rhd"])
    torch.testing.assert_close(found[0], hand.joints[0])
    pose = parameters[:, :45], parameters[:, 45:55], projection.rotation(parameters[:, 55:59])
    rhd = HandProjection(open_hand(), convention="rhd").layer(*pose).joints
    root = projection.layer(*pose).joints[:, ROOT, None]
    torch.testing.assert_close(found[1:], hand.placed(rhd - root)[1:])
    assert (found[1] - hand.joints[1]).norm(dim=-1).max() > 0.005
    assert projection.points_in(hand, "nyu-36").shape == (3, 36, 3)


@pytest.mark.parametrize("view", [None, View(torch.full((2, 2), 0.4).double(), torch.full((2,), 2.5).double())])
def test_gradients(view):
    projection = HandProjection(tiny_hand(shapes=10), "axis-angle", "model").double()
    parameters = (projection.start + some_parameters(2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: projection(p, view)[:2], parameters)


def test_pose_spaces_differ_in_their_basis_alone():
    model, parameters = open_hand(), some_parameters(2)
    pca = HandProjection(model)(parameters)
    turned = parameters.clone()
    turned[:, :45] = parameters[:, :45] @ torch.tensor(model.pose_components, dtype=torch.float32)
    torch.testing.assert_close(HandProjection(model, "axis-angle")(turned).vertices, pca.vertices, atol=1e-5, rtol=1e-4)
    doubled = parameters.clone()
    doubled[:, 55:59] *= 2
    torch.testing.assert_close(HandProjection(model)(doubled).vertices, pca.vertices, atol=1e-5, rtol=1e-4)
    assert torch.equal(quaternion_to_matrix(HandProjection(model).start[55:59]), torch.eye(3))


def test_bad_input(projection):
    with pytest.raises(ValueError, match=r"parameters: expected shape \(B, 63\)"):
        projection(torch.zeros(1, 62))
    with pytest.raises(ValueError, match="expected 10 shape components, got 4"):
        HandProjection(tiny_hand(), convention="model")
    with pytest.raises(ValueError, match="pose_space: expected one of"):
        HandProjection(open_hand(), "quaternion")


def test_what_is_behind_the_camera_is_seen_from_the_nearest_depth():
    projection = HandProjection(open_hand())
    view = view_of(torch.tensor([[[100.0, 0, 24.5], [0, 100.0, 24.5], [0, 0, 1]]]), 50)
    parameters = projection.start.clone()[None]
    parameters[0, 62] = -3 * view.focal[0]
    flat, hand = projection(parameters).vertices[..., :2], projection(parameters, view).vertices[..., :2]
    torch.testing.assert_close(hand, view.centre[:, None] + (flat - view.centre[:, None]) / 0.2)
