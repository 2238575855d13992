"""The layer against MANO's equations, written out in NumPy, and its properties, conventions and errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ops.hand_model import HandLayer, mirror_pose, open_hand
from ops.hand_model.conventions import convention_names, joint_convention
from ops.joints import CANONICAL_BONE, MODEL_PARENTS, MODEL_TO_CANONICAL
from ops.rotation import axis_angle_to_matrix
from tests.ops.tiny_hand import tiny_hand

BACKENDS = ("auto", "torch")
FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


def inputs(batch, shapes=10, pose_size=45):
    sizes = ((pose_size, 0.5), (shapes, 1.0), (3, 1.0), (3, 0.3))
    return [torch.randn(batch, size, dtype=torch.float64) * spread for size, spread in sizes]


def mano_equations(model, pose, shape, global_rotation, translation):
    """One hand, one vertex and one joint at a time: Romero et al. 2017, eq. 1-5. Returns vertices and joints."""
    angles = np.concatenate([global_rotation, pose]).reshape(16, 3)
    rotations = np.stack([rodrigues(a) for a in angles])
    shaped = model.v_template + model.shapedirs @ shape
    joints = model.joint_regressor @ shaped
    features = np.concatenate([(r - np.eye(3)).reshape(-1) for r in rotations[1:]])
    rest = shaped + model.posedirs @ features
    world = []
    for j, parent in enumerate(MODEL_PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] if parent < 0 else joints[j] - joints[parent]
        world.append(local if parent < 0 else world[parent] @ local)
    vertices = np.zeros_like(rest)
    for v, point in enumerate(rest):
        for j, matrix in enumerate(world):
            vertices[v] += model.weights[v, j] * (matrix[:3, :3] @ (point - joints[j]) + matrix[:3, 3])
    return vertices + translation, np.stack([m[:3, 3] for m in world]) + translation


def rodrigues(axis_angle):
    angle = np.linalg.norm(axis_angle)
    if angle == 0:
        return np.eye(3)
    x, y, z = axis_angle / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
def test_equals_the_equations_of_mano(backend, flat, side):
    model = open_hand(side)
    layer = HandLayer(model, flat_hand_mean=flat, convention="model", backend=backend).double()
    pose, shape, turn, shift = inputs(2)
    out = layer(pose, shape, turn, shift)
    for i in range(2):
        full = pose[i].numpy() + (0 if flat else model.pose_mean)
        vertices, joints = mano_equations(model, full, shape[i].numpy(), turn[i].numpy(), shift[i].numpy())
        np.testing.assert_allclose(out.vertices[i], vertices, atol=1e-12)
        np.testing.assert_allclose(out.skeleton[i], joints, atol=1e-12)
        expected = np.concatenate([joints, vertices[model.tip_vertices]])[list(MODEL_TO_CANONICAL)]
        np.testing.assert_allclose(out.joints[i], expected, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_members_do_not_touch_each_other_across_blocks(backend):
    layer = HandLayer(tiny_hand(), backend=backend).double()
    values = inputs(67, shapes=4)  # two blocks of 32 and a rest
    whole = layer(*values)
    for i in (0, 31, 32, 66):
        alone = layer(*[value[i : i + 1] for value in values])
        torch.testing.assert_close(whole.vertices[i], alone.vertices[0])
        torch.testing.assert_close(whole.joints[i], alone.joints[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pose_space", ["axis-angle", "pca", "matrix"])
def test_gradients_of_every_input(backend, pose_space):
    layer = HandLayer(tiny_hand(), pose_space, backend=backend).double()
    pose, shape, turn, shift = inputs(2, shapes=4, pose_size=6 if pose_space == "pca" else 45)
    if pose_space == "axis-angle":
        pose[0, :9] = 0  # the zero rotation, where naive formulas divide by zero
    if pose_space == "matrix":
        pose, turn = axis_angle_to_matrix(pose.view(2, 15, 3)), axis_angle_to_matrix(turn)
    values = [value.requires_grad_() for value in (pose, shape, turn, shift)]
    assert torch.autograd.gradcheck(lambda *v: tuple(layer(*v)), values, fast_mode=True)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_fast_path_equals_the_reference_forward_and_backward(dtype, tolerance):
    model = open_hand()
    values = [value.to(dtype).requires_grad_() for value in inputs(35)]
    outputs = [HandLayer(model, backend=backend).to(dtype)(*values) for backend in BACKENDS]
    cotangents = [torch.randn_like(tensor) for tensor in outputs[0]]
    fast, reference = (torch.autograd.grad(out, values, cotangents) for out in outputs)
    for a, b in zip(outputs[0] + fast, outputs[1] + reference, strict=True):
        # relative to the largest entry: sums of 2334 float32 products
        torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), atol=tolerance, rtol=0)


def test_fast_path_gives_gradients_when_only_joints_are_used():
    model = open_hand()
    values = [value.requires_grad_() for value in inputs(3)]
    grads = []
    for backend in BACKENDS:
        joints = HandLayer(model, backend=backend).double()(*values).joints
        grads.append(torch.autograd.grad(joints.square().sum(), values))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("resolution", ["778", "native"])
def test_a_pose_and_shape_of_zeros_is_the_template(resolution):
    model = open_hand(resolution=resolution)
    out = HandLayer(model).double()(torch.zeros(1, 45).double(), torch.zeros(1, 10).double())
    # 1e-7: the stored skinning weights sum to 1 within float32
    np.testing.assert_allclose(out.vertices[0], model.v_template, atol=1e-7)
    np.testing.assert_allclose(out.skeleton[0], model.joint_regressor @ model.v_template, atol=1e-12)
    np.testing.assert_array_equal(out.rotations[0], np.broadcast_to(np.eye(3), (16, 3, 3)))


def test_the_left_hand_is_the_right_hand_in_a_mirror():
    right, left = (HandLayer(open_hand(side), flat_hand_mean=False).double() for side in ("right", "left"))
    pose, shape, turn, shift = inputs(4)
    a = right(pose, shape, turn, shift)
    b = left(mirror_pose(pose), shape, mirror_pose(turn), shift * FLIP)
    torch.testing.assert_close(b.vertices, a.vertices * FLIP, atol=1e-6, rtol=0)
    torch.testing.assert_close(b.joints, a.joints * FLIP, atol=1e-6, rtol=0)
    assert (a.vertices - HandLayer(open_hand()).double()(0 * pose, 0 * shape).vertices).abs().max() > 0.01


def test_mirroring_a_pose_negates_y_and_z_and_is_its_own_inverse():
    assert mirror_pose(torch.tensor([1.0, 2, 3, 4, 5, 6])).tolist() == [1, -2, -3, 4, -5, -6]
    pose = torch.randn(2, 45)
    assert torch.equal(mirror_pose(mirror_pose(pose)), pose)


def test_pose_spaces_agree():
    model = open_hand()
    coefficients, shape, turn, _ = inputs(3, pose_size=12)
    from_pca = HandLayer(model, "pca", flat_hand_mean=False).double()(coefficients, shape, turn)
    pose = coefficients @ torch.tensor(model.pose_components[:12]) + torch.tensor(model.pose_mean)
    from_angles = HandLayer(model).double()(pose, shape, turn)
    matrices = axis_angle_to_matrix(pose.view(3, 15, 3))
    from_matrices = HandLayer(model, "matrix").double()(matrices, shape, axis_angle_to_matrix(turn))
    torch.testing.assert_close(from_pca.vertices, from_angles.vertices)
    torch.testing.assert_close(from_matrices.vertices, from_angles.vertices)


def test_global_rotation_turns_about_the_root_joint():
    layer = HandLayer(open_hand()).double()
    pose, shape, turn, shift = inputs(3)
    still, moved = layer(pose, shape), layer(pose, shape, turn, shift)
    root = still.skeleton[:, :1]
    expected = (still.vertices - root) @ axis_angle_to_matrix(turn).mT + root + shift[:, None]
    # 1e-7: skinning weights sum to 1 within float32
    torch.testing.assert_close(moved.vertices, expected, atol=1e-7, rtol=0)


def test_double_is_exact_and_checkpoints_hold_no_constants():
    layer = HandLayer(open_hand()).double()
    np.testing.assert_array_equal(layer.template, open_hand().v_template.T.reshape(-1))
    assert layer.float().template.dtype == torch.float32
    assert layer.state_dict() == {}


def test_autocast_does_not_round_the_hand():
    layer = HandLayer(open_hand())
    values = [value.float() for value in inputs(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(*values)
    torch.testing.assert_close(rounded.vertices, layer(*values).vertices, atol=0, rtol=0)


def test_a_convention_moves_joints_with_their_bones(tmp_path, monkeypatch):
    offsets = np.random.default_rng(0).normal(size=(21, 3)) * 10
    content = {"offsets_mm": offsets.tolist(), "source": "a test", "count": 3}
    (tmp_path / "shifted.json").write_text(json.dumps(content))
    monkeypatch.setattr("ops.hand_model.layer.joint_convention", lambda name: joint_convention(name, tmp_path))
    pose, shape, turn, shift = inputs(2)
    shifted = HandLayer(open_hand(), convention="shifted").double()(pose, shape, turn, shift)
    monkeypatch.undo()
    plain = HandLayer(open_hand(), convention="model").double()(pose, shape, turn, shift)
    for joint, bone in enumerate(CANONICAL_BONE):
        moved = plain.joints[:, joint] + plain.rotations[:, bone] @ torch.tensor(offsets[joint] / 1000)
        torch.testing.assert_close(shifted.joints[:, joint], moved, atol=1e-12, rtol=0)
    torch.testing.assert_close(shifted.skeleton, plain.skeleton)


def test_the_convention_of_a_left_hand_is_mirrored(tmp_path, monkeypatch):
    content = {"offsets_mm": (np.arange(63.0).reshape(21, 3) - 30).tolist(), "source": "a test", "count": 1}
    (tmp_path / "shifted.json").write_text(json.dumps(content))
    monkeypatch.setattr("ops.hand_model.layer.joint_convention", lambda name: joint_convention(name, tmp_path))
    right, left = (HandLayer(open_hand(side), convention="shifted").double() for side in ("right", "left"))
    pose, shape, turn, _ = inputs(2)
    a, b = right(pose, shape, turn), left(mirror_pose(pose), shape, mirror_pose(turn))
    torch.testing.assert_close(b.joints, a.joints * FLIP, atol=1e-6, rtol=0)


def test_other_hands_than_the_open_one_keep_their_own_joints():
    assert HandLayer(open_hand()).convention.name == HandLayer(open_hand("left")).convention.name == "open"
    assert HandLayer(replace(open_hand(), name="mano")).convention.name == "model"


def test_conventions_on_file_can_be_read():
    assert "open" in convention_names()
    for name in convention_names():
        assert joint_convention(name).offsets.shape == (21, 3)


@pytest.mark.parametrize("content", ['{"offsets_mm": [[1, 2, 3]], "source": "", "count": 1}', "{}", "no json"])
def test_a_broken_convention_file_is_refused(tmp_path, content):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(ValueError, match=r"broken\.json.*expected"):
        joint_convention("broken", tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pose_space": "euler"}, "pose_space: expected one of 'axis-angle', 'pca', 'matrix', got 'euler'"),
        ({"backend": "cuda"}, "backend: expected one of 'auto', 'torch', 'triton', got 'cuda'"),
        ({"convention": "mine"}, "convention: expected one of .*'open'.*got 'mine'"),
        ({"pose_space": "matrix", "flat_hand_mean": False}, "flat_hand_mean: expected True"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HandLayer(tiny_hand(), **arguments)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"pose": torch.zeros(2, 48)}, ValueError, r"pose: expected shape \(B, 45\), got \(2, 48\)"),
        ({"shape": torch.zeros(3, 4)}, ValueError, r"shape: expected shape \(2, 4\), got \(3, 4\)"),
        ({"global_rotation": torch.zeros(2, 4)}, ValueError, r"global_rotation: expected shape \(2, 3\), got \(2, 4\)"),
        ({"global_rotation": torch.zeros(2, 3, 2)}, ValueError, r"global_rotation: expected shape \(2, 3, 3\)"),
        ({"translation": torch.zeros(3)}, ValueError, r"translation: expected shape \(2, 3\), got \(3,\)"),
        ({"pose": np.zeros((2, 45))}, TypeError, "pose: expected a torch.Tensor"),
        ({"pose": torch.zeros(2, 45).double()}, TypeError, r"pose: expected torch.float32 like the layer"),
        ({"shape": torch.zeros(2, 4, device="meta")}, ValueError, "expected all tensors on one device"),
    ],
)
def test_bad_inputs_are_refused(change, error, message):
    good = {"pose": torch.zeros(2, 45), "shape": torch.zeros(2, 4)}
    with pytest.raises(error, match=message):
        HandLayer(tiny_hand())(**(good | change))


@pytest.mark.parametrize("count", [0, 46])
def test_more_pose_components_than_there_are_are_refused(count):
    with pytest.raises(ValueError, match=f"pose: expected 1 to 45 pose components, got {count}"):
        HandLayer(tiny_hand(), "pca")(torch.zeros(2, count), torch.zeros(2, 4))


@pytest.mark.parametrize("name", ["pose", "shape", "global_rotation", "translation"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_inputs_that_are_no_numbers_are_refused_where_looking_is_cheap(name, bad):
    sizes = {"pose": 45, "shape": 4, "global_rotation": 3, "translation": 3}
    values = {key: torch.zeros(2, size, requires_grad=True) for key, size in sizes.items()}
    values[name] = values[name].detach().index_fill(1, torch.tensor([1]), bad)
    with pytest.raises(ValueError, match=f"{name}: expected finite numbers, got 2 NaN or infinite of"):
        HandLayer(tiny_hand())(**values)
    assert not HandLayer(tiny_hand(), backend="torch")(**values).vertices.isfinite().all()
