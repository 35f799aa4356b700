"""ViTAD: its decoder beside a twin in loops, parameters in closed form, map and score by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from adcore.core.contracts import Context, Curves
from adcore.core.plan import BackboneSpec, ImageSpec
from adcore.engine.sizes import size
from adcore.features.extractor import Extraction, Extractor
from adcore.features.held import Held
from adcore.methods import _vitad as vitad
from adcore.methods.vitad import ViTAD, ViTADOptions
from tests.methods.kills import alone_and_killed

ALIKE = [(12, 3, 4)] * 4
PYRAMID = [(4, 12, 12), (5, 6, 6), (6, 3, 3), (9, 2, 2)]
OUT = (24, 20)


def features(count: int = 6, shapes=ALIKE, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=random) for shape in shapes]


def method(seed: int = 0, checkpoint=None, **options) -> ViTAD:
    given = {"preset": "small", "width": 12, "epochs": 2, "batch": 4} | options
    return ViTAD(ViTADOptions(**given), Context(seed, image_size=OUT, checkpoint=checkpoint))


def trained(maps: list[torch.Tensor], **options) -> tuple[ViTAD, Curves]:
    made = method(**options)
    return made, made.fit(Held(maps))


# The decoder


def normed(rows: np.ndarray, norm: Any) -> np.ndarray:
    weight, bias = norm.weight.double().numpy(), norm.bias.double().numpy()
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6) * weight + bias


def linear(rows: np.ndarray, layer: Any) -> np.ndarray:
    return rows @ layer.weight.double().numpy().T + layer.bias.double().numpy()


def block(rows: np.ndarray, module: Any, count: int) -> np.ndarray:
    """A pre-norm ViT block of `count` heads, token by token."""
    query, key, value = np.split(linear(normed(rows, module.norm1), module.attn.qkv), 3, axis=1)
    width = rows.shape[1] // count
    seen = np.zeros_like(rows)
    for head in range(count):
        own = slice(head * width, (head + 1) * width)
        for place in range(len(rows)):
            shares = np.exp([query[place, own] @ other / math.sqrt(width) for other in key[:, own]])
            seen[place, own] = shares / shares.sum() @ value[:, own]
    rows = rows + linear(seen, module.attn.proj)
    inner = linear(normed(rows, module.norm2), module.mlp.fc1)
    gelu = inner * np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))(inner)
    return rows + linear(gelu, module.mlp.fc2)


@torch.no_grad()
def test_the_decoder_equals_its_twin_in_loops():
    """Nine blocks; what stands behind the third, the sixth and the ninth are the last, second and first map."""
    torch.manual_seed(0)
    decoder: Any = vitad.Decoder([(128, 2, 3)] * 4, None, 3).eval()
    for value in decoder.parameters():  # biases and norms of a new network would hide their use
        torch.nn.init.normal_(value, std=0.15)
    maps = features(1, [(128, 2, 3)] * 4)
    rows = linear(maps[3][0].flatten(1).T.double().numpy(), decoder.fuse) + decoder.position.double().numpy()
    expected: list[np.ndarray] = []
    for stage in decoder.stages:
        for module in stage:
            rows = block(rows, module, 2)
        expected.insert(0, rows)
    for found, wanted in zip(decoder(maps), expected, strict=True):
        np.testing.assert_allclose(found[0].flatten(1).T, wanted, rtol=1e-3, atol=1e-3)


def test_the_decoder_of_the_paper_has_its_parameters():
    """Nine blocks of ViT-S, a linear layer, and a position for each of 16 x 16 tokens."""
    with torch.device("meta"):
        decoder = vitad.Decoder([(384, 16, 16)] * 4, None, 3)
    one = 12 * 384**2 + 13 * 384  # products and their biases, and two norms
    assert sum(each.numel() for each in decoder.parameters()) == 9 * one + 384**2 + 384 + 256 * 384


def test_the_blocks_that_are_read_are_3_6_9_and_12():
    spec = BackboneSpec(name="vit_small_patch16_224.dino", weights="random")
    extractor = Extractor(Extraction(spec, ImageSpec(resize=64), ViTAD.levels), "cpu")
    assert list(extractor.model.out_indices) == [2, 5, 8, 11]
    counted = size(extractor, ViTAD.sized(ViTADOptions(), extractor))
    tokens, matrices = 16, 9 * 12 * 384**2 + 384**2
    assert counted.own.linear == tokens * matrices and counted.own.attention == 9 * 2 * tokens**2 * 384


@pytest.mark.parametrize(("width", "count"), [(384, 6), (768, 12), (192, 3), (64, 1), (48, 1), (200, 2), (130, 2)])
def test_heads_are_64_wide_or_share_the_width_evenly(width, count):
    assert vitad.heads(width) == count


@pytest.mark.parametrize("shapes", [ALIKE, PYRAMID, PYRAMID[:2], [(6, 5, 5)], [(4, 7, 5), (6, 1, 1)]])
def test_maps_of_any_shape_are_rebuilt_on_the_grid_of_the_last_of_them(shapes):
    made = trained(features(3, shapes), epochs=1)[0]
    maps = features(2, shapes, seed=1)
    rebuilt, wanted = shapes[:-1] or shapes, made.decoder.targets(maps)
    assert [one.shape[1:] for one in made.decoder(maps)] == [(count, *rebuilt[-1][1:]) for count, _, _ in rebuilt]
    assert [one.shape for one in made.decoder(maps)] == [one.shape for one in wanted]


@pytest.mark.parametrize(("shapes", "width"), [(ALIKE, 12), (PYRAMID, 384)])
def test_tokens_have_the_channels_of_the_maps_where_all_have_as_many(shapes, width):
    with torch.device("meta"):
        assert vitad.Decoder(shapes, None, 1).fuse.out_features == width


def test_a_finer_map_is_averaged_where_it_is_to_be_rebuilt():
    with torch.device("meta"):
        decoder = vitad.Decoder(PYRAMID, 12, 1)
    maps = features(2, PYRAMID)
    expected = maps[0].unflatten(3, (3, 4)).unflatten(2, (3, 4)).mean((3, 5))
    torch.testing.assert_close(decoder.targets(maps)[0], expected)
    assert decoder.targets(maps)[2] is maps[2]


def test_nothing_of_the_maps_to_be_rebuilt_reaches_the_decoder():
    made = trained(features())[0]
    maps, others = features(2), features(2, seed=1)
    found = [made.decoder([*some[:-1], maps[-1]]) for some in (maps, others)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# Map and score


def test_map_and_score_are_those_by_hand():
    """The sum of 1 - cosine, enlarged with aligned corners, a Gaussian of 4 pixels, and the greatest mean over 16 x 16
    pixels of that."""
    from scipy.ndimage import gaussian_filter

    made = trained(features())[0]
    maps = features(1, seed=2)
    found, score = made.score(maps)
    far = np.zeros((3, 4))
    for a, b in zip(maps[:3], made.decoder(maps), strict=True):
        for y, x in np.ndindex(far.shape):
            u, v = (one[0, :, y, x].double().numpy() for one in (a, b))
            far[y, x] += 1 - u @ v / math.sqrt((u @ u) * (v @ v))
    rows, columns = np.linspace(0, 2, OUT[0]), np.linspace(0, 3, OUT[1])
    between = np.array([[np.interp(x, range(4), line) for x in columns] for line in far])
    fine = np.array([[np.interp(y, range(3), between[:, x]) for x in range(OUT[1])] for y in rows])
    smooth = gaussian_filter(fine, 4.0)
    np.testing.assert_allclose(found[0], smooth, rtol=1e-3)
    squares = [smooth[y : y + 16, x : x + 16].mean() for y in range(OUT[0] - 15) for x in range(OUT[1] - 15)]
    assert score is not None and float(score) == pytest.approx(max(squares), rel=1e-3)


# Training


def test_training_lowers_the_loss():
    curves = trained(features(12), epochs=60, lr=1e-2)[1]
    assert curves["loss"][-1] < 0.8 * curves["loss"][0]


def test_the_rate_falls_to_a_tenth_for_the_last_fifth(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    trained(features(4), epochs=10, lr=1e-2)
    assert rates == pytest.approx([1e-2] * 8 + [1e-3] * 2)


def test_the_weights_follow_the_seed():
    weights = [trained(features(), epochs=0, seed=seed)[0].state()["decoder.position"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    alone, again = alone_and_killed(partial(method, epochs=4), lambda: Held(features()), tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


def test_the_rebuilding_goes_from_the_last_map_to_the_first():
    """Each stage of the decoder adds to the one before: only the first map has been through all of them."""
    with torch.device("meta"):
        decoder = vitad.Decoder(PYRAMID, None, 1)
    channels = [layer.out_features for layer in decoder.outward if isinstance(layer, torch.nn.Linear)]
    assert channels == [6, 5, 4]
