"""Pixel metrics against naive twins, scikit-learn, closed-form values, invariances and bad input."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from adcore.metrics import PixelRanking, image_metrics, pixel_metrics
from adcore.metrics.aupro05 import Aupro05
from adcore.metrics.base import Masked

FEW = settings(deadline=None, max_examples=30)
KEYS = {"p_auroc", "p_ap", "p_f1max", "aupro"}


def _naive_regions(mask):
    """8-connected regions of a mask as lists of (row, column), by flood fill."""
    left = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    found = []
    while left:
        stack, region = [left.pop()], []
        while stack:
            row, column = stack.pop()
            region.append((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack.extend(near)
        found.append(region)
    return found


def _naive_pro_curve(maps, masks):
    """(FPR, PRO) of every distinct threshold, from nothing detected to everything detected."""
    normal = np.concatenate([m[~k] for m, k in zip(maps, masks, strict=True)])
    parts = [m[tuple(np.transpose(r))] for m, k in zip(maps, masks, strict=True) for r in _naive_regions(k)]
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for m in maps for v in m.ravel()}, reverse=True):
        points.append((np.mean(normal >= threshold), np.mean([np.mean(p >= threshold) for p in parts])))
    return points


def _naive_aupro(maps, masks, limit):
    """Area under the PRO curve by trapezoids, the last one cut at the limit, over the limit."""
    area, points = 0.0, _naive_pro_curve(maps, masks)
    for (f0, p0), (f1, p1) in itertools.pairwise(points):
        end = min(f1, limit)
        if end > f0:
            at_end = p0 + (p1 - p0) * (end - f0) / (f1 - f0)
            area += (end - f0) * (p0 + at_end) / 2
    return area / limit


def _naive_f1_max(scores, labels):
    """Largest F1 by trying every score as the threshold."""
    best = 0.0
    for threshold in np.unique(scores):
        detected = scores >= threshold
        tp = np.sum(detected & labels)
        best = max(best, 2 * tp / (detected.sum() + labels.sum()))
    return best


@st.composite
def map_sets(draw):
    """A few small maps of differing sizes, most on few score levels, with masks that hold pixels of both classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels, share = draw(st.sampled_from([1, 2, 5, 30, 10**6])), draw(st.sampled_from([0.1, 0.4, 0.8]))
    shapes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(2, 9)), min_size=1, max_size=4))
    masks = [rng.random(shape) < share for shape in shapes]
    masks[0].flat[:2] = [True, False]
    maps = [(rng.integers(0, levels, k.shape) + k * rng.integers(0, levels)).astype(np.float32) for k in masks]
    return maps, masks


def _pooled(arrays):
    return np.concatenate([a.ravel() for a in arrays])


