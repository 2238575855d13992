"""Patch restoration with 36 million patches: time, how near to the exact search, accuracy, cost against size.

    python -m datamodules.patch_dictionary runs/patches.safetensors --index
    python -m benchmarks.patch_restoration --dictionary runs/patches.safetensors [--maps 100] [--save]

Queries are part maps of held-out hands with errors like a segmentation's (`benchmarks.patch_queries`). Truth is the
exhaustive search among all patches for `--exact-maps` of them: minutes each. For `--near-maps` it is the exact search
of all maps within 8 pixels of a pixel's place (rows say "within 8 px"); the fast backends may do better than it.
--truth keeps both, so that what is timed can be timed again on a quiet machine.

- `cpu_s_per_map_36m`: seconds a map of backend "faiss-cpu" with all cores; `cpu_s_per_map_pruned_36m` of "pruned";
  `core_s_...`: CPU time. `cuda_ms_per_map_36m`: of "faiss-gpu", where there is a CUDA device.
- `agreement_36m`, `recall_36m`, `excess_36m`: "faiss-cpu" against the exhaustive search: share of foreground pixels
  restored alike, of those whose patch is as near as the nearest, and mean surplus of Hamming distance.
- `..._200_candidates`: "faiss-cpu" with so many candidates a cell; `accuracy_reference_near_maps`: the exact search's.
- `build_core_s_36m`: CPU time of building the dictionary, by that of `--build-maps` of its maps;
  `index_build_core_s`: of the index, where its file was not there yet.
- `bytes_per_patch`: dictionary and index files; `bytes_per_patch_maps`: the dictionary alone.
- the plot: seconds a map against the number of patches.
"""

import argparse
import hashlib
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from rich.table import Table

from benchmarks.patch_queries import KdTrees, held_out_maps, with_errors
from benchmarks.report import emit
from datamodules.patch_dictionary import build_dictionary
from ops.patch_restoration import INTEGRATIONS, PatchDictionary, PatchIndex, Restored, index_path, restore
from ops.patch_restoration.faiss_index import index_of
from ops.patch_restoration.search import nearest
from ops.patch_restoration.vote import vote

NEAR = 8  # pixels
SIZES = (100_000, 1_000_000, 10_000_000)  # patches, and all there are
PEER_SIZES = (100_000, 1_000_000)  # where KD-trees still run
CURVE = (10, 25, 50, 100, 200, 400)  # candidates
_FEW = 10  # maps of the rows that only compare


@dataclass
class Queries:
    """Maps with errors and what they were, and what an exact search finds for the first of them."""

    clean: np.ndarray  # (B, 48, 48)
    noisy: torch.Tensor  # (B, 48, 48)
    truth: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)  # (distances, restored) a map

    def accuracy(self, maps: np.ndarray) -> float:
        """Share of foreground pixels that are right, mean of the maps."""
        own = zip(maps, self.clean, strict=False)
        return float(np.mean([(one == clean)[clean > 0].mean() for one, clean in own]))

    def compare(self, restored: Restored, truth: str) -> dict[str, float]:
        """Agreement, recall and excess of the first maps against a truth."""
        rows = []
        for i, (distances, maps) in enumerate(self.truth[truth]):
            foreground = self.clean[i] > 0
            excess = restored.distances[i, ..., 0].numpy()[foreground] - distances[foreground]
            agreement = (restored.maps[i].numpy() == maps)[foreground].mean()
            rows.append((agreement, (excess <= 0).mean(), excess.mean()))
        return dict(zip(("agreement", "recall", "excess"), np.mean(rows, 0).tolist(), strict=True))


