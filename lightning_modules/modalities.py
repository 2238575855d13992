"""What a hand is in four modalities as networks take it: colours, depth, joints in the picture, joints in space.

A batch of the contract becomes one `View` per modality: numbers of about the same size everywhere, which samples have
them, and which of the numbers count. What a sample lacks is not made up: it takes no part.

Letters: B batch, S picture's side, J joints of the table, D numbers of a modality.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from datamodules.batch import RIGHT, HandBatch, check_batch
from lightning_modules.networks.vae_decoders import DECODED_SIZE
from lightning_modules.networks.vae_encoders import resized
from ops.checks import check_choice
from ops.hand_model import HandLayer, open_hand
from ops.joints import CANONICAL_JOINTS

Modality = Literal["rgb", "depth", "2d", "3d"]
MODALITIES: tuple[Modality, ...] = ("rgb", "depth", "2d", "3d")
NEEDS: dict[str, tuple[str, ...]] = {
    "rgb": ("rgb", "has_rgb"),
    "depth": ("depth", "has_depth", "cube_centre", "cube_side"),
    "2d": ("joints_2d", "has_2d", "joint_valid"),
    "3d": ("joints_3d", "has_3d", "joint_valid", "cube_centre", "cube_side"),
}
_SHORTEST_BONE = 1e-3  # metres: a shorter one is a wrong label, and would blow up what is divided by it


class View(NamedTuple):
    """One modality of B samples."""

    numbers: Tensor  # (B, C, S, S) or (B, D): what an encoder takes
    whole: Tensor  # (B,) bool: can be encoded
    target: Tensor  # (B, C, 128, 128) or (B, D): what a decoder says
    counted: Tensor  # (B, 1, 1, 1) or (B, D) bool: which numbers of the target count


class Pair(NamedTuple):
    """From a modality to another, or to itself."""

    source: str
    target: str

    @property
    def name(self) -> str:
        """`source-target`."""
        return f"{self.source}-{self.target}"


def read_pairs(names: Sequence[str]) -> list[Pair]:
    """The pairs of a configuration: `rgb-3d` is from colours to joints in space."""
    if isinstance(names, str) or not names:
        raise ValueError(f"pairs: expected a list of pairs such as 'rgb-3d', got {names!r}")
    pairs = []
    for name in names:
        source, dash, target = str(name).partition("-")
        if not dash or source not in MODALITIES or target not in MODALITIES:
            raise ValueError(f"pairs: expected <source>-<target>, each of {', '.join(MODALITIES)}; got {name!r}")
        pairs.append(Pair(source, target))
    if len(set(pairs)) < len(pairs):
        raise ValueError(f"pairs: expected each once, got {', '.join(map(str, names))}")
    return pairs


def predicting_sources(pairs: Sequence[Pair], given: Sequence[str] | None) -> list[str]:
    """Sources of predictions: those given, or all that are trained towards 3d, pictures first; 3d itself at last."""
    trained = {pair.source for pair in pairs}
    towards = {pair.source for pair in pairs if pair.target == "3d"} or trained
    chosen = [name for name in MODALITIES if name in towards] if given is None else list(given)
    for name in chosen:
        check_choice("predict_from", name, MODALITIES)
        if name not in trained:
            raise ValueError(f"predict_from: '{name}' is no source of model.pairs; add '{name}-3d' or leave it out")
    if given is None and chosen != ["3d"]:
        chosen = [name for name in chosen if name != "3d"]  # the answer is no question
    if not chosen:
        raise ValueError("predict_from: expected at least one modality, got none")
    return chosen


class JointSpace:
    """Where joints are counted from and what their unit is.

    "palm" counts from the mean of `root_joints` and leaves open where the hand is; the paper's is between the wrist and
    the middle finger's knuckle. The unit is the length of a sample's own `unit_bone`, if scale-invariant, or the open
    hand's. "cube" counts from the crop's centre in halves of its cube: predictions are then absolute.

    Args:
        frame: palm or cube.
        joints: names of the J canonical joints of the table; None: all 21.
        root_joints: of the frame "palm".
        unit_bone: names of its ends.
        scale_invariant: whether the unit is the sample's own bone.
    """

    def __init__(
        self,
        frame: Literal["palm", "cube"] = "palm",
        joints: Sequence[str] | None = None,
        root_joints: Sequence[str] = ("wrist", "middle_mcp"),
        unit_bone: Sequence[str] = ("middle_mcp", "middle_pip"),
        scale_invariant: bool = True,
    ) -> None:
        check_choice("frame", frame, ("palm", "cube"))
        names = list(CANONICAL_JOINTS) if joints is None else list(joints)
        for word, given in (("joints", names), ("root_joints", root_joints), ("unit_bone", unit_bone)):
            for name in given:
                check_choice(word, name, CANONICAL_JOINTS)
        if not names or len(unit_bone) != 2 or not root_joints:
            raise ValueError("joints, root_joints, unit_bone: expected at least one joint, one joint, and two joints")
        if frame == "palm" and "wrist" not in names:
            raise ValueError("joints: frame 'palm' predicts relative to the wrist; add 'wrist', or take frame 'cube'")
        self.frame, self.scale_invariant = frame, scale_invariant
        self.joints = [i for i, name in enumerate(CANONICAL_JOINTS) if name in names]
        self.root = [CANONICAL_JOINTS.index(name) for name in root_joints]
        self.bone = [CANONICAL_JOINTS.index(name) for name in unit_bone]
        rest = HandLayer(open_hand())(torch.zeros(1, 45), torch.zeros(1, 10)).joints[0]
        self.usual_bone = float((rest[self.bone[0]] - rest[self.bone[1]]).norm())  # metres
        self._stands_for = _stand_ins(self.joints)

    def place(self, batch: HandBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Origins (B, 3) and units (B,), metres, and (B,) bool, whether a sample's labels say them."""
        if self.frame == "cube":
            return batch["cube_centre"], 0.5 * batch["cube_side"], torch.ones_like(batch["has_3d"])
        joints, valid = batch["joints_3d"], batch["joint_valid"] & batch["has_3d"][:, None]
        known = valid[:, self.root].all(1)
        unit = torch.full_like(joints[:, 0, 0], self.usual_bone)
        if self.scale_invariant:
            unit, has_bone = self.bone_length(batch)
            known = known & has_bone
        return joints[:, self.root].mean(1), unit, known

    def bone_length(self, batch: HandBatch) -> tuple[Tensor, Tensor]:
        """Lengths (B,), metres, of the labelled unit bones, and where there are any; the usual length elsewhere."""
        ends = batch["joints_3d"][:, self.bone]
        length = (ends[:, 0] - ends[:, 1]).norm(dim=-1)
        known = batch["has_3d"] & batch["joint_valid"][:, self.bone].all(1) & (length > _SHORTEST_BONE)
        return torch.where(known, length, self.usual_bone), known

    def view(self, batch: HandBatch) -> View:
        """The modality "3d"."""
        origin, unit, known = self.place(batch)
        joints = (batch["joints_3d"][:, self.joints] - origin[:, None]) / unit[:, None, None]
        return _of_joints(joints, batch["joint_valid"][:, self.joints] & (batch["has_3d"] & known)[:, None])

    def view_2d(self, batch: HandBatch, size: int) -> View:
        """The modality "2d": -1 and 1 are the edges of a picture of `size` pixels."""
        places = (batch["joints_2d"][:, self.joints] + 0.5) * (2 / size) - 1
        return _of_joints(places, batch["joint_valid"][:, self.joints] & batch["has_2d"][:, None])

    def pixels(self, numbers: Tensor, size: int) -> Tensor:
        """All 21 joints, pixels (B, 21, 2), of the modality "2d" (B, 2 J)."""
        return self.completed((numbers.unflatten(1, (-1, 2)) + 1) * (size / 2) - 0.5)

    def metres(self, numbers: Tensor, unit: Tensor) -> Tensor:
        """All 21 joints, metres from the origin (B, 21, 3), of the modality "3d" (B, 3 J) in units (B,)."""
        return self.completed(numbers.unflatten(1, (-1, 3)) * unit[:, None, None])

    def completed(self, joints: Tensor) -> Tensor:
        """(B, 21, ...) of (B, J, ...): a joint that the table lacks is put to its nearest neighbour on the finger."""
        said = torch.cat([joints, joints.mean(1, keepdim=True)], 1)
        return said[:, self._stands_for]


