"""A few rendered pictures of hands with all their labels, for methods that take colours."""

from functools import lru_cache

from datamodules.batch import HandBatch, rows_of
from datamodules.rendered import RenderedHandsData


@lru_cache(maxsize=4)
def _rendered(size: int, seed: int) -> HandBatch:
    data = RenderedHandsData(
        "clean", batch_size=6, epoch_size=6, image_size=size, modalities=["rgb"], num_workers=0, seed=seed
    )
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def rendered_hands(count: int = 2, size: int = 64, seed: int = 0) -> HandBatch:
    """At most 6 of `clean`; a new batch each time, tensors shared."""
    return rows_of(_rendered(size, seed), range(count))
