import math

import pytest

from lightning_modules.schedules import inverse_time, warmup_cosine


def test_the_schedule_by_hand():
    factor = warmup_cosine(10, 110)
    assert [factor(0), factor(9), factor(10)] == pytest.approx([0.1, 1, 1])
    assert factor(60) == pytest.approx(0.5) and factor(110) == pytest.approx(0) and factor(200) == pytest.approx(0)
    assert factor(35) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_no_warm_up_starts_at_full_rate():
    assert warmup_cosine(0, 100)(0) == 1


def test_inverse_time_by_hand():
    factor = inverse_time(1e-5)
    assert [factor(step) for step in (0, 100_000, 300_000)] == pytest.approx([1, 0.5, 0.25])