def _stand_ins(joints: Sequence[int]) -> list[int]:
    """For each of 21 joints the place in a table that speaks for it; J, their mean, where its finger has none."""
    stand_ins = []
    for joint in range(len(CANONICAL_JOINTS)):
        finger = range(1 + 4 * ((joint - 1) // 4), 5 + 4 * ((joint - 1) // 4)) if joint else range(1)
        near = sorted((abs(other - joint), place) for place, other in enumerate(joints) if other in finger)
        stand_ins.append(near[0][1] if near else len(joints))
    return stand_ins


def _of_joints(numbers: Tensor, valid: Tensor) -> View:
    """Joints (B, J, k), of which `valid` (B, J) count; a joint that is missing keeps a sample from being encoded."""
    counted = valid[..., None].expand(numbers.shape).flatten(1)
    numbers = torch.where(counted, numbers.flatten(1), torch.zeros_like(numbers.flatten(1)))
    return View(numbers, valid.all(1), numbers, counted)


def views_of(batch: HandBatch, modalities: Sequence[str], space: JointSpace) -> dict[str, View]:
    """The modalities that the batch has, of those asked for; a batch without the field has none of it."""
    views = {}
    for name in dict.fromkeys(modalities):
        check_choice("modality", name, MODALITIES)
        if NEEDS[name][0] not in batch:
            continue
        check_batch(batch, NEEDS[name])
        if name == "3d":
            views[name] = space.view(batch)
        elif name == "2d":
            views[name] = space.view_2d(batch, picture_size(batch))
        else:
            picture = batch["rgb"] - 0.5 if name == "rgb" else 0.5 * normalised_depth(batch)
            there = batch[f"has_{name}"]
            views[name] = View(picture, there, resized(picture, DECODED_SIZE), there[:, None, None, None])
    return views


def normalised_depth(batch: HandBatch) -> Tensor:
    """(B, 1, S, S): -1 the cube's near face, 1 the far one, and where depth is missing or outside the cube."""
    centre, half = batch["cube_centre"][:, 2, None, None, None], 0.5 * batch["cube_side"][:, None, None, None]
    unit = (batch["depth"] - centre) / half
    outside = (batch["depth"] <= 0) | (unit < -1)
    return unit.clamp(max=1).masked_fill(outside, 1)


def picture_size(batch: HandBatch) -> int:
    """Pixels along a side of the batch's pictures."""
    for name in ("rgb", "depth", "mask", "parts"):
        if name in batch:
            return batch[name].shape[-1]
    raise ValueError("batch: joints in the picture need a picture (rgb, depth, mask, parts) for its size, got none")


def looks_right(batch: HandBatch) -> Tensor:
    """(B,) bool: the picture shows what looks like a right hand."""
    return (batch["side"] == RIGHT) ^ batch["mirrored"]
