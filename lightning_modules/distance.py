"""How far away a hand is that one colour picture shows: by a bone of assumed length, by the crop's cube, or by labels.

A colour picture does not say how large a hand is, and so not how far: the paper takes the labels' depth.
"""

from typing import Literal

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from datamodules.batch import HandBatch, check_batch
from lightning_modules.normalised_hand import ROOT, NormalisedHand, depth_of_bone
from ops.checks import check_choice, check_positive

DistanceRule = Literal["bone", "cube", "label"]


class Distance:
    """The depth of the root of hands in the crop's frame.

    Args:
        rule: "bone" makes the first bone of the middle finger `bone_length` long; "cube" takes the depth of the cube
            that the crop was cut by; "label" that of the labels, and of pictures without labels the bone's.
        bone_length: metres, from the middle finger's knuckle to its next joint.
    """

    def __init__(self, rule: DistanceRule, bone_length: float) -> None:
        check_choice("root_depth", rule, ("bone", "cube", "label"))
        check_positive(bone_length=bone_length)
        self.rule, self.bone_length = rule, bone_length

    def said(self) -> str:
        """How far away hands in pictures without labels are said to be, in words."""
        if self.rule == "cube":
            return "the depth that the crop was cut at"
        bone = f"a first bone of the middle finger of {1000 * self.bone_length:.1f} mm"
        return f"from focal length and {bone}; the hand's size is not measured"

    def by_bone(self, hand: NormalisedHand, K: Tensor, size: int) -> Tensor:
        """Metres (B,) at which the bone has its length, in pictures of `size` pixels with cameras K (B, 3, 3)."""
        return depth_of_bone(hand, self.bone_length, K, size)

    def __call__(self, hand: NormalisedHand, batch: HandBatch) -> Tensor:
        """Metres (B,) from the camera to the plane of the root, by the rule.

        Raises:
            ValueError: the batch says of some hand that it is not before the camera.
        """
        without = self.rule == "label" and "joints_3d" not in batch
        if without:
            rank_zero_warn(f"root_depth 'label': these pictures have no labels; {self.said()}")
        if without or self.rule == "bone":
            return self.by_bone(hand, batch["K"], batch["rgb"].shape[-1])
        field = "cube_centre" if self.rule == "cube" else "joints_3d"
        check_batch(batch, [field])
        depth = batch[field][:, 2] if self.rule == "cube" else batch[field][:, ROOT, 2]
        if not bool((depth > 0).all()):
            raise ValueError(
                f"root_depth '{self.rule}': expected batch['{field}'] to say how far each hand is, got "
                f"{depth.min().item():g} m; take model.root_depth=bone"
            )
        return depth
