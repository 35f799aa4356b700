"""PaDiM against numpy, position by position."""

import numpy as np
import pytest
import torch
from torch.nn.functional import fold, interpolate, unfold

from adcore.core.contracts import Context
from adcore.methods.padim import PaDiM, _draw


def padim(context, **options):
    return PaDiM(PaDiM.Options(**options), context)


def embedding(layers):
    """All channels on the finest grid by repeating pixels: (N, C, H, W)."""
    grid = layers[0].shape[2]
    return torch.cat(
        [x.repeat_interleave(grid // x.shape[2], 2).repeat_interleave(grid // x.shape[3], 3) for x in layers], 1
    )


def test_distances_equal_numpy(make, context):
    train, test = make(30), make(4, seed=1)
    method = padim(context, n_features=6)
    method.fit(train)
    maps, scores = method.score(test.maps)
    assert scores is None
    x = embedding(train.maps)[:, method.channels].double().numpy()
    q = embedding(test.maps)[:, method.channels].double().numpy()
    for row, column in [(0, 0), (3, 5), (7, 7)]:
        covariance = np.cov(x[:, :, row, column], rowvar=False) + 0.01 * np.eye(6)
        away = q[:, :, row, column] - x[:, :, row, column].mean(0)
        expected = np.sqrt(np.einsum("nc,cd,nd->n", away, np.linalg.inv(covariance), away))
        np.testing.assert_allclose(maps[:, row, column], expected, rtol=1e-4)


def test_upsampling_equals_the_common_fold_and_unfold(make):
    fine, coarse = make(2).maps[:2]
    patches = unfold(fine, 2, stride=2).reshape(2, 5, 4, 4, 4)
    joined = torch.cat([patches, coarse[:, :, None].expand(-1, -1, 4, -1, -1)], 1)
    expected = fold(joined.reshape(2, 12 * 4, 16), (8, 8), 2, stride=2)
    assert torch.equal(torch.cat([fine, interpolate(coarse, size=(8, 8), mode="nearest")], 1), expected)
    method = padim(Context(seed=0), n_features="all")
    method.channels = torch.arange(12)
    assert torch.equal(method._embed([fine, coarse]).transpose(1, 2).reshape(2, 12, 8, 8), expected)


def test_mean_image_scores_zero(make, context):
    train = make()
    method = padim(context)
    method.fit(train)
    maps = method.score([layer.mean(0, keepdim=True) for layer in train.maps])[0]
    assert maps.max() < 1e-4


def test_a_small_budget_reads_in_parts_and_changes_nothing(make):
    whole = padim(Context(seed=0))
    whole.fit(make())
    seen = []
    parts = padim(Context(seed=0, memory_gb=1e-5))
    parts.fit(make(), seen.append)
    assert len(seen) > 5
    for name, tensor in whole.state().items():
        torch.testing.assert_close(parts.state()[name], tensor, rtol=1e-5, atol=1e-6)


def test_permuting_channels_changes_nothing(make, context):
    train, test = make(), make(3, seed=1)
    plain = padim(context, n_features="all")
    plain.fit(train)
    expected = plain.score(test.maps)[0]
    order = [torch.randperm(layer.shape[1]) for layer in train.maps]
    for source in (train, test):
        source.maps = [layer[:, o] for layer, o in zip(source.maps, order, strict=True)]
    plain.fit(train)
    torch.testing.assert_close(plain.score(test.maps)[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("total", "wanted", "kept"),
    [(1792, None, 550), (448, None, 100), (176, None, 100), (64, None, 64), (64, "all", 64)],
)
def test_number_of_channels(total, wanted, kept):
    channels = _draw(total, wanted, seed=0)
    assert channels.tolist() == sorted(set(channels.tolist()))
    assert len(channels) == kept
    assert channels.max() < total


def test_seed_draws_the_channels(make):
    assert not torch.equal(_draw(448, None, 0), _draw(448, None, 1))


def test_more_channels_than_there_are(make, context):
    with pytest.raises(ValueError, match="n_features is 22, but the layers have 21 channels"):
        padim(context, n_features=22).fit(make())


def test_one_image_gives_euclidean_distances(make, context):
    """As few-shot models of one image are: nothing is known of the covariance but epsilon."""
    features, method = make(1), padim(context, n_features="all")
    method.fit(features)
    given = make(3, seed=1)
    expected = (method._embed(given.maps) - method._embed(features.maps)).norm(dim=2) / 0.1
    torch.testing.assert_close(method.score(given.maps)[0].flatten(1), expected)
