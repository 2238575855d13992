"""Crops of a user's own pictures, several at once and of photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.colour_pictures import ColourPicture, Square, crop_square
from datamodules.depth_frames import crop_depth_frames
from ops.camera import intrinsics, project, unproject
from tests.datamodules.test_depth_frames import frame_of, scene  # noqa: F401 - a fixture


def test_crops_of_several_frames_are_those_of_each_alone(scene):  # noqa: F811 - the fixture
    depth, K, *_ = scene
    other = K.clone()
    other[:2, :2] *= 0.8  # of the other's focal length
    frames = [frame_of(depth), frame_of(np.where(depth > 0, depth + 0.4, 0))]
    cameras, centres = [K, other], []
    for frame, camera in zip(frames, cameras, strict=True):
        v, u = np.nonzero(frame.depth)
        pixel = torch.tensor([[[np.median(u), np.median(v)]]]).float()
        centres.append(unproject(pixel, torch.tensor([[np.median(frame.depth[v, u])]]).float(), camera)[0, 0].numpy())
    centres = np.stack(centres)
    together = crop_depth_frames(frames, torch.stack(cameras), centres, reach=0.07)
    for i, (frame, camera, centre) in enumerate(zip(frames, cameras, centres, strict=True)):
        alone = crop_depth_frames([frame], camera[None], centre[None], reach=0.07)
        assert (alone["depth"] > 0).sum() > 100
        for field in ("depth", "K", "cube_centre", "crop", "original_size"):
            assert torch.equal(together[field][i], alone[field][0]), field


def test_the_cube_of_a_photograph_covers_its_square():
    K = intrinsics(500.0, 500.0, 199.5, 149.5)
    picture = ColourPicture(np.zeros((300, 400, 3), np.uint8), Path("a.jpg"))
    batch = crop_square(picture, K, Square(260.0, 100.0, 120.0), image_size=64)
    centre = batch["cube_centre"]
    torch.testing.assert_close(project(centre[:, None], K)[0, 0], torch.tensor([260.0, 100.0]))
    assert 500 * float(batch["cube_side"] / centre[0, 2]) == pytest.approx(120, rel=1e-5)
    torch.testing.assert_close(project(centre[:, None], batch["K"])[0, 0], torch.tensor([31.5, 31.5]))
