"""The hand layer, the open hand and the reader of MANO files."""

from ops.hand_model.model import BONE_GROUP_NAMES, CONTROL_NAMES, HandModel, load_hand_model, open_hand

__all__ = ["BONE_GROUP_NAMES", "CONTROL_NAMES", "HandModel", "load_hand_model", "open_hand"]
