"""Build a dictionary of part maps for patch-wise label restoration, from a rendered domain.

python -m datamodules.patch_dictionary dictionary.safetensors --maps 66000 --seed 0

A map is what the networks see: the middle 48 x 48 pixels of a crop of 72, which cover 200 mm at the hand. 66,000 such
maps hold 36 million patches, the number of Neverova et al., in 152 MB.

--index adds what backend="faiss-cpu" ranks with, in a file beside it; of a dictionary that exists, the index alone.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.domains import DOMAINS
from datamodules.hand_sampler import HandSampler
from datamodules.rendering import HandRenderer
from ops.hand_model import open_hand
from ops.patch_restoration import PatchDictionary, PatchIndex, index_path

MAP_SIZE = 48  # pixels, of the paper's part maps
CROP_SIZE = 72  # pixels, of the crop whose middle a map is: 48 of them are 200 of the cube's 300 mm
_BATCH = 256


def rendered_maps(maps: int, seed: int = 0, domain: str = "clean", crop_size: int = CROP_SIZE) -> Iterator[np.ndarray]:
    """Part maps (b, 48, 48) uint8 of training hands, `maps` in all, a batch at a time; empty ones are left out.

    Map i is that of sample i of epoch 0 under `seed`, counted over the maps that show a hand.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain: expected one of {', '.join(DOMAINS)}, got {domain!r}")
    if maps < 1:
        raise ValueError(f"maps: expected at least 1, got {maps}")
    if crop_size < MAP_SIZE or (crop_size - MAP_SIZE) % 2:
        raise ValueError(f"crop_size: expected an even number of at least {MAP_SIZE} pixels, got {crop_size}")
    if DOMAINS[domain].train.frames is not None and maps > DOMAINS[domain].train.frames:
        raise ValueError(f"maps: domain {domain!r} has {DOMAINS[domain].train.frames} training frames, got {maps}")
    model = open_hand()
    sampler, renderer = HandSampler(DOMAINS[domain], model), HandRenderer(model, crop_size, ("parts",))
    edge = (crop_size - MAP_SIZE) // 2
    middle = slice(edge, edge + MAP_SIZE)
    start = made = 0
    while made < maps:
        wanted = np.arange(start, start + min(_BATCH, maps - made))
        parts = renderer(sampler.sample(seed, "train", 0, wanted))["parts"].numpy()[:, middle, middle]
        start, parts = start + len(wanted), parts[parts.any((1, 2))]  # a copy
        made += len(parts)
        yield parts


def build_dictionary(
    maps: int, seed: int = 0, domain: str = "clean", crop_size: int = CROP_SIZE, console: Console | None = None
) -> PatchDictionary:
    """The dictionary of `maps` rendered maps; a console shows a progress bar."""
    bar = Progress(
        TextColumn("rendering part maps"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console is None,
    )
    batches = []
    with bar:
        task = bar.add_task("maps", total=maps)
        for batch in rendered_maps(maps, seed, domain, crop_size):
            batches.append(batch)
            bar.advance(task, len(batch))
    return PatchDictionary(np.concatenate(batches), open_hand().id, seed, DOMAINS[domain].label, crop_size)


def main(arguments: list[str] | None = None) -> None:
    """Build, save, and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    parser.add_argument("--maps", type=int, default=66_000, help="number of maps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the generator (default: %(default)s)")
    parser.add_argument("--domain", choices=sorted(DOMAINS), default="clean", help="default: %(default)s")
    parser.add_argument(
        "--crop-size",
        type=int,
        default=CROP_SIZE,
        help=f"pixels of the 300 mm crop whose middle {MAP_SIZE} make a map, data.image_size of who uses it "
        "(default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--index", action="store_true", help="write the FAISS index, too; alone if OUT exists")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".safetensors":
        parser.error(f"out: expected a name ending in .safetensors, got {options.out}")
    if options.maps < 1:
        parser.error(f"--maps: expected at least 1, got {options.maps}")
    if options.crop_size < MAP_SIZE or options.crop_size % 2:
        parser.error(f"--crop-size: expected an even number of at least {MAP_SIZE}, got {options.crop_size}")
    index_alone = options.index and options.out.exists() and not options.overwrite
    for path in [] if options.overwrite else [index_path(options.out) if options.index else options.out]:
        if path.exists():
            parser.error(f"{path} exists; add --overwrite to replace it")
    if not options.out.parent.is_dir():
        parser.error(f"{options.out.parent} is no folder; make it first")
    console = Console()
    if not index_alone:
        _write_dictionary(options, console)
    if options.index:
        _write_index(options.out, console)


def _write_dictionary(options: argparse.Namespace, console: Console) -> None:
    dictionary = build_dictionary(options.maps, options.seed, options.domain, options.crop_size, console)
    dictionary.save(options.out)
    console.print(
        f"{options.out}: {len(dictionary.maps):,} maps of {dictionary.domain}, {dictionary.patches:,} patches, "
        f"{dictionary.maps.nbytes / dictionary.patches:.2f} bytes each",
        soft_wrap=True,
    )


def _write_index(dictionary: Path, console: Console) -> None:
    path = index_path(dictionary)
    with console.status("indexing: minutes for millions of patches"):
        index = PatchIndex.build(PatchDictionary.load(dictionary))
        index.save(path)
    console.print(f"{path}: {len(index.entries):,} entries, {path.stat().st_size / 1e6:.0f} MB", soft_wrap=True)


if __name__ == "__main__":
    main()
