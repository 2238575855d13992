"""The convention `open`: the anatomical mean of the measured sets.

    python -m datamodules.open_convention --force

Every set has a vote on each joint that it labels as a joint, of weight n / (n + 10) after n hands: ten hands' worth of
doubt, so that three pictures do not weigh like three hundred. No vote: ICVL, whose points lie in the middle of bones,
NYU's middle joints, which lie up to 16 mm beyond the joint in the next bone, and STB's wrist, a construction.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from datamodules.calibrate import write_convention
from ops.hand_model.conventions import FOLDER, joint_convention
from ops.joints import CANONICAL_JOINTS

SETS = ("ge", "stb", "rhd", "nyu", "msra")
DOUBT = 10
_MIDDLE = tuple(name for name in CANONICAL_JOINTS if name.endswith(("_pip", "_dip", "_ip")) or name == "thumb_mcp")
NOT_JOINTS: dict[str, tuple[str, ...]] = {"nyu": _MIDDLE, "stb": ("wrist",)}


def mean_offsets(names: Sequence[str] = SETS) -> tuple[np.ndarray, dict[str, float]]:
    """Offsets (21, 3) metres, and the weight of each set."""
    sets = [joint_convention(name) for name in names]
    weights = np.array([convention.count / (convention.count + DOUBT) for convention in sets])
    votes = weights[:, None] * np.stack([convention.labelled for convention in sets])  # (sets, 21)
    for vote, name in zip(votes, names, strict=True):
        vote[[CANONICAL_JOINTS.index(joint) for joint in NOT_JOINTS.get(name, ())]] = 0
    offsets = np.stack([convention.offsets for convention in sets])
    mean = (votes[..., None] * offsets).sum(0) / votes.sum(0)[:, None]
    return mean, {name: round(float(weight), 2) for name, weight in zip(names, weights, strict=True)}


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--force", action="store_true", help="replace the file")
    options = parser.parse_args(arguments)
    mean, weights = mean_offsets()
    spelled = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    content = {
        "name": "open",
        "source": f"mean of the measured sets, weights n / (n + {DOUBT}) after n hands: {spelled}; "
        "without nyu's middle joints and stb's wrist",
        "count": sum(joint_convention(name).count for name in SETS),
        "offsets_mm": [[round(float(x) * 1000, 2) for x in row] for row in mean],
    }
    try:
        write_convention(FOLDER / "open.json", content, options.force)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {FOLDER / 'open.json'}, {content['source']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
