"""The fit of joints: known hands found again, slopes against finite differences, priors, left hands, pictures."""

import numpy as np
import pytest
import torch

from datamodules.domains import CLEAN
from datamodules.hand_sampler import HandSampler
from ops.camera import project
from ops.hand_model import HandLayer, fitting_reference, numba_fitting, open_hand
from ops.hand_model.calibration import calibrate_points
from ops.hand_model.conventions import PointSet, convention_points, joints_in_conventions, point_set
from ops.hand_model.fitting import convert_joints, fit_joints, fit_joints_2d
from ops.hand_model.fitting_arrays import Labels, workspace
from ops.hand_model.fitting_start import start_3d
from ops.hand_model.joint_problem import FitLabels, FitPriors, FitState, JointProblem, hand_rows
from ops.hand_model.joint_skeleton import JointSkeleton, SkeletonPoints
from ops.joints import CANONICAL_JOINTS
from ops.rotation import axis_angle_to_matrix, rigid_alignment

MM = 1000
FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
SURE = FitPriors(label_noise=1e-4)
K = torch.tensor([[588.0, 0, 320], [0, 588, 240], [0, 0, 1]], dtype=torch.float64)


@pytest.fixture(scope="module")
def hands():
    """Twenty hands of the clean domain in the model's own joints, and their parameters."""
    model = open_hand()
    drawn = HandSampler(CLEAN, model).sample(0, "test", 0, np.arange(20))
    layer = HandLayer(model, pose_space="matrix", convention="model").double()
    values = [t.double() for t in (drawn.pose, drawn.shape, drawn.global_rotation, drawn.hand_centre)]
    return layer(*values), values


def random_points(count=30):
    draw = np.random.default_rng(0)
    weights = 0.5 * (np.eye(21)[draw.integers(0, 21, count)] + np.eye(21)[draw.integers(0, 21, count)])
    bones, offsets = draw.integers(0, 16, count), 0.02 * draw.normal(size=(count, 3))
    return PointSet("random", ("p",) * count, weights, bones, offsets)


def random_state(batch=3):
    draw = torch.Generator().manual_seed(0)
    turn, angles, shape = (torch.randn(batch, n, generator=draw, dtype=torch.float64) for n in (3, 45, 10))
    return axis_angle_to_matrix(turn), 0.5 * angles, shape


def noisy_state(problem, share=1.0, batch=3):
    """Hands before a camera, some angles beyond their limits; with another `share` others nearby."""
    rotation, angles, shape = random_state(batch)
    draw = torch.Generator().manual_seed(2)
    shift = 0.02 * torch.randn(batch, 3, generator=draw, dtype=torch.float64)
    translation = torch.tensor([0.0, 0.0, 0.6], dtype=torch.float64) + share * shift
    log_scale = torch.full((batch,), 0.1 * share * problem.fit_scale, dtype=torch.float64)
    return FitState(rotation, translation, share * angles, share * shape, log_scale)


@pytest.mark.parametrize("points", [point_set("model"), random_points()], ids=["joints", "points"])
def test_the_skeleton_is_that_of_the_hand_layer(points):
    skeleton, (root, angles, shape) = JointSkeleton(open_hand()), random_state()
    posed = skeleton.pose(root, angles, shape)
    local, world = skeleton.model_rotations(posed)
    layer = HandLayer(open_hand(), pose_space="matrix", convention="model").double()(local, shape, root)
    torch.testing.assert_close(world, layer.rotations, atol=1e-12, rtol=0)
    expected = convention_points(layer.joints, layer.rotations, points)
    torch.testing.assert_close(SkeletonPoints(skeleton, points).positions(posed), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("points", [point_set("model"), random_points()], ids=["joints", "points"])
def test_slopes_are_those_of_finite_differences(points):
    skeleton, (root, angles, shape) = JointSkeleton(open_hand()), random_state()
    skeleton._tip_correctives.zero_()  # left out of the slopes by design
    moving = SkeletonPoints(skeleton, points)
    posed = skeleton.pose(root, angles, shape)
    slopes = fitting_reference.point_slopes(moving, posed, moving.positions(posed))
    step = 1e-6
    for column in range(slopes.shape[-1]):
        ends = []
        for sign in (step, -step):
            change = torch.zeros(3, slopes.shape[-1], dtype=torch.float64)
            change[:, column] = sign
            turn, bend, grow = change.split([3, 45, 10], 1)
            ends.append(moving.positions(skeleton.pose(axis_angle_to_matrix(turn) @ root, angles + bend, shape + grow)))
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slopes[..., column], atol=1e-7, rtol=0)


