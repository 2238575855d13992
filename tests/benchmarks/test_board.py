"""The board judges every method alike, and says where a figure cannot be said."""

import cv2
import pytest
import torch

from benchmarks import board
from benchmarks.board import Entrant, cells, entrants, in_convention, judge, markdown, rendered_batches, save
from datamodules.batch import HandBatch
from lightning_modules.method import HandMethod, as_pictured
from lightning_modules.prediction import Frame, HandPrediction
from lightning_modules.weights import FOLDER

pytestmark = pytest.mark.slow  # converting joints compiles a fitter


class Knowing(HandMethod):
    """Predicts the labels, moved."""

    def __init__(self, move: float, frame: Frame) -> None:
        super().__init__()
        self.move, self.frame = move, frame
        self.weight = torch.nn.Parameter(torch.zeros(1_500_000))

    def predict_step(self, batch: HandBatch, batch_idx: int) -> HandPrediction:
        joints = as_pictured(batch["joints_3d"], batch["mirrored"]) + self.move
        return HandPrediction(joints, None, None, None, batch["side"], None, self.frame, "", "open")


@pytest.fixture(scope="module")
def judged():
    found = {}
    for name, frame in (("near", Frame.ABSOLUTE), ("rooted", Frame.ROOT_RELATIVE)):
        entrant = Entrant(name, "depth", Knowing(0.01, frame), None, 32)
        found[name] = judge(entrant, rendered_batches(entrant, 8), "sensor (rendered)")
    return found


def test_figures_of_labels_that_were_moved(judged):
    result, constant = judged["near"]
    assert result.figures["absolute"] == pytest.approx(10 * 3**0.5, abs=1e-3)  # 1 cm along each axis
    assert result.figures["procrustes"] == pytest.approx(0, abs=1e-2) and result.figures["palm"] < 1e-2
    assert result.figures["auc"] == 1 and result.figures["mesh"] is None
    assert constant["hands"] == 8 and constant["root"] > constant["procrustes"] > 5
    assert judged["rooted"][0].figures["absolute"] is None  # says no place
    assert cells(result, {("near", "depth"): 12.3}) == ["near", "0.0", "0.0", "1.00", "17.3", "", "12", "1.50"]


def test_joints_of_another_convention_are_converted():
    batch = next(iter(rendered_batches(Entrant("", "depth", None, None, 32), 2)))
    prediction = Knowing(0, Frame.ABSOLUTE).predict_step(batch, 0)
    assert in_convention(prediction, batch) is prediction.joints_3d
    moved = in_convention(prediction, batch | {"convention": ["ge"] * 2}) - prediction.joints_3d
    assert 0.001 < moved.norm(dim=-1).max() < 0.02  # conventions lie up to 2 cm apart


def test_the_page_and_its_picture(judged, tmp_path, monkeypatch):
    monkeypatch.setattr(board, "DOCS", tmp_path)
    results, constants = [each for each, _ in judged.values()], {"sensor (rendered)": judged["near"][1]}
    speed = {(name, "depth"): 1.0 for name in judged}
    save(results, constants, speed)
    assert (tmp_path / "board.md").read_text() == markdown(results, constants, speed)
    assert "| rooted | 0.0 | 0.0 | 1.00 |  |" in markdown(results, constants, speed)
    assert cv2.imread(str(tmp_path / "board_sensor.png")).shape == (6 * 256, 3 * 256, 3)  # truth and two methods


def test_a_method_of_several_modalities_predicts_from_the_one_that_is_shown():
    both = [entrant for entrant in entrants(FOLDER) if entrant.name == "vae"]
    assert [entrant.modality for entrant in both] == ["depth", "rgb"]
    for entrant in both:
        batch = next(iter(rendered_batches(entrant, 2)))
        with torch.no_grad():
            assert entrant.method.predict_step(batch, 0).joints_3d.shape == (2, 21, 3)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected .safetensors files, got none; make weights"):
        entrants(tmp_path)
