"""Rendered hands as a set on disk, in shards that can be written one by one, anywhere, and again.

    python -m datamodules.rendered write <folder> --domain sensor --split train --count 6000 --shard-size 1024
    python -m datamodules.rendered write <folder> ... --shards 3:7     # some; tasks of a SLURM array take their shares
    python -m datamodules.rendered verify <folder>                     # read everything, name what is damaged

Sample i depends on (domain, split, seed, i) alone. A finished shard is left as it is, so the same command goes on where
one died; the last one to finish writes the checksums into the manifest, and only then can the set be read.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from datamodules.batch import HandBatch
from datamodules.cropping import CropRule
from datamodules.domains import DOMAINS, SPLITS
from datamodules.fingerprint import stored_fingerprints
from datamodules.frames import BadFrame
from datamodules.hand_sampler import HandParameters, HandSampler
from datamodules.rendering import HandRenderer
from datamodules.shard_files import (
    DEPTH_UNIT,
    FORMAT,
    MANIFEST,
    OFFSETS,
    VERTEX_UNIT,
    Members,
    Shard,
    finished_shard,
    is_intact,
    label_dtype,
    pack_frame,
    shard_name,
    shard_offsets,
    write_bytes_whole,
    write_shard,
    write_text_whole,
)
from datamodules.transforms import as_pictured
from ops.hand_model import open_hand
from ops.hand_model.conventions import convention_names, joint_convention

BLOCK = 64  # samples rendered together, always the same: a batch's size reaches the last bit of its joints
_FARTHEST = DEPTH_UNIT * 0xFFFF
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
_ENCODINGS = {"jpg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]), "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 3])}


def facts_of(given: argparse.Namespace) -> dict[str, Any]:
    """What a set's samples depend on: all of its manifest but the shards."""
    domain, model = DOMAINS[given.domain], open_hand()
    total = domain.split(given.split).frames
    if total is not None and given.count > total:
        raise ValueError(f"--count: {domain.label}/{given.split} has {total} frames, got {given.count}")
    rgb = given.rgb or ("jpg" if domain.photo else "none")
    cut = CropRule("cube") if given.square is None else CropRule("square", square=given.square, centre=given.centre)
    return {
        "format": FORMAT,
        "domain": domain.label,
        "split": given.split,
        "seed": given.seed,
        "count": given.count,
        "shard_size": given.shard_size,
        "image_size": given.image_size,
        "left_share": given.left_share,
        "convention": given.convention,
        "convention_id": joint_convention(given.convention).id,
        "fingerprint": stored_fingerprints()[domain.label]["parameters"],
        "hand_model": model.id,
        "vertices": len(model.v_template),
        "shapes": model.shapedirs.shape[-1],
        "cut": cut.name,
        "square": given.square,
        "centre": given.centre,
        "rgb": rgb,
        "depth_unit": DEPTH_UNIT,
        "vertex_unit": VERTEX_UNIT,
    }


def write_command(folder: Path, facts: Mapping[str, Any]) -> str:
    """The command that writes the set of `facts`."""
    options = ("split", "seed", "count", "shard_size", "image_size", "left_share", "convention", "rgb")
    words = [f"--{name.replace('_', '-')} {facts[name]}" for name in options]
    if facts["square"] is not None:
        words.append(f"--square {facts['square']} --centre {facts['centre']}")
    domain = facts["domain"].partition("/")[0]
    return f"python -m datamodules.rendered write {folder} --domain {domain} {' '.join(words)}"