def timed(task: Callable[[], Restored], maps: int) -> tuple[Restored, float, float]:
    """What a task gives, and its seconds and CPU seconds a map."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = task()
    return done, (time.perf_counter() - wall) / maps, (time.process_time() - cpu) / maps


def exact(queries: Queries, dictionary: PatchDictionary, name: str, maps: int, radius: int | None, kept: Path) -> float:
    """Fill in a truth, from the folder `kept` if it is there; CPU seconds a map that finding it took."""
    file = kept / f"{name}_{maps}.npz"
    asked = np.frombuffer(hashlib.sha256(dictionary.checksum.encode() + queries.noisy.numpy().tobytes()).digest(), "u1")
    if file.is_file():
        with np.load(file) as stored:
            if np.array_equal(stored["asked"], asked):
                queries.truth[name] = list(zip(stored["distances"], stored["restored"], strict=True))
                return float(stored["seconds"])
    labels, cpu = torch.from_numpy(dictionary.maps), time.process_time()
    limit = {} if radius is None else {"radius": radius}
    queries.truth[name] = []
    for query in queries.noisy[:maps]:
        found = nearest(query.numpy(), query.numpy() > 0, dictionary.maps, **limit)
        restored = vote(query, torch.from_numpy(found.numbers[..., 0]), labels, 17)
        queries.truth[name].append((found.distances[..., 0], restored.numpy()))
    seconds = (time.process_time() - cpu) / maps
    distances, restored = (np.stack(each) for each in zip(*queries.truth[name], strict=True))
    kept.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, asked=asked, distances=distances, restored=restored, seconds=seconds)
    return seconds


def backends(queries: Queries, dictionary: PatchDictionary, table: Table) -> dict[str, float]:
    """Rows and figures of the fast backends at their defaults."""
    figures = {"accuracy_input": queries.accuracy(queries.noisy.numpy())}
    for backend in ("pruned", "faiss-cpu"):
        run = partial(restore, dictionary=dictionary, backend=backend)
        run(queries.noisy[:1])  # compiles, reads or builds the index
        restored, wall, cpu = timed(partial(run, queries.noisy), len(queries.noisy))
        near, whole = (queries.compare(restored, truth) for truth in ("near", "exact"))
        accuracy = queries.accuracy(restored.maps.numpy())
        _row(table, f"{backend}, {len(queries.noisy)} maps, within {NEAR} px", wall, cpu, near, accuracy)
        _row(table, f"{backend}, against all patches", None, None, whole, None)
        kind = "" if backend == "faiss-cpu" else "_pruned"
        figures |= {f"cpu_s_per_map{kind}_36m": wall, f"core_s_per_map{kind}_36m": cpu}
        figures |= {f"{name}{kind}_36m": value for name, value in whole.items()}
        figures |= {f"{name}{kind}_within_8px_36m": value for name, value in near.items()}
        figures |= {f"accuracy{kind}": accuracy}
        some = len(queries.truth["near"])
        figures |= {f"accuracy{kind}_near_maps": queries.accuracy(restored.maps[:some].numpy())}
    return figures


def curve(queries: Queries, dictionary: PatchDictionary, table: Table) -> dict[str, float]:
    """Rows and figures of both fast backends with fewer and more candidates, on the maps with a truth."""
    figures = {}
    maps = queries.noisy[: len(queries.truth["near"])]
    for backend in ("pruned", "faiss-cpu"):
        for candidates in CURVE:
            run = partial(restore, maps, dictionary, backend=backend, candidates=candidates)
            restored, wall, cpu = timed(run, len(maps))
            near = queries.compare(restored, "near")
            accuracy = queries.accuracy(restored.maps.numpy())
            _row(table, f"{backend}, {candidates} candidates", wall, cpu, near, accuracy)
            kind = f"{'' if backend == 'faiss-cpu' else '_pruned'}_{candidates}_candidates"
            figures |= {f"cpu_s_per_map{kind}": wall, f"accuracy{kind}": accuracy}
            figures[f"agreement_within_8px{kind}"] = near["agreement"]
    return figures


def integrations(queries: Queries, dictionary: PatchDictionary, table: Table) -> dict[str, float]:
    """Rows and accuracies of the ways to make labels of overlapping patches."""
    figures = {}
    maps = queries.noisy[:_FEW]
    for name in ("none", *INTEGRATIONS):
        how = {"window": 1} if name == "none" else {"integration": name}
        restored, wall, cpu = timed(partial(restore, maps, dictionary, backend="pruned", **how), len(maps))
        figures[f"accuracy_{name}_{_FEW}_maps"] = accuracy = queries.accuracy(restored.maps.numpy())
        _row(table, f"pruned, integration {name}, {_FEW} maps", wall, cpu, {}, accuracy)
    return figures


def sizes(queries: Queries, dictionary: PatchDictionary, table: Table) -> dict[str, list[tuple[int, float]]]:
    """Rows and (patches, seconds a map) of the backends against the dictionary's size."""
    maps = queries.noisy[:_FEW]
    curves: dict[str, list[tuple[int, float]]] = {"pruned": [], "faiss-cpu": []}
    for patches in (*(size for size in SIZES if size < dictionary.patches), dictionary.patches):
        some = dictionary.first(max(1, round(len(dictionary.maps) * patches / dictionary.patches)))
        some = dictionary if len(some.maps) == len(dictionary.maps) else some
        for backend, points in curves.items():
            run = partial(restore, dictionary=some, backend=backend)
            run(maps[:1])
            restored, wall, cpu = timed(partial(run, maps), len(maps))
            points.append((some.patches, wall))
            name = f"{backend}, {some.patches / 1e6:.1f} million patches, {_FEW} maps"
            _row(table, name, wall, cpu, {}, queries.accuracy(restored.maps.numpy()))
    return curves


