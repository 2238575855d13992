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
    ],
)
def test_shares_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RenderedSource(**settings)
