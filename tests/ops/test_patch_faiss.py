"""FAISS ranks, the kernel searches: against all patches; the index file; the device; backends that cannot run."""

import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from ops.patch_restoration import PatchDictionary, PatchIndex, backends, index_path, restore
from ops.patch_restoration.cells import sampled
from ops.patch_restoration.device_search import check_device, refine_by_torch
from ops.patch_restoration.faiss_index import _padded, _samples_at, index_of
from ops.patch_restoration.ranking import ranked_pairs
from ops.patch_restoration.search import refine
from tests.ops.test_patch_pruning import hands
from tests.ops.test_patch_restoration import blobs, dictionary_of, with_noise

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def dictionary() -> PatchDictionary:
    pytest.importorskip("faiss", reason="FAISS is not installed")
    return dictionary_of(hands(400))


@pytest.fixture(scope="module")
def index(dictionary: PatchDictionary) -> PatchIndex:
    return index_of(dictionary)


def noisy(maps: np.ndarray) -> np.ndarray:
    return np.where(maps > 0, np.maximum(with_noise(maps, 5), 1), 0).astype(np.uint8)


class TestIndex:
    def test_samples_by_hand(self):
        maps = np.zeros((2, 9, 9), np.uint8)
        maps[1, 4, 4] = 3
        rows = _samples_at(_padded(sampled(maps)), np.array([4, 9 + 4, 9 + 8]))  # cells 3 x 3: middles, and a corner
        labels = rows - np.arange(81) * 21
        assert (labels[0] == 0).all()
        assert np.flatnonzero(labels[1]).tolist() == [40]
        assert np.flatnonzero(labels[2]).tolist() == [40 - 9 - 1]
        assert labels[1, 40] == 3

    def test_finds_a_map_of_the_dictionary_where_it_is(self, dictionary, index):
        pairs = index.pairs(dictionary.maps[77], candidates=1, probes=1)
        # every entry is nearest to itself, unless another map has the same samples around
        assert [77, 0, 0] in pairs.tolist()
        assert len(pairs) < 12

    def test_pairs_are_whole_cells_once_and_by_map(self, dictionary, index):
        pairs = index.pairs(noisy(hands(1, seed=9))[0], 30, 8)
        assert pairs.dtype == np.int64
        assert len(np.unique(pairs, axis=0)) == len(pairs)
        assert (np.diff(pairs[:, 0]) >= 0).all()
        assert (pairs[:, 1:] % 3 == 0).all()
        assert abs(pairs[:, 1:]).max() < 30
        assert pairs[:, 0].max() < 400

    def test_file_comes_back(self, dictionary, index, tmp_path):
        index.save(tmp_path / "d.index.safetensors")
        again = PatchIndex.load(tmp_path / "d.index.safetensors", dictionary)
        query = noisy(hands(1, seed=9))[0]
        assert (again.pairs(query, 20) == index.pairs(query, 20)).all()
        assert [p.name for p in tmp_path.iterdir()] == ["d.index.safetensors"]

    def test_the_file_beside_the_dictionary_is_used(self, dictionary, tmp_path, monkeypatch):
        path = tmp_path / "d.safetensors"
        dictionary.save(path)
        index_of(dictionary).save(index_path(path))
        monkeypatch.setattr(PatchIndex, "build", lambda *_: pytest.fail("built again"))
        loaded = PatchDictionary.load(path)
        maps = torch.from_numpy(noisy(hands(1, seed=9)))
        restored = restore(maps, loaded, backend="faiss-cpu")
        assert (restored.maps == restore(maps, dictionary, backend="faiss-cpu").maps).all()

    def test_refusals(self, dictionary, index, tmp_path):
        path = tmp_path / "d.index.safetensors"
        with pytest.raises(FileNotFoundError, match="no such patch index; build one"):
            PatchIndex.load(path, dictionary)
        index.save(path)
        with pytest.raises(ValueError, match=r"d.index.safetensors: index of another dictionary"):
            PatchIndex.load(path, dictionary_of(hands(3)))
        content = bytearray(path.read_bytes())
        content[-1000] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match="does not fit its header, the file is damaged"):
            PatchIndex.load(path, dictionary)
        path.write_bytes(content[:-9])
        with pytest.raises(ValueError, match="cannot be read as a patch index"):
            PatchIndex.load(path, dictionary)
        save_file({"index": np.zeros(3, np.uint8)}, path)
        with pytest.raises(ValueError, match="is no patch index"):
            PatchIndex.load(path, dictionary)

    def test_a_smuggled_index_is_not_read(self, dictionary, index, tmp_path):
        """Bytes for FAISS other than those whose hash the header has never reach it."""
        path = tmp_path / "d.index.safetensors"
        index.save(path)
        arrays = load_file(path)
        arrays["index"][:4] = 0
        save_file(arrays, path, metadata={"format": "handful patch index 1", "dictionary": dictionary.checksum})
        with pytest.raises(ValueError, match="does not fit its header"):
            PatchIndex.load(path, dictionary)