class ShardWriter:
    """Writes shards of one split.

    Args:
        folder: of the split.
        facts: of `facts_of`.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.shards = -(-facts["count"] // facts["shard_size"])
        manifest = folder / MANIFEST
        if manifest.exists():
            there = _read_facts(manifest)
            for name, value in self.facts.items():
                if there.get(name) != value:
                    raise ValueError(
                        f"{manifest}: a set with {name}={there.get(name)} is there, asked for is {value}; give the "
                        "options it was begun with, or another folder"
                    )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_text_whole(manifest, json.dumps(self.facts, indent=1) + "\n")

    def missing(self) -> list[int]:
        """Numbers of the shards that are not finished."""
        return [number for number in range(self.shards) if finished_shard(self.folder / shard_name(number)) is None]

    def write(self, number: int) -> Shard:
        """Write one shard."""
        torch.set_num_threads(1)  # a process per core
        first = number * self.facts["shard_size"]
        indices = range(first, min(first + self.facts["shard_size"], self.facts["count"]))
        return write_shard(self.folder / shard_name(number), self.samples(indices))

    def samples(self, indices: range) -> Iterator[tuple[int, Members]]:
        """Numbers and members of samples, rendered in blocks that are the same whatever the shards are."""
        facts, model = self.facts, open_hand()
        domain = DOMAINS[facts["domain"].partition("/")[0]]
        sampler = HandSampler(domain, model, facts["left_share"])
        modalities = ("depth", "parts") if facts["rgb"] == "none" else ("depth", "parts", "rgb")
        rule = None if facts["square"] is None else CropRule("square", square=facts["square"], centre=facts["centre"])
        renderer = HandRenderer(model, facts["image_size"], modalities, facts["convention"], crop=rule)
        renderer.lean = True
        total = domain.split(facts["split"]).frames
        for start in range(indices[0] // BLOCK * BLOCK, indices[-1] + 1, BLOCK):
            block = np.arange(start, start + BLOCK if total is None else min(start + BLOCK, total))
            parameters = sampler.sample(facts["seed"], facts["split"], 0, block)
            batch = as_pictured(renderer(parameters))
            for row, index in enumerate(block.tolist()):
                if index in indices:
                    yield index, self._packed(index, row, parameters, batch)

    def _packed(self, index: int, row: int, parameters: HandParameters, batch: HandBatch) -> dict[str, bytes]:
        depth = batch["depth"][row, 0].numpy()
        if depth.max() > _FARTHEST:
            raise ValueError(f"sample {index}: depth of {depth.max():.2f} m, 16 bits hold {_FARTHEST:.2f} m")
        pictures = {
            "depth.png": _encoded(".png", np.rint(depth / DEPTH_UNIT).astype(np.uint16), _PNG),
            "parts.png": _encoded(".png", batch["parts"][row].numpy(), _PNG),
        }
        if self.facts["rgb"] != "none":
            colours = batch["rgb"][row].permute(1, 2, 0).numpy()[..., ::-1]
            suffix, settings = _ENCODINGS[self.facts["rgb"]]
            pictures[f"rgb{suffix}"] = _encoded(suffix, np.ascontiguousarray(colours), settings)
        return pack_frame(pictures, self._labels(index, row, parameters, batch))

    def _labels(self, index: int, row: int, parameters: HandParameters, batch: HandBatch) -> np.ndarray:
        labels = np.zeros((), label_dtype(self.facts["vertices"], self.facts["shapes"]))
        labels["index"] = index
        for name in ("side", "K", "crop", "original_size", "cube_centre", "joints_3d"):
            labels[name] = batch[name][row].numpy()
        for name in ("pose", "shape", "global_rotation"):
            labels[name] = getattr(parameters, name)[row].numpy()
        vertices = batch["vertices"][row].numpy()
        mean = vertices.mean(0)
        steps = np.rint((vertices - mean) / VERTEX_UNIT)
        if np.abs(steps).max() > 0x7FFF:
            raise ValueError(
                f"sample {index}: a vertex lies {np.abs(vertices - mean).max():.2f} m from the hand's middle"
            )
        labels["vertex_mean"], labels["vertices"] = mean, steps
        return labels

    def finish(self) -> bool:
        """Write checksums and offsets if every shard is there; whoever comes last writes the same."""
        paths = [self.folder / shard_name(number) for number in range(self.shards)]
        found = [finished_shard(path) for path in paths]
        if None in found:
            return False
        offsets = np.concatenate([np.array(shard_offsets(path), np.uint64) for path in paths])
        whole = _npy(offsets)
        write_bytes_whole(self.folder / OFFSETS, whole)
        notes = [{"name": path.name} | shard._asdict() for path, shard in zip(paths, found, strict=True)]
        write_text_whole(self.folder / MANIFEST, json.dumps(self.facts | {"shards": notes}, indent=1) + "\n")
        for left in self.folder.glob(".*.writing"):  # of processes that were killed
            left.unlink(missing_ok=True)
        return True


def _read_facts(manifest: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(manifest.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{manifest}: not the manifest of a set ({error}); delete it, the command that wrote the set makes it anew"
        ) from error


def _encoded(suffix: str, picture: np.ndarray, settings: list[int]) -> bytes:
    return cv2.imencode(suffix, picture, settings)[1].tobytes()


def _npy(array: np.ndarray) -> bytes:
    whole = BytesIO()
    np.save(whole, array)
    return whole.getvalue()


# -- the commands


def main(words: list[str]) -> int:
    """`write` and `verify`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m datamodules.rendered", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_write(commands.add_parser("write", help="write a set, or some of its shards"))
    verify = commands.add_parser("verify", help="compare every shard with its checksum")
    verify.add_argument("folder", type=Path, help="of the set")
    given = parser.parse_args(words)
    try:
        return _write(given) if given.command == "write" else _verify(given.folder)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _add_write(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="of the set; each split becomes a folder in it")
    parser.add_argument("--domain", choices=DOMAINS, required=True)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0, help="of an endless train split")
    parser.add_argument("--count", type=_at_least_one, required=True, help="samples in all")
    parser.add_argument("--shard-size", type=_at_least_one, default=8192, help=f"best a multiple of {BLOCK}")
    parser.add_argument(
        "--shards", type=_range, help="a:b writes shards a to b - 1; default: this task's share, or all"
    )
    parser.add_argument("--workers", type=_at_least_one, default=1, help="processes, a shard each at a time")
    parser.add_argument("--image-size", type=_at_least_one, default=128, help="side of the pictures, pixels")
    parser.add_argument("--rgb", choices=("none", "jpg", "png"), help="colours; default: jpg for photo, else none")
    parser.add_argument("--square", type=float, help="cut squares of so many times the joints' box, not cubes")
    parser.add_argument("--centre", choices=("box", "root"), default="box", help="of the squares")
    parser.add_argument("--left-share", type=float, default=0.0, help="share of left hands")
    parser.add_argument("--convention", choices=convention_names(), default="open", help="of the joints")


