"""AnomalyDINO against a naive twin and scikit-learn's neighbours; its mask against scikit-learn's PCA and scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from adcore.core.contracts import Context
from adcore.features.held import Held, HeldImages
from adcore.methods.anomaly_dino import AnomalyDINO, foreground
from adcore.vision.turning import turned
from tests.methods.pooled import Pooled

SIDE = 64
EXTRACTOR = Pooled((1, 2), (5, 7), SIDE)


def images(count, seed=0):
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 32, 32), generator=random).byte()
    return coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)


def source(count, seed=0):
    pictures = images(count, seed)
    return Held(EXTRACTOR(pictures), HeldImages(pictures), batch=3)


def anomaly_dino(memory_gb=4.0, **options):
    context = Context(0, image_size=(SIDE, SIDE), memory_gb=memory_gb, extractor=lambda: EXTRACTOR)
    return AnomalyDINO(AnomalyDINO.Options(**options), context)


def fitted(train, **options):
    method = anomaly_dino(**options)
    method.fit(train)
    return method


def patches(maps):
    """Side by side on the first level's grid, bilinear: (images, positions, channels)."""
    coarse = torch.nn.functional.interpolate(maps[1], scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat([maps[0], coarse], 1).flatten(2).transpose(1, 2).double().numpy()


def twin(seen, asked):
    """1 - cosine of every patch with every one in memory, the least of them: (images, positions)."""
    memory = patches(seen).reshape(-1, 12)
    found = np.empty(patches(asked).shape[:2])
    for index, image in enumerate(patches(asked)):
        for place, patch in enumerate(image):
            cosines = [patch @ one / (np.linalg.norm(patch) * np.linalg.norm(one)) for one in memory]
            found[index, place] = 1 - max(cosines)
    return found


def test_a_patch_in_memory_is_at_no_distance():
    train = source(4)
    assert (fitted(train, rotations=1).score(train.maps)[0] == 0).all()


def test_a_patch_of_another_length_is_at_no_distance():
    train = source(4)
    maps = fitted(train, rotations=1).score([3 * one for one in train.maps])[0]
    np.testing.assert_allclose(maps, 0, atol=1e-12)


def test_the_opposite_direction_is_at_distance_two(make, context):
    method = AnomalyDINO(AnomalyDINO.Options(rotations=1), context)
    method.fit(Held([torch.ones(1, 6, 2, 2)]))
    np.testing.assert_allclose(method.score([-torch.ones(1, 6, 2, 2)])[0], 2, rtol=1e-6)


def test_maps_equal_the_naive_twins():
    train, test = source(1), source(2, seed=1)
    maps = fitted(train, rotations=1).score(test.maps)[0]
    np.testing.assert_allclose(maps.flatten(1), twin(train.maps, test.maps), atol=1e-6)


def test_distances_are_scikit_learns():
    train, test = source(6), source(3, seed=1)
    tree = NearestNeighbors(n_neighbors=1, metric="cosine").fit(patches(train.maps).reshape(-1, 12))
    expected = tree.kneighbors(patches(test.maps).reshape(-1, 12))[0]
    maps = fitted(train, rotations=1).score(test.maps)[0]
    np.testing.assert_allclose(maps.reshape(-1, 1), expected, atol=1e-6)


def test_the_memory_holds_the_patches_of_images_and_copies():
    train, copies = source(2), [45.0 * step for step in range(1, 8)]
    seen = torch.cat([train.images.all, *(turned(train.images.at([index]), copies) for index in range(2))])
    expected = patches(EXTRACTOR(seen)).reshape(-1, 12)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted(train).memory, expected, atol=1e-6)


def test_a_turned_training_image_is_normal():
    train = source(1)
    quarter = EXTRACTOR(train.images.all.rot90(1, (2, 3)))
    np.testing.assert_allclose(fitted(train).score(quarter)[0], 0, atol=1e-6)


def test_a_turned_training_image_is_strange_to_one_that_turns_nothing():
    train = source(1)
    quarter = EXTRACTOR(train.images.all.rot90(1, (2, 3)))
    assert fitted(train, rotations=1).score(quarter)[0].max() > 0.01


@pytest.mark.parametrize(("count", "copies"), [(1, 7), (16, 7), (17, 0)])
def test_where_there_are_many_images_none_is_turned(count, copies):
    assert len(AnomalyDINO.Options().angles(count)) == copies


