"""DFR: regions, autoencoder and map by hand, and the size of its embedding beside scikit-learn's."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional

from adcore.core.contracts import Context, Curves
from adcore.core.plan import BackboneSpec
from adcore.features import backbones
from adcore.features.held import Held
from adcore.methods import _dfr as dfr
from adcore.methods.dfr import DFR, DFROptions
from adcore.papers import published
from tests.methods.kills import alone_and_killed

SHAPES = [(3, 12, 12), (5, 6, 6), (4, 3, 3)]
SIDE = 24


def features(count: int = 6, shapes=SHAPES, seed: int = 0) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=random) for shape in shapes]


def method(seed: int = 0, checkpoint=None, size=(SIDE, SIDE), **options) -> DFR:
    given = {"preset": "small", "epochs": 2} | options
    return DFR(DFROptions(**given), Context(seed, image_size=size, checkpoint=checkpoint))


def trained(maps: list[torch.Tensor], **options) -> tuple[DFR, Curves]:
    made = method(**options)
    return made, made.fit(Held(maps))


# Regions


def enlarged(one: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) -> (height, width): between positions linear, corners on corners."""
    found = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        row, column = y * (one.shape[0] - 1) / (height - 1), x * (one.shape[1] - 1) / (width - 1)
        for i, j in np.ndindex(*one.shape):
            found[y, x] += max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j)) * one[i, j]
    return found


