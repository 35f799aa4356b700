"""sPRO against a naive twin, closed-form values, invariances and bad input."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from adcore.metrics import pixel_metrics, spro

FEW = settings(deadline=None, max_examples=30)


def entry(value, threshold, relative):
    return {
        "defect_name": "x",
        "pixel_value": value,
        "saturation_threshold": threshold,
        "relative_saturation": relative,
    }


def _naive_saturation(area, value, config):
    if config is None:
        return area
    (found,) = [e for e in config if e["pixel_value"] == value]
    threshold = found["saturation_threshold"]
    return max(1, int(threshold * area) if found["relative_saturation"] else min(threshold, area))


def _naive_spro(maps, channels, config, limit=0.05):
    """The definition, threshold by threshold: counts, saturation, mean over regions, trapezoids cut at the limit."""
    normal = [m[~c.any(axis=0)] for m, c in zip(maps, channels, strict=True)]
    regions = [(m, c > 0, int(c.max())) for m, parts in zip(maps, channels, strict=True) for c in parts]
    n = sum(part.size for part in normal)
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        fpr = sum(int((part >= threshold).sum()) for part in normal) / n
        overlaps = [
            min(int((m[inside] >= threshold).sum()) / _naive_saturation(int(inside.sum()), value, config), 1)
            for m, inside, value in regions
        ]
        points.append((fpr, float(np.mean(overlaps))))
    area = 0.0
    for (f0, p0), (f1, p1) in itertools.pairwise(points):
        end = min(f1, limit)
        if end > f0:
            area += (end - f0) * (p0 + p0 + (p1 - p0) * (end - f0) / (f1 - f0)) / 2
    return area / limit


CONFIG = [entry(255, 7, False), entry(254, 0.4, True), entry(253, 1.0, True), entry(252, 3.5, False)]


@st.composite
def cases(draw):
    """A few small maps of differing sizes with ties, and none to three regions each, that may overlap."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 30, 10**6]))
    shapes = draw(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=1, max_size=4))
    counts = [draw(st.integers(0, 3)) for _ in shapes]
    counts[0] = max(counts[0], 1)
    maps, channels = [], []
    for shape, count in zip(shapes, counts, strict=True):
        regions = np.zeros((count, *shape), np.uint8)
        for region in regions:
            inside = rng.random(shape) < 0.3
            inside.flat[0], inside.flat[-1] = True, False
            region[inside] = rng.choice([e["pixel_value"] for e in CONFIG])
        lift = regions.any(axis=0) * rng.integers(0, levels)
        maps.append((rng.integers(0, levels, shape) + lift).astype(np.float32))
        channels.append(regions)
    return maps, channels


@FEW
@given(cases(), st.sampled_from([0.01, 0.05, 0.3, 1.0]), st.sampled_from([CONFIG, None]))
def test_equal_to_the_definition(drawn, limit, config):
    maps, channels = drawn
    assert spro(maps, channels, config, limit) == pytest.approx(_naive_spro(maps, channels, config, limit), abs=1e-9)


@FEW
@given(cases(), st.sampled_from([0.05, 0.3]))
def test_with_a_region_a_component_and_no_config_it_is_aupro(drawn, limit):
    maps, channels = drawn
    masks = [parts.any(axis=0) for parts in channels]
    labelled = [ndimage.label(mask, np.ones((3, 3))) for mask in masks]
    components = [
        np.stack([labels == k for k in range(1, n + 1)] or [labels > 0])[:n].astype(np.uint8) for labels, n in labelled
    ]
    expected = pixel_metrics(maps, masks, limit)["aupro"]
    assert spro(maps, components, None, limit) == pytest.approx(expected, abs=1e-12)


@FEW
@given(cases())
def test_halving_a_saturation_never_lowers_it(drawn):
    maps, channels = drawn
    half = [{**e, "saturation_threshold": e["saturation_threshold"] / 2} for e in CONFIG]
    assert spro(maps, channels, half) >= spro(maps, channels, CONFIG) - 1e-12


@FEW
@given(cases(), st.randoms(use_true_random=False))
def test_monotone_maps_and_image_order_change_nothing(drawn, random):
    maps, channels = drawn
    order = random.sample(range(len(maps)), len(maps))
    rank_of = {v: i for i, v in enumerate(sorted({float(v) for m in maps for v in m.ravel()}))}
    warped = [np.vectorize(rank_of.get, otypes=[float])(maps[i]) ** 3 - 50 for i in order]
    expected = spro(maps, channels, CONFIG, 0.3)
    assert spro(warped, [channels[i] for i in order], CONFIG, 0.3) == pytest.approx(expected, abs=1e-12)


def square(size=20, value=255, at=slice(2, 8)):
    region = np.zeros((1, size, size), np.uint8)
    region[0, at, at] = value
    return region


def test_map_equal_to_the_mask_is_perfect():
    regions = square()
    assert spro([regions[0] / 255], [regions], CONFIG) == pytest.approx(1)
    assert spro([regions[0] / 255], [regions], None) == pytest.approx(1)


@pytest.mark.parametrize(("limit", "expected"), [(0.05, 0.025), (0.3, 0.15)])
def test_a_constant_map_is_half_the_limit(limit, expected):
    assert spro([np.full((20, 20), 3.0)], [square()], None, limit) == pytest.approx(expected, abs=1e-12)


