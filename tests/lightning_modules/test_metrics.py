"""Metrics: values by hand, invariances, the constant mean pose, masks, bad input."""

import pytest
import torch

from lightning_modules.metrics import ALIGNMENTS, MeanPoseError, PointError, SuccessRate
from ops.rotation import axis_angle_to_matrix


def hands(batch=6, seed=0):
    return 0.1 * torch.randn(batch, 21, 3, generator=torch.Generator().manual_seed(seed))


def valid_of(joints):
    return torch.ones(joints.shape[:2], dtype=torch.bool)


def error(alignment, predicted, target, valid=None):
    metric = PointError(alignment)
    metric.update(predicted, target, valid_of(target) if valid is None else valid)
    return metric.compute().item()


def test_absolute_and_root_by_hand():
    target = hands(2)
    predicted = target + torch.tensor([0.003, 0.004, 0])  # 5 mm everywhere
    assert error("absolute", predicted, target) == pytest.approx(5, abs=1e-3)
    assert error("root", predicted, target) == pytest.approx(0, abs=1e-3)
    predicted[:, 0] -= torch.tensor([0, 0, 0.021])  # 21 mm for the 20 others, none for the wrist
    assert error("root", predicted, target) == pytest.approx(20, abs=1e-3)


def test_procrustes_forgives_a_similarity_but_no_mirror_image():
    target = hands()
    rotation = axis_angle_to_matrix(torch.tensor([0.3, -2.0, 1.0]))
    moved = 1.3 * target @ rotation.T + 0.2
    assert error("procrustes", moved, target) == pytest.approx(0, abs=1e-2)
    assert error("root", moved, target) > 50
    assert error("procrustes", target * torch.tensor([-1.0, 1, 1]), target) > 20


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_batches_add_up_and_invalid_points_do_not_count(alignment):
    predicted, target = hands(seed=1), hands(seed=2)
    valid = torch.rand(6, 21, generator=torch.Generator().manual_seed(3)) > 0.3
    valid[:, 0] = True
    whole = error(alignment, predicted, target, valid)
    metric = PointError(alignment)
    spoilt = torch.where(valid[..., None], predicted, torch.full_like(predicted, 9.0))
    for rows in (slice(0, 1), slice(1, 6)):
        metric.update(spoilt[rows], target[rows], valid[rows])
    assert metric.compute().item() == pytest.approx(whole, rel=1e-4)


def test_a_hand_without_its_wrist_has_no_root_error_and_two_points_no_procrustes():
    target = hands(2)
    valid = valid_of(target)
    valid[0, 0] = False
    predicted = target.clone()
    predicted[0] += torch.rand(21, 3)
    assert error("root", predicted, target, valid) == pytest.approx(0, abs=1e-3)
    valid[0] = False
    valid[0, :2] = True
    assert error("procrustes", predicted, target, valid) == pytest.approx(0, abs=1e-2)


def test_vertices_are_aligned_by_the_given_wrists():
    vertices = hands(2)
    wrists = torch.rand(2, 3)
    metric = PointError("root")
    metric.update(vertices + 1, vertices, valid_of(vertices), (wrists + 1, wrists, torch.ones(2, dtype=torch.bool)))
    assert metric.compute().item() == pytest.approx(0, abs=1e-3)