@pytest.mark.parametrize("points", [point_set("model"), random_points()], ids=["joints", "points"])
def test_kernels_give_the_points_and_slopes_of_tensor_operations(points):
    problem = JointProblem(points, None, None, fit_scale=True)
    state, tables, nowhere = noisy_state(problem), problem.tables(), np.zeros((1, len(points.points), 3))
    posed = problem.skeleton.pose(state.rotation, state.angles, state.shape)
    slopes = fitting_reference.placed_slopes(problem, state, posed, problem.points.positions(posed))
    for hand, places, expected in zip(hand_rows(state)[:, None], problem.positions(state), slopes, strict=True):
        for p, wanted in enumerate(expected):
            only = np.zeros(nowhere.shape[:2])
            only[0, p] = 1
            for steps in (0, 1):  # what a step leaves in the memory are slopes of the last labelled point
                work = workspace(len(places), 10, wanted.shape[-1])
                labels, start = Labels(nowhere, only, np.zeros((1, 4))), hand.numpy().copy()
                numba_fitting.minimise_kernel(0, 1, tables, start, labels, steps, work, np.zeros(1))
                if steps == 0:
                    torch.testing.assert_close(torch.from_numpy(work.placed), places, atol=1e-12, rtol=1e-9)
            found = work.rows[:, [*range(45, 51), *range(45), *range(51, 62)]]  # angles come first there
            torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("points", [point_set("model"), random_points()], ids=["joints", "points"])
def test_kernels_take_the_steps_of_tensor_operations(points, dimensions):
    problem = JointProblem(points, None, None, fit_scale=dimensions == 3)
    target = problem.positions(noisy_state(problem))
    draw = torch.Generator().manual_seed(1)
    weight = 300 * (torch.rand(target.shape[:2], generator=draw, dtype=torch.float64) > 0.2)
    labels = FitLabels(target, weight, None)
    if dimensions == 2:
        labels = FitLabels(project(target, K), weight / 500, K.expand(len(target), 3, 3))
    start = noisy_state(problem, share=0.3)
    for steps, tolerance in ((1, 1e-7), (5, 1e-6)):  # points and slopes agree to 1e-9; equations magnify that
        expected, least = fitting_reference.minimise(problem, start, labels, steps)
        found, cost = problem.minimise(start, labels, steps)
        assert (cost < 0.9 * problem.cost(start, labels)).all()
        torch.testing.assert_close(cost, least, atol=0, rtol=tolerance)
        for value, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(value, wanted, atol=tolerance, rtol=tolerance)


def test_known_hands_are_found_again(hands):
    truth, (_, shape, rotation, _) = hands
    fit = fit_joints(truth.joints, points="model", priors=SURE)
    assert fit.errors.max() * MM < 0.1
    # the labels tell rotation and place; shape and twist only as far as they move joints
    assert (fit.global_rotation - rotation).abs().max() < 0.03
    assert (fit.rotations - truth.rotations).abs().mean() < 0.01
    assert (fit.shape - shape).abs().mean() < 0.2


