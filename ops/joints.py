"""Joint names and orders. Canonical order: wrist, then thumb, index, middle, ring, little, each base to tip."""

FINGERS = ("thumb", "index", "middle", "ring", "little")

CANONICAL_JOINTS = ("wrist",) + tuple(
    f"{finger}_{part}"
    for finger in FINGERS
    for part in (("cmc", "mcp", "ip", "tip") if finger == "thumb" else ("mcp", "pip", "dip", "tip"))
)

# The 16 joints of a model in MANO's layout, in its order: little stands before ring.
MODEL_JOINTS = ("wrist",) + tuple(
    f"{finger}_{part}"
    for finger in ("index", "middle", "little", "ring", "thumb")
    for part in (("cmc", "mcp", "ip") if finger == "thumb" else ("mcp", "pip", "dip"))
)
MODEL_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

# canonical[i] = concatenation(16 model joints, 5 tips thumb..little)[MODEL_TO_CANONICAL[i]]
MODEL_TO_CANONICAL = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
# The model joint whose bone carries a canonical joint: the frame in which a convention's offset stands. A joint moves
# with its parent bone (a knuckle with the palm), a tip with the last bone.
CANONICAL_BONE = (0, 0, 13, 14, 15, 0, 1, 2, 3, 0, 4, 5, 6, 0, 10, 11, 12, 0, 7, 8, 9)

CANONICAL_PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
BONES = tuple((parent, child) for child, parent in enumerate(CANONICAL_PARENTS) if parent >= 0)

# Part labels in pictures (`datamodules.batch`: 0 background, 1 palm, 2-20 finger parts, 255 unlabelled).
BACKGROUND, PALM, UNLABELLED = 0, 1, 255
PART_NAMES = ("palm",) + tuple(
    f"{finger}_{part}"
    for finger in FINGERS
    for part in (("proximal", "distal", "tip") if finger == "thumb" else ("proximal", "middle", "distal", "tip"))
)

# NYU's 14 evaluation joints in its published order, as the canonical joints that lie nearest (a fingertip and the joint
# in the middle of each finger; -1: no canonical counterpart, NYU's second wrist point and palm point).
NYU14_TO_CANONICAL = (20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2, 0, -1, -1)

# Datasets' own points, and the canonical joints that they label: canonical joint -> points, whose mean it is. What a
# convention (ops.hand_model.conventions) adds to this map is where exactly on the bone a label lies.
# NYU: KNU3 is the last bone, A its end nearer the tip, B nearer the base; F1 is the little finger, F4 the index.
# B ends are the joints (so AWR and DeepModel use them); the wrist lies between PALM_1 and PALM_2.
NYU36 = (
    *(f"F{finger}_KNU{bone}_{end}" for finger in (1, 2, 3, 4) for bone in (3, 2, 1) for end in "AB"),
    *(f"TH_KNU{bone}_{end}" for bone in (3, 2, 1) for end in "AB"),
    *(f"PALM_{i}" for i in (1, 2, 3, 4, 5, 6)),
)
NYU36_CANONICAL: dict[int, tuple[int, ...]] = {0: (30, 31)} | {
    1 + 4 * finger + joint: (first + place,)
    for finger, first in enumerate((24, 18, 12, 6, 0))
    for joint, place in enumerate((5, 3, 1, 0))
}
NYU14_OF_36 = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)  # the evaluation joints, in their published order
# ICVL: palm, then thumb to little each root, mid, tip. Its points lie in the middle of the bones: 28 mm from root to
# mid and 18 mm from mid to tip of an index finger is half a bone each. A canonical joint moves with the bone before
# it, so the middle of a bone stands for the joint at that bone's far end.
ICVL16_CANONICAL: dict[int, tuple[int, ...]] = {
    4 * finger + joint: (3 * finger + place,) for finger in range(5) for joint, place in ((2, 1), (3, 2), (4, 3))
}
# MSRA: wrist, then index, middle, ring, little, thumb, base to tip
MSRA21_CANONICAL: dict[int, tuple[int, ...]] = {0: (0,)} | {
    1 + 4 * finger + joint: (1 + 4 * place + joint,)
    for finger, place in enumerate((4, 0, 1, 2, 3))
    for joint in range(4)
}