def peers(queries: Queries, dictionary: PatchDictionary, table: Table) -> dict[str, float]:
    """Rows of KD-trees and of the exhaustive search where KD-trees still run."""
    figures = {}
    index: PatchIndex = index_of(dictionary)
    for patches in (size for size in PEER_SIZES if size <= dictionary.patches):
        some = dictionary.first(max(1, round(len(dictionary.maps) * patches / dictionary.patches)))
        trees = KdTrees(some, index)
        few = [each.numpy() for each in queries.noisy[:4]]
        found, wall, cpu = timed(lambda trees=trees, few=few: [trees.distances(each) for each in few], len(few))
        (own, own_wall, own_cpu) = timed(
            lambda some=some, few=few: [nearest(each, each > 0, some.maps).distances[each > 0, 0] for each in few],
            len(few),
        )
        excess = np.concatenate(found) - np.concatenate(own)
        name = f"{some.patches / 1e6:.1f} million patches"
        near = {"recall": float((excess <= 0).mean()), "excess": float(excess.mean())}
        _row(table, f"FLANN KD-trees, {name} (built in {trees.build_s:.1f} core s)", wall, cpu, near, None)
        _row(table, f"reference, {name}", own_wall, own_cpu, {"recall": 1.0, "excess": 0.0}, None)
        figures |= {f"flann_s_per_map_{patches:.0e}".replace("+0", ""): wall}
        figures |= {f"flann_recall_{patches:.0e}".replace("+0", ""): near["recall"]}
    return figures


