"""Protocols: every figure by hand on a few hands, halves that merge into the whole, inputs refused by name."""

import json
import socket
import warnings

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from lightning_modules.protocols import PROTOCOLS, protocol
from lightning_modules.protocols.curves import area, median, success
from lightning_modules.protocols.keypoints import DexterTips, EvalUtil
from lightning_modules.protocols.mesh import f_scores
from ops.joints import CANONICAL_JOINTS

M = 0.001


def hands(batch=4, points=21):
    draw = torch.Generator().manual_seed(0)
    return 0.05 * torch.randn(batch, points, 3, generator=draw, dtype=torch.float64) + torch.tensor([0, 0, 0.5])


def test_a_success_counts_the_boundary_and_areas_are_trapezoids():
    assert success(torch.tensor([1.0, 2.0, 2.0, 5.0]), [1, 2, 4.9, 5]).tolist() == [0.25, 0.75, 0.75, 1.0]
    # trapezoids of 10 wide: (0 + 0.5) / 2 and (0.5 + 1) / 2, over a range of 20
    assert area([20, 30, 40], torch.tensor([0.0, 0.5, 1.0])) == pytest.approx(0.5)
    assert area([0, 10, 40], torch.tensor([0.0, 1.0, 1.0])) == pytest.approx((5 + 30) / 40)


def test_the_median_of_an_even_number_is_the_middle_of_the_middle_two():
    assert median(torch.tensor([[7.0, 1.0], [2.0, 4.0]])) == 3
    assert median(torch.tensor([9.0, 1.0, 2.0])) == 2


def test_points_by_hand():
    metric, true = protocol("nyu-14"), hands(2, 14)
    predicted = true.clone()
    predicted[0] += torch.tensor([0.003, 0.004, 0.012])  # 13 mm, 5 of them in the plane
    predicted[1, 0, 2] += 0.045
    metric.update(predicted, true)
    figures = metric.compute()
    assert figures["frames"] == 2
    assert figures["mean_mm"] == pytest.approx((14 * 13 + 45) / 28, abs=1e-4)
    assert figures["median_mm"] == pytest.approx(13, abs=1e-4)  # 13 zeros, 14 times 13, one 45
    assert figures["per_joint_mm"][:2] == pytest.approx([29, 6.5], abs=1e-4)
    assert figures["mean_xy_mm"] == pytest.approx(14 * 5 / 28, abs=1e-4)
    assert figures["success_maxframe_pct"]["10"] == 0 and figures["success_maxframe_pct"]["20"] == 50
    assert figures["success_maxframe_pct"]["50"] == 100
    assert figures["success_meanframe_pct"]["5"] == 50  # 45 / 14 mm
    assert figures["joint_pck_pct"]["10"] == pytest.approx(100 * 13 / 28, abs=1e-3)
    # off the boundaries, where rounding decides: hand 0 is 13 mm off; hand 1's largest error is 45 mm, its mean 3.2 mm
    share = {name: figures[name]["share"] for name in ("curve_maxframe", "curve_meanframe")}
    assert [share["curve_maxframe"][t] for t in (12, 14, 44, 46, 80)] == [0, 0.5, 0.5, 1, 1]
    assert [share["curve_meanframe"][t] for t in (3, 4, 12, 14)] == [0, 0.5, 0.5, 1]


def test_the_camera_is_the_protocols_own():
    # those of other papers (588.235, 241.42) would move the third digit of published figures
    assert protocol("nyu-14").facts["intrinsics"] == "fx 588.03 fy 587.07 cx 320 cy 240 for both"
    assert protocol("icvl-16").facts["intrinsics"] == "fx 240.99 fy 240.96 cx 160 cy 120 for both"
    assert protocol("msra-21").facts["intrinsics"] == "fx 241.42 fy 241.42 cx 160 cy 120 for both"


def test_pixels_of_points_follow_the_protocols_camera():
    metric = protocol("icvl-16")
    true = torch.zeros(1, 16, 3, dtype=torch.float64)
    true[..., 2] = 0.5
    metric.update(true + torch.tensor([0.01, 0, 0]), true)
    assert metric.compute()["mean_px"] == pytest.approx(240.99 * 0.01 / 0.5, abs=1e-4)


