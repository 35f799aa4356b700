"""The 32 versions of a support image are rotations and mirror images, and nothing of them is made up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate

from adcore.vision.fewshot import variant, variants


@pytest.fixture(params=[(48, 48), (33, 70)])
def smooth(request: pytest.FixtureRequest) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (3, *request.param))
    blurred = gaussian_filter(noise, (0, 4, 4), mode="mirror")
    return ((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8)


def test_the_first_is_the_image_and_each_second_its_mirror(smooth):
    before = smooth.copy()
    made = variants(smooth)
    assert made.shape == (32, *smooth.shape) and made.dtype == np.uint8
    assert (smooth == before).all() and (made[0] == smooth).all()
    assert (made[1::2] == made[::2, :, :, ::-1]).all()
    assert len({version.tobytes() for version in made}) == 32


def test_quarter_turns_of_a_square_are_exact(texture):
    for quarter in range(4):
        assert (variant(texture, 8 * quarter) == np.rot90(texture, quarter, (1, 2))).all()


@pytest.mark.parametrize("step", [1, 3, 6, 13])
def test_rotations_equal_scipys_with_the_image_mirrored_at_its_border(smooth, step):
    turned = rotate(smooth.astype(float), 22.5 * step, (2, 1), reshape=False, order=1, mode="mirror")
    difference = np.abs(variant(smooth, 2 * step) - turned)
    assert difference.max() < 3 and difference.mean() < 1  # of 255: bilinear positions in fixed point, rounding
