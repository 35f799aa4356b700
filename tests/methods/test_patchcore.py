"""PatchCore's two embeddings, its map and its image score."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from scipy.spatial.distance import cdist
from torch.nn.functional import adaptive_avg_pool1d, interpolate

from adcore.methods.patchcore import PatchCore

SHAPES = [(5, 6, 6), (7, 3, 3)]


def patchcore(context, **options):
    return PatchCore(PatchCore.Options(**options), context)


def official(layers):
    """The official code, step by step: unfold, resize each of the C x 3 x 3 grids, pool to 1024, stack, pool again."""
    height, width = layers[0].shape[2:]
    parts = []
    for layer in layers:
        b, c, h, w = layer.shape
        patches = torch.nn.Unfold(3, padding=1)(layer).reshape(b, c * 9, h, w)
        patches = interpolate(patches, size=(height, width), mode="bilinear", align_corners=False)
        rows = patches.permute(0, 2, 3, 1).reshape(b * height * width, 1, c * 9)
        parts.append(adaptive_avg_pool1d(rows, 1024).squeeze(1))
    stacked = torch.stack(parts, 1).reshape(len(parts[0]), 1, -1)
    return adaptive_avg_pool1d(stacked, 1024).reshape(len(layers[0]), height * width, 1024)


def test_pool1024_equals_the_official_steps(make, context):
    layers = make(6, SHAPES).maps
    torch.testing.assert_close(patchcore(context, embed="pool1024")._embed(layers), official(layers))


def test_concat_averages_neighbourhoods_and_counts_the_border(make, context):
    fine = make(2, SHAPES[:1]).maps
    expected = uniform_filter(fine[0].numpy(), (1, 1, 3, 3), mode="constant")
    patches = patchcore(context)._embed(fine)
    np.testing.assert_allclose(patches.transpose(1, 2).reshape(2, 5, 6, 6), expected, rtol=1e-5, atol=1e-6)
    assert patchcore(context)._embed(make(2, SHAPES).maps).shape == (2, 36, 12)


@pytest.mark.parametrize("embed", ["concat1536", "pool1024"])
def test_a_whole_memory_knows_every_training_patch(make, context, embed):
    train = make(4, SHAPES)
    method = patchcore(context, coreset=1, embed=embed)
    method.fit(train)
    maps, scores = method.score(train.maps)
    assert (maps == 0).all()
    assert (scores == 0).all()


def test_maps_are_distances_to_the_memory(make, context):
    method = patchcore(context, reweight=False)
    method.fit(make(10, SHAPES))
    assert method.memory.shape == (36, 12)
    test = make(3, SHAPES, seed=1)
    maps, scores = method.score(test.maps)
    patches = method._embed(test.maps).reshape(-1, 12)
    expected = cdist(patches.double(), method.memory.double()).min(1).reshape(3, 6, 6)
    np.testing.assert_allclose(maps, expected, rtol=1e-5)
    torch.testing.assert_close(scores, maps.amax((1, 2)))


def test_reweighting_scales_the_largest_distance(make, context):
    method = patchcore(context)
    method.fit(make(10, SHAPES))
    test = make(3, SHAPES, seed=1)
    scores = method.score(test.maps)[1]
    patches = method._embed(test.maps).double().numpy()
    bank = method.memory.double().numpy()
    for i in range(3):
        distances = cdist(patches[i], bank)
        worst = distances.min(1).argmax()
        nearest = distances[worst].argmin()
        around = cdist(bank[nearest][None], bank)[0].argsort()[:9]
        weight = 1 - np.exp(distances[worst, nearest]) / np.exp(distances[worst, around]).sum()
        assert float(scores[i]) == pytest.approx(weight * distances[worst, nearest], rel=1e-5)


@pytest.mark.parametrize("share", [0, 1.5])
def test_share_is_a_share(share):
    with pytest.raises(ValueError, match="coreset"):
        PatchCore.Options(coreset=share)
