"""Draws of image metrics and DeLong's deviations, against scikit-learn, double loops and each other."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from adcore.results import images
from adcore.results.images import DRAWN, DRAWS, sample
from adcore.results.pairs import delong, percentiles


def table(labels, scores, subsets=None):
    return pd.DataFrame(
        {
            "path": [f"c/test/{i:04d}.png" for i in range(len(labels))],
            "label": np.asarray(labels).astype(int),
            "subset": [""] * len(labels) if subsets is None else subsets,
            "score": scores,
        }
    )


def some(count=40, shift=1.0, seed=0, digits=1):
    """Labels and tied scores."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3 == 0)
    return labels, np.round(rng.normal(size=count) + shift * labels, digits)


def f1_max(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))


def naive_covariance(labels, one, other):
    """DeLong's S10 / m + S01 / n by comparing every two images."""
    found = 0.0
    placed = []
    for scores in (one, other):
        wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[~labels]] for x in scores[labels]]
        placed.append((np.mean(wins, axis=1), np.mean(wins, axis=0)))
    for a, b in zip(*placed, strict=True):
        found += np.cov(a, b, ddof=1)[0, 1] / len(a)
    return found


def test_a_draw_is_the_metric_of_the_images_repeated_as_often_as_drawn(monkeypatch):
    monkeypatch.setattr(images, "DRAWS", 12)
    images._weights.cache_clear()
    drawn, kept = [], images._weights
    monkeypatch.setattr(images, "_weights", lambda *given: drawn.append(kept(*given)) or drawn[-1])
    labels, scores = some()
    found = sample(table(labels, scores))
    images._weights = kept
    kept.cache_clear()
    assert found.draws.shape == (len(DRAWN), 12)
    for weights, metrics in zip(drawn[0].astype(int), found.draws.T, strict=True):
        assert weights[labels].sum() == labels.sum() and weights.sum() == len(labels)  # stratified
        again = np.repeat(labels, weights), np.repeat(scores, weights)
        expected = [roc_auc_score(*again), average_precision_score(*again), f1_max(*again)]
        assert metrics == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("digits", [1, 9], ids=["ties", "no ties"])
def test_deviations_give_the_covariance_of_delong(digits):
    labels, one = some(digits=digits)
    other = np.round(one + np.random.default_rng(5).normal(size=len(one)), digits)
    first, second = (sample(table(labels, scores)).deviations for scores in (one, other))
    assert first @ second == pytest.approx(naive_covariance(labels, one, other), rel=1e-9)
    assert first @ first == pytest.approx(naive_covariance(labels, one, one), rel=1e-9)


def test_covariance_of_subsets_is_that_of_their_average():
    """Logical and structural anomalies are each scored with all good images, which the two AUROCs share."""
    rng = np.random.default_rng(2)
    subsets = np.array([""] * 30 + ["logical"] * 20 + ["structural"] * 12)
    labels = subsets != ""
    scores = rng.normal(size=62) + labels * rng.uniform(0.5, 2, 62)
    found = sample(table(labels, scores, subsets))
    wins = {name: scores[subsets == name][:, None] > scores[~labels] for name in ("logical", "structural")}
    variance = sum(win.mean(axis=1).var(ddof=1) / len(win) / 4 for win in wins.values())
    variance += sum(win.mean(axis=0) / 2 for win in wins.values()).var(ddof=1) / 30
    assert found.deviations @ found.deviations == pytest.approx(variance)
    average = np.mean([roc_auc_score(labels[s], scores[s]) for s in (~labels | (subsets == n) for n in wins)])
    assert found.draws[0].mean() == pytest.approx(average, abs=0.01)
    assert found.draws[0].var() == pytest.approx(variance, rel=0.2)  # two ways to the same thing


def test_the_same_images_are_drawn_alike_whatever_the_scores_and_the_order_of_rows():
    labels, scores = some()
    rows = table(labels, scores)
    first, again = sample(rows), sample(rows.sample(frac=1.0, random_state=1))
    assert again.images == first.images
    assert np.array_equal(again.draws, first.draws) and np.array_equal(again.deviations, first.deviations)
    monotone = sample(table(labels, np.exp(scores)))
    assert np.array_equal(monotone.draws, first.draws)
    assert sample(rows.assign(path="x" + rows["path"])).images != first.images


def test_without_both_classes_nothing_is_known():
    found = sample(table(np.zeros(5, bool), np.arange(5.0)))
    assert np.isnan(found.draws).all() and np.isnan(found.deviations).all()
    lone = sample(table([True, False, False], [0.3, 0.2, 0.1]))
    assert not np.isnan(lone.draws).any() and np.isnan(lone.deviations).all()  # one defect tells of no other


def test_intervals_over_images_hold_the_truth_about_as_often_as_they_say():
    rng, truth, held = np.random.default_rng(0), scipy.stats.norm.cdf(1.2 / math.sqrt(2)), 0
    labels = np.arange(80) % 2 == 1
    for _ in range(120):
        low, high = percentiles(sample(table(labels, rng.normal(size=80) + 1.2 * labels)).draws[0])
        held += low <= truth <= high
    assert 0.88 <= held / 120 <= 0.99 and DRAWS == 1000


def test_delong_finds_a_difference_that_is_none_as_rarely_as_it_says(monkeypatch):
    monkeypatch.setattr(images, "DRAWS", 1)  # none is needed
    images._weights.cache_clear()
    rng, rejected = np.random.default_rng(1), 0
    labels = np.arange(80) % 2 == 1
    for _ in range(250):
        hard = rng.normal(size=80) + 1.5 * labels  # shared by both, so that they are correlated
        pair = [hard + rng.normal(0, 0.7, 80) for _ in range(2)]
        deviations = np.array([sample(table(labels, scores)).deviations for scores in pair])
        areas = np.array([np.mean(scores[labels][:, None] > scores[~labels]) for scores in pair])
        p = delong(areas[:, None] - areas, deviations @ deviations.T)[2]
        rejected += p[0, 1] < 0.05
    images._weights.cache_clear()
    assert 0.02 <= rejected / 250 <= 0.09
