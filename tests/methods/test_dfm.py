"""DFM: equal to anomalib's scores and maps on the same features; what it does beside."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from adcore.features.held import Held
from adcore.methods.dfm import DFM
from adcore.vision.maps import postprocess

SHAPE = [(5, 8, 8)]
LEVELS = (0.5, 0.9, 0.97)


def dfm(context, **options):
    return DFM(DFM.Options(**options), context)


def fitted(source, context, **options):
    method = dfm(context, **options)
    method.fit(source)
    return method


@functools.cache
def anomalib():
    """What fixtures/make_dfm.py wrote."""
    with np.load(Path(__file__).parent / "fixtures" / "dfm.npz") as found:
        return dict(found)


def theirs(name):
    return torch.from_numpy(anomalib()[name]).float() / 8


def share(train, components):
    """A share of the variance that so many components explain, and no fewer."""
    spectrum = np.linalg.svd((train - train.mean(0)).double().numpy(), compute_uv=False) ** 2
    return float((spectrum[:components].sum() - spectrum[components - 1] / 2) / spectrum.sum())


def like_anomalib(context, level, score):
    train = theirs("train")
    pooled = torch.nn.functional.avg_pool2d(train, 4).flatten(1)
    explained = share(pooled, int(anomalib()[f"components_{level}"]))
    return fitted(Held([train]), context, score=score, variance=explained).score([theirs("test")])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("score", ["fre", "nll"])
def test_scores_are_anomalibs(context, level, score):
    np.testing.assert_allclose(like_anomalib(context, level, score)[1], anomalib()[f"{score}_{level}"], rtol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_maps_are_anomalibs(context, level):
    maps = postprocess(like_anomalib(context, level, "fre")[0], (8, 8), DFM.smoothing)
    np.testing.assert_allclose(maps, anomalib()[f"map_{level}"], rtol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_anomalib_stops_one_component_short_of_the_share(context, level):
    """Why the tests above do not give both the same share."""
    method = fitted(Held([theirs("train")]), context, variance=level)
    assert method.subspace.kept(level) == anomalib()[f"components_{level}"] + 1


def test_the_likelihood_is_scipys(make, context):
    """But for the factor -1/2 and the constant of pi."""
    train, test = make(40, [(5, 2, 2)]), make(3, [(5, 2, 2)], seed=1)
    scores = fitted(train, context, score="nll", variance=1.0, pooling=1).score(test.maps)[1]
    rows = train.maps[0].flatten(1).double().numpy()
    normal = multivariate_normal(rows.mean(0), np.cov(rows.T, bias=True))
    expected = -2 * normal.logpdf(test.maps[0].flatten(1).double().numpy()) - 20 * np.log(2 * np.pi)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


@pytest.mark.parametrize("count", [6, 60])
def test_a_training_image_has_no_error_at_full_rank(make, context, count):
    train = make(count, SHAPE)
    maps = fitted(train, context, variance=1.0).score(train.maps)[0]
    np.testing.assert_allclose(maps, 0, atol=1e-8)


def test_no_position_is_lost_where_squares_do_not_fit(make, context):
    train = make(6, [(5, 7, 7)])
    method = fitted(train, context)
    spoilt = [train.maps[0].clone()]
    spoilt[0][0, :, 6, 6] += 100
    before, after = (method.score(maps)[0] for maps in (train.maps, spoilt))
    assert after[0, 1, 1] > before[0, 1, 1] + 1


def test_the_image_score_is_the_whole_error(make, context):
    maps, scores = fitted(make(6, SHAPE), context).score(make(3, SHAPE, seed=1).maps)
    torch.testing.assert_close(scores, maps.sum((1, 2)))


def test_with_the_likelihood_the_map_is_still_the_errors(make, context):
    train, test = make(6, SHAPE), make(3, SHAPE, seed=1).maps
    maps = [fitted(train, context, score=score).score(test)[0] for score in ("fre", "nll")]
    assert torch.equal(*maps)


def test_a_likelihood_of_one_image_is_refused(make, context):
    with pytest.raises(ValueError, match=r"dfm: score nll needs training images that differ.*write fre"):
        fitted(make(1, SHAPE), context, score="nll").score(make(1, SHAPE).maps)
