"""Backbones and heat maps: shapes, what places are read from maps, and what is refused."""

from itertools import pairwise

import pytest
import torch

from lightning_modules.networks.backbones import build_backbone, centred, features_of_both
from lightning_modules.networks.hand_evidence import HandEvidence, believed
from lightning_modules.networks.joint_maps import GRID, JointMaps, joint_places, target_maps


def test_a_place_in_the_middle_of_a_cell_is_read_from_its_gaussian():
    places = torch.full((1, 21, 2), 0.5)
    places[0, 0] = torch.tensor([(10 + 0.5) / GRID, (20 + 0.5) / GRID])  # cell 10 to the right, 20 down
    maps = target_maps(places, sigma=1.0)
    assert maps[0, 0, 20, 10] == 1
    assert maps[0, 0, 20, 12].item() == pytest.approx(2.718281828**-2)  # two cells at a deviation of one
    found, heights = joint_places(maps)
    torch.testing.assert_close(found[0, 0], places[0, 0])
    assert heights[0, 0] == 1


def test_places_between_cells_are_read_exactly():
    places = 0.1 + 0.8 * torch.rand(3, 21, 2, generator=torch.Generator().manual_seed(0))
    for sigma in (0.7, 1.0, 1.5):
        found, _ = joint_places(target_maps(places, sigma))
        assert GRID * (found - places).abs().max() < 1e-3


def test_a_maximum_at_the_rim_and_negative_scores_are_read_all_the_same():
    maps = torch.full((1, 21, GRID, GRID), -1.0)
    maps[:, :, 0, GRID - 1] = 2.0
    found, heights = joint_places(maps)
    torch.testing.assert_close(found, torch.tensor([(GRID - 0.5) / GRID, 0.5 / GRID]).expand(1, 21, 2))
    assert (heights == 2).all() and not found.requires_grad


@pytest.mark.parametrize(
    ("size", "side"), [("tiny", 96), ("small", 128), ("small", 64), pytest.param("full", 48, marks=pytest.mark.slow)]
)
def test_maps_of_every_stage_have_one_size_whatever_the_pictures(size, side):
    maps = JointMaps(size)(torch.rand(1, 3, side, side))
    assert [tuple(each.shape) for each in maps] == [(1, 21, GRID, GRID)] * (2 if size == "tiny" else 3)


def test_posenet_has_the_papers_parameters():
    # 3 x 3 convolutions of 3-64-64-128-128-256x4-512-512-256x4-128 with biases; 1 x 1 128-512-21; twice 7 x 7
    # (21 + 128)-128x5, 1 x 1 128-128-21
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 256, 256, 256, 256, 128]
    encoder = sum(9 * a * b + b for a, b in pairwise(widths))
    first = 128 * 512 + 512 + 512 * 21 + 21
    stage = 49 * 149 * 128 + 128 + 4 * (49 * 128 * 128 + 128) + 128 * 128 + 128 + 128 * 21 + 21
    assert sum(p.numel() for p in JointMaps("full").parameters()) == encoder + first + 2 * stage


def test_the_small_backbone_and_masked_features():
    torch.manual_seed(0)
    backbone, picture = build_backbone("small").eval(), torch.rand(2, 3, 64, 64)
    features = backbone(picture)
    assert features.shape == (2, backbone.features) == (2, 512)
    whole, apart = features_of_both(backbone, picture, torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 1, 64, 64))
    torch.testing.assert_close(whole, features)
    torch.testing.assert_close(apart[0], features[0])
    torch.testing.assert_close(apart[1:], backbone(torch.zeros(1, 3, 64, 64)))
    assert not torch.allclose(apart[1], features[1])
    # ImageNet's grey is 0
    assert centred(torch.tensor([0.485, 0.456, 0.406])[None, :, None, None]).abs().max() < 1e-6


def test_features_of_the_small_backbone_outlive_a_step_that_pushes_all_of_them_below_zero():
    torch.manual_seed(0)
    backbone, picture = build_backbone("small"), torch.rand(4, 3, 64, 64)
    before = backbone(picture)
    with torch.no_grad():
        backbone.layers[-3].bias -= 1000.0
    torch.testing.assert_close(backbone(picture), before, rtol=1e-2, atol=1e-2)
    assert (before > 0).float().mean() > 0.3


def test_masked_pictures_leave_batch_norms_statistics_to_whole_ones():
    torch.manual_seed(0)
    alone, both = build_backbone("small"), build_backbone("small")
    both.load_state_dict(alone.state_dict())
    both.layers[0].eval()  # frozen by its owner: stays so
    picture, mask = torch.rand(4, 3, 64, 64), (torch.rand(4, 1, 64, 64) > 0.7).float()
    features = alone(picture)
    whole, apart = features_of_both(both, picture, mask)
    torch.testing.assert_close(whole, features)
    for name, buffer in alone.named_buffers():
        torch.testing.assert_close(dict(both.named_buffers())[name], buffer)
    assert both.training and not both.layers[0].training and both.layers[1].training
    torch.testing.assert_close(apart, alone.eval()(picture * mask))


@pytest.mark.parametrize(("name", "features"), [("resnet18", 512), ("resnet50", 2048)])
def test_backbones_of_transformers(name, features):
    pytest.importorskip("transformers", reason="transformers is not installed (the extra backbones)")
    backbone = build_backbone(name).eval()
    assert backbone.features == features
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 64, 64)).shape == (1, features)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "features"), [("convnextv2-tiny", 768), ("dinov2-small", 384)])
def test_modern_backbones_of_transformers(name, features):
    test_backbones_of_transformers(name, features)


def test_weights_of_a_folder_are_taken_and_those_of_another_network_refused(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed (the extra backbones)")
    known = build_backbone("resnet18").eval()
    known.network.save_pretrained(tmp_path / "known")
    again = build_backbone("resnet18", str(tmp_path / "known")).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(picture), known(picture))
    with pytest.raises(ValueError, match="expected weights of 'resnet50'"):
        build_backbone("resnet50", str(tmp_path / "known"))
    with pytest.raises(FileNotFoundError, match="nowhere': no such folder"):
        build_backbone("resnet18", str(tmp_path / "nowhere"))


def test_bad_input():
    with pytest.raises(ValueError, match="backbone: expected one of 'small'"):
        build_backbone("vgg")
    with pytest.raises(ValueError, match="backbone 'small' has no weights on file"):
        build_backbone("small", "somewhere")
    with pytest.raises(ValueError, match="at least 32 pixels"):
        build_backbone("small")(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="joint_maps: expected one of 'tiny', 'small', 'full'"):
        JointMaps("large")
    with pytest.raises(ValueError, match="picture: expected shape"):
        JointMaps("small")(torch.rand(1, 1, 128, 128))


def test_maps_begin_as_zeros_and_what_they_say_then_is_the_middle():
    evidence = HandEvidence("small", None, "tiny", 63, refiner=True).eval()
    seen = evidence(torch.rand(2, 3, 64, 64))
    assert all((maps == 0).all() for maps in seen.maps)
    assert (seen.places == 0.5).all()
    places = torch.tensor([[[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]])
    found = believed(places, torch.tensor([[0.1, 0.2, 1.0]]))  # half believed, believed, believed
    torch.testing.assert_close(found, torch.tensor([[[0.3, 0.7], [0.1, 0.9], [0.1, 0.9]]]))