def test_pixel_errors_by_hand():
    metric, true = protocol("nyu-14-px"), torch.zeros(2, 14, 2)
    predicted = true.clone()
    predicted[0] += torch.tensor([3.0, 4.0])
    metric.update(predicted, true)
    figures = metric.compute()
    assert (figures["mean_px"], figures["median_px"]) == (2.5, 2.5)
    assert figures["per_joint_px"] == [2.5] * 14


def test_eval_util_averages_over_joints_and_takes_its_palm_as_the_root():
    wrist, index, ring = 0, 8, CANONICAL_JOINTS.index("ring_mcp")
    true = hands(2)
    predicted = true.clone()
    predicted[0, index, 0] += 10 * M
    visible = torch.ones(2, 21, dtype=torch.bool)
    visible[1, index] = False  # the other hand's tip is not seen
    metric = EvalUtil("rhd")
    metric.update(predicted, true, visible)
    figures = metric.compute()
    assert figures["per_joint_mm"][index] == pytest.approx(10, abs=1e-4)
    assert figures["mean_mm"] == pytest.approx(10 / 21, abs=1e-4)  # over joints, not over the 41 that were seen
    # thresholds 0, 2.63, ..: joint 8 fails at the first four (0 to 7.9 mm), trapezoids lose 3.5 of 19 steps
    assert figures["auc_0_50_20pts"] == pytest.approx((20 + (19 - 3.5) / 19) / 21, abs=1e-4)
    assert figures["auc_20_50_as_published"] == figures["auc_20_50"] == 1
    moved = EvalUtil("rhd")
    moved.update(predicted + 0.3, true, visible)  # where the hand is does not matter
    assert moved.compute()["mean_mm"] == figures["mean_mm"]
    # the palm of STB lies between wrist and ring knuckle: moving the wrist by 8 mm moves the root, and all else, by 4
    moved = true.clone()
    moved[:, wrist, 1] += 8 * M
    metric = EvalUtil("stb")
    metric.update(moved, true)
    assert metric.compute()["per_joint_mm"][0] == 0 and metric.compute()["per_joint_mm"][ring] == pytest.approx(4)


def test_what_is_called_20_to_50_begins_at_21_05():
    true, metric = hands(1), EvalUtil("rhd")
    predicted = true.clone()
    predicted[0, 8, 0] += 20.5 * M
    metric.update(predicted, true)
    figures = metric.compute()
    assert figures["auc_20_50_as_published"] == 1
    assert figures["auc_20_50"] == pytest.approx((20 + 29.5 / 30) / 21, abs=1e-4)


def test_ground_truth_scale_multiplies_by_the_true_bone():
    true, metric = hands(2), EvalUtil("rhd", "ground truth")
    bone = (true[:, 10] - true[:, 9]).norm(dim=-1)
    metric.update(true / bone[:, None, None], true)
    assert metric.compute()["mean_mm"] == pytest.approx(0, abs=1e-6)


