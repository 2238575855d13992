"""A hand of three flat squares, whose parts and joints are known by hand, and Neverova's method at toy size."""

import torch
from lightning.pytorch import Callback

from datamodules.batch import FLAGS
from lightning_modules.hand_view import look
from lightning_modules.neverova import Neverova
from ops.hand_model import open_hand
from ops.joints import PART_NAMES

JOINT_PARTS = {"wrist": ["palm"], "thumb_tip": ["thumb_tip"], "index_tip": ["index_tip"]}
SMALL = {"joint_parts": JOINT_PARTS, "widths": [3, 4, 5], "hidden": 6, "regressor_hidden": 4, "optimiser": "adamw"}
EDGE = 12  # of pictures of 72 pixels around the middle 48
# label, rows and columns of the middle 48 pixels, depth: flat squares that stand for a hand
SQUARES = (("palm", 20, 40, 0.60), ("thumb_tip", 8, 14, 0.58), ("index_tip", 42, 46, 0.62))


def method(**arguments):
    torch.manual_seed(0)
    return Neverova(**(SMALL | {"lr": 1e-2} | arguments))


def hand_batch(size=2, shown=(True, False)):
    """Squares along the diagonal, joints in their middles; parts of the first picture only."""
    centre = torch.tensor([[0.1, -0.05, 0.6], [0.0, 0.0, 0.6]])[:size]
    focal = 72 * 0.6 / 0.3
    K = torch.zeros(size, 3, 3)
    K[:, 0, 0] = K[:, 1, 1] = focal
    K[:, :2, 2] = 35.5 - focal * centre[:, :2] / 0.6
    K[:, 2, 2] = 1
    depth, parts = torch.zeros(size, 1, 72, 72), torch.zeros(size, 72, 72, dtype=torch.uint8)
    joints_3d, joints_2d = torch.zeros(size, 21, 3), torch.zeros(size, 21, 2)
    valid = torch.zeros(size, 21, dtype=torch.bool)
    for (part, start, end, z), joint in zip(SQUARES, (0, 4, 8), strict=True):
        square = slice(EDGE + start, EDGE + end)
        depth[:, :, square, square], parts[:, square, square] = z, PART_NAMES.index(part) + 1
        place = EDGE + (start + end - 1) / 2
        joints_2d[:, joint] = place
        joints_3d[:, joint, :2] = (place - K[:, :2, 2]) / focal * z
        joints_3d[:, joint, 2] = z
        valid[:, joint] = True
    has_parts = torch.tensor(shown[:size])
    flags = {flag: torch.full((size,), flag in ("has_depth", "has_3d", "has_2d")) for flag in FLAGS}
    return {
        "depth": depth,
        "parts": parts.where(has_parts[:, None, None], 255),
        "K": K,
        "cube_centre": centre,
        "cube_side": torch.full((size,), 0.3),
        "joints_3d": joints_3d,
        "joints_2d": joints_2d,
        "joint_valid": valid,
        "side": torch.ones(size, dtype=torch.int64),
        "mirrored": torch.zeros(size, dtype=torch.bool),
        "convention": ["open"] * size,
        "hand_model": [open_hand().id] * size,
        "domain": ["clean", "sensor"][:size],
        "key": [f"toy/test/{i}" for i in range(size)],
    } | (flags | {"has_parts": has_parts})


def view_of(batch):
    return look(batch["depth"], batch["K"], batch["cube_centre"], batch["cube_side"])


def true_parts():
    """(48, 48) labels of the squares."""
    return hand_batch(1, (True,))["parts"][0, EDGE:-EDGE, EDGE:-EDGE]


def knowing(module, parts=None):
    """Its f_s replaced by one that says `parts` (48, 48), or knows the squares."""
    labels = (true_parts() if parts is None else parts).long()
    scores = torch.nn.functional.one_hot((labels - 1).clamp_min(0), 20).permute(2, 0, 1).float()

    class Knowing(torch.nn.Module):
        def forward(self, picture, stride=1):
            return scores.expand(len(picture), -1, -1, -1)[..., ::stride, ::stride]

    module.classifier = Knowing()
    return module


class PowerCut(Callback):
    """Ends a run in the middle."""

    def __init__(self, at_step: int = 0):
        self.at_step = at_step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at_step:
            raise RuntimeError("the power went out")
