"""The speed of DHPE is measured in all that its goals name, and a peer's renderer draws the same hand."""

import pytest
import torch

import benchmarks.dhpe as speed
from lightning_modules.dhpe import DHPE
from lightning_modules.picture_figures import overlap


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(speed, "settings", lambda device: ({"backbone": "small", "joint_maps": "small"}, 32))
    monkeypatch.setattr(speed, "TRAINING_BATCH", 2)
    monkeypatch.setattr(speed, "REFINED_BATCHES", (1, 2))
    monkeypatch.setattr(speed, "ITERATIONS", 1)
    monkeypatch.setattr(speed, "REPEATS", 1)
    monkeypatch.setattr(speed, "PREDICTED", {"unrefined": 0, "refined": 5})


@pytest.mark.slow
def test_training_refinement_and_prediction_are_timed(tiny):
    figures = speed.measure("cpu", "ours", DHPE)
    wanted = {f"cpu_refinement_ms_iteration_b{count}_ours" for count in (1, 2)}
    wanted |= {f"cpu_prediction_ms_b1_{what}_ours" for what in ("unrefined", "refined")}
    assert set(figures) == wanted | {"cpu_training_steps_s_b2_ours"}
    assert figures["cpu_prediction_ms_b1_refined_ours"] > figures["cpu_prediction_ms_b1_unrefined_ours"] > 0
    assert figures["cpu_training_steps_s_b2_ours"] > 0


def test_the_peers_renderer_draws_the_same_hand():
    pytest.importorskip("deodr", reason="the peers' environment alone has deodr: make peers")
    ours, peer = DHPE("small", joint_maps="small"), speed.DeodrDHPE("small", joint_maps="small")
    hand = ours.projection(ours.projection.start.expand(2, 63))
    # deodr's edges soften outwards, which at 64 pixels is a tenth of the hand
    assert (overlap(peer.silhouette(hand, 64), ours.silhouette(hand, 64)) > 0.88).all()
    parameters = torch.zeros(1, 63) + ours.projection.start
    gradients = []
    for method in (ours, peer):
        leaf = parameters.clone().requires_grad_()
        weights = torch.linspace(0, 1, 64)  # more to the right
        (method.silhouette(method.projection(leaf), 64) * weights).sum().backward()
        gradients.append(leaf.grad[0, 60])
    assert gradients[0] > 0 and gradients[1] == pytest.approx(float(gradients[0]), rel=0.15)
