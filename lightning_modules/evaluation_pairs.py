"""Pairs of predicted and true hands from two files, put in one order and fed to a protocol."""

from pathlib import Path

from torch import Tensor

from lightning_modules.evaluation_conventions import Source, in_one_convention
from lightning_modules.evaluation_files import Hands, NotComparable, read_hands
from lightning_modules.prediction import Frame
from lightning_modules.protocols import DexterTips, EvalUtil, FreiHAND, PixelsProtocol, PointsProtocol, Protocol

_TIPS = [4, 8, 12, 16, 20]


def evaluate_files(predictions: Path, ground_truth: Path, protocol: Protocol, convention: str | None = None) -> int:
    """Feed two files to a protocol.

    Samples are matched by key where both files have keys. Where one has none, as text, it is taken to be in the order
    of the other's keys: published files are in the order of frames.

    Args:
        predictions: a file.
        ground_truth: a file.
        protocol: is fed.
        convention: to compare joints in where the files' conventions differ; None refuses such files.

    Returns:
        The number of hands compared.
    """
    pair = read_hands(predictions, protocol), read_hands(ground_truth, protocol)
    predicted, true = in_one_order(*pair, predictions, ground_truth)
    feed(protocol, predicted, true, predictions, ground_truth, convention)
    return _count(true)


def feed(
    protocol: Protocol,
    predicted: Hands,
    true: Hands,
    predictions: Source,
    ground_truth: Source,
    convention: str | None = None,
) -> None:
    """Feed hands, row for row of the same samples, to a protocol; where they are from is said in errors."""
    predicted, true = in_one_convention(predicted, true, protocol, convention, predictions, ground_truth)
    if predicted.frame != Frame.ABSOLUTE and protocol.needs_place:
        protocol.forget_place()

    def both(name: str) -> tuple[Tensor, Tensor]:
        for hands, where in ((predicted, predictions), (true, ground_truth)):
            if getattr(hands, name) is None:
                raise NotComparable(f"{where}: holds no {name}, which '{protocol.name}' compares; write them, too")
        return getattr(predicted, name), getattr(true, name)

    if isinstance(protocol, PointsProtocol | PixelsProtocol):
        protocol.update(*both("points"))
    elif isinstance(protocol, EvalUtil):
        protocol.update(*both("joints"), true.visible)
    elif isinstance(protocol, DexterTips):
        visible = None if true.visible is None else true.visible[:, _TIPS]
        protocol.update(*(joints[:, _TIPS] for joints in both("joints")), visible)
    elif isinstance(protocol, FreiHAND):
        protocol.update(*both("joints"), *_meshes(predicted, true, predictions, ground_truth))
    else:
        pictures = _pictures(*both("parts"), predictions, ground_truth)
        try:
            protocol.update(*pictures)
        except ValueError as error:
            raise ValueError(f"{predictions} against {ground_truth}: {error}") from error


def in_one_order(predicted: Hands, true: Hands, predictions: Source, ground_truth: Source) -> tuple[Hands, Hands]:
    """Both files' hands, row for row of the same samples.

    Raises:
        ValueError: samples are missing or too many; naming some.
    """
    if predicted.keys is not None and true.keys is not None:
        there, wanted = set(predicted.keys), set(true.keys)
        if there != wanted:
            raise ValueError(
                f"{predictions}: expected a prediction for each of the {len(wanted)} samples of {ground_truth}, got "
                f"{len(there)}; missing {_some(wanted - there)}, not among them {_some(there - wanted)}; "
                "predict that very split"
            )
    elif _count(predicted) != _count(true):
        raise ValueError(
            f"{predictions}: expected {_count(true)} hands as in {ground_truth}, got {_count(predicted)}; "
            "predict the same frames, each once"
        )
    return _by_key(predicted), _by_key(true)


def _by_key(hands: Hands) -> Hands:
    if hands.keys is None:
        return hands
    return hands.of(sorted(range(len(hands.keys)), key=hands.keys.__getitem__))


def _meshes(
    predicted: Hands, true: Hands, predictions: Source, ground_truth: Source
) -> tuple[Tensor, Tensor] | tuple[()]:
    """The vertices of both, if both have them."""
    if predicted.vertices is None or true.vertices is None:
        return ()
    if predicted.vertices.shape != true.vertices.shape:
        raise NotComparable(
            f"{predictions}: expected {true.vertices.shape[1]} vertices a hand as in {ground_truth}, got "
            f"{predicted.vertices.shape[1]}; predict the mesh of the labels, or leave vertices out"
        )
    return predicted.vertices, true.vertices


def _pictures(predicted: Tensor, true: Tensor, predictions: Source, ground_truth: Source) -> tuple[Tensor, Tensor]:
    if predicted.shape != true.shape:
        raise NotComparable(
            f"{predictions}: parts: expected {tuple(true.shape)} as in {ground_truth}, got {tuple(predicted.shape)}; "
            "predict pictures of the labels' size"
        )
    return predicted, true


def _count(hands: Hands) -> int:
    return len(next(iter(hands.tensors.values())))


def _some(keys: set[str]) -> str:
    return ", ".join(sorted(keys)[:3]) or "none"
