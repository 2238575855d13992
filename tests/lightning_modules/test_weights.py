"""Files of weights: they predict as their checkpoint does, run nothing, and their card says what the run says."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from datamodules.batch import HandBatch
from lightning_modules import restore, weights
from lightning_modules.deephps import DeepHPS
from lightning_modules.restore import restore_method
from lightning_modules.weights import FOLDER, HEADER, convert, read_weights

CONFIG = {
    "seed_everything": 7,
    "trainer": {"max_steps": 30},
    "model": {"class_path": "lightning_modules.deephps.DeepHPS"},
    "data": {"class_path": "datamodules.rendered.RenderedHandsData", "init_args": {"domains": "clean"}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The checkpoint of a DeepHPS with random heads, in a run's folder."""
    folder = tmp_path_factory.mktemp("runs") / "deephps" / "first"
    (folder / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    arguments = {"pose_trunk": "tiny", "scale_trunk": "tiny", "shape_trunk": "tiny"}
    method = DeepHPS(**arguments)
    torch.nn.init.normal_(method.pose_head.weight, std=0.02)
    facts = {"class_path": "lightning_modules.deephps.DeepHPS", "init_args": arguments}
    checkpoint = {"state_dict": method.state_dict(), "global_step": 20, "epoch": 0}
    checkpoint["callbacks"] = {"RunReport": {"seconds": 3 * 3600.0, "sittings": 1}}
    checkpoint["handful"] = facts | {"hand_model": method.hand_model_id}
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"runs": "/home/somebody/runs"}))
    errors = "test/clean/joints_root_mm,test/clean/joints_absolute_mm,test/clean/joints_procrustes_mm"
    (folder / "metrics.csv").write_text(f"step,test/joints_root_mm,{errors}\n20,31.04,31.04,25.5,14.25\n30,,,,\n")
    return folder / "checkpoints" / "best.ckpt"


def depth_batch() -> HandBatch:
    """Two slanted blobs at 0.6 m."""
    slope = torch.linspace(0, 0.08, 128)
    depth = torch.zeros(2, 1, 128, 128)
    depth[0, 0, 30:90, 40:80] = 0.57 + slope[40:80]
    depth[1, 0, 50:100, 20:110] = 0.57 + slope[20:110]
    return HandBatch(
        depth=depth,
        K=torch.tensor([[256.0, 0, 63.5], [0, 256, 63.5], [0, 0, 1]]).expand(2, 3, 3),
        cube_centre=torch.tensor([0, 0, 0.6]).expand(2, 3),
        cube_side=torch.full((2,), 0.3),
        side=torch.tensor([1, 1]),
        mirrored=torch.tensor([False, False]),
    )


def largest_difference(one: Path, other: Path) -> float:
    """Millimetres between the joints of two files' methods."""
    batch = depth_batch()
    with torch.no_grad():
        joints = [restore_method(path).predict_step(batch, 0).joints_3d for path in (one, other)]
    return 1000 * float((joints[0] - joints[1]).norm(dim=-1).max())


def test_weights_predict_as_their_checkpoint_does_in_half_the_bytes(run, tmp_path):
    convert(run, tmp_path / "w.safetensors")
    assert 0 < largest_difference(run, tmp_path / "w.safetensors") < 0.5
    assert (tmp_path / "w.safetensors").stat().st_size < 0.6 * run.stat().st_size
    stored = read_weights(tmp_path / "w.safetensors")
    exact = torch.load(run, weights_only=True)["state_dict"]
    assert all(torch.equal(stored["state_dict"][n], t) for n, t in exact.items() if getattr(t, "ndim", 2) < 2), (
        "norms stay exact"
    )
    assert yaml.safe_load(stored["config"]) == CONFIG


