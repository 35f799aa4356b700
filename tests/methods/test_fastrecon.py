"""FastRecon against scikit-learn's ridge regression on stacked rows, and where a rebuilt patch is known beforehand."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from adcore.core.contracts import Context
from adcore.features.held import Held
from adcore.methods.fastrecon import FastRecon

SHAPES = [(5, 8, 8), (7, 4, 4)]
TINY = 1e-12


def fitted(source, context, **options):
    method = FastRecon(FastRecon.Options(**options), context)
    method.fit(source)
    return method


def patches(maps):
    """Position by position, as the paper describes them: (images, positions, 12), float64."""
    found = np.zeros((len(maps[0]), 64, 12))
    for index in range(len(found)):
        for place in range(64):
            column = 0
            for level, side in zip(maps, (8, 4), strict=True):
                row, col = (place // 8) * side // 8, (place % 8) * side // 8
                around = level[index, :, max(0, row - 1) : row + 2, max(0, col - 1) : col + 2].double()
                width = column + len(around)
                found[index, place, column:width] = around.sum((1, 2)) / 9
                column = width
    return found


def by_regression(train, test, pull, ridge):
    """The paper's objective, |q - w S|^2 + pull |m - w S|^2, as ridge regression of two stacked targets."""
    known, asked = patches(train), patches(test)
    support, mean = known.reshape(-1, 12), known.mean(0)
    alpha = ridge * np.linalg.eigvalsh(support.T @ support)[-1]
    weights = np.repeat([1.0, pull], 12)
    found = np.empty(asked.shape[:2])
    for index, image in enumerate(asked):
        for place, patch in enumerate(image):
            model = Ridge(alpha, fit_intercept=False, solver="svd")
            model.fit(np.vstack([support.T] * 2), np.concatenate([patch, mean[place]]), sample_weight=weights)
            found[index, place] = np.linalg.norm(patch - model.coef_ @ support)
    return found


@pytest.mark.parametrize(("pull", "ridge"), [(2.0, 1e-6), (0.5, 0.1), (0.0, 0.01)])
def test_maps_are_those_of_scikit_learns_ridge_regression(make, context, pull, ridge):
    train, test = make(1, SHAPES), make(2, SHAPES, seed=1)
    maps = fitted(train, context, coreset=1.0, pull=pull, ridge=ridge).score(test.maps)[0]
    np.testing.assert_allclose(maps.flatten(1), by_regression(train.maps, test.maps, pull, ridge), rtol=1e-4, atol=1e-5)


def test_a_patch_of_the_support_is_rebuilt_exactly(make, context):
    """With fewer patches than channels, so that a strange patch is not."""
    train, test = make(1, [(90, 3, 3)]), make(1, [(90, 3, 3)], seed=1)
    method = fitted(train, context, coreset=1.0, pull=0, ridge=TINY)
    np.testing.assert_allclose(method.score(train.maps)[0], 0, atol=1e-5)
    assert method.score(test.maps)[0].min() > 1


def test_of_one_image_the_mean_is_the_patch_so_that_pulling_changes_nothing(make, context):
    train = make(1, SHAPES)
    np.testing.assert_allclose(fitted(train, context, coreset=1.0, ridge=TINY).score(train.maps)[0], 0, atol=1e-5)


def test_where_the_support_spans_all_it_is_the_distance_to_the_mean_in_closed_form(make, context):
    """Q - (Q + pull M) / (1 + pull) = pull / (1 + pull) (Q - M)."""
    train, test = make(12, SHAPES), make(3, SHAPES, seed=1)
    maps = fitted(train, context, coreset=0.2, pull=3, ridge=TINY).score(test.maps)[0]
    expected = 0.75 * np.linalg.norm(patches(test.maps) - patches(train.maps).mean(0), axis=2)
    np.testing.assert_allclose(maps.flatten(1), expected, rtol=1e-4)


def test_beside_a_large_ridge_nothing_is_rebuilt(make, context):
    test = make(2, SHAPES, seed=1)
    maps = fitted(make(3, SHAPES), context, ridge=1e9).score(test.maps)[0]
    np.testing.assert_allclose(maps.flatten(1), np.linalg.norm(patches(test.maps), axis=2), rtol=1e-5)


def test_equal_patches_make_no_singular_matrix(make, context):
    """Where the released code stops: its matrix has no inverse."""
    train = Held([torch.ones(3, 5, 4, 4)])
    maps, scores = fitted(train, context, coreset=1.0).score([torch.ones(1, 5, 4, 4)])
    np.testing.assert_allclose(maps, 0, atol=1e-5)
    assert scores.isfinite().all()


def test_images_that_are_black_to_the_backbone_leave_what_is_new(context):
    method = fitted(Held([torch.zeros(2, 5, 4, 4)]), context)
    np.testing.assert_allclose(method.score([torch.ones(1, 5, 4, 4)])[0][0, 1, 1], 5**0.5, rtol=1e-6)


def test_the_mean_is_of_all_images_and_not_of_the_last_batch(make, context):
    train = make(12, SHAPES, batch=5)
    np.testing.assert_allclose(fitted(train, context).mean, patches(train.maps).mean(0), rtol=1e-5, atol=1e-6)


def test_the_image_score_is_the_largest_distance(make, context):
    maps, scores = fitted(make(4, SHAPES), context).score(make(3, SHAPES, seed=1).maps)
    assert torch.equal(scores, maps.flatten(1).amax(1))


@pytest.mark.parametrize(("share", "rank"), [(0.01, 2), (0.03, 7), (0.5, 12)])  # of 256 patches, 12 channels
def test_the_coreset_is_a_share_of_the_patches(make, context, share, rank):
    assert len(fitted(make(4, SHAPES), context, coreset=share).basis) == rank


def test_pull_and_ridge_are_read_by_the_score_alone(make):
    test = make(2, SHAPES, seed=1)
    plain, other = (fitted(make(4, SHAPES), Context(0), pull=pull) for pull in (2.0, 1.0))
    other.options = plain.options
    assert torch.equal(plain.score(test.maps)[0], other.score(test.maps)[0])


@pytest.mark.parametrize(("option", "value"), [("coreset", 0), ("pull", -1), ("ridge", 0)])
def test_options_beyond_their_bounds_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        FastRecon.Options(**{option: value})
