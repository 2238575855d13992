"""Dictionary file, exact search against brute force, vote by hand, refusals."""

import json
import struct

import numpy as np
import pytest
import torch

from ops.patch_restoration import LABELS, PatchDictionary, restore
from ops.patch_restoration.reference import nearest_by_brute_force
from ops.patch_restoration.search import EVERYWHERE, nearest
from ops.patch_restoration.vote import count_votes, vote


def blobs(maps: int, height: int = 11, width: int = 9, labels: int = 4, seed: int = 0) -> np.ndarray:
    """Maps (M, H, W) of patches of random labels, so that patches resemble each other and distances tie."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, labels, (maps, -(-height // 3), -(-width // 3)), dtype=np.uint8)
    small[:, 0, 0] = 1
    return np.repeat(np.repeat(small, 3, 1), 3, 2)[:, :height, :width].copy()


def dictionary_of(maps: np.ndarray) -> PatchDictionary:
    return PatchDictionary(maps, "hand-1", 0, "clean/1", 72)


def with_noise(picture: np.ndarray, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(picture.shape) < 0.2, rng.integers(0, 4, picture.shape), picture).astype(np.uint8)


def every(stride: int, query: np.ndarray) -> np.ndarray:
    """(H, W) bool: every stride-th foreground pixel in x and in y."""
    grid = np.zeros(query.shape, bool)
    grid[::stride, ::stride] = query[::stride, ::stride] > 0
    return grid


class TestFile:
    def test_comes_back_as_it_was(self, tmp_path):
        dictionary = dictionary_of(blobs(5))
        dictionary.save(tmp_path / "d.safetensors")
        again = PatchDictionary.load(tmp_path / "d.safetensors", hand_model="hand-1")
        assert (again.maps == dictionary.maps).all()
        facts = again.hand_model, again.seed, again.domain, again.crop_size, again.patches
        assert facts == ("hand-1", 0, "clean/1", 72, np.count_nonzero(dictionary.maps))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["d.safetensors"]

    def test_another_hand_is_refused(self, tmp_path):
        dictionary_of(blobs(2)).save(tmp_path / "d.safetensors")
        with pytest.raises(ValueError, match=r"d.safetensors.*hand_model is 'hand-1', expected 'hand-2'"):
            PatchDictionary.load(tmp_path / "d.safetensors", hand_model="hand-2")

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("labels", "background palm", "another kind: labels is 'background palm'"),
            ("patch_size", "25", "patch_size is '25', expected '27'"),
            ("checksum", "00", "damaged"),
            ("seed", "one", "not a usable"),
            ("format", "something else", "is no patch dictionary"),
        ],
    )
    def test_another_header_is_refused(self, tmp_path, name, value, message):
        path = tmp_path / "d.safetensors"
        dictionary_of(blobs(2)).save(path)
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"][name] = value
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
        with pytest.raises(ValueError, match=message):
            PatchDictionary.load(path)

    def test_damage_is_found(self, tmp_path):
        path = tmp_path / "d.safetensors"
        maps = blobs(2)
        dictionary_of(maps).save(path)
        content = bytearray(path.read_bytes())
        content[-maps.size] ^= 3  # palm becomes another part: a label of the set, in the wrong place
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checksum.*damaged"):
            PatchDictionary.load(path)
        path.write_bytes(content[:-7])
        with pytest.raises(ValueError, match=r"d.safetensors: cannot be read as a patch dictionary"):
            PatchDictionary.load(path)
        path.write_bytes(b"PK\x03\x04 and so on")
        with pytest.raises(ValueError, match=r"d.safetensors: cannot be read"):
            PatchDictionary.load(path)
        with pytest.raises(FileNotFoundError, match="no such patch dictionary; build one with"):
            PatchDictionary.load(tmp_path / "none.safetensors")

    def test_maps_that_are_none_are_refused(self):
        maps = blobs(3)
        with pytest.raises(ValueError, match="expected uint8"):
            dictionary_of(maps.astype(np.int64))
        maps[1, 2, 3] = len(LABELS)
        with pytest.raises(ValueError, match="map 1 has label 21, outside the set 0"):
            dictionary_of(maps)
        maps[1] = 0
        with pytest.raises(ValueError, match="map 1 is empty"):
            dictionary_of(maps)

    def test_first_maps(self):
        dictionary = dictionary_of(blobs(3))
        assert (dictionary.first(2).maps == dictionary.maps[:2]).all()
        with pytest.raises(ValueError, match="expected 1 to 3"):
            dictionary.first(4)


class TestSearch:
    @pytest.mark.parametrize(("maps", "neighbours"), [(3, 1), (24, 3), (67, 2)])
    def test_equals_brute_force(self, maps, neighbours):
        """Distances and numbers, ties and borders included: the maps are smaller than a patch, and alike."""
        entries = blobs(maps)
        entries[-1] = entries[0]
        query = with_noise(entries[0])
        foreground = query > 0
        distances, numbers = nearest_by_brute_force(
            torch.from_numpy(query), torch.from_numpy(foreground), torch.from_numpy(entries), neighbours
        )
        assert neighbours == 1 or (distances[:, 0] == distances[:, 1]).any()  # there are ties to break
        found = nearest(query, foreground, entries, neighbours=neighbours)
        assert (found.distances[foreground] == distances.numpy()).all()
        assert (found.numbers[foreground] == numbers.numpy()).all()
        assert (found.numbers[~foreground] == -1).all()

    def test_equals_brute_force_on_maps_larger_than_a_patch(self):
        entries = blobs(5, 31, 40, labels=3, seed=2)
        query = with_noise(entries[4])
        queried = every(6, query)
        expected = nearest_by_brute_force(*map(torch.from_numpy, (query, queried, entries)), neighbours=1)
        found = nearest(query, queried, entries)
        assert (found.distances[queried] == expected[0].numpy()).all()
        assert (found.numbers[queried] == expected[1].numpy()).all()

    def test_does_not_depend_on_threads(self):
        entries = blobs(500)
        query = with_noise(entries[7])
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            one = nearest(query, query > 0, entries, neighbours=3)
            torch.set_num_threads(3)
            three = nearest(query, query > 0, entries, neighbours=3)
        finally:
            torch.set_num_threads(threads)
        assert (one.numbers == three.numbers).all()
        assert (one.distances == three.distances).all()

    def test_radius_limits_the_search(self):
        entries = blobs(3)
        query = with_noise(entries[1])
        found = nearest(query, query > 0, entries, radius=2)
        all_of_them = nearest_by_brute_force(*map(torch.from_numpy, (query, query > 0, entries)), neighbours=10**6)
        places = np.argwhere(query > 0)
        for (y, x), distances, numbers in zip(places, *(each.numpy() for each in all_of_them), strict=True):
            near = (abs(numbers // 9 % 11 - y) <= 2) & (abs(numbers % 9 - x) <= 2)
            assert found.distances[y, x, 0] == distances[near][0]
            assert found.numbers[y, x, 0] == numbers[near][0]
        one = np.zeros((2, 40, 40), np.uint8)
        one[:, 30, 30] = 1
        far = np.zeros((40, 40), np.uint8)
        far[5, 5] = 1
        assert nearest(far, far > 0, one, radius=24).numbers[5, 5, 0] == -1
        assert nearest(far, far > 0, one, radius=25).numbers[5, 5, 0] == 30 * 40 + 30
        assert nearest(far, far > 0, one, radius=EVERYWHERE).distances[5, 5, 0] == 0


class TestVote:
    def test_by_hand(self):
        """Three pixels in a row; each patch found says palm, thumb or nothing about its neighbours."""
        maps = torch.zeros(2, 3, 3, dtype=torch.uint8)
        maps[0, 1] = torch.tensor([2, 2, 1])
        maps[1, 1] = torch.tensor([0, 3, 3])
        query = torch.zeros(3, 3, dtype=torch.uint8)
        query[1] = torch.tensor([5, 5, 5])
        numbers = torch.full((3, 3), -1)
        numbers[1] = torch.tensor([9 + 4, 4, 9 + 4])  # middle of map 1, of map 0, of map 1
        # left hears 3 (own) and 2; middle hears 3 (from the left), 2 (own) and 0; right hears 3 (own) and 1
        assert vote(query, numbers, maps, 3)[1].tolist() == [2, 2, 1]
        assert vote(query, numbers, maps, 1)[1].tolist() == [3, 2, 3]
        # window 5: the right one's patch reaches the left pixel with what is outside map 1, background: no vote
        assert vote(query, numbers, maps, 5)[1].tolist() == [2, 2, 1]
        assert (vote(query, numbers, maps, 3)[[0, 2]] == 0).all()
        silent = torch.full((3, 3), -1)
        assert vote(query, silent, maps, 3)[1].tolist() == [5, 5, 5]

    @pytest.mark.parametrize("window", [1, 3, 17, 27])
    def test_kernel_equals_plain_torch(self, window):
        maps = torch.from_numpy(blobs(6))
        places = maps.nonzero()
        rng = np.random.default_rng(3)
        numbers = ((places[:, 0] * 11 + places[:, 1]) * 9 + places[:, 2])[rng.integers(0, len(places), 99)].view(11, 9)
        numbers[rng.random((11, 9)) < 0.3] = -1
        query = maps[0]
        counts = count_votes(numbers, maps, window)[..., 1:]
        expected = torch.where(counts.sum(-1) > 0, counts.argmax(-1).to(torch.uint8) + 1, query) * (query > 0)
        assert (vote(query, numbers, maps, window) == expected).all()


class TestRestore:
    def test_a_map_of_the_dictionary_stays(self):
        dictionary = dictionary_of(blobs(30, 20, 20, labels=9))
        maps = torch.from_numpy(dictionary.maps[3:5])
        restored = restore(maps, dictionary)
        assert (restored.maps == maps).all()
        assert (restored.distances[maps > 0] == 0).all()

    def test_noise_is_voted_down(self):
        dictionary = dictionary_of(blobs(30, 20, 20, labels=9))
        clean = dictionary.maps[3]
        rng = np.random.default_rng(0)
        noisy = np.where((rng.random(clean.shape) < 0.15) & (clean > 0), 2, clean).astype(np.uint8)
        assert (noisy != clean).sum() > 20
        restored = restore(torch.from_numpy(noisy)[None], dictionary)
        assert (restored.maps[0].numpy() == clean).all()
        assert ((restored.numbers[0, ..., 0] >= 0).numpy() == (clean > 0)).all()

    def test_refusals(self):
        dictionary = dictionary_of(blobs(3))
        maps = torch.from_numpy(blobs(2, seed=5))
        with pytest.raises(ValueError, match=r"maps: expected shape \(B, 11, 9\)"):
            restore(maps[:, :5], dictionary)
        with pytest.raises(TypeError, match="maps: expected uint8"):
            restore(maps.long(), dictionary)
        with pytest.raises(ValueError, match="backend: expected one of"):
            restore(maps, dictionary, backend="kd-tree")
        with pytest.raises(ValueError, match="window: expected an odd number"):
            restore(maps, dictionary, window=4)
        with pytest.raises(ValueError, match="neighbours: expected at least 1"):
            restore(maps, dictionary, neighbours=0)
        with pytest.raises(ValueError, match="neighbours: expected at most"):
            restore(maps, dictionary, neighbours=10**6)
        bad = maps.clone()
        bad[1, 2, 3] = 255
        with pytest.raises(ValueError, match="maps: map 1 has label 255"):
            restore(bad, dictionary)
        bad[1] = 0
        with pytest.raises(ValueError, match="maps: map 1 is empty"):
            restore(bad, dictionary)
