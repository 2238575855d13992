"""What the tests of all readers ask of the frames they give."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.check.fit import fit_hands
from datamodules.frames import HandFrame, HandFrames

PIECES = Path(__file__).resolve().parents[3] / "shared" / "data"


def piece(name: str) -> Path:
    """A folder or file of real pieces, or a skip."""
    path = PIECES / name
    if not path.exists():
        pytest.skip(f"the real piece {name} is not beside the repository")
    return path


def project(frame: HandFrame) -> np.ndarray:
    """Pixels (21, 2) of the 3D joints; those that are not valid are NaN."""
    valid = frame.joint_valid if frame.joint_valid is not None else np.ones(21, dtype=bool)
    pixels = np.full((21, 2), np.nan)
    rays = frame.joints_3d[valid].astype(np.float64) @ frame.K.T
    pixels[valid] = rays[:, :2] / rays[:, 2:]
    return pixels


def check_frames(frames: HandFrames) -> list[HandFrame]:
    """The contract of every record: units, kinds, keys, pictures of one size, labels that fit them."""
    copy = pickle.loads(pickle.dumps(frames))
    assert len(copy) == len(frames) > 0
    read = [copy.frame(index) for index in range(len(copy))]
    assert len({frame.key for frame in read}) == len(read)
    for index, frame in enumerate(read):
        assert frame.key.startswith(f"{frames.dataset}/{frames.split}/")
        assert all(path.is_file() for path in frames.files(index))
        assert frame.K.dtype == np.float64 and frame.joints_3d.dtype == np.float32
        for flag, picture in (("rgb", frame.rgb), ("depth", frame.depth), ("mask", frame.mask)):
            assert (flag in frames.provides) == (picture is not None)
            assert picture is None or picture.shape[:2] == frame.size
        assert ("mesh" in frames.provides) == (frame.vertices is not None) == bool(frame.hand_model)
        labels = frames.labels(index)
        assert labels.key == frame.key and labels.rgb is labels.depth is labels.mask is None
        np.testing.assert_array_equal(labels.joints_3d, frame.joints_3d)
        check_pixels(frame)
    return read


def check_pixels(frame: HandFrame) -> None:
    """Joints lie in the picture, just behind the surface that is seen, on the hand."""
    pixels = project(frame)
    if frame.joints_2d is not None:
        given = ~np.isnan(pixels[:, 0])
        np.testing.assert_allclose(frame.joints_2d[given], pixels[given], atol=0.05)  # files are float32
    valid = ~np.isnan(pixels[:, 0])
    at = np.rint(pixels[valid]).astype(int)
    assert (at >= 0).all() and (at < frame.size[::-1]).all()
    if frame.depth is not None and len(at) >= 4:
        far = np.where(frame.depth > 0, frame.depth, np.inf)
        # tips lie on the outline: what is seen within a few millimetres of them is theirs
        r = int(frame.K[0, 0] / 200)
        surface = np.array([far[max(v - r, 0) : v + r + 1, max(u - r, 0) : u + r + 1].min() for u, v in at])
        behind = np.sort((frame.joints_3d[valid, 2] - surface)[surface < np.inf])
        assert len(behind) > 0.8 * len(at), "joints lie on the hand"
        # all five tips of a fist may be hidden; of a whole hand's joints one is at most a finger behind its skin
        assert -0.003 < behind[0] < (0.02 if len(at) > 5 else 0.1), "joints lie just behind the skin"
    if frame.mask is not None:
        assert frame.mask.dtype == bool and frame.mask[at[:, 1], at[:, 0]].mean() > 0.6


def sides(frames: list[HandFrame]) -> np.ndarray:
    """The side (N,) that the joints themselves show: 0 left, 1 right."""
    joints = torch.from_numpy(np.stack([frame.joints_3d for frame in frames])).double()
    everything = np.ones(21, dtype=bool)
    valid = np.stack([everything if frame.joint_valid is None else frame.joint_valid for frame in frames])
    return fit_hands(joints, torch.from_numpy(valid)).side.numpy()


def millimetres(frame: HandFrame, a: int, b: int) -> float:
    """Distance of two canonical joints."""
    return float(np.linalg.norm(frame.joints_3d[a] - frame.joints_3d[b]) * 1000)
