from pathlib import Path

import numpy as np

from datamodules.colour_pictures import ColourPicture, square_around


def test_a_box_gets_the_margin_of_training():
    picture = ColourPicture(np.zeros((300, 400, 3), np.uint8), Path("photo.jpg"))
    assert square_around((150, 100, 100, 80), picture) == (199.5, 139.5, 150.0)
