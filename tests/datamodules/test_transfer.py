"""What workers send arrives whole."""

import pytest
import torch

from datamodules.rendered import RenderedHandsData
from datamodules.transfer import compact, from_one_storage, in_one_storage, restore, unit_floats
from ops.joints import UNLABELLED


def pictures(width):
    """Two pictures by hand: the first's parts are hidden, the second has a hand in its corners and lost its mask."""
    depth = torch.zeros(2, 1, 3, width)
    depth[0, 0, 1, 2] = 0.5
    depth[1, 0, 0, 0], depth[1, 0, 2, width - 1] = 0.6, 0.7
    parts = torch.zeros(2, 3, width, dtype=torch.uint8)
    parts[0] = UNLABELLED
    parts[1, 0, 0], parts[1, 2, width - 1] = 3, 20
    return {
        "depth": depth,
        "parts": parts,
        "has_parts": torch.tensor([False, True]),
        "has_mask": torch.tensor([True, False]),
        "key": ["a", "b"],
    }


@pytest.mark.parametrize("width", [5, 8, 9])
def test_a_batch_comes_back(width):
    batch = pictures(width)
    sent = compact(batch)
    assert "depth" not in sent and sent["compact"].depth.tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert sent["compact"].parts.tolist() == [UNLABELLED, 3, 20]
    back = restore(sent)
    assert back.pop("mask").nonzero().tolist() == [[0, 0, 1, 2]]
    assert back.keys() == batch.keys() and back["key"] == ["a", "b"]
    assert torch.equal(back["depth"], batch["depth"]) and torch.equal(back["parts"], batch["parts"])


def test_a_batch_without_parts_and_one_without_depth():
    batch = pictures(8)
    del batch["parts"]
    back = restore(compact(batch))
    assert torch.equal(back["depth"], batch["depth"]) and "parts" not in back
    del batch["depth"]
    assert compact(batch) is batch and restore(batch) is batch


def test_bytes_become_floats_as_torch_divides():
    rgb = torch.arange(256, dtype=torch.uint8).view(2, 2, 8, 8)
    assert torch.equal(unit_floats(rgb), rgb * (1 / 255))


def test_all_tensors_travel_in_one_storage():
    batch = {
        "odd": torch.arange(5, dtype=torch.uint8)[::2],
        "nested": [(torch.tensor(2.5, dtype=torch.float64), "word"), {"empty": torch.empty(0, 3), "int": 7}],
        "flags": torch.tensor([[True], [False]]),
    }
    sent = in_one_storage(batch)
    back = from_one_storage(sent)
    number, word = back["nested"][0]
    assert back["odd"].tolist() == [0, 2, 4] and number.item() == 2.5 and number.dtype == torch.float64
    assert word == "word" and back["nested"][1]["int"] == 7 and back["nested"][1]["empty"].shape == (0, 3)
    assert back["flags"].dtype == torch.bool and torch.equal(back["flags"], batch["flags"])
    storages = {x.untyped_storage().data_ptr() for x in (back["odd"], number, back["flags"])}
    assert storages == {sent.bytes.untyped_storage().data_ptr()}
    batch["odd"][0] = 9
    assert back["odd"][0] == 0


def test_workers_hide_what_this_process_hides():
    """Parts that are hidden are unlabelled everywhere, on the hand and beside it."""

    def first(workers):
        settings = dict(batch_size=6, epoch_size=6, num_workers=workers, image_size=30)
        data = RenderedHandsData({"clean": 0.5, "sensor": 0.5}, hide={"sensor": ["parts", "mask"]}, **settings)
        return next(iter(data.train_dataloader()))

    here, there = first(0), first(1)
    assert here.keys() == there.keys()
    for batch in (here, there):
        hidden = ~batch["has_parts"]
        assert hidden.sum() == 3 and (batch["parts"][hidden] == UNLABELLED).all() and not batch["mask"][hidden].any()
        shown = batch["parts"][~hidden]
        assert shown.max() <= 20 and torch.equal((shown > 0).float(), batch["mask"][~hidden, 0])
    assert ((here["depth"] > 0) != (there["depth"] > 0)).float().mean() < 1e-3  # a pixel at an edge may go over
