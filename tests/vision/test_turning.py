"""Turned images against numpy's quarter turns and scipy's rotation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import rotate

from adcore.vision.turning import turned

SIDE = 32


def picture():
    coarse = torch.randint(0, 256, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_a_quarter_turn_moves_pixels():
    image = picture()
    assert torch.equal(turned(image, [90.0])[0], image[0].rot90(1, (1, 2)))


def test_no_turn_changes_nothing():
    image = picture()
    assert torch.equal(turned(image, [0.0]), image)


@pytest.mark.parametrize("degrees", [30.0, 200.0])
def test_a_turn_is_scipys_where_the_image_reaches(degrees):
    image = picture()
    expected = rotate(image[0].numpy().astype(float), degrees, (2, 1), reshape=False, order=1)
    middle = (slice(None), slice(8, 24), slice(8, 24))
    np.testing.assert_allclose(turned(image, [degrees])[0].numpy()[middle], expected[middle], atol=0.6)


def test_a_turned_image_has_no_black_corners():
    white = torch.full((1, 3, SIDE, SIDE), 255, dtype=torch.uint8)
    assert (turned(white, [45.0]) == 255).all()
