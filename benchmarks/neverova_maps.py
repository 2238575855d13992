"""Part maps of f_s on rendered test splits: their scores, and the scores of what patch restoration makes of them.

Scored are the hand's pixels in the middle of the crop, which is what the networks see; where the sensor saw nothing
there, no part is said, and that is an error.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.experiment_runs import Figures
from datamodules.batch import HandBatch
from datamodules.rendered import RenderedHandsData
from lightning_modules.hand_view import middle
from lightning_modules.protocols.segmentation import Segmentation
from lightning_modules.restore import restore_method
from ops.patch_restoration import PatchDictionary, crf, restore
from ops.patch_restoration.api import Backend
from ops.patch_restoration.vote import vote

PICTURE_SIZE = 72  # pixels, of configs/neverova_*.yaml
SCORES = ("per_pixel_pct", "per_class_pct", "mean_iou_pct", "per_part_pct")
RESTORED = ("NN without integration", "NN and equation 2", "CRF, Potts", "CRF, overlap")
_BATCH = 50


class PartMaps(NamedTuple):
    """What f_s says of N test pictures."""

    maps: Tensor  # (N, S, S) uint8
    parts: Tensor  # (N, S, S) uint8, the true labels


@torch.no_grad()
def part_maps(checkpoint: Path, domain: str, pictures: int) -> PartMaps:
    """Maps of a checkpoint's f_s for evenly spaced pictures of a domain's test split."""
    method = restore_method(checkpoint)
    maps, parts = [], []
    for batch in pictures_of(domain, pictures):
        maps.append(method.part_maps(batch))
        parts.append(middle(batch["parts"]))
    return PartMaps(torch.cat(maps), torch.cat(parts))


def pictures_of(domain: str, pictures: int) -> Iterable[HandBatch]:
    """Batches of a domain's test split."""
    data = RenderedHandsData(domain, _BATCH, test_size=pictures, image_size=PICTURE_SIZE, num_workers=0)
    return data.test_dataloader()


def scores(maps: Tensor, parts: Tensor) -> Figures:
    """Accuracy per pixel, per class and of each part, and mean IoU, per cent."""
    metric = Segmentation()
    metric.update(maps, parts)
    figures = metric.figures()
    return {name: figures[name] for name in SCORES}


def voted(maps: Tensor, dictionary: PatchDictionary) -> Tensor:
    """Maps (N, S, S) restored by nearest neighbours and equation 2; those without foreground as they are."""
    seen = (maps > 0).flatten(1).any(1)
    result = maps.clone()
    result[seen] = restore(maps[seen], dictionary).maps
    return result


def restored(maps: Tensor, dictionary: PatchDictionary, backend: Backend = "auto") -> dict[str, Tensor]:
    """The rows of the paper's table 2, each (N, S, S): one search of ten neighbours serves them all.

    Args:
        maps: (N, S, S) uint8; a map without foreground stays as it is.
        dictionary: of rendered maps.
        backend: of `ops.patch_restoration.restore`.
    """
    labels = torch.from_numpy(dictionary.maps)
    rows: dict[str, list[Tensor]] = {row: [] for row in RESTORED}
    for one in track(maps, "restoring part maps"):
        if not one.any():
            found = dict.fromkeys(RESTORED, one)
        else:
            whole = restore(one[None], dictionary, backend=backend, neighbours=crf.NEIGHBOURS)
            numbers, distances = whole.numbers[0], whole.distances[0].numpy()
            fields = {
                kind: torch.from_numpy(crf.integrate(numbers.numpy(), distances, dictionary.maps, kind, alpha))
                for kind, alpha in crf.ALPHA.items()
            }
            single = vote(one, numbers[..., 0].contiguous(), labels, window=1)
            found = dict(zip(RESTORED, (single, whole.maps[0], fields["potts"], fields["overlap"]), strict=True))
        for row, each in found.items():
            rows[row].append(each)
    return {row: torch.stack(each) for row, each in rows.items()}
