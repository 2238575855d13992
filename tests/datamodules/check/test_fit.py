import torch

from datamodules.batch import LEFT, RIGHT
from datamodules.check.fit import MIN_JOINTS, ORDERS, fit_hands, hand_bends
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.layer import mirror_pose


def random_hands(side: str, count: int = 40) -> torch.Tensor:
    """Joints of hands in random poses and places, no two alike."""
    generator = torch.Generator().manual_seed(3)
    model = open_hand(side)
    pose = torch.from_numpy(open_hand("right").pose_mean) + 0.15 * torch.randn(
        count, 45, generator=generator, dtype=torch.float64
    )
    shape = torch.randn(count, model.shapedirs.shape[-1], generator=generator, dtype=torch.float64)
    turn = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    layer = HandLayer(model).double()
    return layer(mirror_pose(pose) if side == "left" else pose, shape, turn).joints + torch.tensor([0.1, 0.0, 0.6])


def test_the_side_of_random_hands_is_told():
    for side, number in (("left", LEFT), ("right", RIGHT)):
        joints = random_hands(side)
        fit = fit_hands(joints, torch.ones(len(joints), 21, dtype=torch.bool))
        assert (fit.side == number).double().mean() > 0.9
        assert 0.6 < fit.scale.median() < 1.3


def test_a_mirrored_set_has_the_other_side():
    joints = random_hands("right") * torch.tensor([-1.0, 1.0, 1.0])
    fit = fit_hands(joints, torch.ones(len(joints), 21, dtype=torch.bool))
    assert (fit.side == LEFT).double().mean() > 0.9


def test_a_wrong_order_is_named():
    joints = random_hands("right")
    valid = torch.ones(len(joints), 21, dtype=torch.bool)
    for name, order in ORDERS.items():
        assert sorted(order) == list(range(21))
        assert fit_hands(joints[:, order], valid).order == name  # each order is its own inverse


def test_missing_joints_do_not_matter_and_too_few_are_not_judged():
    joints = random_hands("left")
    valid = torch.ones(len(joints), 21, dtype=torch.bool)
    valid[:, [0, 3, 7, 11]] = False
    spoilt = joints.clone()
    spoilt[:, [0, 3, 7, 11]] = 0
    assert (fit_hands(spoilt, valid).side == LEFT).double().mean() > 0.9
    valid[:, MIN_JOINTS:] = False
    assert fit_hands(joints, valid) is None


def test_size_is_that_of_the_open_hand():
    joints = torch.stack([1.25 * hand_bends()[0], 0.5 * hand_bends()[0]])
    fit = fit_hands(joints, torch.ones(2, 21, dtype=torch.bool))
    torch.testing.assert_close(fit.scale, torch.tensor([1.25, 0.5], dtype=torch.float64))
