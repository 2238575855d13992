"""Mirroring a batch: a left hand becomes a right one, geometry and picture together."""

import torch

from datamodules.batch import FLAGS, HandBatch, check_batch
from datamodules.transforms import mirror
from ops.camera import project


def batch_of_one_bright_pixel() -> HandBatch:
    K = torch.tensor([[[100.0, 0, 9.25], [0, 100.0, 8.5], [0, 0, 1]]])
    joints = torch.zeros(1, 21, 3)
    joints[..., 0], joints[..., 1], joints[..., 2] = 0.02, -0.01, 0.5
    depth = torch.zeros(1, 1, 16, 20)
    depth[0, 0, 6, 13] = 0.5  # u = 9.25 + 100 * 0.02 / 0.5 = 13.25
    return HandBatch(
        depth=depth,
        K=K,
        joints_3d=joints,
        joints_2d=project(joints, K),
        cube_centre=torch.tensor([[0.02, 0, 0.5]]),
        cube_side=torch.tensor([0.3]),
        crop=torch.tensor([[[0.5, 0, 3], [0, 0.5, 4]]]),
        side=torch.tensor([0]),
        mirrored=torch.tensor([False]),
        key=["a"],
        **{flag: torch.tensor([True]) for flag in FLAGS},
    )


def test_mirrored_points_project_onto_mirrored_pixels():
    mirrored = mirror(batch_of_one_bright_pixel())
    check_batch(mirrored)
    assert mirrored["joints_3d"][0, 0].tolist() == [-0.019999999552965164, -0.009999999776482582, 0.5]
    torch.testing.assert_close(project(mirrored["joints_3d"], mirrored["K"]), mirrored["joints_2d"])
    torch.testing.assert_close(mirrored["joints_2d"][0, 0], torch.tensor([19 - 13.25, 6.5]))
    assert mirrored["depth"][0, 0, 6, 6] == 0.5
    assert float(mirrored["K"][0, 0, 0]) == 100 and float(mirrored["K"][0, 0, 2]) == 9.75
    # pixel u of the original lies at 19 - (u / 2 + 3)
    assert mirrored["crop"][0, 0].tolist() == [-0.5, 0, 16]
    assert bool(mirrored["mirrored"]) and int(mirrored["side"]) == 0


def test_mirroring_twice_gives_the_batch_back():
    batch = batch_of_one_bright_pixel()
    twice = mirror(mirror(batch))
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(twice[name], value)
