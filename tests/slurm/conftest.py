import pytest

from tests.slurm.cluster import cluster, reason_to_skip
from tests.slurm.jobs import experiment


@pytest.fixture(scope="module")
def slurm():
    """The environment of a cluster's commands; a file of tests has a cluster of its own."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    with cluster() as environ:
        yield environ


@pytest.fixture
def whole(train):
    """The folder of an unbroken run, without SLURM."""
    options = ("--model.pause=0", "--test_after_fit=false", "--picture_samples=0")
    return train("fit", *options, config=experiment(train), run_id="whole").folder
