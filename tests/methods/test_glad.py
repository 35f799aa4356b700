"""GLAD against scikit-learn's mixture, a Gaussian's Mahalanobis distance, and weights counted image by image."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.mixture import GaussianMixture

from adcore.core.contracts import Context
from adcore.features.held import Held
from adcore.kernels import mixture
from adcore.methods.glad import GLAD, ROUNDS, TOLERANCE, localised

SHAPES = [(5, 8, 8), (7, 4, 4)]


def fitted(source, context, **options):
    method = GLAD(GLAD.Options(**options), context)
    method.fit(source)
    return method


def patches(maps):
    """Side by side on the first level's grid, bilinear: (images * positions, channels), float64."""
    fine = [maps[0], torch.nn.functional.interpolate(maps[1], scale_factor=2, mode="bilinear", align_corners=False)]
    return torch.cat(fine, 1).flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()


def ridge_of(train, share=0.01):
    return share * train.var(0).mean()


def test_with_one_gaussian_it_is_the_mahalanobis_distance(make, context):
    """2 times the map less the Gaussian's constant."""
    source, asked = make(12, SHAPES), make(2, SHAPES, seed=1)
    train = patches(source.maps)
    covariance = np.cov(train, rowvar=False, ddof=0) + ridge_of(train) * np.eye(12)
    maps = fitted(source, context, components=1).score(asked.maps)[0]
    constant = np.linalg.slogdet(covariance)[1] + 12 * np.log(2 * np.pi)
    inverse = np.linalg.inv(covariance)
    expected = [mahalanobis(patch, train.mean(0), inverse) ** 2 for patch in patches(asked.maps)]
    np.testing.assert_allclose(2 * maps.flatten() - constant, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("components", [2, 4])
def test_with_the_mixtures_own_weights_everywhere_it_is_scikit_learns_mixture(make, context, components):
    """As a prior of so many images leaves them; their EM begins at the same k-means."""
    source, asked = make(12, SHAPES), make(2, SHAPES, seed=1)
    method = fitted(source, context, components=components, prior=1e12)
    reduced = method._reduced(torch.from_numpy(patches(source.maps)).float())
    begun = mixture.maximised(reduced, method._clusters(reduced), ridge_of(patches(source.maps)))
    theirs = GaussianMixture(
        components,
        tol=TOLERANCE,
        reg_covar=ridge_of(patches(source.maps)),
        max_iter=ROUNDS,
        weights_init=begun.weights.numpy(),
        means_init=begun.gaussians.mean.double().numpy(),
        precisions_init=(begun.gaussians.whitener.mT @ begun.gaussians.whitener).double().numpy(),
    ).fit(reduced.double().numpy())
    rows = method._reduced(torch.from_numpy(patches(asked.maps)).float()).double().numpy()
    np.testing.assert_allclose(method.score(asked.maps)[0].flatten(), -theirs.score_samples(rows), rtol=1e-3, atol=1e-3)


def test_all_components_leave_the_distances_as_they_are(make, context):
    """Principal components turn the features and nothing else, so that more than there are change nothing."""
    source, asked = make(12, SHAPES), make(2, SHAPES, seed=1)
    found = [fitted(source, context, components=1, dims=dims).score(asked.maps)[0] for dims in (12, 999)]
    assert torch.equal(*found)


def by_counting(densities, weights, prior):
    """Weights of each position, patch by patch, until nothing changes."""
    images, positions, components = densities.shape
    local = np.tile(weights, (positions, 1))
    while True:
        counts = np.zeros((positions, components))
        for place in range(positions):
            for image in range(images):
                counts[place, np.argmax(np.log(local[place]) + densities[image, place])] += 1
        after = (counts + prior * weights) / (images + prior)
        if np.allclose(after, local):
            return after
        local = after


@pytest.mark.parametrize("prior", [0.1, 1.0, 10.0])
def test_local_weights_are_counted_as_k_mle_does(prior):
    random = np.random.default_rng(0)
    densities, weights = random.normal(size=(9, 6, 4)), np.array([0.4, 0.3, 0.2, 0.1])
    found = localised(torch.from_numpy(densities), torch.from_numpy(weights), prior)
    np.testing.assert_allclose(found, by_counting(densities, weights, prior))


def test_the_weights_of_a_position_sum_to_one(make, context):
    np.testing.assert_allclose(fitted(make(6, SHAPES), context, components=3).weights.sum(1), 1)


def two_places(count, swapped, seed=0):
    """The left half holds one thing, the right half another."""
    random = torch.Generator().manual_seed(seed)
    maps = 0.1 * torch.randn(count, 3, 4, 4, generator=random)
    maps[:, 0, :, 2:] += 5
    return maps.flip(3) if swapped else maps


def test_what_is_normal_elsewhere_is_strange_here(context):
    method = fitted(Held([two_places(20, False)]), context, components=2)
    own, other = (method.score([two_places(3, swapped, seed=1)])[0] for swapped in (False, True))
    expected = np.log(1 + 2 * 20)  # a prior of one image, of which this Gaussian has half, beside 20 of the other
    assert float((other - own).mean()) == pytest.approx(expected, abs=0.5)


def test_a_position_knows_nothing_where_the_prior_is_all(context):
    method = fitted(Held([two_places(20, False)]), context, components=2, prior=1e12)
    own, other = (method.score([two_places(200, swapped, seed=1)])[0].mean() for swapped in (False, True))
    assert float(other - own) == pytest.approx(0, abs=0.1)


def test_images_that_are_equal_make_no_singular_covariance(context):
    method = fitted(Held([torch.ones(4, 3, 4, 4)]), context, components=1)
    assert method.score([torch.ones(1, 3, 4, 4)])[0].isfinite().all()


def test_patches_without_room_are_refused(make):
    with pytest.raises(ValueError, match=r"glad: 768 patches in 12 dimensions take 3.7e-05 GB.*room for 1e-05; raise"):
        fitted(make(12, SHAPES), Context(0, memory_gb=1e-5))


def test_more_gaussians_than_patches_are_refused(make, context):
    with pytest.raises(ValueError, match=r"glad: components is 70, but there are 64 patches; lower it"):
        fitted(make(1, SHAPES), context, components=70)


@pytest.mark.parametrize(("option", "value"), [("components", 0), ("dims", 0), ("ridge", 0), ("prior", 0)])
def test_options_beyond_their_bounds_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        GLAD.Options(**{option: value})
