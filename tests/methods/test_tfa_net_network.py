"""TFA-Net's network: what can reach its output, its masks, its losses and its map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from adcore.methods._tfa_net import (
    Blocks,
    TFANet,
    anomaly_map,
    cosine_distance,
    joined,
    losses,
    patchify,
    positions,
    unpatchify,
)

CHANNELS, SIDE, PATCH, WIDTH = 3, 4, 2, 16
TOKENS = SIDE**2


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def net(depth: int = 2, refine_depth: int = 1, seed: int = 0, **options) -> TFANet:
    network = TFANet(CHANNELS, SIDE, PATCH, Blocks(WIDTH, depth, 2), Blocks(8, refine_depth, 2), **options)
    network.initialise(seed)
    return network.eval()


def tokens(count: int = 2, seed: int = 1) -> torch.Tensor:
    return patchify(noise(count, CHANNELS, SIDE * PATCH, SIDE * PATCH, seed=seed), PATCH)


def rebuilt(network: TFANet, given: torch.Tensor, template: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return network(given, network.embed(tokens(1, seed=2) if template is None else template))


def test_patches_go_back_to_where_they_were():
    features = noise(2, 5, 8, 8)
    cut = patchify(features, 2)
    assert cut.shape == (2, 16, 20)
    assert torch.equal(unpatchify(cut, 2), features)
    assert torch.equal(cut[1, 6, 10:15], features[1, :, 3, 4])  # token (1, 2), its lower left position


def test_features_are_joined_on_one_grid_with_their_corners_in_place():
    fine, coarse = noise(2, 3, 4, 4), noise(2, 2, 2, 2, seed=1)
    features = joined([fine, coarse], 4, normalise=False)
    assert torch.equal(features[:, :3], fine)
    assert torch.equal(features[:, 3:, ::3, ::3], coarse)
    torch.testing.assert_close(features[:, 3:, 0, 1], (2 * coarse[:, :, 0, 0] + coarse[:, :, 0, 1]) / 3)
    lengths = joined([fine, coarse], 4, normalise=True).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(2, 4, 4))


def test_positions_are_sines_and_cosines_of_column_and_row():
    code = positions(12, 5)
    for row, column in ((0, 0), (3, 1), (4, 4)):
        half = [[f(place / 10000 ** (k / 3)) for f in (np.sin, np.cos) for k in range(3)] for place in (column, row)]
        np.testing.assert_allclose(code[5 * row + column], np.concatenate(half), rtol=1e-6, atol=1e-7)


def test_the_parameters_are_those_of_the_released_networks():
    def count(channels: int, **options) -> int:
        with torch.device("meta"):
            network = TFANet(channels, 16, 4, Blocks(768, 12, 12), Blocks(512, 8, 16), **options)
        return sum(parameter.numel() for parameter in network.parameters())

    assert count(1856) == count(1856, variant="A") == count(1856, variant="vanilla") == 148_711_936
    assert (count(960), count(104)) == (130_347_520, 112_802_944)
    assert count(1856, use_cls=False) == 148_711_936 - 768
    # without the embedding and the blocks of the refinement, and with a head of 768 inputs
    assert count(1856, variant="B") == 148_711_936 - (768 + 1) * 512 - 8 * 3_152_384 - 1024 + 256 * 29_696


def test_initial_weights():
    network = net()
    before = torch.random.get_rng_state()
    network.initialise(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    for layer in (m for m in network.modules() if isinstance(m, nn.Linear)):
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.8 * bound < layer.weight.abs().max() <= bound and not layer.bias.any()
    assert float(network.cls.detach().std()) == pytest.approx(0.02, rel=0.5)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), net().parameters(), strict=True))
    assert not torch.equal(network.head.weight, net(seed=1).head.weight)


def without_image(network: TFANet, *, cls_too: bool) -> TFANet:
    """The network whose template (and CLS) rows see no column of the image in any block of the aggregation."""
    first = 0 if network.cls is None else 1
    seen = torch.ones(first + 2 * TOKENS, first + 2 * TOKENS, dtype=torch.bool)
    seen[first + TOKENS :, first : first + TOKENS] = False
    if cls_too:
        seen[:first, first : first + TOKENS] = False
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, args, kwargs: (args, {"attn_mask": seen}), with_kwargs=True)
    return network


@pytest.mark.parametrize(
    ("options", "cls_too", "blind"),
    [
        ({}, True, True),
        ({}, False, False),  # CLS is a second way from the image into the refinement
        ({"use_cls": False}, False, True),
        ({"variant": "B"}, True, True),
        ({"variant": "A"}, True, False),  # the shortcut
    ],
)
def test_the_image_reaches_the_output_through_the_templates_attention_alone(options, cls_too, blind):
    network = without_image(net(**options), cls_too=cls_too)
    assert torch.equal(rebuilt(network, tokens(seed=5)), rebuilt(network, tokens(seed=6))) is blind
    assert not torch.equal(rebuilt(net(**options), tokens(seed=5)), rebuilt(net(**options), tokens(seed=6)))


def test_the_template_matters_unless_there_is_none():
    given, other = tokens(), tokens(1, seed=9)
    for variant in ("C", "A", "B"):
        assert not torch.equal(rebuilt(net(variant=variant), given), rebuilt(net(variant=variant), given, other))
    with torch.no_grad():
        assert net(variant="vanilla")(given, None).shape == given.shape


@pytest.mark.parametrize("masking", ["none", "complementary"])
def test_images_of_a_batch_do_not_see_each_other(masking):
    network, given, order = net(masking=masking), tokens(4), [2, 0, 3, 1]
    together = rebuilt(network, given)
    torch.testing.assert_close(rebuilt(network, given[order]), together[order])
    torch.testing.assert_close(rebuilt(network, given[1:2]), together[1:2])


def lengths(network: TFANet) -> list[int]:
    """Filled with the number of tokens that each pass of the aggregation is given."""
    seen: list[int] = []
    network.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    return seen


def test_drop_hides_tokens_of_the_image_in_training_alone():
    network = net(masking="drop", mask_ratio=0.75)
    seen = lengths(network)
    scored = rebuilt(network, tokens())
    assert torch.equal(scored, rebuilt(net(), tokens()))
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(rebuilt(network, tokens()), rebuilt(network, tokens()))  # drawn anew
    assert seen == [1 + 2 * TOKENS, *[1 + TOKENS // 4 + TOKENS] * 2]


def test_complementary_halves_are_put_back_in_order():
    mixed = net(masking="complementary")
    seen = lengths(mixed)
    first = rebuilt(mixed, tokens())
    assert seen == [1 + TOKENS, 1 + TOKENS]
    assert torch.equal(first, rebuilt(mixed, tokens()))  # the same halves in every scoring
    assert not torch.allclose(first, rebuilt(net(), tokens()))
    shallow = net(depth=0, masking="complementary")  # nothing is mixed, so only the order could differ
    torch.testing.assert_close(rebuilt(shallow, tokens()), rebuilt(net(depth=0), tokens()))
    shallow.train()
    torch.testing.assert_close(rebuilt(shallow, tokens()), rebuilt(net(depth=0), tokens()))


def test_cosine_distance():
    a, b = noise(40, 7), noise(40, 7, seed=1)
    torch.testing.assert_close(cosine_distance(a, b), 1 - torch.cosine_similarity(a, b, dim=-1))
    assert not cosine_distance(a, a).any() and not cosine_distance(0 * a, 0 * a).any()
    torch.testing.assert_close(cosine_distance(a, -3 * a), torch.full((40,), 2.0))


def test_losses_of_tokens_and_of_positions():
    target = torch.tensor([[[1.0, 0.0, 0.0, 2.0]]])  # two positions of two channels
    given = torch.tensor([[[1.0, 0.0, 2.0, 0.0]]])
    assert losses(given, target, 2, "token").tolist() == pytest.approx([2.0, 1 - 1 / 5])
    assert losses(given, target, 2, "pixel").tolist() == pytest.approx([2.0, 1 / 2])
    assert not losses(target, target, 2, "token").any()


def smoothed(grid: np.ndarray, side: int) -> np.ndarray:
    """Bilinear with corners aligned, then scipy's Gaussian."""
    place = np.linspace(0, len(grid) - 1, side)
    rows = np.array([np.interp(place, np.arange(len(grid)), column) for column in grid.T]).T
    fine = np.array([np.interp(place, np.arange(len(grid)), row) for row in rows])
    return gaussian_filter(fine, sigma=4, truncate=4, mode="reflect")


def test_the_map_is_the_product_of_both_distances_smoothed():
    a, b = noise(1, CHANNELS, 8, 8), noise(1, CHANNELS, 8, 8, seed=1)
    x, y = a[0].double().numpy(), b[0].double().numpy()
    euclidean = smoothed(((x - y) ** 2).mean(0), 40)
    cosine = smoothed(1 - (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0)), 40)

    def found(distance):
        return anomaly_map(patchify(a, PATCH), patchify(b, PATCH), CHANNELS, PATCH, (40, 40), distance)[0].numpy()

    np.testing.assert_allclose(found("euclidean"), euclidean, rtol=1e-4)
    np.testing.assert_allclose(found("cosine"), cosine, rtol=1e-4)
    np.testing.assert_allclose(found("dual"), euclidean * cosine, rtol=1e-4)


@pytest.mark.parametrize("distance", ["dual", "euclidean", "cosine"])
def test_a_perfect_reconstruction_has_an_empty_map(distance):
    given = tokens()
    given[0, 3] = 0  # features that are all zero, as behind a ReLU
    assert not anomaly_map(given, given, CHANNELS, PATCH, (32, 32), distance).any()
