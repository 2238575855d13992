import pytest
import torch

from lightning_modules.prediction import Frame, HandPrediction


def prediction(**changes):
    fields = {
        "joints_3d": torch.zeros(2, 21, 3),
        "joints_2d": torch.zeros(2, 21, 2),
        "vertices": torch.zeros(2, 5, 3),
        "parts": torch.zeros(2, 8, 6, dtype=torch.uint8),
        "side": torch.ones(2, dtype=torch.int64),
        "confidence": torch.ones(2),
        "frame": "absolute",
        "hand_model": "toy",
        "convention": "open",
    }
    return HandPrediction(**(fields | changes))


def test_what_a_method_does_not_give_may_be_none_and_the_frame_may_be_a_word():
    bare = prediction(joints_2d=None, vertices=None, parts=None, confidence=None)
    assert bare.frame is Frame.ABSOLUTE and prediction().parts.shape == (2, 8, 6)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("joints_3d", torch.zeros(2, 20, 3), r"joints_3d: expected shape \(B, 21, 3\), got \(2, 20, 3\)"),
        ("joints_2d", torch.zeros(1, 21, 2), r"joints_2d: expected shape \(2, 21, 2\), got \(1, 21, 2\)"),
        ("vertices", torch.zeros(3, 5, 3), r"vertices: expected shape \(2, V, 3\), got \(3, 5, 3\)"),
        ("parts", torch.zeros(1, 8, 6), r"parts: expected shape \(2, H, W\), got \(1, 8, 6\)"),
        ("side", torch.ones(3), r"side: expected shape \(2,\), got \(3,\)"),
        ("confidence", torch.ones(2, 1), r"confidence: expected shape \(2,\), got \(2, 1\)"),
        ("frame", "camera", "'camera' is not a valid Frame"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        prediction(**{field: value})


def test_the_side_is_never_left_out():
    with pytest.raises(TypeError, match=r"side: expected a torch\.Tensor"):
        prediction(side=None)
