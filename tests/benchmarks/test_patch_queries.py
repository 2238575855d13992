"""What the benchmark of patch restoration asks for, and its peer."""

import numpy as np
import pytest
import torch

from benchmarks.patch_queries import KdTrees, held_out_maps, with_errors
from ops.patch_restoration.faiss_index import index_of
from ops.patch_restoration.reference import nearest_by_brute_force
from tests.ops.test_patch_pruning import hands
from tests.ops.test_patch_restoration import dictionary_of


def test_errors_are_of_parts_and_come_again():
    clean = held_out_maps(6, 72)
    noisy = with_errors(clean)
    assert clean.shape == (6, 48, 48)
    assert ((noisy > 0) == (clean > 0)).all()
    assert noisy.max() <= 20
    right = (noisy == clean)[clean > 0].mean()
    assert 0.5 < right < 0.9
    assert (with_errors(clean) == noisy).all()
    assert (with_errors(clean, 1) != noisy).any()


def test_kd_trees_find_a_map_of_the_dictionary_and_nothing_nearer_than_there_is():
    pytest.importorskip("faiss", reason="FAISS is not installed")
    dictionary = dictionary_of(hands(30))
    trees = KdTrees(dictionary, index_of(dictionary))
    assert (trees.distances(dictionary.maps[7]) == 0).mean() > 0.9
    query = hands(1, seed=9)[0]
    maps = map(torch.from_numpy, (query, query > 0, dictionary.maps))
    exact = nearest_by_brute_force(*maps, neighbours=1)[0][:, 0].numpy()
    found = trees.distances(query)
    assert (found >= exact).all()
    assert np.mean(found == exact) > 0.3
