"""SubspaceAD against scikit-learn's PCA of the same patches."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from adcore.core.contracts import Context
from adcore.features.held import Held, HeldImages
from adcore.methods.subspace_ad import SubspaceAD
from adcore.vision.maps import postprocess
from tests.methods.pooled import Pooled

SIDE = 32
EXTRACTOR = Pooled((1, 2), (5, 7), SIDE)


def images(count, seed=0):
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 8, 8), generator=random).byte()
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def source(count, seed=0):
    pictures = images(count, seed)
    return Held(EXTRACTOR(pictures), HeldImages(pictures), batch=3)


def subspace_ad(seed=0, **options):
    return SubspaceAD(
        SubspaceAD.Options(**options), Context(seed, image_size=(SIDE, SIDE), extractor=lambda: EXTRACTOR)
    )


def fitted(train, seed=0, **options):
    method = subspace_ad(seed, **options)
    method.fit(train)
    return method


def patches(maps):
    """Side by side on the first level's grid, bilinear: (images, positions, channels)."""
    coarse = torch.nn.functional.interpolate(maps[1], scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([maps[0], coarse], 1).flatten(2).transpose(1, 2).double().numpy()


def residuals(pca, maps):
    found = [((one - pca.inverse_transform(pca.transform(one))) ** 2).sum(1).reshape(8, 8) for one in patches(maps)]
    return np.stack(found)


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
def test_maps_are_what_sklearns_components_leave(variance):
    train, test = source(6), source(3, seed=1)
    pca = PCA(variance, svd_solver="full").fit(patches(train.maps).reshape(-1, 12))
    maps = fitted(train, rotations=0, variance=variance).score(test.maps)[0]
    np.testing.assert_allclose(maps, residuals(pca, test.maps), rtol=1e-3, atol=1e-5)


def test_a_training_patch_is_explained_at_full_rank():
    train = source(4)
    np.testing.assert_allclose(fitted(train, rotations=0, variance=1.0).score(train.maps)[0], 0, atol=1e-9)


def test_the_image_score_is_the_mean_of_the_highest_hundredth_of_the_smooth_map():
    maps, scores = fitted(source(4), rotations=0).score(source(3, seed=1).maps)
    smooth = postprocess(maps, (SIDE, SIDE), 4.0).flatten(1).numpy()
    expected = [np.mean(sorted(one)[-10:]) for one in smooth]  # of 1,024 pixels
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_turned_copies_are_fitted_beside_the_images():
    """With every patch of a copy at full rank, as it was seen."""
    train, copies = source(2), []
    method = subspace_ad(rotations=3, variance=1.0)

    def extract(batch):
        copies.append(batch)
        return EXTRACTOR(batch)

    method.context = Context(0, image_size=(SIDE, SIDE), extractor=lambda: extract)
    method.fit(train)
    seen = EXTRACTOR(torch.cat([train.images.all, *copies]))
    pca = PCA().fit(patches(seen).reshape(-1, 12))
    assert len(seen[0]) == 2 * (1 + 3)
    np.testing.assert_allclose(method.subspace.variances, pca.explained_variance_ * 511 / 512, rtol=1e-4)


@pytest.mark.parametrize(("count", "copies"), [(1, 30), (16, 30), (17, 0)])
def test_where_there_are_many_images_none_is_turned(count, copies):
    assert SubspaceAD.Options().copies(count) == copies


def test_another_seed_turns_otherwise():
    variances = [fitted(source(2), seed, rotations=2).subspace.variances for seed in (0, 0, 1)]
    assert torch.equal(variances[0], variances[1])
    assert not torch.allclose(variances[0], variances[2])


def test_maps_that_are_alike_are_averaged(make, context):
    train, test = make(5, [(6, 4, 4)] * 3), make(2, [(6, 4, 4)] * 3, seed=1)
    three, one = (
        SubspaceAD(SubspaceAD.Options(rotations=0, variance=0.5), context),
        SubspaceAD(SubspaceAD.Options(rotations=0, variance=0.5), context),
    )
    three.fit(train)
    one.fit(Held([torch.stack(train.maps).mean(0)]))
    maps = one.score([torch.stack(test.maps).mean(0)])[0]
    torch.testing.assert_close(three.score(test.maps)[0], maps)


@pytest.mark.parametrize("level", ["pooled", "cls", "blok3", 5])
def test_what_is_no_map_is_refused(level):
    with pytest.raises(ValueError, match=rf"'{level}' is no map of a backbone; name some, as 2, block3 or tokens"):
        SubspaceAD.Options(levels=[2, level])


def test_features_alone_cannot_be_turned(make, context):
    method = SubspaceAD(SubspaceAD.Options(), context)
    with pytest.raises(ValueError, match=r"subspace_ad: rotations are of the training images.*write rotations: 0"):
        method.fit(make(2))
