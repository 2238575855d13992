"""Parts and joints: barycentres, the quality of a map, regions; all by hand."""

import pytest
import torch

from lightning_modules.part_regions import (
    barycentres,
    disc_regions,
    joint_regions,
    joint_table,
    map_quality,
    nearest_parts,
    opened,
    regions_of,
)
from ops.joints import CANONICAL_JOINTS, PART_NAMES

PALM, INDEX_TIP = 1, PART_NAMES.index("index_tip") + 1
TABLE = joint_table({"index_tip": ["index_tip"], "wrist": ["palm"]})  # in canonical order: wrist first


def blank(side=12):
    return torch.zeros(1, side, side, dtype=torch.uint8)


def test_the_table_of_a_hand():
    table = joint_table(nearest_parts())
    assert table.joints == tuple(range(21)) and table.members.shape == (21, 21)
    assert (table.members.sum(1) == 1).all() and not table.members[:, 0].any()
    for joint, part in (("wrist", "palm"), ("thumb_mcp", "thumb_proximal"), ("little_pip", "little_middle")):
        row = table.members[CANONICAL_JOINTS.index(joint)]
        assert [PART_NAMES[label - 1] for label in row.nonzero().flatten()] == [part]
    assert TABLE.joints == (0, 8)
    both = joint_table({"index_dip": ["index_distal", "index_tip"]})
    assert both.members.sum() == 2


def test_barycentres_by_hand():
    maps = blank()
    maps[0, 2, 3], maps[0, 2, 5], maps[0, 8, 4] = PALM, PALM, PALM  # rows 2, 2, 8; columns 3, 5, 4
    maps[0, 0, 0] = 255
    places, there = barycentres(maps, TABLE.members)
    torch.testing.assert_close(places[0, 0], torch.tensor([4.0, 4.0]))
    assert there.tolist() == [[True, False]]


def test_quality_by_hand():
    maps = blank()
    maps[0, 4, 4] = PALM
    joints = torch.tensor([[[7.0, 8.0], [4.0, 4.0]]])
    valid = torch.tensor([[True, True]])
    # the palm is 3 right and 4 down of its joint; the fingertip is missing: half of 12
    assert map_quality(maps, joints, valid, TABLE.members).item() == 5 + 6
    assert map_quality(maps, joints, torch.tensor([[True, False]]), TABLE.members).item() == 5
    assert map_quality(maps, joints, torch.tensor([[False, False]]), TABLE.members).item() == 0


def test_erasing_a_finger_is_no_improvement():
    maps = blank(48)
    maps[0, 20:30, 20:30], maps[0, 5:8, 24:26] = PALM, INDEX_TIP
    joints, valid = torch.tensor([[[24.0, 24.0], [24.0, 26.0]]]), torch.tensor([[True, True]])
    # the fingertip is called 20 pixels from where it is: bad, and yet better than not called at all
    before = map_quality(maps, joints, valid, TABLE.members)
    erased = maps.masked_fill(maps == INDEX_TIP, PALM)
    assert map_quality(erased, joints, valid, TABLE.members) > before
    mended = maps.clone()
    mended[0, 5:8, 24:26], mended[0, 25:27, 23:25] = 0, INDEX_TIP
    assert map_quality(mended, joints, valid, TABLE.members) < before


def test_opening_keeps_what_squares_cover():
    region = torch.zeros(6, 6, dtype=torch.bool)
    region[0, :] = True  # a line
    region[2:4, 4:6] = True  # a square at the border
    region[4, 4] = True  # and a pixel beside it
    region[3:6, 0:3] = True
    region[3, 0] = False  # a square without a corner: two of its 2 x 2 squares cover the rest
    kept = opened(region[None, None], 2)[0, 0]
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[2:4, 4:6] = True
    expected[3:6, 0:3] = True
    expected[3, 0] = False
    assert torch.equal(kept, expected)
    assert torch.equal(opened(region[None, None], 1)[0, 0], region)
    with pytest.raises(ValueError, match="opening: expected a square of 1 to 6 pixels, got 7"):
        opened(region[None, None], 7)


def test_a_joints_region_is_its_opened_parts_on_the_grid():
    maps = blank()
    maps[0, 0:2, 0:2] = PALM
    maps[0, 8, 8] = PALM  # opened away
    maps[0, 11, 2:5] = INDEX_TIP  # too thin to open: stays
    cells = joint_regions(maps, TABLE.members, opening=2, grid=3)
    assert cells[0, 0].nonzero().tolist() == [[0, 0]]
    assert cells[0, 1].nonzero().tolist() == [[2, 0], [2, 1]]
    maps[0] = 0
    assert not joint_regions(maps, TABLE.members, opening=2, grid=3).any()


def test_discs_by_hand():
    # cells of 4 pixels have their middles at 1.5, 5.5, 9.5
    cells = disc_regions(torch.tensor([[[5.5, 1.5]]]), radius=4.0, side=12, grid=3)
    assert cells[0, 0].tolist() == [[True, True, True], [False, True, False], [False, False, False]]


def test_bad_input():
    with pytest.raises(ValueError, match=r"joint_parts: joint: expected one of .*got 'palm'"):
        joint_table({"palm": ["palm"]})
    with pytest.raises(ValueError, match=r"joint_parts: part of 'wrist': expected one of .*got 'wrist'"):
        joint_table({"wrist": ["wrist"]})
    with pytest.raises(ValueError, match="expected a list of parts for 'wrist', got 'palm'"):
        joint_table({"wrist": "palm"})
    with pytest.raises(ValueError, match="at least one joint"):
        joint_table({})
    with pytest.raises(ValueError, match=r"joints_2d: expected shape \(1, 2, 2\)"):
        map_quality(blank(), torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), TABLE.members)
    with pytest.raises(ValueError, match=r"maps: expected shape"):
        regions_of(torch.zeros(12, 12), TABLE.members)
