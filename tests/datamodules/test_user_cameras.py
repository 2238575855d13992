"""Cameras that users name: scaled where their size is said, refused where they belong to another."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.user_cameras import named_camera
from ops.camera import CAMERA_PRESETS, camera_preset, project

PHOTO = Path("photo.jpg")


@pytest.mark.parametrize("name", CAMERA_PRESETS)
def test_presets_are_taken_at_their_size(name):
    K, (height, width) = camera_preset(name)
    assert torch.equal(named_camera(name, height, width, PHOTO)[0], K)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.sampled_from([0.25, 0.5, 1.5, 2.0, 3.0]),
    focal=st.floats(200, 2000),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
)
def test_a_camera_with_its_size_sees_the_same_scene_in_a_resized_picture(scale, focal, shift):
    numbers = [focal, focal, 320 * (1 + shift[0]), 240 * (1 + shift[1])]
    said = ",".join(map(str, numbers)) + ",640,480"
    K = named_camera(",".join(map(str, numbers)), 480, 640, PHOTO)[0]
    scaled = named_camera(said, round(480 * scale), round(640 * scale), PHOTO)[0]
    points = torch.tensor([[[0.1, -0.05, 0.6], [-0.02, 0.1, 0.9]]])
    expected = (project(points, K) + 0.5) * scale - 0.5
    torch.testing.assert_close(project(points, scaled), expected, atol=1e-3, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.sampled_from([0.25, 0.5, 1.5, 2.0, 4.0]),
    focal=st.floats(200, 2000),
    shift=st.tuples(st.floats(-0.015, 0.015), st.floats(-0.015, 0.015)),
)
def test_a_camera_of_another_size_is_recognised_and_its_size_named(scale, focal, shift):
    cx, cy = 320 * scale * (1 + shift[0]), 240 * scale * (1 + shift[1])
    with pytest.raises(ValueError, match=r"is the middle of a picture of \d+x\d+, but photo.jpg is 640x480") as error:
        named_camera(f"{focal},{focal},{cx},{cy}", 480, 640, PHOTO)
    option = str(error.value).split("give --camera ")[1].split(";")[0]
    K = named_camera(option, 480, 640, PHOTO)[0]  # the remedy works
    assert float(K[0, 0]) == pytest.approx(focal / scale, rel=0.04)


def test_a_part_of_a_picture_keeps_its_camera_when_it_says_so():
    camera = "500,500,320,240"
    with pytest.raises(ValueError, match=r"cut out, say so: --camera 500,500,320,240,320,240"):
        named_camera(camera, 240, 320, PHOTO)
    K, _ = named_camera(camera + ",320,240", 240, 320, PHOTO)
    assert K.tolist() == [[500, 0, 320], [0, 500, 240], [0, 0, 1]]


@pytest.mark.parametrize(
    ("camera", "size", "message"),
    [
        ("900,900,480,320", (960, 640), "was turned; give the camera of the turned picture"),
        ("500,500,320,240,640,480", (480, 480), "has another shape than photo.jpg, 480x480"),
        ("500,500,320,240,640", (480, 640), "got 5 numbers"),
        ("500,500,320,x", (480, 640), "expected a preset's name or fx,fy,cx,cy in pixels"),
        ("nyu", (240, 320), r"--camera 588.037,587.075,320,240,640,480 if it was made smaller"),
        ("nyu", (240, 240), r"is 240x240 upright; give fx,fy,cx,cy of this picture$"),
    ],
)
def test_other_mistakes_are_named(camera, size, message):
    with pytest.raises(ValueError, match=message):
        named_camera(camera, *size, PHOTO)
