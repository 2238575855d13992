import numpy as np
import pytest

from datamodules.streams import Draws, keys_of, mix


def test_mix_gives_the_published_splitmix64_sequence():
    # first outputs of SplitMix64 seeded with 1234567 (the generator's reference values): mix(seed + k * golden)
    golden = np.uint64(0x9E3779B97F4A7C15)
    seeds = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * golden
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert mix(seeds).tolist() == expected


def test_uniform_numbers_are_what_mix_makes_of_the_counter():
    keys = keys_of("counter", np.arange(5))
    draws = Draws(keys)
    draws.uniform(shape=(2,))
    counter = np.array([3, 4], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    unit = ((mix(keys[:, None] + counter) >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    np.testing.assert_array_equal(draws.uniform(-1, 2, (2,)), -1 + 3 * unit)


def test_streams_that_are_left_out_pass_over_what_others_take():
    keys = keys_of("only", np.arange(4))
    rows = np.array([False, True, True, False])
    some, every = Draws(keys), Draws(keys)
    np.testing.assert_array_equal(some.only(rows, lambda part: part.normal((3,))), every.normal((3,))[rows])
    some.only(np.zeros(4, bool), lambda part: part.uniform())
    every.uniform()
    np.testing.assert_array_equal(some.uniform(), every.uniform())


def test_a_stream_does_not_depend_on_its_neighbours():
    together = Draws(keys_of("frame", np.arange(100))).uniform(shape=(3,))
    alone = Draws(keys_of("frame", np.arange(40, 41))).uniform(shape=(3,))
    np.testing.assert_array_equal(together[40:41], alone)


def test_keys_tell_words_numbers_and_order_apart():
    keys = [keys_of("a", 1, 2), keys_of("a", 2, 1), keys_of("b", 1, 2), keys_of("a", 1), keys_of("a", 1, 2, 0)]
    assert len({int(key[0]) for key in keys}) == len(keys)
    assert len(np.unique(keys_of("frame", np.arange(100_000)))) == 100_000


def test_draws_have_the_stated_distributions():
    draws = Draws(keys_of("moments", np.arange(40_000)))
    uniform, normal = draws.uniform(-1, 3), draws.normal()
    assert abs(uniform.mean() - 1) < 0.02 and uniform.min() > -1 and uniform.max() < 3
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    share = np.bincount(draws.choice((1.0, 3.0)), minlength=2) / 40_000
    np.testing.assert_allclose(share, [0.25, 0.75], atol=0.01)


def test_neighbouring_keys_and_successive_numbers_are_uncorrelated():
    table = Draws(keys_of("correlation", np.arange(40_000))).normal((2,))
    assert abs(np.corrcoef(table[:, 0], table[:, 1])[0, 1]) < 0.02
    assert abs(np.corrcoef(table[1:, 0], table[:-1, 0])[0, 1]) < 0.02


def test_keys_of_floats_are_refused():
    with pytest.raises(TypeError, match="words or integers"):
        keys_of("a", np.array([0.5]))
