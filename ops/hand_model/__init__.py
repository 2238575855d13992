"""The hand layer, the open hand and the reader of MANO files."""

from ops.hand_model.layer import HandLayer, HandOutput, mirror_pose
from ops.hand_model.mano import load_mano, load_mano_pair
from ops.hand_model.model import BONE_GROUP_NAMES, CONTROL_NAMES, HandModel, load_hand_model, open_hand

__all__ = [
    "BONE_GROUP_NAMES",
    "CONTROL_NAMES",
    "HandLayer",
    "HandModel",
    "HandOutput",
    "load_hand_model",
    "load_mano",
    "load_mano_pair",
    "mirror_pose",
    "open_hand",
]
