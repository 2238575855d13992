"""Joints of two files in one convention: "the wrist" of two datasets lies up to 10 mm apart.

Files say which convention their joints are in. Where both say the same, or one says nothing, joints are compared as
they are; different ones are refused unless it is said which to take. Then the other file's hands are fitted
(`ops.hand_model.fitting`), and their joints moved by the difference of the two conventions.
"""

from pathlib import Path

from lightning_modules.evaluation_files import Hands, NotComparable, compared_positions
from lightning_modules.prediction import Frame
from lightning_modules.protocols import Protocol
from ops.hand_model.fitting import convert_joints

Source = Path | str


def in_one_convention(
    predicted: Hands, true: Hands, protocol: Protocol, taken: str | None, predictions: Source, ground_truth: Source
) -> tuple[Hands, Hands]:
    """Both files' hands with joints in one convention, which the protocol's facts name.

    Args:
        predicted: hands of `predictions`.
        true: hands of `ground_truth`.
        protocol: what will compare them.
        taken: the convention to compare in; None: the one that both are in.
        predictions: where they are from.
        ground_truth: where they are from.

    Raises:
        NotComparable: the files' conventions differ, and nothing was said.
        ValueError: the protocol compares no joints, or joints cannot be converted.
    """
    if "joints" not in compared_positions(protocol):
        if taken is not None:
            raise ValueError(f"convention: '{protocol.name}' compares no joints; leave --convention out")
        return predicted, true
    said = {hands.convention for hands in (predicted, true) if hands.convention}
    if taken is None and len(said) > 1:
        raise NotComparable(
            f"{predictions}: joints in the convention '{predicted.convention}', but {ground_truth} has "
            f"'{true.convention}', whose joints lie elsewhere; predict in that convention, or convert: "
            f"--convention {true.convention} fits hands to the predictions, --convention {predicted.convention} to the "
            "labels"
        )
    convention = taken or next(iter(said), "")
    words = [convention or "not said"]
    both = []
    for hands, where, what in ((predicted, predictions, "predictions"), (true, ground_truth, "labels")):
        if convention and not hands.convention:
            words.append(f"{what} do not say theirs")
        elif hands.convention != convention:
            hands = _converted(hands, convention, where)
            words.append(f"{what} converted by fitted hands")
        both.append(hands)
    protocol.facts["convention"] = "; ".join(words)
    return both[0], both[1]


def _converted(hands: Hands, convention: str, where: Source) -> Hands:
    if hands.frame == Frame.NORMALISED:
        raise ValueError(f"{where}: predictions without a scale cannot be converted; leave --convention out")
    if hands.joints is None or hands.side is None:
        raise ValueError(
            f"{where}: expected joints and side (N,) (0 left, 1 right) to convert them to '{convention}'; write both"
        )
    try:
        joints, _ = convert_joints(hands.joints, hands.visible, hands.convention, convention, hands.side)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return hands._replace(joints=joints, convention=convention)
