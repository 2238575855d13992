import cv2
import numpy as np
import pytest

from ops.drawing import FINGER_COLOURS, PALM_COLOUR, UNLABELLED_COLOUR, draw_skeleton, part_colours, write_picture
from ops.joints import PART_NAMES, UNLABELLED


def test_part_colours_follow_the_finger_and_brighten_to_its_tip():
    colours = part_colours()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    assert not colours[0].any()
    assert colours[UNLABELLED].tolist() == list(UNLABELLED_COLOUR)
    assert colours[1].tolist() == list(PALM_COLOUR)
    for finger, colour in zip(("thumb", "index", "middle", "ring", "little"), FINGER_COLOURS, strict=True):
        tip = PART_NAMES.index(f"{finger}_tip") + 1
        assert colours[tip].tolist() == list(colour)
        brightness = [int(colours[i + 1].sum()) for i, name in enumerate(PART_NAMES) if name.startswith(finger)]
        assert brightness == sorted(brightness) and len(set(brightness)) == len(brightness)


def test_only_valid_joints_and_bones_between_them_are_drawn():
    joints = np.full((21, 2), 30.0)
    joints[5], joints[6] = (10, 10), (10, 20)  # index knuckle and its neighbour
    valid = np.zeros(21, bool)
    valid[[5, 6]] = True
    picture = np.zeros((40, 40, 3), np.uint8)
    draw_skeleton(picture, joints, valid=valid)
    np.testing.assert_allclose(picture[15, 10], FINGER_COLOURS[1], rtol=0.15)  # anti-aliasing dims a thin line
    assert not picture[25:].any()  # the wrist and the other joints lie at (30, 30)
    valid[6] = False
    picture[:] = 0
    draw_skeleton(picture, joints, valid=valid)
    assert picture[10, 10].any() and not picture[15].any()


def test_a_skeleton_in_an_enlarged_picture_stays_on_its_pixels():
    joints = np.tile([[3.0, 5.0]], (21, 1))
    picture = np.zeros((40, 40, 3), np.uint8)
    draw_skeleton(picture, joints, colour=(0, 0, 255), factor=4)
    rows, columns = np.nonzero(picture[..., 2])
    # pixel 3 covers 12 to 15 after enlarging by 4: its centre is 13.5
    assert abs(columns.mean() - 13.5) < 0.2 and abs(rows.mean() - 21.5) < 0.2


def test_a_picture_is_written_or_refused_with_a_reason(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 2] = (250, 10, 60)
    write_picture(tmp_path / "new" / "sheet.png", picture)
    assert (cv2.imread(str(tmp_path / "new" / "sheet.png")) == picture).all()
    with pytest.raises(OSError, match=r"sheet.xyz: expected a name that ends in .png or .jpg"):
        write_picture(tmp_path / "sheet.xyz", picture)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OSError, match=r"taken.png: cannot be written; name a folder with room"):
        write_picture(tmp_path / "taken.png", picture)