def test_the_parameters_returned_are_the_layers(hands):
    fit = fit_joints(hands[0].joints, points="model")
    again = HandLayer(open_hand(), convention="model").double()(
        fit.pose, fit.shape, fit.global_rotation, fit.translation
    )
    torch.testing.assert_close(again.joints, fit.joints, atol=1e-7, rtol=0)
    torch.testing.assert_close(again.rotations, fit.rotations, atol=1e-7, rtol=0)
    torch.testing.assert_close(fit.errors, (fit.points - hands[0].joints).norm(dim=-1))


def test_left_hands_are_fitted_as_their_mirror_images(hands):
    joints = hands[0].joints.clone()
    joints[::2] *= FLIP
    side = torch.tensor([0, 1] * 10)
    mixed, right = fit_joints(joints, points="model", side=side), fit_joints(hands[0].joints, points="model")
    torch.testing.assert_close(mixed.cost, right.cost)
    for model, rows in ((open_hand("left"), side == 0), (open_hand(), side == 1)):
        layer = HandLayer(model, convention="model").double()
        again = layer(mixed.pose[rows], mixed.shape[rows], mixed.global_rotation[rows], mixed.translation[rows])
        torch.testing.assert_close(again.joints, mixed.joints[rows], atol=1e-7, rtol=0)
        torch.testing.assert_close(again.rotations, mixed.rotations[rows], atol=1e-7, rtol=0)


