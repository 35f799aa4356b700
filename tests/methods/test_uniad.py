"""UniAD: its transformer beside a twin in loops, noise, mask, map and score in closed form, the printed sizes."""

from __future__ import annotations

import itertools
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
from adcore.methods import _uniad as uniad
from adcore.methods.uniad import UniAD, UniADOptions
from adcore.vision.maps import pooled_maximum
from tests.methods.kills import alone_and_killed

SHAPES = [(5, 12, 12), (3, 6, 6)]
OUT = (24, 20)


def features(count: int = 6, shapes=SHAPES, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=random) for shape in shapes]


def method(seed: int = 0, checkpoint=None, memory_gb: float = 4.0, **options) -> UniAD:
    given = {"preset": "small", "width": 16, "depth": 1, "epochs": 2, "batch": 4} | options
    return UniAD(UniADOptions(**given), Context(seed, "cpu", OUT, memory_gb, checkpoint))


def trained(maps: list[torch.Tensor], **options) -> tuple[UniAD, Curves]:
    made = method(**options)
    return made, made.fit(Held(maps))


# The transformer


def normed(rows: np.ndarray, norm: Any) -> np.ndarray:
    weight, bias = norm.weight.double().numpy(), norm.bias.double().numpy()
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + norm.eps) * weight + bias


def linear(rows: np.ndarray, layer: Any) -> np.ndarray:
    return rows @ layer.weight.double().numpy().T + layer.bias.double().numpy()


def forth(rows: np.ndarray, layers: Any) -> np.ndarray:
    return linear(np.maximum(linear(rows, layers[0]), 0), layers[3])


