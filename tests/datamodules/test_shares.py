from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.shares import InTurn, Shares, permuted
from datamodules.streams import keys_of


class Source(NamedTuple):
    name: str
    count: int | None = 100

    def size(self, epoch):
        return self.count


class Growing(NamedTuple):
    name: str

    def size(self, epoch):
        return 10 * epoch


def shares(weights, per="batch", batch_size=32, epoch_size=1000, sources=None, seed=0):
    return Shares(sources or [Source(name) for name in weights], weights, per, batch_size, epoch_size, seed)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.integers(1, 100), min_size=1, max_size=6),
    batch_size=st.integers(1, 70),
    first=st.integers(0, 10**7),
)
def test_every_batch_keeps_the_shares_to_a_sample(parts, batch_size, first):
    weights = np.array(parts) / sum(parts)
    mixture = shares({str(i): w for i, w in enumerate(weights)}, batch_size=batch_size)
    for batch in (first, first + 1, first + 2):
        source, _ = mixture.locate(0, np.arange(batch * batch_size, (batch + 1) * batch_size))
        assert (np.abs(np.bincount(source, minlength=len(parts)) - weights * batch_size) < 1).all()


@pytest.mark.parametrize("per", ["batch", "epoch"])
@pytest.mark.parametrize("weights", [(1.0,), (0.9, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.05, 0.25, 0.6, 0.1)])
def test_each_source_is_walked_without_gaps_in_any_order_of_asking(per, weights):
    mixture = shares({str(i): w for i, w in enumerate(weights)}, per, epoch_size=1003)
    source, place = mixture.locate(2, np.arange(1003))
    counts = np.bincount(source, minlength=len(weights))
    np.testing.assert_array_equal(mixture.counts(2), counts)
    # van der Corput's offsets: the error grows with the logarithm of the batches; exact counts are rounded once
    assert np.abs(counts - np.array(weights) * 1003).max() <= (3 if per == "batch" else 1)
    for number in range(len(weights)):
        assert sorted(place[source == number]) == list(range(counts[number]))
    some = np.random.default_rng(0).permutation(1003)[:50]
    again = mixture.locate(2, some)
    np.testing.assert_array_equal(again[0], source[some])
    np.testing.assert_array_equal(again[1], place[some])


def test_nine_to_one_is_nine_to_one():
    source, _ = shares({"synthetic": 0.9, "real": 0.1}, batch_size=10).locate(0, np.arange(1000))
    assert (source.reshape(100, 10).sum(1) == 1).all()


def test_a_part_of_a_batch_shows_all_sources_too():
    source, _ = shares({"a": 0.5, "b": 0.5}, batch_size=64).locate(0, np.arange(16))
    assert 6 <= source.sum() <= 10


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_every_rank_sees_the_shares(ranks):
    from datamodules.sampler import EpochSampler

    mixture = shares({"a": 0.75, "b": 0.25}, batch_size=30)
    for rank in range(ranks):
        for key in EpochSampler(30 * ranks * 3, 30, rank, ranks):
            source, _ = mixture.locate(key.epoch, key.indices)
            assert source.sum() in (7, 8)


def test_by_size_is_the_union():
    sources = [Source("rhd", 70), Source("stb", 30)]
    mixture = shares("by size", "epoch", epoch_size=None, sources=sources)
    assert mixture.epoch_size == 100
    source, place = mixture.locate(5, np.arange(100))
    assert sorted(zip(source, place, strict=True)) == [(0, i) for i in range(70)] + [(1, i) for i in range(30)]
    assert not np.array_equal(source, mixture.locate(6, np.arange(100))[0])
    assert not np.array_equal(source, shares("by size", "epoch", 8, None, sources, seed=1).locate(5, np.arange(100))[0])


def test_schedules_hold_from_their_epochs_on():
    mixture = shares({"rhd": {0: 1.0, 10: 0.7}, "augmented": {0: 0.0, 10: 0.3}}, batch_size=10)
    for epoch, count in ((0, 0), (9, 0), (10, 3), (99, 3)):
        assert mixture.locate(epoch, np.arange(10))[0].sum() == count


def test_a_growing_source_weighs_more_as_it_grows():
    mixture = shares({"rhd": {0: 1.0, 1: 0.5}, "grown": {0: 0.0, 1: 0.5}}, sources=[Source("rhd"), Growing("grown")])
    assert mixture.weights_of(0).tolist() == [1, 0] and mixture.weights_of(1).tolist() == [0.5, 0.5]
    union = shares("by size", sources=[Source("rhd", 90), Source("more", 10)])
    np.testing.assert_allclose(union.weights_of(0), [0.9, 0.1])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.5, "b": 0.4}, "expected a sum of 1, got 0.9 in epoch 0"),
        ({"a": 1.0, "b": 0.0}, "'b' is never used .* leave it out"),
        ({"a": 1.5, "b": -0.5}, "expected shares between 0 and 1, got 1.5 for 'a'"),
        ({"a": float("nan"), "b": 1.0}, "expected shares between 0 and 1, got nan for 'a'"),
        ({"a": 1.0, "b": {0: 0.0, 5: 0.3}}, "expected a sum of 1, got 1.3 in epoch 5"),
        ({"a": {3: 1.0}, "b": {0: 0.0, 1: 0.0}}, "'a' must say its share from epoch 0"),
        ({"a": 1.0}, "expected one per source, a, b"),
    ],
)
def test_weights_that_do_not_add_up_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        shares(weights, sources=[Source("a"), Source("b")])


def test_empty_sources_are_refused_by_name():
    for weights in ({"a": 0.5, "b": 0.5}, "by size"):
        with pytest.raises(ValueError, match="source 'b': empty in epoch 0"):
            shares(weights, sources=[Source("a"), Source("b", 0)])
    with pytest.raises(ValueError, match=r"source 'b': empty in epoch 2, though its weight is 0\.5"):
        shares({"a": {0: 1.0, 2: 0.5}, "b": {0: 0.0, 2: 0.5}}, sources=[Source("a"), Source("b", 0)])


def test_sources_without_end_have_no_size():
    endless = [Source("a"), Source("clean", None)]
    with pytest.raises(ValueError, match="weights 'by size' asks for sources with an end, but 'clean' has none"):
        shares("by size", sources=endless)
    with pytest.raises(ValueError, match="epoch_size: null asks"):
        shares({"a": 0.5, "clean": 0.5}, epoch_size=None, sources=endless)
    with pytest.raises(ValueError, match="per: expected one of"):
        shares({"a": 1.0}, per="step")


@pytest.mark.parametrize("total", [1, 2, 3, 17, 1000, 4097])
def test_a_shuffled_order_is_an_order(total):
    orders = [permuted(np.arange(total), total, keys_of("order", key)) for key in range(3)]
    for order in orders:
        assert sorted(order) == list(range(total))
    if total >= 17:
        assert not np.array_equal(orders[0], orders[1])
        assert abs(np.corrcoef(orders[0], np.arange(total))[0, 1]) < 5 / np.sqrt(total)


def test_all_orders_of_three_come_about_as_often():
    found = [tuple(permuted(np.arange(3), 3, keys_of("three", key))) for key in range(1200)]
    assert min(found.count(order) for order in set(found)) > 150 and len(set(found)) == 6


def test_evaluation_takes_one_source_after_another():
    source, place = InTurn([2, 3]).locate(0, np.arange(5))
    assert source.tolist() == [0, 0, 1, 1, 1] and place.tolist() == [0, 1, 0, 1, 2]
