import numpy as np
import pytest
import torch

from ops.hand_model.model import open_hand
from ops.hand_model.skin import MONK_TONES, _mottling, _rasterize_uv, skin_albedo, skin_texture

SIZE = 96


@pytest.fixture(scope="module")
def hand():
    return open_hand()


def vertex_normals(hand):
    corners = hand.v_template[hand.faces]
    normals = np.zeros_like(hand.v_template)
    for k in range(3):
        np.add.at(normals, hand.faces[:, k], np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def palm_and_back(hand):
    up = vertex_normals(hand)[:, 1]
    return (hand.part_labels == 0) & (up < -0.8), (hand.part_labels == 0) & (up > 0.8)


def sampled(texture, hand):
    """Colour (V, 3) of the texture at one uv of each vertex."""
    uv = np.zeros((len(hand.v_template), 2))
    uv[hand.faces] = hand.uv[hand.uv_faces]
    grid = torch.from_numpy(np.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], 1)).float()[None, None]
    return torch.nn.functional.grid_sample(texture[None], grid, padding_mode="border", align_corners=False)[0, :, 0].T


def test_monk_tones_run_from_light_to_dark():
    assert MONK_TONES.shape == (10, 3)
    np.testing.assert_allclose(MONK_TONES[0], [246 / 255, 237 / 255, 228 / 255])
    assert MONK_TONES[5:].mean(1).tolist() == sorted(MONK_TONES[5:].mean(1), reverse=True)


@pytest.mark.parametrize("tone", range(10))
def test_back_has_the_tone_and_the_palm_is_not_darker(hand, tone):
    albedo = skin_albedo(hand, tone, seed=3).numpy()
    assert albedo.shape == (778, 3) and albedo.min() >= 0 and albedo.max() <= 1
    palm, back = palm_and_back(hand)
    np.testing.assert_allclose(albedo[back].mean(0), MONK_TONES[tone], atol=0.03)
    assert np.median(albedo[palm].mean(1)) > np.median(albedo[back].mean(1)) - 0.02
    if tone >= 5:
        assert np.median(albedo[palm].mean(1)) > 1.15 * np.median(albedo[back].mean(1))


def test_nails_lie_on_the_back_of_the_last_phalanx(hand):
    dark = skin_albedo(hand, 9, seed=0).numpy().mean(1)
    up = vertex_normals(hand)[:, 1]
    tips = np.isin(hand.part_labels, [7, 11, 15, 19]) & (up > 0.8)
    middles = np.isin(hand.part_labels, [5, 9, 13, 17]) & (up > 0.8)
    assert dark[tips].max() > 0.4  # light nails on the darkest skin
    assert dark[middles].max() < 0.25


def test_same_seed_same_skin_and_another_seed_another(hand):
    first, again, other = (skin_texture(4, SIZE, seed) for seed in (1, 1, 2))
    assert first.shape == (3, SIZE, SIZE) and first.dtype == torch.float32
    assert torch.equal(first, again)
    assert 0.001 < (first - other).abs().mean() < 0.1


def test_texture_and_vertex_colours_agree_away_from_thin_lines(hand):
    texture = sampled(skin_texture(5, (200, 224), 0, hand), hand)
    albedo = skin_albedo(hand, 5, 0)
    palm, back = palm_and_back(hand)
    difference = (texture - albedo).abs()[palm | back]
    assert difference.median() < 0.01
    assert difference.quantile(0.9) < 0.05


def test_texture_takes_any_size_and_colour():
    texture = skin_texture(torch.tensor([0.5, 0.4, 0.3]), (40, 60), 0)
    assert texture.shape == (3, 40, 60)
    assert texture.min() >= 0 and texture.max() <= 1
    assert (texture.mean((1, 2)) - torch.tensor([0.5, 0.4, 0.3])).abs().max() < 0.12


def test_left_hand_wears_the_same_palm(hand):
    left = hand.mirrored()
    palm, back = palm_and_back(hand)
    albedo = skin_albedo(left, 7, 0).numpy()
    assert albedo[palm].mean() > 1.15 * albedo[back].mean()


def test_mottling_has_mean_zero_and_variance_one():
    positions = np.random.default_rng(0).uniform(-5, 5, size=(20000, 3))  # many wavelengths
    fields = _mottling(positions, seed=0)
    np.testing.assert_allclose(fields.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(fields.std(0), 1, atol=0.05)


def test_rasterised_triangle_covers_the_texels_whose_centres_it_holds():
    uv = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])  # upper left half of the picture
    vertices, shares = _rasterize_uv(uv, np.array([[0, 1, 2]]), np.array([[7, 8, 9]]), 4, 4)
    expected = np.add.outer(np.arange(4), np.arange(4)) <= 3
    np.testing.assert_array_equal(shares.sum(-1) > 0, expected)
    assert vertices[0, 0].tolist() == [7, 8, 9]
    np.testing.assert_allclose(shares[0, 0], [0.75, 0.125, 0.125])  # its centre is at (1/8, 1/8)


def test_bad_tone_size_and_model_are_refused(hand):
    with pytest.raises(ValueError, match=r"tone: expected 0..9 of the Monk scale or a colour \(3,\), got 10"):
        skin_albedo(hand, 10)
    with pytest.raises(ValueError, match=r"tone: expected shape \(3,\), got \(4,\)"):
        skin_albedo(hand, torch.zeros(4))
    with pytest.raises(ValueError, match="tone: expected sRGB in"):
        skin_albedo(hand, torch.tensor([0.0, 2.0, 0.0]))
    with pytest.raises(ValueError, match="size: expected positive pixels, got 0"):
        skin_texture(3, 0)
