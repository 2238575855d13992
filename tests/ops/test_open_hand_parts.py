import pytest
import torch

from ops.hand_model.parts import GRAINS, group_parts

LABELS = torch.tensor([0, 1, 2, 4, 5, 8, 9, 12, 13, 16, 17, 20, 255], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (20, LABELS.tolist()),
        (6, [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 255]),
        (1, [0] + [1] * 11 + [255]),
    ],
)
def test_first_and_last_part_of_each_finger_join_their_group(parts, expected):
    grouped = group_parts(LABELS.reshape(1, -1), parts)
    assert grouped.dtype == torch.uint8
    assert grouped.tolist() == [expected]
    assert len(GRAINS[parts]) == parts


def test_unknown_grain_and_wrong_type_are_refused():
    with pytest.raises(ValueError, match="parts: expected one of 20, 6, 1, got 7"):
        group_parts(LABELS, 7)
    with pytest.raises(TypeError, match="labels: expected uint8"):
        group_parts(LABELS.long(), 6)