def attended(module: Any, query, key, value, grid, reach: int) -> np.ndarray:
    """Head by head, position by position, over the positions that are seen."""
    width = query.shape[1]
    weight, bias = module.in_proj_weight.double().numpy(), module.in_proj_bias.double().numpy()
    parts = [slice(k * width, (k + 1) * width) for k in range(3)]
    q, k, v = (x @ weight[p].T + bias[p] for x, p in zip((query, key, value), parts, strict=True))
    out = np.zeros_like(q)
    places = list(itertools.product(range(grid[0]), range(grid[1])))
    for head in range(uniad.HEADS):
        own = slice(head * width // uniad.HEADS, (head + 1) * width // uniad.HEADS)
        for here, (row, column) in enumerate(places):
            seen = [n for n, (y, x) in enumerate(places) if abs(y - row) > reach or abs(x - column) > reach]
            shares = np.exp([q[here, own] @ k[n, own] / math.sqrt(width // uniad.HEADS) for n in seen])
            out[here, own] = sum(share * v[n, own] for share, n in zip(shares / shares.sum(), seen, strict=True))
    return linear(out, module.out_proj)


@torch.no_grad()
def twin(network: Any, tokens: np.ndarray, grid: tuple[int, int], reach: int) -> np.ndarray:
    """Eq. of the paper's Sec. 3.2 as the released code has them, one image: (N, C)."""
    rows, columns = network.rows.double().numpy(), network.columns.double().numpy()
    place = np.array([[*columns[x], *rows[y]] for y in range(grid[0]) for x in range(grid[1])])
    encoded = linear(tokens, network.inward)
    for layer in network.encoder:
        seen = attended(layer.attention, encoded + place, encoded + place, encoded, grid, reach)
        encoded = normed(encoded + seen, layer.norms[0])
        encoded = normed(encoded + forth(encoded, layer.forth), layer.norms[1])
    decoded = encoded
    for layer in network.decoder:
        out = layer.queries.double().numpy()
        out = normed(out + attended(layer.encoded, out + place, encoded + place, encoded, grid, reach), layer.norms[0])
        out = normed(out + attended(layer.before, out + place, decoded + place, decoded, grid, reach), layer.norms[1])
        decoded = normed(out + forth(out, layer.forth), layer.norms[2])
    return linear(normed(decoded, network.norm), network.outward)


@pytest.mark.parametrize(("neighbours", "reach"), [(3, 1), (1, 0), (0, -1)])
def test_the_transformer_equals_its_twin_in_loops(neighbours, reach):
    grid = (4, 5)
    torch.manual_seed(0)
    network = uniad.Rebuilder(6, grid, 16, 2, neighbours).eval()
    for value in network.parameters():  # biases and norms of a new network would hide their use
        torch.nn.init.normal_(value, std=0.3)
    tokens = torch.randn(2, 20, 6)
    with torch.no_grad():
        rebuilt = network(tokens)
    expected = [twin(network, one.double().numpy(), grid, reach) for one in tokens]
    np.testing.assert_allclose(rebuilt, np.stack(expected), rtol=1e-3, atol=1e-4)


def test_a_position_does_not_see_the_square_about_it():
    hidden = uniad.hidden((14, 14), 7)
    seen = [[abs(a // 14 - b // 14) > 3 or abs(a % 14 - b % 14) > 3 for b in range(196)] for a in range(196)]
    assert hidden is not None and torch.equal(~hidden, torch.tensor(seen))


@pytest.mark.parametrize(
    ("grid", "side"), [((8, 8), 7), ((7, 7), 5), ((4, 4), 3), ((3, 3), 1), ((2, 2), 1), ((2, 6), 5)]
)
def test_the_square_leaves_every_position_something_to_see(grid, side):
    hidden = uniad.hidden(grid, 7)
    assert hidden is not None and not hidden.all(1).any()
    alone = uniad.hidden(grid, side)
    assert alone is not None and torch.equal(hidden, alone)


def test_nothing_is_hidden_of_a_single_position():
    assert uniad.hidden((1, 1), 7) is None


@pytest.mark.parametrize("shapes", [[(4, 1, 1)], [(4, 2, 2)], [(4, 5, 3), (2, 3, 2)], [(6, 4, 4)] * 3])
def test_maps_of_any_shape_are_rebuilt(shapes):
    made = trained(features(3, shapes))[0]
    maps, scores = made.score(features(2, shapes, seed=1))
    assert maps.shape == (2, *OUT) and scores is not None and torch.isfinite(maps).all()


# The printed sizes


def test_the_printed_parameters_are_the_matrices_alone():
    """7.48 M: those of products; 7.72 M with biases, norms, positions and the queries of 14 x 14 positions."""
    with torch.device("meta"):
        network = uniad.Rebuilder(272, (14, 14), 256, 4, 7)
    found = dict(network.named_parameters())
    others = sum(one.numel() for name, one in found.items() if name.split(".")[-1] in ("rows", "columns", "queries"))
    assert sum(one.numel() for one in found.values()) == 7_717_392
    assert sum(one.numel() for one in found.values() if one.ndim == 2) - others == 7_479_296


def test_the_network_is_counted_with_its_attention():
    """Products of 196 tokens with every matrix, and twelve attentions of 196 x 196 x 256, twice."""
    spec = BackboneSpec(name="tf_efficientnet_b4", weights="random", layers=(0, 1, 2, 3))
    with torch.device("meta"):
        shapes = [(24, 112, 112), (32, 56, 56), (56, 28, 28), (160, 14, 14)]
    extractor = Extractor(Extraction(spec, ImageSpec(resize=224), ()), "cpu")
    counted = size(extractor, UniAD.sized(UniADOptions(), extractor))
    assert [tuple(shape) for shape in extractor.shapes()] == shapes
    assert counted.learnable == 7_717_392
    assert counted.own.linear == 196 * 7_479_296 and counted.own.attention == 12 * 2 * 196 * 196 * 256


# Tokens, noise, map and score


def test_maps_are_sampled_on_the_last_grid_with_aligned_corners():
    """A map that rises linearly keeps its values at the corners, and between them."""
    rows = torch.arange(9.0)[:, None] + 100 * torch.arange(7.0)
    tokens = uniad.joined([rows[None, None], torch.zeros(1, 2, 3, 4)], (3, 4))
    expected = torch.tensor([[y + 100 * x for x in (0, 2, 4, 6)] for y in (0, 4, 8)]).float()
    assert tokens.shape == (1, 12, 3)
    torch.testing.assert_close(tokens[0, :, 0], expected.flatten(), atol=1e-3, rtol=0)


def test_the_noise_goes_by_the_length_of_the_token_over_its_channels():
    torch.manual_seed(0)
    tokens = torch.zeros(400, 2, 50)
    tokens[:, 0, 0], tokens[:, 1] = 3.0, 1.0
    noise = uniad.jittered(tokens, 20.0) - tokens
    expected = torch.tensor([20 * 3 / 50, 20 * math.sqrt(50) / 50])
    torch.testing.assert_close(noise.std((0, 2)), expected, rtol=0.02, atol=0)


def test_no_jitter_changes_nothing():
    tokens = torch.randn(2, 3, 4)
    assert torch.equal(uniad.jittered(tokens, 0.0), tokens)


def test_what_is_rebuilt_exactly_gives_a_zero_map():
    tokens = torch.randn(2, 6, 5)
    assert not uniad.anomaly_map(tokens, tokens, (2, 3), OUT).any()


def test_the_map_is_the_distance_and_its_corners_are_the_images():
    tokens = torch.zeros(1, 4, 2)
    rebuilt = torch.tensor([[[3.0, 4.0], [0, 0], [0, 0], [0, 1.0]]])
    found = uniad.anomaly_map(tokens, rebuilt, (2, 2), (3, 5))
    expected = torch.tensor([[5, 3.75, 2.5, 1.25, 0], [2.5, 2, 1.5, 1, 0.5], [0, 0.25, 0.5, 0.75, 1]])
    torch.testing.assert_close(found[0], expected)


def test_the_image_score_is_the_greatest_mean_over_16_by_16_pixels():
    maps = torch.zeros(2, 40, 40)
    maps[0, 3:11, 20:28] = 4.0  # a quarter of a square
    maps[1, 7] = 1.0  # one row of 16
    torch.testing.assert_close(pooled_maximum(maps), torch.tensor([1.0, 1 / 16]))


def test_a_map_smaller_than_the_square_is_averaged_as_it_is():
    torch.testing.assert_close(pooled_maximum(torch.arange(8.0).view(1, 2, 4)), torch.tensor([4.5]))


# Training


def test_training_lowers_the_loss():
    curves = trained(features(12), epochs=60)[1]
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
    weights = [trained(features(), epochs=0, seed=seed)[0].state()["network.rows"] for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_tokens_that_have_no_room_are_made_in_every_epoch_to_the_same_weights():
    one, other = (trained(features(), memory_gb=memory)[0].state() for memory in (4.0, 0.0))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    alone, again = alone_and_killed(partial(method, epochs=4), lambda: Held(features()), tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


# What is refused


def test_maps_from_coarse_to_fine_are_refused():
    with pytest.raises(ValueError, match=r"uniad: it rebuilds on the grid of the last map, but .*order the layers"):
        trained(features(2, SHAPES[::-1]))


@pytest.mark.parametrize(
    ("options", "mend"),
    [({"width": 12}, "width 12.*give a multiple of 8"), ({"neighbours": 8}, "neighbours 8.*give an odd number, or 0")],
)
def test_options_that_cannot_work_are_refused(options, mend):
    with pytest.raises(ValueError, match=mend):
        UniADOptions(**options)