def plot(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Draw seconds a map against patches."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for backend, points in curves.items():
        axes.loglog(*zip(*points, strict=True), marker="o", label=backend)
    (start, first), (end, _) = curves["pruned"][0], curves["pruned"][-1]
    axes.loglog([start, end], [first, first * end / start], "k:", label="in proportion")
    axes.set(xlabel="patches in the dictionary", ylabel="seconds a 48x48 map")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def on_cuda(queries: Queries, dictionary: PatchDictionary) -> dict[str, float]:
    """Milliseconds a map on a CUDA device."""
    maps = queries.noisy.cuda()
    run = partial(restore, dictionary=dictionary, backend="faiss-gpu")
    run(maps[:2])
    torch.cuda.synchronize()
    start = time.perf_counter()
    run(maps)
    torch.cuda.synchronize()
    return {"cuda_ms_per_map_36m": 1000 * (time.perf_counter() - start) / len(maps)}


def _row(
    table: Table, name: str, wall: float | None, cpu: float | None, near: dict[str, float], accuracy: float | None
) -> None:
    seconds = ["" if each is None else f"{1000 * each:.0f}" for each in (wall, cpu)]
    shares = [f"{near[key]:.3f}" if key in near else "" for key in ("agreement", "recall", "excess")]
    table.add_row(name, *seconds, *shares, "" if accuracy is None else f"{accuracy:.3f}")


def main() -> None:
    """Measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dictionary", type=Path, required=True, help="file of datamodules.patch_dictionary")
    parser.add_argument("--maps", type=int, default=100, help="queries (default: %(default)s)")
    parser.add_argument("--exact-maps", type=int, default=2, help="compared with all patches (default: %(default)s)")
    parser.add_argument("--near-maps", type=int, default=12, help="with those within 8 px (default: %(default)s)")
    parser.add_argument("--build-maps", type=int, default=2000, help="maps rendered to time it (default: %(default)s)")
    parser.add_argument("--truth", type=Path, default=Path("runs/patch_truth"), help="keeps it (default: %(default)s)")
    parser.add_argument("--plot", type=Path, default=Path("runs/patch_restoration.png"), help="default: %(default)s")
    parser.add_argument("--save", action="store_true", help="store the figures in benchmarks/results")
    options = parser.parse_args()
    if not 1 <= options.exact_maps <= options.maps or not 1 <= options.near_maps <= options.maps:
        parser.error("--exact-maps and --near-maps: expected 1 to --maps")
    dictionary = PatchDictionary.load(options.dictionary)
    clean = held_out_maps(options.maps, dictionary.crop_size)
    queries = Queries(clean, torch.from_numpy(with_errors(clean)))
    table = Table("search", "ms", "core ms", "agreement", "recall@1", "excess", "accuracy", title="a 48x48 map")
    figures: dict[str, float | int] = {"patches": dictionary.patches, "maps": options.maps}
    build = time.process_time()
    build_dictionary(options.build_maps)
    figures["build_core_s_36m"] = (time.process_time() - build) * len(dictionary.maps) / options.build_maps
    build = time.process_time()
    index_of(dictionary)
    stored = index_path(options.dictionary)
    if not stored.is_file():
        figures["index_build_core_s"] = time.process_time() - build
        index_of(dictionary).save(stored)
    figures["bytes_per_patch_maps"] = options.dictionary.stat().st_size / dictionary.patches
    figures["bytes_per_patch"] = figures["bytes_per_patch_maps"] + stored.stat().st_size / dictionary.patches
    for name, maps, radius in (("near", options.near_maps, NEAR), ("exact", options.exact_maps, None)):
        figures[f"{name}_core_s_per_map_36m"] = seconds = exact(queries, dictionary, name, maps, radius, options.truth)
        accuracy = queries.accuracy(np.stack([each[1] for each in queries.truth[name]]))
        figures[f"accuracy_reference_{name}_maps"] = accuracy
        what = f"reference, {maps} maps" + (f", within {NEAR} px" if radius else "")
        _row(table, what, None, seconds, {"agreement": 1.0, "recall": 1.0, "excess": 0.0}, accuracy)
    figures |= backends(queries, dictionary, table)
    figures["memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures |= curve(queries, dictionary, table)
    figures |= integrations(queries, dictionary, table)
    curves = sizes(queries, dictionary, table)
    plot(curves, options.plot)
    figures |= {
        f"{backend}_s_per_map_{patches / 1e6:.1f}m": wall for backend in curves for patches, wall in curves[backend]
    }
    figures |= peers(queries, dictionary, table)
    if torch.cuda.is_available():
        figures |= on_cuda(queries, dictionary)
    emit("patch_restoration", figures, table, options.save)


if __name__ == "__main__":
    main()