def test_a_region_is_found_once_it_is_saturated():
    """Of 36 pixels ten suffice: the best ten found before any normal pixel is all that counts."""
    regions, found = square(), np.zeros((20, 20))
    inside = np.flatnonzero(regions[0])
    found.flat[inside[:10]] = 1
    found.flat[inside[10:]] = -1  # missed, below every normal pixel
    for threshold, relative, expected in ((10, False, 1), (20, False, 0.5), (10 / 36, True, 1), (0.56, True, 0.5)):
        assert spro([found], [regions], [entry(255, threshold, relative)]) == pytest.approx(expected, abs=1e-12)
    assert spro([found], [regions], None) == pytest.approx(10 / 36, abs=1e-12)


def test_a_threshold_above_the_area_is_the_area():
    regions = square()
    maps = [np.random.default_rng(0).random((20, 20)) + regions[0]]
    assert spro(maps, [regions], [entry(255, 10**6, False)]) == spro(maps, [regions], None)


def test_regions_count_alike_whatever_their_size():
    big, small = square(60, at=slice(0, 50)), square(60, at=slice(58, 59))
    found = (big[0] > 0).astype(float) - (small[0] > 0)  # the speck is missed, below every normal pixel
    assert spro([found], [np.concatenate([big, small])], None) == pytest.approx(0.5, abs=1e-12)


def test_two_blobs_may_be_one_region():
    two = square(at=slice(2, 4)) | square(at=slice(10, 12))
    found = (square(at=slice(2, 4))[0] > 0).astype(float) - (square(at=slice(10, 12))[0] > 0)
    config = [entry(255, 4, False)]  # alternatives: one of the two is enough
    assert spro([found], [two], config) == pytest.approx(1)
    assert spro([found], [two], None) == pytest.approx(0.5, abs=1e-12)


def test_a_pixel_in_any_region_is_not_normal():
    wide, narrow = square(at=slice(2, 10)), square(at=slice(2, 4), value=254)
    found = (wide[0] > 0) * 1.0 + (narrow[0] > 0)
    assert spro([found], [np.concatenate([wide, narrow])], None) == pytest.approx(1)


def test_adding_a_silent_normal_image_only_lowers_fpr():
    rng = np.random.default_rng(1)
    regions, maps = square(), rng.random((20, 20))
    none = np.zeros((0, 20, 20), np.uint8)
    before = spro([maps], [regions], CONFIG, 0.3)
    after = spro([maps, np.full((20, 20), -1.0)], [regions, none], CONFIG, 0.3)
    assert after > before
    normal = int((regions[0] == 0).sum())
    assert after == pytest.approx(_naive_spro([maps], [regions], CONFIG, 0.3 * (normal + 400) / normal), abs=1e-12)


def test_nothing_to_find_is_nan():
    none = np.zeros((0, 4, 4), np.uint8)
    assert math.isnan(spro([np.zeros((4, 4))], [none], CONFIG))
    assert math.isnan(spro([np.zeros((4, 4))], [np.full((1, 4, 4), 255, np.uint8)], CONFIG))


OK, REGION = np.zeros((4, 4)), np.pad(np.full((1, 2, 2), 255, np.uint8), ((0, 0), (1, 1), (1, 1)))


@pytest.mark.parametrize(
    ("maps", "channels", "message"),
    [
        ([], [], "no images"),
        ([OK], [REGION[0]], r"channels of image 0 have shape \(4, 4\)"),
        ([OK], [REGION * 1.0], "dtype float64: they must be integers"),
        ([OK, OK], [REGION, REGION[:, :3]], r"image 1 has a map of shape \(4, 4\) and a mask of shape \(3, 4\)"),
        ([OK, OK], [REGION], "image 1 has a map but no mask"),
        ([OK, np.full((4, 4), np.nan)], [REGION, REGION], "image 1 holds NaN"),
        ([OK], [REGION * 0], "region 0 of image 0 holds 0 values above 0"),
        ([OK], [np.maximum(REGION, np.eye(4, dtype=np.uint8)[None])], "region 0 of image 0 holds 2 values"),
        ([OK, OK], [REGION, REGION // 255 * 9], "region 0 of image 1 has the value 9, which the config does not"),
    ],
)
def test_bad_input_is_named(maps, channels, message):
    with pytest.raises(ValueError, match=message):
        spro(maps, channels, CONFIG)


@pytest.mark.parametrize("limit", [0, -0.1, 1.1, math.nan])
def test_impossible_limit_is_refused(limit):
    with pytest.raises(ValueError, match="fpr_limit"):
        spro([OK], [REGION], CONFIG, limit)


def test_maps_are_streamed():
    """Of a set of large maps, not much more is held than the scores of its normal pixels."""
    shape, n = (128, 128), 64
    region = np.zeros((1, *shape), np.uint8)
    region[0, 10:50, 10:50] = 255
    channels = (region if i % 2 else region[:0] for i in range(n))
    maps = (np.random.default_rng(i).random(shape, dtype=np.float32) for i in range(n))
    tracemalloc.start()
    spro(maps, channels, [entry(255, 400, False)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * np.dtype("float32").itemsize * n * shape[0] * shape[1]


def test_inputs_are_left_as_they_were():
    maps, regions = np.random.default_rng(2).random((1, 20, 20), dtype=np.float32), square()
    copies = maps.copy(), regions.copy()
    spro(maps, [regions], CONFIG)
    assert np.array_equal(maps, copies[0]) and np.array_equal(regions, copies[1])
