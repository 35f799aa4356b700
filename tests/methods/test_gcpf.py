"""GCPF against clustering in plain numpy with scikit-learn's covariances, and where its clusters are known."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture

from adcore.core.contracts import Context
from adcore.features.held import Held
from adcore.methods.gcpf import GCPF, ROUNDS

SIDES = (8, 4, 2)
SPREAD = torch.tensor([0.5, 1.0, 2.0, 4.0])[:, None, None]  # so that a covariance is not drawn far to the identity
CONTEXT = Context(seed=0, image_size=(8, 8))


def fitted(source, context=CONTEXT, **options):
    method = GCPF(GCPF.Options(**options), context)
    method.fit(source)
    return method


def patches(level):
    return level.flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()


def clustered(x, count):
    """Means and inverse covariances, written from the released code's description; to the end, where nothing moves."""
    labels = KMeans(count, n_init=1, random_state=0).fit(x.astype(np.float32)).labels_
    for _ in range(ROUNDS):
        members = [x[labels == cluster] for cluster in range(count)]
        found = [(own.mean(0), np.linalg.inv(LedoitWolf().fit(own).covariance_)) for own in members]
        far = np.array([[mahalanobis(one, *gaussian) for gaussian in found] for one in x])
        after = far.argmin(1)
        if (after == labels).all():
            break
        labels = after
    return found


def by_the_paper(train, test, count):
    """Level by level and patch by patch; (images, 8, 8)."""
    enlarged = []
    for known, asked, side in zip(train, test, SIDES, strict=True):
        found = clustered(patches(known), count)
        far = [min(mahalanobis(one, *gaussian) for gaussian in found) for one in patches(asked)]
        maps = torch.tensor(far).reshape(-1, 1, side, side)
        enlarged.append(torch.nn.functional.interpolate(maps, size=(8, 8), mode="bilinear", align_corners=False)[:, 0])
    return torch.stack(enlarged).mean(0)


@pytest.mark.parametrize("clusters", [1, 3])
def test_maps_are_those_of_clustering_step_by_step(make, clusters):
    train, test = make(12), make(2, seed=1)
    maps = fitted(train, clusters=clusters).score(test.maps)[0]
    np.testing.assert_allclose(maps, by_the_paper(train.maps, test.maps, clusters), rtol=1e-4)


def apart(count, seed=0):
    """Three kinds of patches, far from each other."""
    random = torch.Generator().manual_seed(seed)
    centres = 50 * torch.randn(3, 4, generator=torch.Generator().manual_seed(9))
    kinds = torch.arange(64).remainder(3).reshape(8, 8)
    return centres[kinds].permute(2, 0, 1) + SPREAD * torch.randn(count, 4, 8, 8, generator=random)


def test_of_kinds_that_lie_apart_the_clusters_are_scikit_learns_mixture():
    train = apart(40)
    found = fitted(Held([train]), clusters=3).clusters[0]
    theirs = GaussianMixture(3, random_state=0).fit(patches(train))
    order = [np.abs(theirs.means_ - mean).sum(1).argmin() for mean in found.mean.numpy()]
    np.testing.assert_allclose(found.mean, theirs.means_[order], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.whitener.mT @ found.whitener, theirs.precisions_[order], rtol=0.1, atol=0.05)


def test_a_patch_on_a_mean_is_at_no_distance():
    method = fitted(Held([apart(40)]), clusters=3)
    assert method.score([method.clusters[0].mean[:1, :, None, None]])[0].max() == 0


def test_more_clusters_than_patches_are_one_a_patch(make):
    method = fitted(make(1), clusters=10)
    assert [len(each.mean) for each in method.clusters] == [10, 10, 4]


def test_equal_images_make_no_singular_covariance():
    method = fitted(Held([torch.ones(3, 4, 8, 8)]), clusters=1)
    assert (method.score([torch.ones(1, 4, 8, 8)])[0] == 0).all()


def test_maps_are_of_the_size_of_the_input(make):
    method = fitted(make(4), Context(0, image_size=(32, 24)), clusters=2)
    assert method.score(make(3, seed=1).maps)[0].shape == (3, 32, 24)


def test_features_without_room_are_refused(make):
    with pytest.raises(ValueError, match=r"gcpf: one level's features of 12 images take 1.5e-05 GB.*for 1e-05; raise"):
        fitted(make(12), Context(0, memory_gb=1e-5))


def test_no_cluster_is_refused():
    with pytest.raises(ValueError, match="clusters"):
        GCPF.Options(clusters=0)