def test_eight_bits_keep_a_matrix_to_a_step_of_its_column(run, tmp_path):
    name = "pose_head.weight"
    convert(run, tmp_path / "w.safetensors", [name])
    exact = torch.load(run, weights_only=True)["state_dict"][name]
    error = (read_weights(tmp_path / "w.safetensors")["state_dict"][name] - exact).abs()
    assert (error <= exact.abs().amax(0) / 127 * 0.501).all() and error.max() > 0
    assert largest_difference(run, tmp_path / "w.safetensors") < 5
    kernel = "pose_trunk.0.0.weight"
    convert(run, tmp_path / "kernel.safetensors", [kernel])
    exact = torch.load(run, weights_only=True)["state_dict"][kernel]
    stored = read_weights(tmp_path / "kernel.safetensors")["state_dict"][kernel]
    steps = exact.abs().amax((1, 2, 3), keepdim=True) / 127
    assert exact.ndim == 4 and ((stored - exact).abs() <= 0.501 * steps).all() and not torch.equal(stored, exact)
    convert(run, tmp_path / "pattern.safetensors", ["pose_h*t"])
    assert (tmp_path / "pattern.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"--eight-bits: pose_head\.bias: no such matrix"):
        convert(run, tmp_path / "v.safetensors", ["pose_head.bias"])


def test_numbers_beyond_half_precision_keep_their_bits(run, tmp_path):
    checkpoint = torch.load(run, weights_only=True)
    checkpoint["state_dict"]["pose_head.weight"][0, 0] = 1e6
    path = tmp_path / "large" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save(checkpoint, path)
    (path.parent.parent / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    convert(path, tmp_path / "w.safetensors")
    stored = read_weights(tmp_path / "w.safetensors")["state_dict"]["pose_head.weight"]
    assert torch.equal(stored, checkpoint["state_dict"]["pose_head.weight"])


def spoilt(path: Path, good: Path, what: str) -> Path:
    """A file of weights with something wrong in it."""
    raw = good.read_bytes()
    facts = {"class_path": "lightning_modules.deephps.DeepHPS", "init_args": {}, "hand_model": "x"}
    tensors = {"a": torch.zeros(2)}
    if what == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif what == "not json":
        save_file(tensors, path, {HEADER: "{"})
    elif what == "no facts":
        save_file(tensors, path)
    elif what == "foreign class":
        save_file(tensors, path, {HEADER: json.dumps({"handful": facts | {"class_path": "os.system"}})})
    elif what == "lone scale":
        save_file({"a.scale_of_eight_bits": torch.ones(2)}, path, {HEADER: json.dumps({"handful": facts})})
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("truncated", "cannot be read"),
        ("not json", "cannot be read"),
        ("no facts", "not a checkpoint of this project"),
        ("foreign class", "'os.system' is not a method of this project"),
        ("lone scale", "without its matrix"),
    ],
)
def test_bad_files_are_refused_by_name(run, tmp_path, what, message):
    convert(run, tmp_path / "good.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        restore_method(spoilt(tmp_path / "bad.safetensors", tmp_path / "good.safetensors", what))
    assert "bad.safetensors" in str(error.value)


def test_the_card_says_what_the_run_says(run, tmp_path, monkeypatch):
    real = tmp_path / "real.json"
    real.write_text(json.dumps({"picture": "/far/frame.png", "errors_mm": {"absolute": 40.26}}))
    monkeypatch.setattr(sys, "argv", ["weights", str(run), str(tmp_path / "w.safetensors"), "--real", str(real)])
    weights.main()
    card = (tmp_path / "w.md").read_text()
    for said in (
        "# w: DeepHPS",
        "| steps | 20 of 30, seed 7 |",
        "domains clean",
        "| hours | 3.0 of training",
        "| clean: joints | 25.5 | 31.0 | 14.2 |",
        "frame.png:",
        "| absolute | 40.3 |",
        "within 0.1 to 2 m",
    ):
        assert said in card, said


def test_a_checkpoint_without_its_run_and_other_names_are_refused(run, tmp_path):
    alone = tmp_path / "best.ckpt"
    alone.write_bytes(run.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"that has config\.yaml"):
        convert(alone, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"expected a name that ends in .safetensors"):
        convert(run, tmp_path / "w.ckpt")


def test_the_weights_that_come_along_are_small_restorable_and_have_cards():
    found = sorted(FOLDER.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in found) <= 25e6
    for path in found:
        method = restore_method(path)
        card = path.with_suffix(".md").read_text()
        assert card.startswith(f"# {path.stem}: {type(method).__name__}") and method.hand_model_id in card
    assert restore.METHODS == ("lightning_modules.",)
