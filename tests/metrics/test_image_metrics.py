"""Image metrics and curves against scikit-learn, hand-made cases and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from adcore.metrics import curves, image_metrics

FEW = settings(deadline=None, max_examples=30)


@st.composite
def two_class_scores(draw):
    """Scores on few levels, so that ties within and across classes abound, with both classes there."""
    labels = [*draw(st.lists(st.booleans(), max_size=40)), False, True]
    levels = draw(st.integers(1, 12))
    scores = draw(st.lists(st.integers(-levels, levels), min_size=len(labels), max_size=len(labels)))
    return np.array(scores, dtype=draw(st.sampled_from(["float32", "float64"]))) / 7, np.array(labels)


@FEW
@given(two_class_scores())
def test_equal_to_scikit_learn_on_ties(drawn):
    scores, labels = drawn
    precision, recall, _ = precision_recall_curve(labels, scores)
    with np.errstate(invalid="ignore"):
        f1 = np.nanmax(2 * precision * recall / (precision + recall))
    expected = {
        "i_auroc": roc_auc_score(labels, scores),
        "i_ap": average_precision_score(labels, scores),
        "i_f1max": f1,
    }
    assert image_metrics(scores, labels) == pytest.approx(expected, abs=1e-12)


@FEW
@given(two_class_scores(), st.randoms(use_true_random=False))
def test_image_order_and_monotone_maps_change_nothing(drawn, random):
    scores, labels = drawn
    order = np.array(random.sample(range(scores.size), scores.size))
    assert image_metrics(np.exp(5 * scores.astype(float))[order], labels[order]) == pytest.approx(
        image_metrics(scores, labels), abs=1e-12
    )


def test_by_hand():
    # Ranks: anomalous 3 beats both normals, anomalous 1 ties with one and beats the other: (2 + 1.5) / 4.
    expected = {"i_auroc": 3.5 / 4, "i_ap": 0.5 * 1 + 0.5 * 2 / 3, "i_f1max": 2 * 2 / (2 + 1 + 2)}
    assert image_metrics([3, 1, 1, 0], [1, 1, 0, 0]) == pytest.approx(expected)


def test_perfect_and_constant_scores():
    assert image_metrics([0.1, 0.2, 0.9], [0, 0, 1]) == {"i_auroc": 1, "i_ap": 1, "i_f1max": 1}
    constant = image_metrics(np.ones(10), np.arange(10) < 3)
    assert constant == pytest.approx({"i_auroc": 0.5, "i_ap": 0.3, "i_f1max": 2 * 0.3 / 1.3})


def test_scores_closer_than_float32_are_not_tied():
    assert image_metrics(np.array([1.0, 1.0 + 1e-12]), [0, 1])["i_auroc"] == 1
    assert image_metrics([2**24, 2**24 + 1], [0, 1])["i_auroc"] == 1


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_nan_without_a_warning(label, recwarn):
    metrics = image_metrics([0.1, 0.2], [label, label])
    assert set(metrics) == {"i_auroc", "i_ap", "i_f1max"} and all(map(math.isnan, metrics.values()))
    assert curves([0.1, 0.2], [label, label]) == {"fpr": [], "tpr": [], "recall": [], "precision": []}
    assert not recwarn.list


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "no images"),
        ([1.0, 2.0, np.nan, np.inf], [0, 1, 0, 1], "image 2 is nan"),
        ([1.0, -np.inf], [0, 1], "image 1 is -inf"),
        ([1.0, 2.0], [0, 1, 1], r"\(2,\) and labels of shape \(3,\)"),
        ([[1.0], [2.0]], [[0], [1]], r"must both be \(N,\)"),
        ([1.0, 2.0], [0.0, 0.5], "only 0 and 1"),
    ],
)
@pytest.mark.parametrize("function", [image_metrics, curves])
def test_bad_input_is_named(function, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        function(scores, labels)


def _points(x, y):
    return {(round(a, 12), round(b, 12)) for a, b in zip(x, y, strict=True)}


@FEW
@given(two_class_scores())
def test_unthinned_curves_are_those_of_scikit_learn(drawn):
    scores, labels = drawn
    ours = curves(scores, labels, points=10_000)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert _points(ours["fpr"], ours["tpr"]) <= _points(fpr, tpr)
    assert np.trapezoid(ours["tpr"], ours["fpr"]) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert _points(ours["recall"], ours["precision"]) <= _points(recall, precision)
    steps = np.diff(ours["recall"]) @ np.array(ours["precision"][1:])
    assert steps == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_thinned_curves_keep_their_ends_and_shape():
    rng = np.random.default_rng(0)
    labels = rng.random(5000) < 0.3
    thin = curves(rng.normal(size=5000) + labels, labels, points=50)
    full = curves(rng.normal(size=5000) + labels, labels, points=50_000)
    assert 25 <= len(thin["fpr"]) <= 50 and 25 <= len(thin["recall"]) <= 50
    assert (thin["fpr"][0], thin["tpr"][0], thin["fpr"][-1], thin["tpr"][-1]) == (0, 0, 1, 1)
    assert thin["recall"][0] == 0 and thin["recall"][-1] == 1
    assert np.all(np.diff(thin["fpr"]) >= 0) and np.all(np.diff(thin["recall"]) >= 0)
    assert abs(np.trapezoid(thin["tpr"], thin["fpr"]) - np.trapezoid(full["tpr"], full["fpr"])) < 0.02


def test_too_few_points_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        curves([0.0, 1.0], [0, 1], points=1)
