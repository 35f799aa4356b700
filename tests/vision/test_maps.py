"""Map post-processing against torch's interpolation and scipy's filter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from adcore.vision.maps import image_scores, postprocess


def reference(maps, size, sigma):
    large = torch.nn.functional.interpolate(maps[:, None].double(), size=size, mode="bilinear", align_corners=False)
    return np.stack([gaussian_filter(m, sigma, mode="reflect", truncate=4) for m in large[:, 0].numpy()])


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([0.5, 1.3, 4.0]),
    st.integers(0, 10**6),
)
def test_equals_interpolation_and_scipy_to_the_borders(grid, size, sigma, seed):
    maps = torch.randn(3, *grid, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_allclose(postprocess(maps, size, sigma), reference(maps, size, sigma), atol=1e-5)


def test_without_smoothing_it_only_resizes():
    maps = torch.randn(2, 7, 9, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(postprocess(maps, (7, 9), 0), maps, atol=1e-7)


def test_a_batch_equals_its_images_one_by_one():
    maps = torch.randn(70, 5, 6, generator=torch.Generator().manual_seed(0))
    single = torch.cat([postprocess(m[None], (20, 24), 4.0) for m in maps])
    torch.testing.assert_close(postprocess(maps, (20, 24), 4.0), single)


def test_no_maps():
    assert postprocess(torch.empty(0, 5, 6), (20, 24), 4.0).shape == (0, 20, 24)


@pytest.mark.parametrize("given_scores", [None, torch.tensor([3.0, 4.0])])
def test_image_scores(given_scores):
    maps = torch.tensor([[[0.0, 1.0]], [[2.0, -1.0]]])
    expected = [1.0, 2.0] if given_scores is None else [3.0, 4.0]
    assert image_scores(maps, given_scores).tolist() == expected
