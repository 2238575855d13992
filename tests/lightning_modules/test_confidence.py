"""Confidence and places of predictions, from scenes whose hands are known."""

import threading

import pytest
import torch

from datamodules.batch import HandBatch
from lightning_modules.confidence import LEAST, confidence_of, depth_agreement
from lightning_modules.export import example_batch
from lightning_modules.frame_prediction import axis_angles
from lightning_modules.method import rotations_as_pictured
from lightning_modules.pipeline import in_order
from lightning_modules.placing import in_camera, place_by_pixels
from lightning_modules.prediction import Frame, HandPrediction
from ops.camera import project
from ops.hand_model import HandLayer, open_hand
from ops.hand_model.layer import mirror_pose
from ops.render.labels import face_parts, render_labels
from tests.toys import FlatHand


def scene() -> tuple[HandPrediction, HandBatch]:
    """Two bent hands, seen from the front, and their true prediction."""
    model = open_hand()
    pose = 0.2 * torch.randn(2, 45, generator=torch.Generator().manual_seed(3))
    hand = HandLayer(model)(pose, torch.zeros(2, 10), torch.tensor([[0.3, -1.2, 0.5], [0.2, 1.4, 0.1]]))
    shift = torch.tensor([0.02, -0.01, 0.6]) - hand.vertices.mean(1, keepdim=True)
    vertices, joints = hand.vertices + shift, hand.joints + shift
    K = torch.tensor([[256.0, 0, 63.5], [0, 256, 63.5], [0, 0, 1]]).repeat(2, 1, 1)
    faces = torch.from_numpy(model.faces)
    parts = face_parts(torch.from_numpy(model.part_labels), faces)
    depth, _ = render_labels(vertices, faces, K, (128, 128), parts)
    side, frame = torch.tensor([1, 1]), Frame.ABSOLUTE
    prediction = HandPrediction(joints, None, vertices, None, side, None, frame, model.id, "open")
    return prediction, HandBatch(depth=depth, K=K)


def moved(prediction: HandPrediction, by: list[float], mesh: bool = True) -> HandPrediction:
    shift = torch.tensor(by)
    return HandPrediction(
        prediction.joints_3d + shift, None, prediction.vertices + shift if mesh else None, None,
        prediction.side, None, prediction.frame, prediction.hand_model, "open",
    )  # fmt: skip


@pytest.mark.parametrize("mesh", [True, False])
def test_the_true_hand_agrees_with_its_depth_and_others_do_not(mesh):
    prediction, seen = scene()
    true = depth_agreement(moved(prediction, [0, 0, 0], mesh), seen)
    least = LEAST["depth" if mesh else "joints in depth"]
    assert (true > (0.99 if mesh else least)).all(), "of an edge-on hand, many joints are hidden deep"
    for by in ([0.15, 0, 0], [0, 0, 0.1], [0, 0, -0.1]):
        assert (depth_agreement(moved(prediction, by, mesh), seen) < least).all(), by
    nothing = HandBatch(seen | {"depth": torch.zeros_like(seen["depth"])})
    assert (depth_agreement(moved(prediction, [0, 0, 0], mesh), nothing) == 0).all()


def test_methods_that_say_their_confidence_are_believed_and_others_say_none():
    prediction, seen = scene()
    colours = HandBatch(rgb=torch.zeros(2, 3, 8, 8), K=seen["K"])
    assert confidence_of(FlatHand(), prediction, colours, colours) == (None, "")
    said = HandPrediction(**{**vars(prediction), "confidence": torch.tensor([0.2, 0.7])})
    values, rule = confidence_of(FlatHand(), said, colours, colours)
    assert rule == "heat maps" and values.tolist() == pytest.approx([0.2, 0.7])


