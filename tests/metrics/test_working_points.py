"""The two working points at two percent against scikit-learn's ROC curve and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from adcore.metrics._ranking import Ranking, rank
from adcore.metrics.pb2 import BadFound
from adcore.metrics.pg2 import GoodPassed

SCORES = st.lists(st.integers(0, 30), min_size=1, max_size=120)


def ranking(normal: list[int], anomalous: list[int]) -> Ranking:
    found = rank(np.sort(np.array(normal, float)), np.sort(np.array(anomalous, float)))
    assert found is not None
    return found


@settings(deadline=None, max_examples=60)
@given(SCORES, SCORES)
def test_both_are_points_of_the_roc_curve(normal: list[int], anomalous: list[int]) -> None:
    labels = [0] * len(normal) + [1] * len(anomalous)
    fpr, tpr, _ = roc_curve(labels, normal + anomalous, drop_intermediate=False)
    found = ranking(normal, anomalous)
    assert BadFound().value(found) == pytest.approx(tpr[fpr <= 0.02 + 1e-12].max())
    assert GoodPassed().value(found) == pytest.approx(1 - fpr[1 - tpr <= 0.02 + 1e-12].min())


def test_of_fifty_good_images_one_may_alarm() -> None:
    assert BadFound().value(ranking([9, *[0] * 49], [5, 10])) == 1.0


def test_of_forty_nine_none_may() -> None:
    assert BadFound().value(ranking([9, *[0] * 48], [5, 10])) == 0.5


def test_of_fifty_bad_images_one_may_be_missed() -> None:
    assert GoodPassed().value(ranking([1, 2], [0, *[5] * 49])) == 1.0


def test_of_forty_nine_none_may_be_missed() -> None:
    assert GoodPassed().value(ranking([1, 2], [0, *[5] * 48])) == 0.0