def test_the_image_score_is_the_mean_of_the_highest_hundredth_of_the_distances():
    maps, scores = fitted(source(4), rotations=1).score(source(3, seed=1).maps)
    expected = [np.mean(sorted(one)[-2:]) for one in maps.flatten(1).numpy()]  # of 256 patches
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_of_fewer_than_a_hundred_patches_the_score_is_the_highest_distance(make, context):
    method = AnomalyDINO(AnomalyDINO.Options(rotations=1), context)
    method.fit(make(3))
    maps, scores = method.score(make(2, seed=1).maps)
    assert torch.equal(scores, maps.flatten(1).amax(1))


def scene(channels, seed=0):
    """Tokens of an object in the middle of a background, (1, channels, 20, 16), and where it is."""
    random = torch.Generator().manual_seed(seed)
    inside = torch.zeros(20, 16, dtype=torch.bool)
    inside[3:16, 3:12] = True
    inside[8, 8] = False  # a hole
    step = torch.randn(channels, generator=random)
    step *= 40 / step.norm()
    tokens = torch.randn(1, channels, 20, 16, generator=random) + step[:, None, None] * inside
    return tokens, inside.numpy()


def expected_mask(tokens, inside, threshold):
    """The side of scikit-learn's first component that the object is on, dilated and closed by scipy."""
    table = tokens[0].flatten(1).T.double().numpy()
    along = PCA(1, svd_solver="full").fit_transform(table).reshape(inside.shape)
    along *= np.sign(along[inside].mean())
    square = np.ones((3, 3), bool)
    grown = ndimage.binary_dilation(along > threshold, square)
    return ndimage.binary_erosion(ndimage.binary_dilation(grown, square), square, border_value=1)


@pytest.mark.parametrize("channels", [12, 500])  # fewer and more than positions
@pytest.mark.parametrize("threshold", [0.0, 10.0, 22.0])
def test_the_mask_is_that_of_scikit_learn_and_scipy(channels, threshold):
    tokens, inside = scene(channels)
    mask = foreground(tokens, threshold)[0].numpy()
    np.testing.assert_array_equal(mask, expected_mask(tokens, inside, threshold))


def test_the_mask_leaves_out_the_background():
    tokens, inside = scene(12)
    np.testing.assert_array_equal(foreground(tokens, 10)[0].numpy(), ndimage.binary_dilation(inside, np.ones((3, 3))))


def test_the_sign_of_the_component_does_not_matter():
    tokens, _ = scene(12)
    assert torch.equal(foreground(tokens, 10), foreground(-tokens, 10))


def test_each_image_has_a_mask_of_its_own():
    scenes = [scene(12, seed)[0] for seed in (0, 1)]
    scenes[1] = scenes[1].roll(2, 2)
    assert torch.equal(foreground(torch.cat(scenes), 10), torch.cat([foreground(one, 10) for one in scenes]))


@pytest.mark.parametrize(("columns", "masked"), [(5, True), (4, False)])  # of 12 in the centre: 42 and 33 %
def test_a_mask_that_misses_the_centre_is_none(columns, masked):
    tokens = torch.zeros(1, 3, 20, 20)
    tokens[:, 0, :, 4 : 4 + columns] = 100
    tokens[:, 1] = torch.linspace(0, 1, 20)
    assert (not foreground(tokens, 40).all()) == masked


def test_a_texture_keeps_all_positions():
    assert foreground(torch.randn(2, 8, 10, 10, generator=torch.Generator().manual_seed(0)), 10).all()


def test_distances_off_the_object_are_zero():
    tokens, _ = scene(12)
    train = Held([scene(12, seed=1)[0]])
    plain, masked = (fitted(train, rotations=1, mask=mask).score([tokens])[0] for mask in (False, True))
    assert torch.equal(masked, plain * foreground(tokens, 10))


@pytest.mark.parametrize("level", ["pooled", "cls", "blok3", 5])
def test_what_is_no_map_is_refused(level):
    with pytest.raises(ValueError, match=rf"'{level}' is no map of a backbone; name some, as 2, block3 or tokens"):
        AnomalyDINO.Options(levels=[2, level])


def test_features_alone_cannot_be_turned(make, context):
    method = AnomalyDINO(AnomalyDINO.Options(), context)
    with pytest.raises(ValueError, match=r"anomaly_dino: rotations are of the training images.*write rotations: 1"):
        method.fit(make(2))


def test_a_memory_without_room_is_refused():
    with pytest.raises(ValueError, match=r"anomaly_dino: all patches of 4 images take .* lower rotations, image or"):
        fitted(source(4), memory_gb=1e-6)
