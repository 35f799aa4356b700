"""SPADE against a search written straight from the paper's formulae, and where it needs no search to be known."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from adcore.core.contracts import Context
from adcore.features.held import Held
from adcore.methods.spade import SPADE

SHAPES = [(5, 8, 8), (7, 4, 4), (9, 2, 2), (6, 1, 1)]


def spade(context, **options):
    return SPADE(SPADE.Options(**options), context)


def fitted(source, context, **options):
    method = spade(context, **options)
    method.fit(source)
    return method


def repeated(level, side):
    """A map (C, h, w) on a grid of `side`, each value as often as it takes."""
    times = side // level.shape[1]
    return level.repeat(times, 1).repeat(times, 2)


def pixels(maps, index):
    """Eq. 3: the joined features of every pixel of an image, (positions, channels)."""
    levels = [repeated(level[index].double().numpy(), 8) for level in maps[:-1]]
    return np.concatenate(levels).reshape(sum(len(level) for level in levels), -1).T


def by_the_paper(train, test, neighbours):
    """Eq. 1 to 4, image by image and pixel by pixel, kappa = 1."""
    images = len(train[0])
    maps, scores = [], []
    for index in range(len(test[0])):
        pooled = [((train[-1][i] - test[-1][index]) ** 2).sum().item() for i in range(images)]
        nearest = sorted(range(images), key=pooled.__getitem__)[:neighbours]
        scores.append(sum(pooled[i] for i in nearest) / neighbours)
        gallery = [pixel for i in nearest for pixel in pixels(train, i)]
        maps.append([min(((pixel - known) ** 2).sum() for known in gallery) for pixel in pixels(test, index)])
    return np.reshape(maps, (-1, 8, 8)), scores


def test_maps_and_scores_are_the_papers(make, context):
    train, test = make(6, SHAPES), make(2, SHAPES, seed=1)
    maps, scores = fitted(train, context, neighbours=3).score(test.maps)
    expected = by_the_paper(train.maps, test.maps, 3)
    np.testing.assert_allclose(maps, expected[0], rtol=1e-5)
    np.testing.assert_allclose(scores, expected[1], rtol=1e-5)


@pytest.mark.parametrize("neighbours", [6, 50])
def test_with_all_images_it_is_a_search_of_all_pixels(make, context, neighbours):
    train, test = make(6, SHAPES), make(3, SHAPES, seed=1)
    maps, scores = fitted(train, context, neighbours=neighbours).score(test.maps)
    bank = np.concatenate([pixels(train.maps, i) for i in range(6)])
    expected = [cdist(pixels(test.maps, i), bank, "sqeuclidean").min(1).reshape(8, 8) for i in range(3)]
    np.testing.assert_allclose(maps, expected, rtol=1e-5)
    vectors = [source.maps[-1].flatten(1).double() for source in (test, train)]
    np.testing.assert_allclose(scores, cdist(*vectors, "sqeuclidean").mean(1), rtol=1e-5)


def test_a_training_image_is_its_own_neighbour(make, context):
    train = make(6, SHAPES)
    maps, scores = fitted(train, context, neighbours=1).score(train.maps)
    np.testing.assert_allclose(maps, 0, atol=2e-5)
    assert (scores == 0).all()


def test_the_image_score_may_be_the_maps(make, context):
    assert fitted(make(6, SHAPES), context, image_score="map").score(make(2, SHAPES).maps)[1] is None


def test_more_neighbours_never_raise_a_map(make, context):
    method, test = fitted(make(6, SHAPES), context, neighbours=2), make(3, SHAPES, seed=1).maps
    few = method.score(test)[0]
    method.options = SPADE.Options(neighbours=4)
    assert (method.score(test)[0] <= few + 1e-5).all()


def test_where_no_pooled_vector_is_read_the_last_map_is_averaged(make, context):
    """As with a plan's `layers`, of which none is a vector."""
    train, test = make(6, SHAPES[:3]), make(3, SHAPES[:3], seed=1)
    scores = fitted(train, context, neighbours=4).score(test.maps)[1]
    pooled = [Held([*source.maps, source.maps[-1].mean((2, 3), keepdim=True)]) for source in (train, test)]
    torch.testing.assert_close(fitted(pooled[0], context, neighbours=4).score(pooled[1].maps)[1], scores)


def test_a_gallery_beyond_the_memory_is_refused_at_once(make):
    small = Context(seed=0, memory_gb=1e-5)
    with pytest.raises(ValueError, match=r"spade: the features of 6 images take 1.1e-05 GB.*room for 1e-05; raise"):
        fitted(make(6, SHAPES), small)