def test_no_step_makes_a_hand_worse(hands):
    noise = torch.randn(20, 21, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = JointProblem("model", None, None, fit_scale=True)
    weight = torch.full((20, 21), 1 / problem.priors.label_noise, dtype=torch.float64)
    labels = FitLabels(hands[0].joints + 0.01 * noise, weight, None)
    state = start_3d(problem, labels)
    cost = problem.cost(state, labels)
    for _ in range(8):
        state, new = problem.minimise(state, labels, 1)
        assert bool((new <= cost).all())
        torch.testing.assert_close(new, problem.cost(state, labels))
        cost = new
    assert state.shape.abs().max() <= 3


def test_limits_and_shapes_hold_against_absurd_labels(hands):
    fit = fit_joints(2 * hands[0].joints, points="model")
    assert fit.shape.abs().max() <= 3
    free = fit_joints(1.3 * hands[0].joints, points="model", fit_scale=True, priors=FitPriors(scale=1.0))
    assert fit.scale.eq(1).all() and free.scale.mean() > 1.2
    assert free.errors.mean() * MM < 1


def test_missing_joints_do_not_matter_whatever_they_hold(hands):
    valid = torch.ones(20, 21, dtype=torch.bool)
    valid[:, [4, 11, 17]] = False
    joints = hands[0].joints.clone()
    joints[~valid] = torch.nan
    fit = fit_joints(joints, valid, points="model")
    assert fit.errors[~valid].eq(0).all() and fit.errors.sum() / valid.sum() * MM < 0.5
    assert ((fit.joints - hands[0].joints).norm(dim=-1)[~valid]).median() * MM < 8


def test_a_picture_gives_the_hand_up_to_its_size(hands):
    joints = hands[0].joints
    pixels = project(joints, K)
    fit = fit_joints_2d(pixels, K, points="model")
    assert fit.errors.mean() < 0.5
    torch.testing.assert_close(fit.errors, (project(fit.points, K) - pixels).norm(dim=-1))
    aligned = (rigid_alignment(fit.joints, joints, scale=True) - joints).norm(dim=-1) * MM
    assert aligned.mean() < 8  # a constant mean pose is 20 mm off
    depth = fit.joints[..., 2].mean(1) / joints[..., 2].mean(1)
    assert (depth - 1).abs().max() < 0.3
    mirrored = pixels * torch.tensor([-1.0, 1.0]) + torch.tensor([640.0, 0.0])  # about the camera's axis
    left = fit_joints_2d(mirrored, K, points="model", side=torch.zeros(20, dtype=torch.int64))
    torch.testing.assert_close(left.joints, fit.joints * FLIP, atol=1e-6, rtol=0)


def test_joints_change_convention_through_a_fit(hands):
    truth = hands[0]
    joints = joints_in_conventions(truth.joints, truth.rotations, "ge")
    converted, _ = convert_joints(joints, None, "ge", "stb")
    expected = joints_in_conventions(truth.joints, truth.rotations, "stb")
    assert (converted - expected).norm(dim=-1).mean() * MM < 1
    assert (joints - expected).norm(dim=-1).mean() * MM > 3
    valid = torch.ones(20, 21, dtype=torch.bool)
    same, _ = convert_joints(joints, valid, "ge", "ge")
    torch.testing.assert_close(same, joints)
    left, _ = convert_joints(joints * FLIP, None, "ge", "stb", side=torch.zeros(20, dtype=torch.int64))
    torch.testing.assert_close(left, converted * FLIP, atol=1e-6, rtol=0)


def test_offsets_are_recovered_from_synthetic_labels():
    model = open_hand()
    drawn = HandSampler(CLEAN, model).sample(0, "test", 0, np.arange(80))
    hand = HandLayer(model, pose_space="matrix", convention="model").double()(
        *(t.double() for t in (drawn.pose, drawn.shape, drawn.global_rotation, drawn.hand_centre))
    )
    true = np.random.default_rng(1).uniform(-0.008, 0.008, (21, 3))
    own = point_set("model")
    shifted = PointSet("shifted", own.points, own.weights, own.bones, true)
    labels = convention_points(hand.joints, hand.rotations, shifted)
    valid = torch.ones(labels.shape[:2], dtype=torch.bool)
    valid[:, CANONICAL_JOINTS.index("ring_tip")] = False
    found = calibrate_points(labels, valid, own, rounds=8)
    assert not found.offsets[CANONICAL_JOINTS.index("ring_tip")].any()
    before, after = (fit_joints(labels, valid, points).errors.mean() * MM for points in (own, found))
    assert before > 2.5 and after < 1
    # part of an offset looks like a change of shape, so it comes back only roughly
    labelled = valid[0].numpy()
    assert np.corrcoef(found.offsets[labelled].ravel(), true[labelled].ravel())[0, 1] > 0.7


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: fit_joints(x[:, 1:]), r"joints: expected shape \(B, 21, 3\)"),
        (lambda x: fit_joints(x, torch.ones(20, 20, dtype=torch.bool)), r"valid: expected shape \(20, 21\)"),
        (lambda x: fit_joints(x * torch.nan), "joints that are valid: expected finite numbers"),
        (lambda x: fit_joints(x, torch.zeros(20, 21, dtype=torch.bool)), "valid: expected at least 3 labelled points"),
        (lambda x: fit_joints(x, points="mine"), "points: expected one of"),
        (lambda x: fit_joints(x, side=torch.zeros(3)), r"side: expected shape \(20,\)"),
        (lambda x: fit_joints(x, model=open_hand("left")), "model: expected a right hand"),
        (lambda x: fit_joints(x, priors=FitPriors(limit=0)), "limit: expected a finite number above 0"),
        (lambda x: fit_joints_2d(x, K), r"joints: expected shape \(B, 21, 2\)"),
        (lambda x: fit_joints_2d(x[..., :2], K[None]), r"K: expected shape \(20, 3, 3\)"),
    ],
)
def test_bad_input_is_refused(hands, call, message):
    with pytest.raises(ValueError, match=message):
        call(hands[0].joints)


def test_chunks_and_threads_change_nothing(hands, monkeypatch):
    whole = fit_joints(hands[0].joints, points="model")
    monkeypatch.setattr("ops.hand_model.fitting._CHUNK", 7)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        parts = fit_joints(hands[0].joints, points="model")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(parts.joints, whole.joints, atol=1e-6, rtol=0)
    assert not parts.joints.requires_grad


def test_no_hands_are_no_error():
    assert fit_joints(torch.zeros(0, 21, 3)).pose.shape == (0, 45)
