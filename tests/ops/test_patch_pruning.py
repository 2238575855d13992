"""The search without an index: pairs ranked through cells, pairs searched exactly, and both against all patches."""

import numpy as np
import pytest
import torch

from ops.patch_restoration import PATCH_SIZE, PatchDictionary, restore
from ops.patch_restoration.cells import CELL, LANES, SPAN, sampled, shown, side_by_side
from ops.patch_restoration.ranking import ranked_pairs
from ops.patch_restoration.reference import nearest_by_brute_force
from ops.patch_restoration.search import refine
from tests.ops.test_patch_restoration import blobs, dictionary_of, every, with_noise


def hands(maps: int, side: int = 30, seed: int = 0) -> np.ndarray:
    """Maps (M, side, side) of a few discs of parts about the middle: like crops of a hand, and like each other."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    made = np.zeros((maps, side, side), np.uint8)
    for one in made:
        for part in range(1, 8):
            cy, cx = side / 2 + rng.normal(0, side / 6, 2)
            one[(y - cy) ** 2 + (x - cx) ** 2 < (side / (6 + part)) ** 2] = part
    return made


class TestCells:
    def test_by_hand(self):
        assert CELL * SPAN == PATCH_SIZE
        one = np.zeros((1, 7, 4), np.uint8)
        one[0, 1, 1], one[0, 6, 3], one[0, 0, 3] = 5, 6, 7
        assert sampled(one).tolist() == [[[5, 7 * 0], [0, 0], [0, 6]]]
        assert shown(one).tolist() == [[[True, True], [False, False], [False, True]]]

    def test_side_by_side(self):
        cells = np.arange(70 * 6, dtype=np.uint16).reshape(70, 2, 3)
        together = side_by_side(cells)
        assert together.shape == (2, 2, 3, LANES)
        assert (together[1, :, :, 5] == cells[69]).all()
        assert (together[1, :, :, 6:] == 0).all()


def slow_ranking(query: np.ndarray, maps: np.ndarray, candidates: int, reach: int) -> set[tuple[int, int, int]]:
    """What ranked_pairs finds, pair by pair and cell by cell."""
    cells, own = sampled(maps), sampled(query[None])[0]
    height, width = own.shape
    rim = SPAN // 2
    padded, own = np.pad(cells, ((0, 0), (rim + reach,) * 2, (rim + reach,) * 2)), np.pad(own, rim)
    pairs = set()
    for i, j in np.argwhere(shown(query[None])[0]):
        scores = []
        for m in range(len(maps)):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= i + dy < height and 0 <= j + dx < width:
                        y, x = i + dy + reach, j + dx + reach
                        same = own[i : i + SPAN, j : j + SPAN] == padded[m, y : y + SPAN, x : x + SPAN]
                        # in the order in which the kernel goes: blocks of maps, displacements, maps
                        scores.append((-int(same.sum()), m // LANES, dy, dx, m))
        pairs |= {(m, CELL * dy, CELL * dx) for _, _, dy, dx, m in sorted(scores)[:candidates]}
    return pairs


class TestRanking:
    @pytest.mark.parametrize(("candidates", "radius"), [(1, 3), (9, 6), (5000, 3)])
    def test_equals_the_slow_one(self, candidates, radius):
        maps = hands(70, 20)
        query = with_noise(maps[68])
        query[:6] = 0
        pairs = ranked_pairs(query, dictionary_of(maps), candidates, radius)
        assert set(map(tuple, pairs.tolist())) == slow_ranking(query, maps, candidates, radius // CELL)
        assert (np.diff(pairs[:, 0]) >= 0).all()

    def test_does_not_depend_on_threads(self):
        maps = hands(700, 20)
        threads = torch.get_num_threads()
        pairs = []
        try:
            for number in (1, 3):
                torch.set_num_threads(number)
                pairs.append(ranked_pairs(maps[3], dictionary_of(maps), 7, 6))
        finally:
            torch.set_num_threads(threads)
        assert (pairs[0] == pairs[1]).all()


class TestRefine:
    @pytest.mark.parametrize("neighbours", [1, 3])
    @pytest.mark.parametrize("size", [(11, 9), (31, 40)])
    def test_all_pairs_are_all_patches(self, neighbours, size):
        """Every map at every displacement: what brute force finds, bit for bit, ties and borders included."""
        entries = blobs(5, *size)
        entries[-1] = entries[0]
        query = with_noise(entries[0])
        queried = every(1 if size[0] < 20 else 7, query)
        steps = [np.arange(-(side // CELL) * CELL, side, CELL) for side in size]
        pairs = np.stack(np.meshgrid(np.arange(5), *steps, indexing="ij"), -1).reshape(-1, 3)
        found = refine(query, queried, entries, pairs, neighbours, slack=PATCH_SIZE**2)
        expected = nearest_by_brute_force(*map(torch.from_numpy, (query, queried, entries)), neighbours)
        assert (found.distances[queried] == expected[0].numpy()).all()
        assert (found.numbers[queried] == expected[1].numpy()).all()
        assert (found.numbers[~queried] == -1).all()
        assert (found.distances[~queried] == PATCH_SIZE**2 + 1).all()

    def test_one_pair_reaches_a_pixel_beside_it(self):
        entries = hands(2, 30, seed=4)
        query = np.roll(entries[1], (4, -2), (0, 1))
        queried = query > 0
        near = refine(query, queried, entries, np.array([[1, -3, 3]]), slack=PATCH_SIZE**2)
        assert (near.distances[queried] == 0).mean() > 0.9  # but for what left the map
        far = refine(query, queried, entries, np.array([[1, 0, 0]]), slack=PATCH_SIZE**2)
        assert (far.distances[queried] == 0).mean() < 0.1

    def test_slack_leaves_out_what_is_far(self):
        entries = hands(40, 30)
        query = with_noise(entries[7])
        pairs = ranked_pairs(query, dictionary_of(entries), 20, 6)
        whole, some, none = (refine(query, query > 0, entries, pairs, slack=s) for s in (PATCH_SIZE**2, 20, -(10**3)))
        assert (whole.distances <= some.distances).all()
        assert (some.distances <= none.distances).all()
        assert (none.distances > whole.distances).any()
        assert (some.distances == whole.distances).mean() > 0.99

    def test_does_not_depend_on_threads(self):
        entries = hands(300, 30)
        query = with_noise(entries[7])
        pairs = ranked_pairs(query, dictionary_of(entries), 10, 6)
        threads = torch.get_num_threads()
        found = []
        try:
            for number in (1, 3):
                torch.set_num_threads(number)
                found.append(refine(query, query > 0, entries, pairs, neighbours=3))
        finally:
            torch.set_num_threads(threads)
        assert (found[0].numbers == found[1].numbers).all()


class TestPruned:
    def test_finds_nearly_what_all_patches_hold(self):
        maps = hands(500)
        dictionary = dictionary_of(maps)
        queries = np.stack([np.where(one > 0, with_noise(one, 5), 0) for one in hands(2, seed=9)]).astype(np.uint8)
        queries[(queries == 0) & (hands(2, seed=9) > 0)] = 1
        fast = restore(torch.from_numpy(queries), dictionary, backend="pruned")
        exact = restore(torch.from_numpy(queries), dictionary, backend="reference")
        foreground = torch.from_numpy(queries > 0)
        excess = (fast.distances - exact.distances)[..., 0][foreground].float()
        assert excess.min() >= 0
        assert (excess == 0).float().mean() > 0.7
        assert excess.mean() < 3
        assert (fast.maps == exact.maps)[foreground].float().mean() > 0.85
        more = restore(torch.from_numpy(queries), dictionary, backend="pruned", candidates=1000)
        better = (more.distances - exact.distances)[..., 0][foreground].float()
        assert (better == 0).float().mean() > 0.9
        assert (more.maps == exact.maps)[foreground].float().mean() > 0.93

    def test_a_map_of_the_dictionary_is_found_whole(self):
        maps = hands(200)
        restored = restore(torch.from_numpy(maps[60:62]), dictionary_of(maps), backend="pruned", neighbours=2)
        assert (restored.maps.numpy() == maps[60:62]).all()
        looked_up = restored.numbers[..., 0] >= 0
        assert (restored.distances[..., 0][looked_up] == 0).all()
        assert (looked_up.numpy() == (maps[60:62] > 0)).all()

    def test_auto_looks_at_the_size(self, monkeypatch):
        maps = torch.from_numpy(hands(3, seed=5))
        dictionary = dictionary_of(hands(70))
        exact, auto, fast = (
            restore(maps, dictionary, backend=b, candidates=1) for b in ("reference", "auto", "pruned")
        )
        assert (auto.numbers == exact.numbers).all()
        assert (auto.numbers != fast.numbers).any()
        monkeypatch.setattr("ops.patch_restoration.backends.SMALL", 10)
        assert (restore(maps, dictionary, candidates=1).numbers == fast.numbers).all()

    def test_refusals(self):
        dictionary = PatchDictionary(hands(3), "hand-1", 0, "clean/1", 72)
        maps = torch.from_numpy(hands(1))
        with pytest.raises(ValueError, match="candidates: expected at least 1, got 0"):
            restore(maps, dictionary, backend="pruned", candidates=0)