def test_a_hand_known_from_its_wrist_is_placed_where_it_is_seen():
    prediction, seen = scene()
    pixels = project(prediction.joints_3d, seen["K"])
    wrist = prediction.joints_3d[:, :1]
    place = place_by_pixels(prediction.joints_3d - wrist, pixels, seen["K"])
    torch.testing.assert_close(place, wrist[:, 0], atol=1e-4, rtol=0)
    values = vars(prediction) | {"joints_3d": prediction.joints_3d - wrist, "vertices": None, "joints_2d": pixels}
    placed = in_camera(HandPrediction(**(values | {"frame": Frame.ROOT_RELATIVE})), seen)
    assert placed.frame == Frame.ABSOLUTE
    torch.testing.assert_close(placed.joints_3d, prediction.joints_3d, atol=1e-4, rtol=0)
    blind = HandPrediction(**(values | {"frame": Frame.ROOT_RELATIVE, "joints_2d": None}))
    middle = in_camera(blind, HandBatch(seen | {"cube_centre": torch.tensor([[0, 0, 0.6], [0.1, 0, 0.7]])}))
    torch.testing.assert_close(middle.joints_3d.mean(1), torch.tensor([[0, 0, 0.6], [0.1, 0, 0.7]]))
    with pytest.raises(ValueError, match="in the frame 'normalised'"):
        in_camera(HandPrediction(**(values | {"frame": Frame.NORMALISED})), seen)


def test_poses_are_told_as_the_layer_takes_them_of_either_hand():
    generator = torch.Generator().manual_seed(5)
    pose, turn = (0.4 * torch.randn(2, n, generator=generator) for n in (45, 3))
    hand = HandLayer(open_hand())(pose, torch.zeros(2, 10), turn)
    torch.testing.assert_close(axis_angles(hand.rotations).flatten(1), torch.cat([turn, pose], 1), atol=1e-4, rtol=0)
    pictured = rotations_as_pictured(hand.rotations, torch.tensor([True, False]))
    said = axis_angles(pictured).flatten(1)
    torch.testing.assert_close(said[0], mirror_pose(torch.cat([turn, pose], 1))[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(said[1], torch.cat([turn, pose], 1)[1], atol=1e-4, rtol=0)


def test_examples_of_an_export_show_hands():
    batch = example_batch(FlatHand(), 2)
    assert (batch["depth"] > 0).float().mean((1, 2, 3)).min() > 0.05
    assert float(batch["rgb"].min()) >= 0 and float(batch["rgb"].max()) <= 1


def test_work_in_threads_keeps_its_order_hands_errors_on_and_stays_a_few_ahead():
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return 10 * number

    given = iter([0, 1, ValueError("from before"), 3, *range(4, 30)])
    results = in_order(work, given, threads=3, ahead=4)
    first = [next(results) for _ in range(4)]
    assert first[:2] == [0, 10] and str(first[2]) == "from before" and str(first[3]) == "three"
    assert max(begun) < 10, "not all at once"
    assert [next(results) for _ in range(26)] == [10 * i for i in range(4, 30)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 // number, [0], threads=1, ahead=1))


def test_who_stops_taking_does_not_wait_for_work_that_has_begun():
    gate = threading.Event()
    results = in_order(lambda number: number == 0 or gate.wait(), [0, 1, 2], threads=1, ahead=2)
    assert next(results) is True
    ending = threading.Thread(target=results.close)
    ending.start()
    ending.join(20)
    waits = ending.is_alive()
    gate.set()
    assert not waits


def test_so_many_items_are_taken_ahead_and_no_more():
    taken, begun, gate = [], [], threading.Event()

    def given():
        for number in range(9):
            taken.append(number)
            yield number

    def work(number):
        begun.append(number)
        return number == 0 or gate.wait(20)

    results = in_order(work, given(), threads=1, ahead=4)
    assert next(results) is True
    assert taken == [0, 1, 2, 3]
    results.close()
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(20)
    assert begun in ([0], [0, 1]), "what had not begun is not done for nobody"
