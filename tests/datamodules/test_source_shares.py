"""A share of a finite rendered training set: whole sequences, nested, in passes."""

import numpy as np
import pytest

from datamodules.domains import SENSOR
from datamodules.hand_sampler import HandSampler
from datamodules.sources import RenderedRecords, RenderedSource
from ops.hand_model import open_hand


@pytest.fixture(scope="module")
def sampler():
    return HandSampler(SENSOR, open_hand())


def frames(sampler, share, places, epoch=0):
    records = RenderedRecords("labelled", sampler, 0, "train", share=share)
    return [int(key.rsplit("/", 1)[1]) for key in records.draw(epoch, np.asarray(places))["key"]]


def test_a_pass_over_a_share_shows_each_frame_of_its_sequences_once(sampler):
    seen = frames(sampler, 0.05, range(600))
    first, second = seen[:300], seen[300:]
    assert sorted(first) == sorted(second) and len(set(first)) == 300 and first != second
    assert len({frame // 100 for frame in first}) == 3  # of 60 sequences
    assert set(frames(sampler, 0.1, range(600))) > set(first)
    assert frames(sampler, 0.05, range(300), epoch=1) != first
    # in the order of the whole set
    whole = frames(sampler, 1.0, range(6000))
    assert first == [frame for frame in whole if frame in set(first)]


def test_evaluation_and_sizes(sampler):
    assert RenderedRecords("labelled", sampler, 0, "train", share=0.25).size(0) == 1500
    assert RenderedRecords("labelled", sampler, 0, "val", share=0.25).size(0) == 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"domain": "sensor", "share": 0.0}, r"share: expected a share in \(0, 1\], got 0.0"),
        ({"domain": "clean", "share": 0.5}, "share: the training set of 'clean' has no end to take a share of"),
        ({"domain": "photo", "frames": 0}, "frames: expected a finite number above 0, got 0"),
        ({"domain": "sensor", "frames": 100}, "frames: 'sensor' has 6000 training frames already; take a share"),
    ],
)
def test_shares_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RenderedSource(**settings)


def test_an_endless_training_set_of_so_many_frames_shows_each_once_a_pass_and_the_same_for_every_seed():
    sources = {frames: RenderedSource("photo", frames=frames) for frames in (7, None)}
    records = {
        (frames, seed): RenderedRecords("photo", source.sampler(open_hand()), seed, "train")
        for frames, source in sources.items()
        for seed in (0, 1)
    }
    one, other = records[7, 0], records[7, 1]
    assert one.size(0) == 7 and records[None, 0].size(0) is None
    passes = [one.draw(epoch, np.arange(7)) for epoch in (0, 1)] + [other.draw(0, np.arange(7))]
    orders = [drawn["key"] for drawn in passes]
    assert len(set(orders[0])) == 7 and sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] and orders[0] != orders[2]
    hands = [dict(zip(drawn["key"], drawn["parameters"].shape.tolist(), strict=True)) for drawn in passes]
    assert hands[0] == hands[1] == hands[2]
    # and what is judged is the endless domain's
    evaluated = [
        RenderedRecords("photo", source.sampler(open_hand()), 0, "test").draw(0, np.arange(3))
        for source in sources.values()
    ]
    assert evaluated[0]["key"] == evaluated[1]["key"]
    assert (evaluated[0]["parameters"].shape == evaluated[1]["parameters"].shape).all()
