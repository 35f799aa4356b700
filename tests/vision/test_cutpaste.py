"""CutPaste and scar: bounds of what is pasted, and that nothing else changes."""

import numpy as np
import pytest

from adcore.core.draws import generator
from adcore.vision.cutpaste import _jittered, cutpaste, scar
from adcore.vision.pictures import from_picture, shift_hue, to_picture


def box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@pytest.mark.parametrize("draw", [cutpaste, scar])
def test_only_what_the_mask_marks_is_changed(draw, texture: np.ndarray) -> None:
    for index in range(50):
        image, mask = draw(texture, generator(0, index))
        differs = (image != texture).any(0)
        assert mask.dtype == np.bool_ and not (differs & ~mask).any()
        assert differs[mask].mean() > 0.9  # noise: almost no pixel is what it was


def test_the_pasted_box_keeps_the_bounds_of_area_and_aspect() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 256, 256), np.uint8)
    areas, aspects = [], []
    for index in range(400):
        mask = cutpaste(image, generator(0, index))[1]
        assert mask[box(mask)].all()  # one full rectangle
        height, width = mask[box(mask)].shape
        areas.append(mask.mean())
        aspects.append(width / height)
    rounding = 0.002
    assert min(areas) > 0.02 - rounding and max(areas) < 0.15 + rounding
    assert min(areas) < 0.03 and max(areas) > 0.14
    logarithms = np.log(aspects)
    assert np.abs(logarithms).max() < -np.log(0.3) + 0.05
    counts = np.histogram(logarithms, 6, (np.log(0.3), -np.log(0.3)))[0]
    assert counts.min() > 400 / 6 * 0.65  # log-uniform on both sides of a square


def test_pastes_reach_every_part_of_the_image(texture: np.ndarray) -> None:
    seen = np.mean([cutpaste(texture, generator(0, index))[1] for index in range(400)], axis=0)
    parts = seen.reshape(4, 24, 4, 24).mean((1, 3))
    assert parts.min() > 0.01 and parts[1:3, 1:3].min() > parts[::3, ::3].max()
    outermost = np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]])
    assert (outermost > 0).mean() > 0.5


def test_a_scar_is_a_turned_strip_within_its_bounds() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 256, 256), np.uint8)
    areas, turned = [], 0
    for index in range(300):
        mask = scar(image, generator(0, index))[1]
        height, width = mask[box(mask)].shape
        assert np.hypot(height, width) < np.hypot(16, 25) * np.sqrt(2) and max(height, width) <= 31
        areas.append(mask.sum())
        turned += not mask[box(mask)].all()
    assert max(areas) <= 17 * 26 and max(areas) > 300 and min(areas) < 40
    assert turned > 200


def test_a_scar_shrinks_with_the_image(texture: np.ndarray) -> None:
    small = np.ascontiguousarray(texture[:, :32, :32])
    areas = [scar(small, generator(0, index))[1].sum() for index in range(40)]
    assert min(areas) >= 1 and max(areas) <= 20


def test_a_piece_is_jittered_by_a_tenth() -> None:
    flat = to_picture(np.broadcast_to(np.array([120, 100, 80], np.uint8)[:, None, None], (3, 9, 9)))
    made = np.array([from_picture(_jittered(flat, generator(0, i)))[:, 0, 0] for i in range(100)], float)
    assert len({tuple(colour) for colour in made.tolist()}) > 80
    value = made.max(1)
    assert 120 * 0.9 - 6 < value.min() < 114 and 126 < value.max() < 120 * 1.1 + 6


def test_hues_turn_and_greys_stay() -> None:
    red = to_picture(np.array([255, 0, 0], np.uint8)[:, None, None])
    np.testing.assert_allclose(from_picture(shift_hue(red, 1 / 3)).ravel(), [0, 255, 0], atol=8)
    np.testing.assert_allclose(from_picture(shift_hue(red, -1 / 3)).ravel(), [0, 0, 255], atol=8)
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), 3, axis=0)
    assert (from_picture(shift_hue(to_picture(grey), 0.1)) == grey).all()


def test_a_patch_is_turned_by_quarters_and_the_image_is_not() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    plain, turned = (cutpaste(image, generator(0, 3), turns) for turns in (0, 1))
    pieces = [picture[:, *box(mask)] for picture, mask in (plain, turned)]
    assert np.array_equal(np.rot90(pieces[0], 1, (1, 2)), pieces[1])
    assert np.array_equal(turned[0][:, ~turned[1]], image[:, ~turned[1]])
