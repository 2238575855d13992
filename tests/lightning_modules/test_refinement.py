"""Descent at test time: samples on their own, places that follow, and numbers that are none."""

import pytest
import torch

from lightning_modules.refinement import refine

TARGET = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
PLACES = torch.zeros(2, 21, 2)


def towards(target):
    def objective(parameters, places):
        return (parameters - target).square().sum(1), places + 1

    return objective


def test_each_sample_descends_on_its_own():
    start = torch.zeros(2, 2)
    found = refine(start, PLACES, towards(TARGET), steps=400, lr=0.05, keep_path=True)
    torch.testing.assert_close(found.parameters, TARGET, atol=1e-2, rtol=0)
    assert found.values.shape == (401, 2) and found.path.shape == (401, 2, 2)
    assert found.values[0].tolist() == [5, 9.25] and (found.values[-1] < 1e-3).all()
    assert (found.places == 400).all(), "places of the last iteration"
    torch.testing.assert_close(found.path[0], start)
    torch.testing.assert_close(found.path[1].abs(), torch.full((2, 2), 0.05)), "Adam's first step is lr along each axis"
    alone = refine(start[1:], PLACES[1:], towards(TARGET[1:]), steps=400, lr=0.05)
    torch.testing.assert_close(alone.parameters, found.parameters[1:])
    assert alone.path is None and not found.parameters.requires_grad


def test_steps_are_those_of_torchs_adam():
    parameters = torch.zeros(2, 2, requires_grad=True)
    adam = torch.optim.Adam([parameters], 0.1)
    for _ in range(7):
        adam.zero_grad()
        (parameters - TARGET).pow(4).sum().backward()
        adam.step()
    found = refine(torch.zeros(2, 2), PLACES, lambda p, q: ((p - TARGET).pow(4).sum(1), q), 7, 0.1)
    torch.testing.assert_close(found.parameters, parameters.detach())


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_a_sample_without_a_number_stays_where_it_last_had_one(where):
    def objective(parameters, places):
        value = (parameters - TARGET).square().sum(1)
        past = parameters[:, 0] > 0.5  # both samples get there
        first = torch.tensor([True, False])
        if where == "value":
            value = torch.where(past & first, torch.nan, value)
        else:
            value.register_hook(lambda gradient: torch.where(past & first, torch.nan, gradient))
        return value, places + 1

    found = refine(torch.zeros(2, 2), PLACES, objective, steps=100, lr=0.1)
    assert found.parameters.isfinite().all()
    assert 0.3 < found.parameters[0, 0] <= 0.5, "the last estimate whose objective is a number"
    torch.testing.assert_close(found.parameters[1], TARGET[1], atol=0.1, rtol=0)
    assert found.values[-1].isnan().tolist() == [True, False]
    assert found.places[0, 0, 0] < 10 and found.places[1, 0, 0] == 100


def test_it_works_where_lightning_predicts():
    with torch.inference_mode():
        found = refine(torch.zeros(2, 2), torch.zeros(2, 21, 2), towards(TARGET), steps=3, lr=0.1)
    assert (found.values[-1] < found.values[0]).all()
    with torch.no_grad():
        again = refine(torch.zeros(2, 2), PLACES, towards(TARGET), steps=3, lr=0.1)
    torch.testing.assert_close(again.parameters, found.parameters)
    still = refine(torch.ones(2, 2), PLACES, towards(TARGET), steps=0, lr=0.1)
    assert (still.parameters == 1).all() and still.values.shape == (1, 2)


def test_bad_input():
    with pytest.raises(ValueError, match="steps"):
        refine(torch.zeros(2, 2), PLACES, towards(TARGET), -1, 0.1)
    with pytest.raises(ValueError, match="lr"):
        refine(torch.zeros(2, 2), PLACES, towards(TARGET), 1, 0.0)