def test_vertices_of_a_hand_without_a_true_wrist_have_no_root_error():
    vertices = hands(2)
    wrists = torch.zeros(2, 3)
    wrists[0] = 9  # not where the wrist is
    metric = PointError("root")
    metric.update(vertices, vertices, valid_of(vertices), (torch.zeros(2, 3), wrists, torch.tensor([False, True])))
    assert metric.compute().item() == pytest.approx(0, abs=1e-3) and metric.count == 21


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_metrics_that_saw_nothing_are_nan_and_batches_of_no_hands_change_nothing(alignment):
    none, target = hands(0), hands(3)
    for metric, arguments in (
        (PointError(alignment), lambda joints: (joints + 0.1 * joints.square(), joints, valid_of(joints))),
        (MeanPoseError(alignment), lambda joints: (joints, valid_of(joints), joints[:, 0])),
    ):
        metric.update(*arguments(none))
        assert metric.compute().isnan()
        metric.update(*arguments(target))
        with_none = metric.compute()
        metric.reset()
        metric.update(*arguments(target))
        assert with_none == metric.compute() > 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_a_mean_pose_error_without_any_batch_is_nan():
    assert MeanPoseError().compute().isnan()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_two_ranks_reduce_to_what_one_process_sees(alignment):
    joints = hands(4)
    alone, rank = MeanPoseError(alignment), MeanPoseError(alignment)
    alone.update(joints.repeat(2, 1, 1), valid_of(joints).repeat(2, 1), torch.zeros(8, 3))
    rank.distributed_available_fn = lambda: True
    rank.dist_sync_fn = lambda state, group: [state, state]  # the other rank saw the same
    for rows in (slice(0, 1), slice(1, 4)):
        rank.update(joints[rows], valid_of(joints)[rows], torch.zeros(4, 3)[rows])
    assert rank.compute().item() == pytest.approx(alone.compute().item(), rel=1e-5)


def test_autocast_does_not_round_procrustes():
    predicted, target = hands(seed=1), hands(seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = error("procrustes", predicted, target)
    assert rounded == error("procrustes", predicted, target)


def test_success_rate_by_hand():
    target = torch.zeros(2, 21, 3)
    predicted = target.clone()
    predicted[0, 3, 0] = 0.025  # one joint of the first hand 25 mm off, the second hand 15 mm off throughout
    predicted[1, :, 1] = 0.015
    valid = valid_of(target)
    per_hand, per_joint = SuccessRate((10, 20, 30)), SuccessRate((10, 20, 30), per="joint")
    for metric in (per_hand, per_joint):
        metric.update(predicted, target, valid)
    torch.testing.assert_close(per_hand.compute(), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(per_joint.compute(), torch.tensor([20 / 42, 41 / 42, 1.0]))
    valid[0, 3] = False
    per_hand.reset()
    per_hand.update(predicted, target, valid)
    torch.testing.assert_close(per_hand.compute(), torch.tensor([0.5, 1.0, 1.0]))


def mean_pose_error(alignment, joints, centre):
    metric = MeanPoseError(alignment)
    for rows in (slice(0, 2), slice(2, None)):
        metric.update(joints[rows], valid_of(joints)[rows], centre[rows])
    return metric.compute().item()


def test_the_mean_pose_of_two_hands_by_hand():
    joints = torch.zeros(2, 21, 3)
    joints[0, 1:, 0], joints[1, 1:, 0] = 0.01, 0.03  # 20 joints, each 10 mm from their mean
    assert mean_pose_error("absolute", joints, torch.zeros(2, 3)) == pytest.approx(10 * 20 / 21, abs=1e-3)
    assert mean_pose_error("root", joints + torch.rand(2, 1, 3), torch.zeros(2, 3)) == pytest.approx(
        10 * 20 / 21, abs=1e-3
    )


def test_the_mean_pose_knows_the_crops_centre_and_forgives_what_alignment_forgives():
    hand = hands(1)
    centre = torch.rand(5, 3)
    assert mean_pose_error("absolute", hand + centre[:, None], centre) == pytest.approx(0, abs=1e-3)
    turned = hand @ axis_angle_to_matrix(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert mean_pose_error("root", turned, centre) > 50
    assert mean_pose_error("procrustes", turned, centre) == pytest.approx(0, abs=1e-2)


def test_bad_input():
    with pytest.raises(ValueError, match="alignment: expected one of 'absolute', 'root', 'procrustes', got 'rigid'"):
        PointError("rigid")
    with pytest.raises(ValueError, match="per: expected one of 'hand', 'joint'"):
        SuccessRate((10.0,), per="frame")
    with pytest.raises(ValueError, match=r"target: expected shape \(2, 21, 3\), got \(2, 14, 3\)"):
        PointError().update(hands(2), hands(2)[:, :14], torch.ones(2, 21, dtype=torch.bool))
