"""The random field: terms by hand, energies against all labellings, what restore makes of it."""

from itertools import product

import numpy as np
import pytest
import torch

from ops.patch_restoration import restore
from ops.patch_restoration.crf import energy, integrate, minimise, pairwise_terms, send_messages
from tests.ops.test_patch_pruning import hands
from tests.ops.test_patch_restoration import dictionary_of, with_noise

FIELDS = {
    "chain": [[1, 1, 1, 1, 1, 1]],
    "column": [[1], [1], [1], [1]],
    "comb": [[1, 1, 1], [1, 0, 1], [1, 0, 0]],
    "two": [[1, 1, 0], [0, 0, 0], [1, 1, 1]],
    "grid": [[1, 1, 1], [1, 1, 1]],
}


def random_field(shape: list[list[int]], labels: int, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    nodes = np.array(shape, bool)
    unary = rng.integers(0, 10, (*nodes.shape, labels)).astype(float)
    right, down = (rng.integers(0, 8, (*nodes.shape, labels, labels)).astype(float) for _ in range(2))
    return nodes, unary, right, down


def slow_energy(nodes: np.ndarray, unary: np.ndarray, right: np.ndarray, down: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for y, x in product(*map(range, nodes.shape)):
        if nodes[y, x]:
            total += unary[y, x, labels[y, x]]
            if x + 1 < nodes.shape[1] and nodes[y, x + 1]:
                total += right[y, x, labels[y, x], labels[y, x + 1]]
            if y + 1 < nodes.shape[0] and nodes[y + 1, x]:
                total += down[y, x, labels[y, x], labels[y + 1, x]]
    return total


def all_energies(nodes: np.ndarray, *terms: np.ndarray) -> list[float]:
    found = []
    for choice in product(range(terms[0].shape[-1]), repeat=int(nodes.sum())):
        labels = np.zeros(nodes.shape, int)
        labels[nodes] = choice
        found.append(slow_energy(nodes, *terms, labels))
    return found


class TestMinimise:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("name", ["chain", "column", "comb", "two"])
    def test_is_exact_on_trees(self, name, seed):
        field = random_field(FIELDS[name], 3, seed)
        labels, least = minimise(*field)
        assert least == min(all_energies(*field))
        assert energy(*field, labels) == slow_energy(*field, labels) == least

    @pytest.mark.parametrize("name", ["chain", "column"])
    def test_on_a_chain_messages_give_the_least_energy_of_every_label(self, name):
        nodes, unary, *_ = field = random_field(FIELDS[name], 3, 0)
        messages = np.zeros((4, *unary.shape))
        send_messages(*field, messages)
        least = np.full(unary.shape, np.inf)
        for choice in product(range(3), repeat=int(nodes.sum())):
            labels = np.array(choice).reshape(nodes.shape)
            taken = np.arange(3) == labels[..., None]
            least[taken] = np.minimum(least[taken], slow_energy(*field, labels))
        found = unary + messages.sum(0)
        np.testing.assert_allclose(found - found.min(-1, keepdims=True), least - least.min(-1, keepdims=True))

    @pytest.mark.parametrize("seed", range(6))
    def test_is_near_on_a_grid(self, seed):
        field = random_field(FIELDS["grid"], 3, seed)
        labels, reached = minimise(*field)
        energies = sorted(all_energies(*field))
        assert slow_energy(*field, labels) == reached
        assert reached <= energies[len(energies) // 50]

    def test_energy_never_rises(self):
        rng = np.random.default_rng(0)
        field = random_field(rng.random((12, 9)) < 0.8, 5, 3)
        lowest_alone = np.where(field[0], field[1].argmin(-1), 0)
        reached = [energy(*field, lowest_alone), *(minimise(*field, passes=p)[1] for p in (0, 1, 5, 30))]
        assert reached[1] < reached[0]  # pixel by pixel alone improves
        assert reached[4] < reached[1]  # messages find what that does not
        assert reached[4] <= reached[0]

    def test_no_pairwise_term_takes_the_nearest(self):
        nodes, unary, right, down = random_field(np.ones((4, 5)), 4, 1)
        labels, _ = minimise(nodes, unary, 0 * right, 0 * down)
        assert (np.take_along_axis(unary, labels[..., None], -1)[..., 0] == unary.min(-1)).all()


class TestTerms:
    def test_potts_by_hand(self):
        maps = np.zeros((2, 3, 3), np.uint8)
        maps[0, 1], maps[1, 1] = [1, 2, 3], [2, 2, 2]
        numbers = np.full((3, 3, 2), -1)
        numbers[1, 0], numbers[1, 1] = [3, 12], [4, 5]  # labels 1, 2 and 2, 3
        right, down = pairwise_terms(numbers, maps, "potts", 5.0)
        assert right[1, 0].tolist() == [[5, 5], [0, 5]]
        right[1, 0] = 0
        assert not right.any()
        assert not down.any()

    @pytest.mark.parametrize(("dy", "dx"), [(0, 1), (1, 0)])
    def test_overlap_equals_the_slow_one(self, dy, dx):
        maps = hands(3, 30)
        places = np.argwhere(maps > 0)
        rng = np.random.default_rng(0)
        chosen = places[rng.integers(0, len(places), 4)]
        of = (chosen[:, 0] * 30 + chosen[:, 1]) * 30 + chosen[:, 2]
        numbers = np.full((30, 30, 2), -1)
        numbers[8, 9], numbers[8 + dy, 9 + dx] = of[:2], of[2:]
        term = pairwise_terms(numbers, maps, "overlap", 0.5)[dy]
        padded = np.pad(maps, ((0, 0), (13, 13), (13, 13)))
        patches = [padded[m, y : y + 27, x : x + 27] for m, y, x in chosen]
        for i in range(2):
            for j in range(2):
                one, other = patches[i][dy:, dx:], patches[2 + j][: 27 - dy, : 27 - dx]
                assert term[8, 9, i, j] == 0.5 * (one != other).sum()
        term[8, 9] = 0
        assert not term.any()


class TestRestore:
    @pytest.mark.parametrize("integration", ["potts", "overlap"])
    def test_smooths_what_single_patches_say(self, integration):
        truth = hands(60, 24)
        dictionary = dictionary_of(truth)
        query = np.where(truth[5] > 0, np.maximum(with_noise(truth[5], 3), 1), 0).astype(np.uint8)
        maps = torch.from_numpy(query)[None]
        alone = restore(maps, dictionary, window=1).maps[0].numpy()
        field = restore(maps, dictionary, integration=integration)
        assert field.numbers.shape[-1] == 10
        one = field.maps[0].numpy()
        assert ((one > 0) == (query > 0)).all()
        edges = lambda m: (m[1:] != m[:-1]).sum() + (m[:, 1:] != m[:, :-1]).sum()  # noqa: E731
        assert edges(one) <= edges(alone)
        assert (one == truth[5])[query > 0].mean() > 0.8 > (query == truth[5])[query > 0].mean() - 0.1
        still = restore(maps, dictionary, integration=integration, alpha=0.0).maps[0].numpy()
        assert (still == alone).all()

    def test_a_window_of_one_takes_what_the_nearest_patch_says(self):
        dictionary = dictionary_of(hands(20, 24))
        maps = torch.from_numpy(hands(1, 24, seed=3))
        restored = restore(maps, dictionary, window=1)
        nearest = torch.from_numpy(dictionary.maps).flatten()[restored.numbers[..., 0].clamp_min(0)]
        assert (restored.maps == torch.where(maps > 0, nearest, 0)).all()
        assert (restored.maps != maps).any()

    def test_refusals(self):
        dictionary = dictionary_of(hands(3, 24))
        maps = torch.from_numpy(hands(1, 24, seed=3))
        with pytest.raises(ValueError, match="integration: expected one of 'vote', 'potts', 'overlap'"):
            restore(maps, dictionary, integration="mean")
        with pytest.raises(ValueError, match="alpha: expected a finite number of at least 0"):
            restore(maps, dictionary, integration="potts", alpha=-1.0)


def test_a_neighbour_that_was_not_found_is_not_taken():
    maps = np.zeros((2, 3, 3), np.uint8)
    maps[1, 1, 1] = 7
    numbers, distances = np.full((3, 3, 2), -1), np.full((3, 3, 2), 730)
    numbers[1, 1, 0], distances[1, 1, 0] = 9 + 4, 400
    assert integrate(numbers, distances, maps, "potts", 3.0)[1].tolist() == [0, 7, 0]
