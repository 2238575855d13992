"""Networks as ONNX: they say what PyTorch says, of any number of crops."""

import pytest
import torch

from lightning_modules import export as exporting
from lightning_modules.cross_modal_vae import CrossModalVAE
from lightning_modules.deephps import DeepHPS
from lightning_modules.dhpe import DHPE
from lightning_modules.export import check, example_batch, export
from lightning_modules.neverova import Neverova


def shaken(method):
    """The method with random heads: those of new networks say zero."""
    generator = torch.Generator().manual_seed(1)
    for parameter in method.parameters():
        if not parameter.detach().any():
            parameter.data.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
    return method.eval()


def deephps(**options):
    return shaken(DeepHPS("tiny", "tiny", "tiny", **options))


def neverova():
    torch.manual_seed(0)
    return shaken(Neverova("regression", init_from="x", widths=[4, 8, 8], hidden=8, resolution=24, regressor_hidden=8))


def dhpe():
    torch.manual_seed(0)
    return shaken(DHPE("small", joint_maps="small", refinement_steps=0))


def vae():
    torch.manual_seed(0)
    return shaken(CrossModalVAE(["depth-3d", "rgb-3d"], predict_from=["depth"], frame="cube", encoder="small"))


@pytest.mark.parametrize(
    "make",
    [
        deephps,
        pytest.param(neverova, marks=pytest.mark.slow),
        pytest.param(dhpe, marks=pytest.mark.slow),
        pytest.param(vae, marks=pytest.mark.slow),
    ],
)
def test_onnx_says_what_pytorch_says_of_any_number_of_crops(tmp_path, make):
    method = make()
    export(method, tmp_path / "hand.onnx")
    checked = check(method, tmp_path / "hand.onnx")
    assert checked.difference <= 1e-4 and checked.flipped <= 1e-3
    assert checked.torch_ms > 0 < checked.onnx_ms


@pytest.mark.parametrize("make", [deephps, neverova, dhpe, vae])
def test_what_is_exported_is_what_is_predicted(make):
    method = make()
    batch = example_batch(method, 2)
    with torch.no_grad():
        said, prediction = method.exported(batch), method.predict_step(batch, 0)
    torch.testing.assert_close(said["joints"], prediction.joints_3d)
    assert float(prediction.joints_3d.std(0).max()) > 1e-4, "examples differ"
    if prediction.vertices is not None:
        torch.testing.assert_close(said["vertices"], prediction.vertices)
        torch.testing.assert_close(said["rotations"], prediction.rotations)


def test_another_network_than_the_files_is_found_out(tmp_path):
    export(deephps(), tmp_path / "hand.onnx")
    with pytest.raises(ValueError, match="says another 'joints' than PyTorch: numbers differ by"):
        check(deephps(learn_shape=False, rotation="6d"), tmp_path / "hand.onnx")


def test_the_command_says_what_it_did_and_replaces_nothing(tmp_path, monkeypatch, capsys):
    method = deephps()
    monkeypatch.setattr(exporting, "restore_method", lambda path: method)
    words = ["--onnx", str(tmp_path / "hand.onnx"), "--ckpt", "some.ckpt"]
    exporting.main(words)
    said = capsys.readouterr().out
    assert "agreement   within" in said and "onnxruntime" in said and "DeepHPS" in said
    with pytest.raises(SystemExit) as stop:
        exporting.main(words)
    assert stop.value.code == 2 and "there already; give --overwrite" in capsys.readouterr().err
