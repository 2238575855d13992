"""The batch contract: what it refuses, by name."""

import pytest
import torch

from datamodules.batch import check_batch


def good():
    return {
        "depth": torch.ones(2, 1, 8, 8),
        "parts": torch.zeros(2, 8, 8, dtype=torch.uint8),
        "K": torch.eye(3).expand(2, 3, 3),
        "has_depth": torch.ones(2, dtype=torch.bool),
        "domain": ["clean", "clean"],
        "key": ["a", "b"],
    }


def test_a_good_batch_passes():
    check_batch(good(), ["depth", "K"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"depth": torch.ones(2, 8, 8)},
            ValueError,
            r"batch\['depth'\]: expected shape \(B, 1, H, W\), got \(2, 8, 8\)",
        ),
        (
            {"depth": torch.ones(2, 1, 8, 8).double()},
            TypeError,
            r"batch\['depth'\]: expected torch.float32, got .*float64",
        ),
        ({"parts": torch.zeros(2, 8, 8).long()}, TypeError, r"batch\['parts'\]: expected torch.uint8, got torch.int64"),
        ({"has_depth": torch.ones(2)}, TypeError, r"batch\['has_depth'\]: expected torch.bool"),
        ({"parts": torch.zeros(2, 4, 4, dtype=torch.uint8)}, ValueError, "pictures must have one height and width"),
        ({"K": torch.eye(3).expand(3, 3, 3)}, ValueError, "all fields must have one length"),
        ({"key": ["a"]}, ValueError, "all fields must have one length"),
        ({"heat": torch.ones(2)}, ValueError, "'heat' is not in the contract"),
    ],
)
def test_what_breaks_the_contract_is_named(change, error, message):
    with pytest.raises(error, match=message):
        check_batch(good() | change)


def test_a_missing_field_names_the_source():
    with pytest.raises(ValueError, match=r"domain \['clean'\]: missing vertices; choose a source"):
        check_batch(good(), ["vertices"])
