"""HPSL: identity, a check against the hand layer, hand-derived scales, gradients, round trip, bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ops.hand_model import open_hand
from ops.hand_model.conventions import joint_convention
from ops.hand_model.layer import HandLayer
from ops.hand_model.pose_shape_layer import ARTICULATION, HandPoseShapeLayer, articulation_limits
from ops.joints import FINGERS, MODEL_JOINTS
from ops.rotation import axis_angle_to_matrix

BASE = {finger: MODEL_JOINTS.index(f"{finger}_{'cmc' if finger == 'thumb' else 'mcp'}") for finger in FINGERS}
ROUNDING = 1e-7  # metres: constants are float32 before the layer is cast to double


@pytest.fixture(scope="module")
def model():
    return open_hand()


@pytest.fixture(scope="module")
def layer(model):
    return HandPoseShapeLayer(model, convention="model").double()


def reference(batch=1):
    return [t.double() for t in (torch.zeros(batch, 26), torch.ones(batch, 6), torch.zeros(batch, 7))]


def draw(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pose = 0.4 * torch.randn(batch, 26, generator=generator, dtype=torch.float64)
    scales = 1 + 0.1 * torch.randn(batch, 6, generator=generator, dtype=torch.float64)
    return pose, scales, torch.randn(batch, 7, generator=generator, dtype=torch.float64)


def test_the_reference_parameters_give_the_template(layer, model):
    hands = layer(*reference())
    np.testing.assert_allclose(hands.vertices[0], model.v_template, atol=ROUNDING)
    np.testing.assert_allclose(hands.skeleton[0], model.joint_regressor @ model.v_template, atol=ROUNDING)


def test_it_equals_the_hand_layer_where_bones_and_shape_are_the_references(layer, model):
    pose, scales, shape = draw(3)
    local = torch.eye(3, dtype=torch.float64).repeat(3, 15, 1, 1)
    for number, finger in enumerate(FINGERS):
        joint, angles = BASE[finger], pose[:, ARTICULATION].view(3, 5, 4)[:, number]
        for level in range(3):
            flexion = torch.tensor(model.flexion_axes[joint + level])
            local[:, joint + level - 1] = axis_angle_to_matrix(angles[:, 1 + level, None] * flexion)
        swing = axis_angle_to_matrix(angles[:, :1] * torch.tensor(model.abduction_axes[joint]))
        local[:, joint - 1] = swing @ local[:, joint - 1]
    expected = HandLayer(model, "matrix", convention="model").double()(
        local, pose.new_zeros(3, 10), pose[:, 3:6], pose[:, :3]
    )
    hands = layer(pose, torch.ones_like(scales), torch.zeros_like(shape))
    for got, want in zip(hands, expected, strict=True):
        torch.testing.assert_close(got, want, atol=ROUNDING, rtol=0)


def test_a_fingers_scale_lengthens_its_bones_and_no_others(layer):
    pose, scales, shape = reference()
    pose[:, ARTICULATION] = 0.3
    before = layer(pose, scales, shape).joints[0]
    scales[:, 2] = 1.2  # index
    after = layer(pose, scales, shape).joints[0]
    lengths = [(joints[5:9].diff(dim=0)).norm(dim=-1) for joints in (before, after)]
    # the last one also holds the fingertip's pose correctives, which are not stretched along
    torch.testing.assert_close(lengths[1][:2], 1.2 * lengths[0][:2])
    assert 1.19 < lengths[1][2] / lengths[0][2] < 1.21
    others = [*range(6), *range(9, 21)]
    torch.testing.assert_close(after[others], before[others], atol=1e-5, rtol=0)  # skinning leaks 4 um into tips


@pytest.mark.parametrize("finger", FINGERS)
def test_a_fingers_scale_stretches_its_surface_along_the_bone_alone(layer, model, finger):
    pose, scales, shape = reference()
    before = layer(pose, scales, shape)
    scales[:, 1 + FINGERS.index(finger)] = 1.2
    after = layer(pose, scales, shape)
    last = BASE[finger] + 2
    rigid = torch.tensor(model.weights[:, last] > 0.999)  # the last bone's alone
    assert rigid.sum() > 10
    tip = before.joints[0, 4 * (1 + FINGERS.index(finger))]
    along = torch.nn.functional.normalize(tip - before.skeleton[0, last], dim=0)
    offsets = [hands.vertices[0, rigid] - hands.skeleton[0, last] for hands in (before, after)]
    heights = [offset @ along for offset in offsets]
    across = [offset - height[:, None] * along for offset, height in zip(offsets, heights, strict=True)]
    assert across[0].norm(dim=1).max() > 0.004  # metres: half a finger's thickness
    torch.testing.assert_close(heights[1], 1.2 * heights[0], atol=ROUNDING, rtol=0)
    torch.testing.assert_close(across[1], across[0], atol=ROUNDING, rtol=0)


def test_the_palms_scale_moves_the_knuckles_and_keeps_the_fingers(layer):
    pose, scales, shape = reference()
    before = layer(pose, scales, shape).skeleton[0]
    scales[:, 0] = 0.9
    after = layer(pose, scales, shape).skeleton[0]
    bases = [BASE[finger] for finger in FINGERS]
    torch.testing.assert_close(after[bases] - after[0], 0.9 * (before[bases] - before[0]))
    torch.testing.assert_close(after[2] - after[1], before[2] - before[1])


def test_controls_blend_linearly_and_take_the_skeleton_along(layer, model):
    pose, scales, shape = reference()
    shape[:, 2], shape[:, 5] = 1.5, -0.5
    hands = layer(pose, scales, shape)
    blended = model.v_template + 1.5 * model.controls[:, :, 2] - 0.5 * model.controls[:, :, 5]
    np.testing.assert_allclose(hands.vertices[0], blended, atol=ROUNDING)
    np.testing.assert_allclose(hands.skeleton[0], model.joint_regressor @ blended, atol=ROUNDING)


def test_a_given_rotation_stands_in_for_axis_angle(layer):
    pose, scales, shape = draw(2)
    rotation = axis_angle_to_matrix(pose[:, 3:6])
    other = pose.clone()
    other[:, 3:6] = torch.nan  # it must not be read
    torch.testing.assert_close(layer(other, scales, shape, rotation).joints, layer(pose, scales, shape).joints)


def test_positive_flexion_curls_towards_the_palm(layer, model):
    pose, scales, shape = reference()
    pose[:, ARTICULATION].view(5, 4)[1:, 1] = 0.5  # four fingers at the knuckle
    flat, bent = layer(*reference()).joints[0], layer(pose, scales, shape).joints[0]
    palmwards = -torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)  # the open hand's back looks along +y
    assert ((bent - flat)[[8, 12, 16, 20]] @ palmwards > 0.02).all()


def test_gradients_and_the_fast_path(layer, model):
    slow = HandPoseShapeLayer(model, convention="model", backend="torch").double()
    inputs = [t.requires_grad_() for t in draw(2)]
    cotangent = torch.randn(2, 778, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for each in (layer, slow):
        hands = each(*inputs)
        loss = (hands.vertices * cotangent).sum() + (hands.joints**2).sum()
        results.append((hands.vertices, *torch.autograd.grad(loss, inputs)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_gradcheck(model, backend):
    layer = HandPoseShapeLayer(model, backend=backend).double()
    inputs = [t.requires_grad_() for t in draw(1)]
    rotation = axis_angle_to_matrix(torch.tensor([[0.3, -2.0, 1.0]], dtype=torch.float64)).requires_grad_()
    pick = torch.randint(0, 778, (6,), generator=torch.Generator().manual_seed(0))

    def outputs(pose, scales, shape, rotation):
        hands = layer(pose, scales, shape, rotation)
        return hands.vertices[:, pick], hands.joints

    torch.autograd.gradcheck(outputs, (*inputs, rotation), fast_mode=True)
    torch.autograd.gradcheck(lambda pose: layer(pose, *inputs[1:]).joints, inputs[:1])


def test_limits_stand_in_the_order_of_theta(model):
    low, high = articulation_limits(model)
    for number, finger in enumerate(FINGERS):
        joint = BASE[finger]
        expected = [model.limits[joint, 1], *model.limits[joint : joint + 3, 0]]
        np.testing.assert_allclose(torch.stack([low, high], 1)[4 * number : 4 * number + 4], expected, rtol=1e-6)


def test_left_is_the_mirror_image(model, layer):
    left = HandPoseShapeLayer(model.mirrored(), convention="model").double()
    pose, scales, shape = draw(2)
    flip = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    mirrored = pose.clone()
    mirrored[:, :3] *= flip
    mirrored[:, 3:6] *= -flip
    torch.testing.assert_close(left(mirrored, scales, shape).joints, layer(pose, scales, shape).joints * flip)


def test_the_convention_of_a_left_hand_is_mirrored(tmp_path, monkeypatch, model, layer):
    content = {"offsets_mm": (np.arange(63.0).reshape(21, 3) - 30).tolist(), "source": "a test", "count": 1}
    (tmp_path / "shifted.json").write_text(json.dumps(content))
    place = "ops.hand_model.pose_shape_layer.joint_convention"
    monkeypatch.setattr(place, lambda name: joint_convention(name, tmp_path))
    right, left = (HandPoseShapeLayer(m, convention="shifted").double() for m in (model, model.mirrored()))
    pose, scales, shape = draw(2)
    flip = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    mirrored = pose.clone()
    mirrored[:, :3] *= flip
    mirrored[:, 3:6] *= -flip
    shifted = right(pose, scales, shape).joints
    torch.testing.assert_close(left(mirrored, scales, shape).joints, shifted * flip)
    assert (shifted - layer(pose, scales, shape).joints).norm(dim=-1).max() > 0.01


def test_autocast_does_not_round_the_hand(model):
    values = [value.float() for value in draw(2)]
    for backend in ("auto", "torch"):
        layer = HandPoseShapeLayer(model, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = layer(*values)
        for got, want in zip(rounded, layer(*values), strict=True):
            torch.testing.assert_close(got, want, atol=0, rtol=0)


@pytest.mark.parametrize("field", ["controls", "flexion_axes", "abduction_axes", "limits", "bone_groups"])
def test_weights_for_other_arrays_are_refused(model, field, tmp_path):
    array = getattr(model, field)
    other = replace(model, **{field: array[::-1].copy() if field == "bone_groups" else 2 * array})
    assert other.id == model.id  # the geometry is the same
    torch.save(HandPoseShapeLayer(model).state_dict(), tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    HandPoseShapeLayer(open_hand()).load_state_dict(state)
    with pytest.raises(ValueError, match=r"trained with hand model and controls.*'open-hand-right.*; load them with"):
        HandPoseShapeLayer(other).load_state_dict(state)


def test_weights_for_another_hand_are_refused(model):
    state = HandPoseShapeLayer(model.mirrored()).state_dict()
    with pytest.raises(ValueError, match=r"'open-hand-left.*here they are 'open-hand-right"):
        HandPoseShapeLayer(model).load_state_dict(state)


def test_bad_input(model, layer):
    pose, scales, shape = reference()
    with pytest.raises(ValueError, match=r"pose: expected shape \(B, 26\), got \(1, 45\)"):
        layer(pose.new_zeros(1, 45), scales, shape)
    with pytest.raises(ValueError, match=r"bone_scales: expected shape \(1, 6\)"):
        layer(pose, scales[:, :5], shape)
    with pytest.raises(ValueError, match=r"global_rotation: expected shape \(1, 3, 3\)"):
        layer(pose, scales, shape, pose[:, 3:6])
    with pytest.raises(TypeError, match=r"shape: expected torch\.float64 like the layer, got torch\.float32"):
        layer(pose, scales, shape.float())
    with pytest.raises(TypeError, match=r"global_rotation: expected torch\.float64 like the layer"):
        layer(pose, scales, shape, torch.eye(3)[None])
    with pytest.raises(ValueError, match="one device, got pose on meta"):
        layer(pose.to("meta"), scales.to("meta"), shape.to("meta"))
    with pytest.raises(ValueError, match="got none of controls; use a model whose file has them"):
        HandPoseShapeLayer(replace(model, controls=None))
    with pytest.raises(ValueError, match="backend: expected one of 'auto', 'torch', got 'cuda'"):
        HandPoseShapeLayer(model, backend="cuda")