@FEW
@given(map_sets(), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_equal_to_the_definitions(drawn, limit):
    maps, masks = drawn
    scores, labels = _pooled(maps), _pooled(masks)
    expected = {
        "p_auroc": roc_auc_score(labels, scores),
        "p_ap": average_precision_score(labels, scores),
        "p_f1max": _naive_f1_max(scores, labels),
        "aupro": _naive_aupro(maps, masks, limit),
    }
    assert pixel_metrics(maps, masks, fpr_limit=limit) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("limit", [0.25, 0.5, 0.3])
def test_a_limit_on_and_between_curve_points(limit):
    # Four normals at 4, 3, 2, 2: FPR passes 0.25, 0.5 and 1 (a tie that 0.3 and 0.5 never reach or only touch).
    maps, masks = [np.array([[4.0, 3, 2, 2, 3, 2]])], [np.array([[0, 0, 0, 0, 1, 1]], dtype=bool)]
    assert pixel_metrics(maps, masks, limit)["aupro"] == pytest.approx(_naive_aupro(maps, masks, limit), abs=1e-12)


@pytest.mark.parametrize(("limit", "expected"), [(0.3, 0.15), (0.05, 0.025), (1.0, 0.5)])
def test_constant_map(limit, expected):
    mask = np.zeros((2, 10, 10), dtype=bool)
    mask[0, 2:4, 2:4] = mask[0, 7, 7] = True
    metrics = pixel_metrics(np.full((2, 10, 10), 7.0), mask, limit)
    share = mask.mean()
    assert metrics == pytest.approx(
        {"p_auroc": 0.5, "p_ap": share, "p_f1max": 2 * share / (1 + share), "aupro": expected}, abs=1e-12
    )


@FEW
@given(map_sets())
def test_aupro05_is_the_area_up_to_a_twentieth(case):
    maps, masks = case
    read = PixelRanking.read(Masked(maps, masks))
    assert Aupro05().value(read) == pytest.approx(_naive_aupro(maps, masks, 0.05), abs=1e-9)


def test_map_equal_to_the_mask_is_perfect():
    mask = np.random.default_rng(0).random((3, 16, 16)) < 0.1
    assert pixel_metrics(mask.astype(np.float32), mask) == pytest.approx(dict.fromkeys(KEYS, 1.0), abs=1e-12)


def test_regions_count_alike_whatever_their_size():
    mask = np.zeros((1, 60, 60), dtype=bool)
    mask[0, :50, :50] = True
    found = mask.astype(np.float32)
    mask[0, 58, 58] = True
    found[0, 58, 58] = -1  # missed below every normal pixel
    assert pixel_metrics(found, mask)["aupro"] == pytest.approx(0.5, abs=1e-12)


def test_a_diagonal_scratch_is_one_region():
    mask = np.zeros((1, 9, 9), dtype=bool)
    mask[0, range(5), range(5)] = True  # one 8-connected region of 5 pixels, five 4-connected ones of 1
    mask[0, 7:, 7:] = True
    maps = np.zeros((1, 9, 9), dtype=np.float32)
    maps[0, 7:, 7:] = 1
    maps[0, range(5), range(5)] = -1
    assert pixel_metrics(maps, mask)["aupro"] == pytest.approx(1 / 2, abs=1e-12)


def test_regions_of_different_images_never_join():
    maps, masks = np.zeros((2, 1, 4), dtype=np.float32), np.zeros((2, 1, 4), dtype=bool)
    masks[0, 0, 3] = masks[1, 0, 0] = masks[1, 0, 1] = True
    maps[0, 0, 3], maps[1, 0, :2] = 1, -1
    assert pixel_metrics(maps, masks)["aupro"] == pytest.approx(0.5, abs=1e-12)


@FEW
@given(map_sets(), st.randoms(use_true_random=False))
def test_monotone_maps_and_image_order_change_nothing(drawn, random):
    maps, masks = drawn
    order = random.sample(range(len(maps)), len(maps))
    rank_of = {v: i for i, v in enumerate(np.unique(_pooled(maps)))}
    ranks = [np.vectorize(rank_of.get, otypes=[float])(maps[i]) for i in order]
    warped = [r**3 - 50 for r in ranks]  # strictly increasing, exact in float64
    assert pixel_metrics(warped, [masks[i] for i in order]) == pytest.approx(pixel_metrics(maps, masks), abs=1e-12)


def test_pixel_order_changes_no_ranking_metric_and_flips_change_nothing():
    rng = np.random.default_rng(3)
    masks = rng.random((3, 12, 12)) < 0.2
    maps = (rng.integers(0, 9, masks.shape) + 3 * masks).astype(np.float32)
    plain = pixel_metrics(maps, masks)
    shuffle = rng.permutation(144)
    moved = pixel_metrics(maps.reshape(3, 1, 144)[..., shuffle], masks.reshape(3, 1, 144)[..., shuffle])
    assert [moved[k] for k in ("p_auroc", "p_ap", "p_f1max")] == [plain[k] for k in ("p_auroc", "p_ap", "p_f1max")]
    assert pixel_metrics(maps[:, ::-1, ::-1], masks[:, ::-1, ::-1]) == pytest.approx(plain, abs=1e-12)


def test_adding_a_silent_normal_image_only_lowers_fpr():
    rng = np.random.default_rng(4)
    masks = rng.random((2, 10, 10)) < 0.2
    maps = rng.random(masks.shape)
    silent, clean = np.full((1, 10, 10), -1.0), np.zeros((1, 10, 10), dtype=bool)
    before = pixel_metrics(maps, masks)
    after = pixel_metrics(np.concatenate([maps, silent]), np.concatenate([masks, clean]))
    assert after["aupro"] > before["aupro"] and after["p_auroc"] > before["p_auroc"]
    assert (after["p_ap"], after["p_f1max"]) == (before["p_ap"], before["p_f1max"])


def test_lists_of_differing_sizes_and_generators():
    rng = np.random.default_rng(5)
    masks = [rng.random(shape) < 0.3 for shape in [(4, 9), (8, 3), (5, 5)]]
    maps = [rng.random(k.shape, dtype=np.float32) + k for k in masks]
    expected = pixel_metrics(maps, masks)
    assert pixel_metrics((m for m in maps), iter(masks)) == expected
    # The same pixels in padded arrays: the frame is normal, below every score, and so only widens the FPR axis.
    padded_maps, padded_masks = np.full((3, 10, 10), -1.0), np.zeros((3, 10, 10), dtype=bool)
    for i, (m, k) in enumerate(zip(maps, masks, strict=True)):
        padded_maps[i, : m.shape[0], : m.shape[1]], padded_masks[i, : m.shape[0], : m.shape[1]] = m, k
    n = sum(int((~k).sum()) for k in masks)
    limit = 0.3 * n / int((~padded_masks).sum())
    assert pixel_metrics(padded_maps, padded_masks, limit)["aupro"] == pytest.approx(expected["aupro"], abs=1e-12)


@pytest.mark.parametrize("kind", ["bool", "uint8", "255", "int64", "float"])
def test_mask_types(kind):
    mask = np.random.default_rng(6).random((2, 8, 8)) < 0.2
    maps = np.random.default_rng(7).random((2, 8, 8))
    cast = {
        "bool": mask,
        "uint8": mask.astype("u1"),
        "255": mask * np.uint8(255),
        "int64": mask * 3,
        "float": mask * 1.0,
    }
    assert pixel_metrics(maps, cast[kind]) == pixel_metrics(maps, mask)


def test_map_types_are_held_exactly():
    mask = np.array([[[0, 1]]])
    assert pixel_metrics(np.array([[[1.0, 1.0 + 1e-12]]]), mask)["p_auroc"] == 1
    assert pixel_metrics(np.array([[[2**24, 2**24 + 1]]]), mask)["p_auroc"] == 1
    maps = np.arange(2, dtype=np.float16).reshape(1, 1, 2)
    assert (
        pixel_metrics([*maps, np.array([[1.0 + 1e-12, 0]])], [*mask, mask[0]])["p_auroc"] == 0.375
    )  # of 4 pairs one is won, one tied; two if rounded


def test_inputs_are_left_as_they_were():
    rng = np.random.default_rng(8)
    maps, masks = rng.random((2, 6, 6), dtype=np.float32), rng.random((2, 6, 6)) < 0.3
    copies = maps.copy(), masks.copy()
    pixel_metrics(maps, masks)
    image_metrics(maps[0, 0], masks[0, 0])
    assert np.array_equal(maps, copies[0]) and np.array_equal(masks, copies[1])


@pytest.mark.parametrize("fill", [0, 1])
def test_one_class_is_nan_without_a_warning(fill, recwarn):
    metrics = pixel_metrics(np.zeros((2, 4, 4)), np.full((2, 4, 4), fill))
    assert set(metrics) == KEYS and all(map(math.isnan, metrics.values()))
    assert not recwarn.list


OK = np.zeros((4, 4))


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        ([], [], "no images"),
        (np.empty((0, 4, 4)), np.empty((0, 4, 4), dtype=bool), "no images"),
        (np.empty((1, 0, 4)), np.empty((1, 0, 4), dtype=bool), "image 0 has shape"),
        ([OK, np.full((4, 4), np.nan), OK / 1], [OK] * 3, "image 1 holds NaN"),
        ([OK, OK, np.full((4, 4), np.inf)], [OK] * 3, "image 2 holds NaN or infinite"),
        ([OK, OK], [OK, OK[:3]], r"image 1 has a map of shape \(4, 4\) and a mask of shape \(3, 4\)"),
        ([OK, OK[None]], [OK, OK[None]], r"image 1 has shape \(1, 4, 4\)"),
        ([OK, OK], [OK], "image 1 has a map but no mask"),
        ([OK], [OK, OK], "image 1 has a mask but no map"),
        ([OK], [OK + 0.3], "mask of image 0 of dtype float64 must hold only 0 and 1"),
    ],
)
def test_bad_input_is_named(maps, masks, message):
    with pytest.raises(ValueError, match=message):
        pixel_metrics(maps, masks)


@pytest.mark.parametrize("limit", [0, -0.1, 1.1, math.nan])
def test_impossible_limit_is_refused(limit):
    with pytest.raises(ValueError, match="fpr_limit"):
        pixel_metrics([OK], [OK], fpr_limit=limit)


def test_memory_stays_near_the_scores_themselves():
    shape, n = (128, 128), 64
    mask = np.zeros(shape, dtype=bool)
    mask[10:50, 10:50] = True  # 5 % of all pixels: every second image has it
    masks = (mask & (i % 2 == 0) for i in range(n))
    maps = (np.random.default_rng(i).random(shape, dtype=np.float32) for i in range(n))
    tracemalloc.start()
    pixel_metrics(maps, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * np.dtype("float32").itemsize * n * mask.size
