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

# Part labels in pictures (CONTRACTS: 0 background, 1 palm, 2-20 finger parts, 255 unlabelled).
BACKGROUND, PALM, UNLABELLED = 0, 1, 255
PART_NAMES = ("palm",) + tuple(
    f"{finger}_{part}"
    for finger in FINGERS
    for part in (("proximal", "distal", "tip") if finger == "thumb" else ("proximal", "middle", "distal", "tip"))
)

# NYU's 14 evaluation joints in its published order, as the canonical joints that lie nearest (a fingertip and the joint
# in the middle of each finger; -1: no canonical counterpart, NYU's second wrist point and palm point).
NYU14_TO_CANONICAL = (20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2, 0, -1, -1)