@pytest.mark.parametrize("size", [(16, 16), (12, 8), (14, 9)])  # the last one leaves pixels over
def test_regions_equal_their_twin_by_hand(size):
    maps = features(1)
    expected = []
    for channel in (channel for one in maps for channel in one[0].double().numpy()):
        pixels = enlarged(channel, *size)
        squares = np.zeros((size[0] // 4, size[1] // 4))
        for y, x in np.ndindex(*squares.shape):
            squares[y, x] = pixels[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean()
        expected.append(squares)
    np.testing.assert_allclose(dfr.regional(maps, size)[0], np.stack(expected), rtol=1e-4, atol=1e-5)


def test_an_image_of_256_pixels_has_64_regions_a_side():
    assert dfr.grid((256, 256)) == (64, 64)


# The autoencoder


@pytest.mark.parametrize(("channels", "latent"), [(3456, 200), (13, 3)])
def test_widths_are_the_released_ones(channels, latent):
    wide = (channels + 2 * latent) // 2
    widths = [channels, wide, 2 * latent, latent, 2 * latent, wide, channels]
    with torch.device("meta"):
        network = dfr.Autoencoder(channels, latent)
    convolutions = [one for one in network.modules() if isinstance(one, torch.nn.Conv2d)]
    assert [convolutions[0].in_channels, *(one.out_channels for one in convolutions)] == widths
    norms = 2 * sum(width for place, width in enumerate(widths) if place in (1, 2, 4, 5))
    weights = sum(a * b + b for a, b in pairwise(widths))
    assert sum(one.numel() for one in network.parameters()) == weights + norms


def test_the_map_equals_its_twin_by_hand():
    """Position by position: three steps in, three steps out, norm and ReLU behind each but the third and the last."""
    side = 12
    made = trained(features(), latent=3, size=(side, side))[0]
    regions = dfr.regional(features(1, seed=1), (side, side))[0].double().numpy()
    w = {name.removeprefix("network."): value.double().numpy() for name, value in made.state().items()}
    errors = np.zeros(regions.shape[1:])
    for y, x in np.ndindex(*errors.shape):
        row = regions[:, y, x]
        for part in ("encoder", "decoder"):
            for place in (0, 3, 6):
                row = w[f"{part}.{place}.weight"][:, :, 0, 0] @ row + w[f"{part}.{place}.bias"]
                if place == 6:
                    continue
                norm = f"{part}.{place + 1}"
                row = (row - w[f"{norm}.running_mean"]) / np.sqrt(w[f"{norm}.running_var"] + 1e-5)
                row = np.maximum(row * w[f"{norm}.weight"] + w[f"{norm}.bias"], 0)
        errors[y, x] = ((row - regions[:, y, x]) ** 2).mean()
    maps, scores = made.score(features(1, seed=1))
    np.testing.assert_allclose(maps[0], enlarged(errors, side, side), rtol=1e-3, atol=1e-4)
    assert scores is None


def test_what_is_rebuilt_exactly_gives_a_zero_map():
    made = trained(features())[0]
    made.network = torch.nn.Identity()  # type: ignore[assignment]
    assert torch.equal(made.score(features(2))[0], torch.zeros(2, SIDE, SIDE))


# Its embedding


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("count", [6, 10])
def test_the_embedding_has_as_many_channels_as_scikit_learn_has_components(variance, count):
    """Of all images where there are ten or fewer."""
    maps = features(count)
    made, curves = trained(maps, variance=variance)
    rows = dfr.regional(maps, (SIDE, SIDE)).permute(0, 2, 3, 1).reshape(-1, 12).double().numpy()
    expected = PCA(n_components=variance, svd_solver="full").fit(rows).n_components_
    assert made.network.decoder[0].in_channels == expected
    assert curves["latent"] == [expected] * 2


def test_the_examples_follow_the_seed_alone():
    maps = features(20, [(12, 6, 6)])[0] * torch.eye(12)[torch.arange(20) % 12, :, None, None]  # each has one channel
    found = [method(seed=seed, variance=0.99)._components(Held([maps]), 12) for seed in (0, 0, 1, 2, 3)]
    assert found[0] == found[1] and len(set(found)) > 1


def test_features_without_variance_have_one_channel():
    assert trained([torch.zeros(2, *shape) for shape in SHAPES])[0].network.decoder[0].in_channels == 1


def test_a_number_of_channels_may_be_given():
    assert trained(features(), latent=7)[0].network.decoder[0].in_channels == 7


# Training


def test_features_off_the_learned_plane_are_rebuilt_badly():
    across = torch.randn(12, 2, generator=torch.Generator().manual_seed(5))

    def on_plane(seed: int) -> torch.Tensor:
        return torch.einsum("cd,ndyx->ncyx", across, features(16, [(2, 6, 6)], seed)[0])

    made, curves = trained([on_plane(0)], epochs=60, lr=5e-3)
    plain, odd = on_plane(1), on_plane(1)
    odd[:, :, 2:4, 2:4] = torch.randn(16, 12, 2, 2, generator=torch.Generator().manual_seed(2)) * odd.std()
    before, after = (made.score([one])[0] for one in (plain, odd))
    assert after[:, 10:14, 10:14].mean() > 3 * before.mean()
    assert curves["loss"][-1] < curves["loss"][0] / 3


def test_the_weights_follow_the_seed():
    weights = [trained(features(), epochs=0, latent=3, seed=seed)[0].state()["network.encoder.0.weight"]
               for seed in (0, 0, 1)]  # fmt: skip
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.usefixtures("every_epoch")
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    alone, again = alone_and_killed(partial(method, epochs=4), lambda: Held(features()), tmp_path)
    assert all(torch.equal(value, again[name]) for name, value in alone.items())


def test_the_papers_layers_are_vggs_maps_behind_its_first_twelve_relus():
    ours = published.names().systems["DFR"]
    spec = BackboneSpec(name=ours.backbone or "", weights="random", layers=ours.layers)
    with torch.device("meta"):
        maps = backbones.build(spec, (), 256)(torch.zeros(1, 3, 256, 256))
    expected = 2 * [(64, 256)] + 2 * [(128, 128)] + 4 * [(256, 64)] + 4 * [(512, 32)]
    assert [(one.shape[1], one.shape[2]) for one in maps] == expected
    assert sum(one.shape[1] for one in maps) == 3456


def test_a_map_of_the_images_size_is_only_averaged():
    one = features(2, [(3, SIDE, SIDE)])
    torch.testing.assert_close(dfr.regional(one, (SIDE, SIDE)), functional.avg_pool2d(one[0], 4), rtol=1e-4, atol=1e-5)
