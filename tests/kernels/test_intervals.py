"""Bootstrap intervals against scipy, against all resamples written out, and for how often they hold the truth."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from adcore.kernels import intervals


def frame(values):
    """{category: [value a seed]} as rows."""
    rows = [(name, seed, x) for name, seeds in values.items() for seed, x in enumerate(seeds)]
    return pd.DataFrame(rows, columns=["category", "seed", "value"])


SOME = np.random.default_rng(3).normal(size=12).tolist()


@pytest.mark.parametrize(
    "values", [{"only": SOME}, {f"c{i}": [x] for i, x in enumerate(SOME)}], ids=["seeds alone", "categories alone"]
)
def test_one_level_is_the_percentile_bootstrap_of_scipy(values):
    reference = scipy.stats.bootstrap((SOME,), np.mean, method="percentile", n_resamples=50_000, rng=1)
    spread = reference.standard_error
    assert intervals.interval(frame(values)) == pytest.approx(tuple(reference.confidence_interval), abs=0.06 * spread)


def test_two_levels_draw_categories_and_then_their_seeds():
    values = {"a": [0.0, 1.0], "b": [5.0, 9.0, 20.0]}
    drawn = {name: [np.mean(x) for x in itertools.product(seeds, repeat=len(seeds))] for name, seeds in values.items()}
    chances: dict[float, float] = {}
    for first, second in itertools.product(values, repeat=2):  # every equally likely pair of categories
        for x, y in itertools.product(drawn[first], drawn[second]):
            mean = round((x + y) / 2, 9)
            chances[mean] = chances.get(mean, 0.0) + 1 / (4 * len(drawn[first]) * len(drawn[second]))
    means = np.array(sorted(chances))
    cumulated = np.cumsum([chances[mean] for mean in means])
    for level in (0.5, 0.8, 0.95):
        low, high = intervals.interval(frame(values), level=level)
        for bound, at in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
            allowed = means[np.searchsorted(cumulated, [at - 0.02, at + 0.02])]
            assert allowed[0] - 1e-9 <= bound <= allowed[1] + 1e-9


def test_it_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        effects = rng.normal(0.5, 1.0, (20, 1)) + rng.normal(0, 0.7, (20, 3))  # categories differ, and seeds in them
        low, high = intervals.interval(frame(dict(enumerate(effects.tolist()))), draws=1000)
        held += low <= 0.5 <= high
    assert 0.88 <= held / 300 <= 0.98


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=3), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_it_lies_within_the_values_and_knows_no_order_of_rows(values, random):
    table = frame(dict(enumerate(values)))
    low, high = intervals.interval(table, draws=500)
    if len(table) == 1:
        assert math.isnan(low) and math.isnan(high)
        return
    assert table["value"].min() - 1e-9 <= low <= high <= table["value"].max() + 1e-9
    rows = list(range(len(table)))
    random.shuffle(rows)
    assert intervals.interval(table.iloc[rows], draws=500) == (low, high)


def test_it_moves_with_the_values_and_equal_ones_have_no_width():
    table = frame({"a": [0.1, 0.2], "b": [0.4, 0.3]})
    low, high = intervals.interval(table)
    assert intervals.interval(table.assign(value=table["value"] + 1)) == pytest.approx((low + 1, high + 1))
    assert intervals.interval(table.assign(value=0.0)) == (0.0, 0.0)


def test_a_lower_level_is_narrower():
    table = frame({"a": SOME[:6], "b": SOME[6:]})
    wide, narrow = intervals.interval(table), intervals.interval(table, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_a_missing_value_is_refused_and_nothing_has_no_interval():
    with pytest.raises(ValueError, match="NaN"):
        intervals.interval(frame({"a": [0.1, math.nan]}))
    assert all(math.isnan(bound) for bound in intervals.interval(frame({})))


def test_a_constant_cost_is_found_exactly_under_any_shared_noise():
    slow = np.random.default_rng(0).gamma(2.0, 50.0, 60)  # both runs of a pair are slowed alike
    assert intervals.median_difference(slow + 4.0, slow) == pytest.approx((4.0, 4.0, 4.0))


def test_difference_of_medians_turns_its_sign_with_the_sides():
    rng = np.random.default_rng(0)
    a, b = rng.normal(12, 1, 80), rng.normal(10, 2, 80)
    difference, low, high = intervals.median_difference(a, b)
    assert difference == np.median(a) - np.median(b) and low < difference < high
    assert intervals.median_difference(b, a) == pytest.approx((-difference, -high, -low))


def test_difference_of_medians_is_the_paired_bootstrap_of_scipy():
    rng = np.random.default_rng(1)
    b = rng.gamma(4.0, 3.0, 101)
    a = b + rng.gamma(2.0, 1.0, 101)
    reference = scipy.stats.bootstrap(
        (a, b),
        lambda x, y, axis: np.median(x, axis=axis) - np.median(y, axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=2,
    )
    found = intervals.median_difference(a, b, draws=20_000)[1:]
    assert found == pytest.approx(tuple(reference.confidence_interval), abs=0.1 * reference.standard_error)


def test_difference_of_medians_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        shared = rng.gamma(2.0, 5.0, 60)
        _, low, high = intervals.median_difference(
            shared + rng.normal(3, 1, 60), shared + rng.normal(1, 1, 60), draws=500
        )
        held += low <= 2.0 <= high
    assert 0.9 <= held / 200 <= 0.99


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0, 2.0], [1.0])])
def test_runs_that_are_no_pairs_are_refused(a, b):
    with pytest.raises(ValueError, match="one length"):
        intervals.median_difference(a, b)