def test_tips_count_where_they_are_seen_and_centred_ones_forget_the_place():
    true, metric = hands(2, 5), DexterTips()
    visible = torch.ones(2, 5, dtype=torch.bool)
    visible[0, 0] = False
    predicted = true + torch.tensor([0.03, 0.04, 0])
    predicted[0, 0] += 1  # not seen
    metric.update(predicted, true, visible)
    figures = metric.compute()
    assert figures["mean_mm"] == pytest.approx(50) and figures["mean_centred_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["auc_0_100"] == pytest.approx(0.505, abs=1e-3)  # 0 below 50 mm, 1 from there on
    assert figures["auc_0_100_centred"] == pytest.approx(1, abs=1e-3)
    assert figures["visible_pct"] == 90
    assert figures["per_joint_mm"] == pytest.approx([50] * 5)


def test_of_root_relative_predictions_figures_that_compare_places_are_left_out():
    true, metric = hands(2, 5), DexterTips()
    metric.update(true - true[:, :1], true)
    metric.forget_place()
    figures = metric.compute()
    assert figures["mean_mm"] is figures["auc_0_100"] is figures["curve_pck"] is None
    assert figures["mean_centred_mm"] == pytest.approx(0, abs=1e-6) and "root-relative" in metric.facts["place"]


def test_a_point_that_is_never_seen_is_none_in_strict_json():
    visible = torch.ones(2, 21, dtype=torch.bool)
    visible[:, 4] = False
    metric = EvalUtil("stb")
    metric.update(hands(2) + M, hands(2), visible)
    figures = json.loads(json.dumps(metric.compute(), allow_nan=False))
    assert figures["per_joint_mm"][4] is None and None not in figures["per_joint_mm"][5:]


def test_procrustes_forgives_rotation_and_scale_and_f_scores_are_harmonic_means():
    metric, true = protocol("freihand"), hands(2)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    vertices = hands(2, 30)
    metric.update(1.2 * true @ turn + 0.1, true, vertices + 0.01, vertices)
    figures = metric.compute()
    assert figures["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-6) and figures["mean_mm"] > 50
    assert figures["pa_mpvpe_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["mpvpe_mm"] == pytest.approx(10 * 3**0.5, abs=1e-3)
    assert figures["pa_f_at_5mm"] == 1
    assert figures["auc_pa_0_50_100pts"] == pytest.approx(1 - 0.5 / 99, abs=1e-4)  # at 0 mm rounding fails
    # one of two predicted points is near a true one, and one of one true points has a predicted one: P 1/2, R 1, F 2/3
    scores = f_scores(torch.tensor([[[0.0, 0, 0], [0, 0, 0.01]]]), torch.tensor([[[0.0, 0, 0.004]]]))
    assert scores.tolist() == [[pytest.approx(2 / 3), 1.0]]


def test_a_vertex_at_the_limit_is_not_within_it():
    clouds = (torch.tensor([[[0.0, 0, z]]], dtype=torch.float64) for z in (0, 0.005))
    assert f_scores(*clouds).tolist() == [[0, 1]]


def test_segmentation_by_hand():
    true = torch.tensor([[[1, 1, 1, 2], [2, 0, 255, 3]]])
    said = torch.tensor([[[1, 1, 2, 2], [0, 1, 1, 3]]])
    metric = protocol("segmentation")
    metric.update(said, true)
    figures = metric.compute()
    assert figures["pixels"] == 6  # neither background nor unlabelled
    assert figures["per_pixel_pct"] == pytest.approx(100 * 4 / 6, abs=1e-3)
    assert figures["per_class_pct"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 1) / 3, abs=1e-3)
    assert figures["mean_iou_pct"] == pytest.approx(100 * (2 / 3 + 1 / 3 + 1) / 3, abs=1e-3)
    assert figures["frequency_weighted_iou_pct"] == pytest.approx(100 * (3 * 2 / 3 + 2 / 3 + 1) / 6, abs=1e-3)


def batches(name, size):
    if name == "segmentation":
        draw = torch.Generator().manual_seed(1)
        return [torch.randint(0, 21, (size, 8, 8), generator=draw) for _ in range(2)]
    points = len(protocol(name).point_names)
    true = hands(size, points)
    if name == "nyu-14-px":
        return [true[..., :2] + 1, true[..., :2]]
    return [true + 0.02 * torch.randn(true.shape, generator=torch.Generator().manual_seed(2)), true]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_two_ranks_together_give_what_one_gives(name):
    predicted, true = batches(name, 7)
    whole, first, second = protocol(name), protocol(name), protocol(name)
    whole.update(predicted, true)
    first.update(predicted[:2], true[:2])
    second.update(predicted[2:], true[2:])
    first.merge_state(second)
    assert first.compute() == whole.compute()


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_order_of_hands_does_not_matter(name):
    predicted, true = batches(name, 7)
    shuffled = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    there, here = protocol(name), protocol(name)
    there.update(predicted, true)
    for rows in shuffled.split(3):
        here.update(predicted[rows], true[rows])
    for figure, value in there.compute().items():
        if isinstance(value, float):  # rounded to 4 digits, so that sums in another order may differ in the last
            assert here.compute()[figure] == pytest.approx(value, abs=2e-4), figure


@pytest.mark.parametrize("name", ["nyu-14", "icvl-16", "msra-21", "dexter-tips"])
def test_points_in_another_order_give_their_errors_in_that_order(name):
    predicted, true = batches(name, 5)
    order = torch.randperm(true.shape[1], generator=torch.Generator().manual_seed(4))
    there, here = protocol(name), protocol(name)
    there.update(predicted, true)
    here.update(predicted[:, order], true[:, order])
    there, here = there.compute(), here.compute()
    assert here["per_joint_mm"] == [there["per_joint_mm"][i] for i in order]
    assert here["mean_mm"] == pytest.approx(there["mean_mm"], abs=2e-4)
    assert here["success_maxframe_pct"] == there["success_maxframe_pct"]


def reduce_on_a_rank(rank, port, shares, wholes):
    """One of two processes: feed a share of the hands, compare with the figures of all of them."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="The ``compute`` method of metric")  # a rank may see nothing
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for name, whole in wholes.items():
        for share in shares:
            predicted, true = (tensor.split([share, 7 - share])[rank] for tensor in batches(name, 7))
            metric = protocol(name)
            if len(true):
                metric.update(predicted, true)
            assert metric.compute() == whole, (name, share)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_reduce_to_the_whole_even_if_one_saw_no_hand():
    wholes = {}
    for name in PROTOCOLS:
        metric = protocol(name)
        metric.update(*batches(name, 7))
        wholes[name] = metric.compute()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(reduce_on_a_rank, (port, (3, 6, 7), wholes), nprocs=2)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_says_how_it_measures(name):
    metric = protocol(name)
    assert metric.name == name
    for rule in ("root", "scale", "alignment", "visibility", "thresholds"):
        assert metric.facts[rule], rule
        assert rule in type(metric).__doc__.lower(), rule


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_to_measure_is_an_error(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns of compute before update
        with pytest.raises(ValueError, match=f"{name}: no .* to measure; expected at least one"):
            protocol(name).compute()


def test_bad_input():
    with pytest.raises(ValueError, match=r"protocol: expected one of 'nyu-14', .* got 'nyu'"):
        protocol("nyu")
    with pytest.raises(ValueError, match=r"predicted: expected shape \(B, 14, 3\), got \(1, 21, 3\)"):
        protocol("nyu-14").update(hands(1), hands(1))
    spoilt = hands(1, 14)
    spoilt[0, 3, 0] = torch.nan
    with pytest.raises(ValueError, match="predicted: expected finite numbers, got 1 NaN"):
        protocol("nyu-14").update(spoilt, hands(1, 14))
    with pytest.raises(ValueError, match=r"predicted: expected integer labels 0 to 20, got torch.int64 \[21\]"):
        protocol("segmentation").update(torch.full((1, 1, 1), 21), torch.ones(1, 1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"target: expected integer labels 0 to 20, got torch.int64 \[-1\]"):
        protocol("segmentation").update(torch.ones(1, 1, 1, dtype=torch.int64), -torch.ones(1, 1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="scale: expected one of"):
        EvalUtil("rhd", "by guess")
    with pytest.raises(TypeError, match=r"visible: expected bool, got torch.int64; convert with"):
        EvalUtil("rhd").update(hands(1), hands(1), torch.ones(1, 21, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"visible: expected shape \(1, 5\), got \(1, 21\)"):
        DexterTips().update(hands(1, 5), hands(1, 5), torch.ones(1, 21, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"target_vertices: expected shape \(1, 9, 3\), got \(1, 8, 3\)"):
        protocol("freihand").update(hands(1), hands(1), hands(1, 9), hands(1, 8))


def test_a_point_that_is_not_seen_fails_no_frame():
    true, metric = hands(2, 5), DexterTips()
    predicted, visible = true.clone(), torch.ones(2, 5, dtype=torch.bool)
    predicted[0, 0] += 1
    visible[0, 0] = False
    metric.update(predicted, true, visible)
    assert metric.compute()["success_maxframe_pct"]["10"] == 100


def test_stbs_palm_lies_between_wrist_and_ring_knuckle():
    true = torch.rand(1, 21, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    said = true.clone()
    said[0, CANONICAL_JOINTS.index("ring_mcp"), 0] += 0.02  # the palm follows by half
    metric = protocol("stb-eval-util")
    metric.update(said, true)
    assert metric.compute()["per_joint_mm"] == pytest.approx([0] + [10] * 20, abs=1e-3)