def _write(given: argparse.Namespace) -> int:
    writer = ShardWriter(given.folder / given.split, facts_of(given))
    chosen = set(share_of(range(writer.shards), given.shards))
    todo = [number for number in writer.missing() if number in chosen]
    print(f"{writer.folder}: {len(chosen) - len(todo)} of {len(chosen)} shards are finished, {len(todo)} to write")
    started, frames, size = time.perf_counter(), 0, 0
    for shard in _written(writer, todo, given.workers):
        frames, size = frames + shard.frames, size + shard.bytes
        rate = frames / (time.perf_counter() - started)
        print(f"  {frames} frames, {rate:,.0f} a second, {size / frames:,.0f} bytes each", flush=True)
    if writer.finish():
        print(f"{writer.folder}: all {writer.shards} shards are there")
    else:
        print(f"{writer.folder}: {len(writer.missing())} of {writer.shards} shards are left for other tasks")
    return 0


def _written(writer: ShardWriter, todo: list[int], workers: int) -> Iterator[Shard]:
    if workers == 1 or len(todo) < 2:
        yield from map(writer.write, todo)
        return
    cv2.setNumThreads(1)  # before the fork: in a worker, OpenCV waits for threads that did not come along
    pool = ProcessPoolExecutor(min(workers, len(todo)), multiprocessing.get_context("fork"))
    try:
        for done in as_completed([pool.submit(writer.write, number) for number in todo]):
            yield done.result()
    except BrokenProcessPool as error:
        raise ValueError(
            f"{writer.folder}: a process was killed while it wrote, most often for want of memory; take fewer "
            "--workers, and the same command goes on with the shards that are missing"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def share_of(shards: range, asked: tuple[int, int] | None, environ: Mapping[str, str] = os.environ) -> range:
    """The shards to write: those asked for, or the share of this task of a SLURM array, or all."""
    if asked is not None:
        if asked[1] > len(shards):
            raise ValueError(f"--shards: there are {len(shards)} shards, got {asked[0]}:{asked[1]}")
        return shards[slice(*asked)]
    if "SLURM_ARRAY_TASK_ID" not in environ:
        return shards
    task, first, tasks = (int(environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT"))
    if task - first >= tasks:
        raise ValueError(f"SLURM array: expected tasks one after another, such as 1-{tasks}, got one numbered {task}")
    return shards[task - first :: tasks]


def _verify(folder: Path) -> int:
    manifests = sorted(folder.glob(f"*/{MANIFEST}"))
    if not manifests:
        raise FileNotFoundError(f"{folder}: no */{MANIFEST} in it; name the folder given to write")
    damaged = 0
    for manifest in manifests:
        facts = _read_facts(manifest)
        total = -(-facts["count"] // facts["shard_size"])
        wrong = list(_wrong_shards(manifest.parent, total))
        for path, what in wrong:
            print(f"{path}: {what}", file=sys.stderr)
        if wrong:
            print(f"then: {write_command(folder, facts)}", file=sys.stderr)
        print(f"{manifest.parent}: {total - len(wrong)} of {total} shards are whole")
        damaged += len(wrong)
    return int(damaged > 0)


def _wrong_shards(folder: Path, total: int) -> Iterator[tuple[Path, str]]:
    for path in (folder / shard_name(number) for number in range(total)):
        try:
            shard = finished_shard(path)
        except BadFrame:
            yield path, "damaged, delete it"
            continue
        if shard is None:
            yield path, "not there"
        elif not is_intact(path, shard):
            yield path, "damaged, delete it"


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected a:b with a < b, such as 0:8, got '{text}'")
    return int(match[1]), int(match[2])


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)