class TestBackend:
    def test_finds_nearly_what_all_patches_hold(self, dictionary):
        queries = noisy(hands(2, seed=9))
        maps, foreground = torch.from_numpy(queries), torch.from_numpy(queries > 0)
        exact = restore(maps, dictionary, backend="reference")
        excess, agreement = [], []
        for candidates in (10, 1000):
            fast = restore(maps, dictionary, backend="faiss-cpu", candidates=candidates, probes=64)
            excess.append((fast.distances - exact.distances)[..., 0][foreground].float())
            agreement.append((fast.maps == exact.maps)[foreground].float().mean())
        assert min(each.min() for each in excess) >= 0
        assert (excess[0] == 0).float().mean() > 0.4
        assert (excess[1] == 0).float().mean() > 0.9
        assert agreement[1] > 0.95

    def test_random_maps_are_found_too(self):
        pytest.importorskip("faiss", reason="FAISS is not installed")
        maps = blobs(150, 30, 30, labels=6)
        query = with_noise(maps[11])
        restored = restore(torch.from_numpy(query)[None], dictionary_of(maps), backend="faiss-cpu")
        exact = restore(torch.from_numpy(query)[None], dictionary_of(maps), backend="reference")
        foreground = query > 0
        assert (restored.distances == exact.distances)[0, ..., 0].numpy()[foreground].mean() > 0.98
        assert (restored.maps == exact.maps)[0].numpy()[foreground].mean() > 0.98

    def test_without_faiss(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        maps = torch.from_numpy(hands(1))
        with pytest.raises(ImportError, match=r"FAISS is not installed; remedy: pip install 'handful\[cpu\]'"):
            restore(maps, dictionary_of(hands(3)), backend="faiss-cpu")

    def test_auto_takes_an_index_that_is_there_and_builds_none(self, dictionary, index, monkeypatch):
        monkeypatch.setattr(backends, "SMALL", 0)
        maps = torch.from_numpy(noisy(hands(1, seed=9)))
        auto, ranked = (restore(maps, dictionary, backend=b, candidates=3) for b in ("auto", "faiss-cpu"))
        assert (auto.numbers == ranked.numbers).all()
        monkeypatch.setattr(PatchIndex, "build", lambda *_: pytest.fail("built an index"))
        other = dictionary_of(dictionary.maps)
        auto, pruned = (restore(maps, other, backend=b, candidates=3) for b in ("auto", "pruned"))
        assert (auto.numbers == pruned.numbers).all() and (pruned.numbers != ranked.numbers).any()

    def test_gpu_named_without_one(self, dictionary):
        with pytest.raises(ValueError, match="faiss-gpu': maps lie on cpu, expected a CUDA device; move them"):
            restore(torch.from_numpy(hands(1)), dictionary, backend="faiss-gpu")

    def test_gpu_named_with_the_other_wheel(self, dictionary, monkeypatch):
        import faiss

        monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
        with pytest.raises(ImportError, match="no GPU support; remedy: pip uninstall -y faiss-cpu"):
            check_device(torch.device("cuda", 0))


class TestDevice:
    @pytest.mark.parametrize("neighbours", [1, 4])
    @pytest.mark.parametrize("slack", [-5, 20])
    def test_torch_finds_what_the_kernel_finds(self, dictionary, neighbours, slack):
        query = noisy(hands(1, seed=9))[0]
        queried = query > 0
        queried[::3] = False
        pairs = np.concatenate([ranked_pairs(query, dictionary, 5), [[399, -27, 27], [399, 0, -27]]])
        expected = refine(query, queried, dictionary.maps, pairs, neighbours, slack)
        found = refine_by_torch(
            *map(torch.from_numpy, (query, queried, dictionary.maps)), pairs, neighbours, slack=slack
        )
        assert (found[0].numpy() == expected.distances).all()
        assert (found[1].numpy() == expected.numbers).all()

    @pytest.mark.gpu
    @needs_cuda
    def test_gpu_restores_what_the_cpu_restores(self, dictionary):
        maps = torch.from_numpy(noisy(hands(4, seed=9)))
        expected = restore(maps, dictionary, backend="faiss-cpu", candidates=100, probes=64)
        found = restore(maps.cuda(), dictionary, backend="faiss-gpu", candidates=100, probes=64)
        assert found.maps.is_cuda
        # FAISS rounds otherwise there: a few other candidates
        assert (found.distances.cpu() == expected.distances).float().mean() > 0.98
        assert (found.maps.cpu() == expected.maps).float().mean() > 0.98
