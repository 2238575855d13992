"""The command that builds a dictionary of rendered part maps."""

import numpy as np
import pytest

from datamodules.domains import DOMAINS
from datamodules.hand_sampler import HandSampler
from datamodules.patch_dictionary import build_dictionary, main, rendered_maps
from datamodules.rendering import HandRenderer
from ops.hand_model import open_hand
from ops.patch_restoration import PatchDictionary, PatchIndex, index_path


def test_command_builds_what_the_renderer_draws(tmp_path, capsys):
    out = tmp_path / "maps.safetensors"
    main([str(out), "--maps", "10", "--seed", "3"])
    dictionary = PatchDictionary.load(out, open_hand().id)
    assert (dictionary.domain, dictionary.seed, dictionary.crop_size) == ("clean/1", 3, 72)
    parameters = HandSampler(DOMAINS["clean"], open_hand()).sample(3, "train", 0, np.arange(10))
    drawn = HandRenderer(open_hand(), 72, ("parts",))(parameters)["parts"][:, 12:60, 12:60]
    assert (dictionary.maps == drawn.numpy()).all()
    assert f"{dictionary.patches:,} patches" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(out), "--maps", "4"])
    assert "add --overwrite" in capsys.readouterr().err
    assert len(PatchDictionary.load(out).maps) == 10
    main([str(out), "--maps", "4", "--overwrite"])
    assert len(PatchDictionary.load(out).maps) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/d.npz"], "expected a name ending in .safetensors"),
        (["{}/d.safetensors", "--maps", "0"], "expected at least 1"),
        (["{}/none/d.safetensors"], "is no folder"),
        (["{}/d.safetensors", "--crop-size", "47"], "expected an even number of at least 48"),
        (["{}/d.safetensors", "--domain", "dirty"], "invalid choice"),
    ],
)
def test_command_refuses(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        main([argument.format(tmp_path) for argument in arguments])
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_command_indexes(tmp_path, capsys):
    pytest.importorskip("faiss", reason="FAISS is not installed")
    out = tmp_path / "maps.safetensors"
    main([str(out), "--maps", "4", "--index"])
    index = PatchIndex.load(index_path(out), PatchDictionary.load(out))
    assert f"{len(index.entries):,} entries" in capsys.readouterr().out
    index_path(out).unlink()
    before = out.stat().st_mtime_ns
    main([str(out), "--index"])  # alone: the dictionary stays
    assert out.stat().st_mtime_ns == before
    assert (PatchIndex.load(index_path(out), PatchDictionary.load(out)).entries == index.entries).all()
    with pytest.raises(SystemExit):
        main([str(out), "--index"])
    assert "maps.index.safetensors exists; add --overwrite" in capsys.readouterr().err


def test_seed_and_size():
    first, second = (build_dictionary(3, seed) for seed in (0, 1))
    assert (first.maps != second.maps).any()
    assert build_dictionary(3, crop_size=48).patches < first.patches
    with pytest.raises(ValueError, match="6000 training frames, got 6001"):
        next(rendered_maps(6001, domain="sensor"))
