"""With and without enhancers: pairs, means and intervals against tables worked out by hand, and the words for them."""

import math

import pandas as pd
import pytest

from adcore.kernels.intervals import interval
from adcore.report import enhancers, verdicts
from adcore.report.enhancers import sentence
from adcore.results import effects
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.paired import Paired

CONTROLS = {"pfam(train=identity)": "identity", "pfam(train=random)": "random"}


@pytest.fixture
def compared(row):
    """Effects of {enhancer: {category: [image AUROC a seed]}}; other columns as keywords, a row given is added."""

    def build(scores, textures=(), controls=CONTROLS, extra=(), **common):
        rows = [
            row(enhancer_label=e, enhancer=e.split("(")[0], category=c, seed=s, i_auroc=x, **common)
            for e, categories in scores.items()
            for c, seeds in categories.items()
            for s, x in enumerate(seeds)
        ]
        table = frame([*rows, *(row(**changes) for changes in extra)])
        return effects.compare(Contests(table), {"elpv": textures}, controls)

    return build


def test_means_and_differences_are_over_categories_of_means_over_seeds(compared):
    (effect,) = compared({"none": {"a": [0.8, 0.9], "b": [0.5]}, "pfam": {"a": [0.85, 0.95], "b": [0.7]}})
    found = effect.over_none
    assert (found.without, found.with_) == (pytest.approx((0.85 + 0.5) / 2), pytest.approx((0.9 + 0.7) / 2))
    assert found.difference == pytest.approx((0.05 + 0.2) / 2)
    assert (found.pairs, found.expected, found.categories, found.seeds) == (3, 3, 2, 2)
    pairs = pd.DataFrame({"category": ["a", "a", "b"], "seed": [0, 1, 0], "value": [0.05, 0.05, 0.2]})
    assert (found.low, found.high) == pytest.approx(interval(pairs))


def test_only_pairs_count_and_the_text_says_what_is_missing(compared, row):
    failed = {"enhancer_label": "pfam", "category": "b", "status": "failed", "i_auroc": math.nan, "i_ap": math.nan}
    (effect,) = compared(
        {"none": {"a": [0.5, 0.6], "b": [0.1, 0.2]}, "pfam": {"a": [0.7, 0.6]}}, extra=[failed | {"seed": 0}]
    )
    assert effect.over_none.without == pytest.approx(0.55)  # b has no pair, so it is on neither side
    assert effect.over_none.difference == pytest.approx(0.1)
    assert sentence(effect) == (
        "cannot be compared with none (only 2 pairs: the interval is a rough one) (2 of 4 pairs missing)"
    )


def test_enhancers_whose_cells_all_failed_are_shown_as_such(compared):
    failed = {"enhancer_label": "pfam", "category": "a", "status": "failed", "i_auroc": math.nan}
    (effect,) = compared({"none": {"a": [0.5]}}, extra=[failed])
    assert sentence(effect) == "no pair to compare (1 of 1 pair missing)"
    assert "| – | pfam | – | no pairs |" in enhancers.markdown([effect])


def test_groups_are_objects_textures_and_all_of_them(compared):
    scores = {"none": {"bolt": [0.5], "cloth": [0.5]}, "pfam": {"bolt": [0.6], "cloth": [0.8]}}
    found = {effect.group: effect.over_none.difference for effect in compared(scores, textures=["cloth"])}
    assert found == pytest.approx({"objects": 0.1, "textures": 0.3, "all": 0.2})
    assert [effect.group for effect in compared(scores)] == ["objects"]
    assert [effect.group for effect in compared(scores, textures=["bolt", "cloth"])] == ["textures"]


def test_metrics_are_those_with_values_and_a_category_without_masks_is_not_missing(compared):
    extra = [
        {"enhancer_label": e, "category": "masked", "i_auroc": 0.9, "p_auroc": p}
        for e, p in (("none", 0.8), ("pfam", 0.9))
    ]
    found = {e.metric: e.over_none for e in compared({"none": {"a": [0.5]}, "pfam": {"a": [0.5]}}, extra=extra)}
    assert list(found) == ["i_auroc", "p_auroc"]  # aupro has no value, i_ap is not asked for
    assert (found["i_auroc"].expected, found["p_auroc"].expected, found["p_auroc"].pairs) == (2, 1, 1)


def test_hosts_differ_by_all_but_the_enhancer(compared, row):
    scores = {"none": {"a": [0.5]}, "pfam": {"a": [0.6]}}
    extra = [
        {"category": "a", "enhancer_label": e, "backbone": "resnet18", "weights": "random", "i_auroc": x}
        for e, x in (("none", 0.7), ("pfam", 0.4))
    ]
    found = {effect.host: effect.over_none.difference for effect in compared(scores, extra=extra)}
    assert found == pytest.approx(
        {
            "padim [tf_efficientnet_lite0, pretrained]": 0.1,
            "padim [resnet18, random] (random weights)": -0.3,
        }
    )


def test_every_enhancer_meets_every_control_on_the_cells_both_have(compared):
    scores = {
        "none": {"a": [0.5], "b": [0.5]},
        "pfam": {"a": [0.8], "b": [0.6]},
        "pfam(train=identity)": {"a": [0.5], "b": [0.5]},
        "pfam(train=random)": {"a": [0.3]},
    }
    found = {effect.enhancer: effect for effect in compared(scores)}
    against = {
        paired.other: (paired.difference, paired.pairs, paired.expected) for paired in found["pfam"].over_controls
    }
    assert against == {
        "pfam(train=identity)": (pytest.approx(0.2), 2, 2),
        "pfam(train=random)": (pytest.approx(0.5), 1, 2),
    }
    assert [found[name].control for name in scores if name != "none"] == ["", "identity", "random"]
    assert not found["pfam(train=random)"].over_controls
    assert sentence(found["pfam(train=identity)"]) == "identical to none, as it must be"
    assert sentence(found["pfam"]) == (
        "too few categories to tell it from none; does not beat its controls identity and random"
        " (only 2 pairs: the interval is a rough one)"
    )


def test_an_identity_must_be_identical_in_all_metrics_to_the_last_bit(compared, row):
    scores = {"none": {"a": [0.5], "b": [0.6]}, "pfam(train=identity)": {"a": [0.5], "b": [0.6]}}
    (same,) = compared(scores)
    assert sentence(same) == "identical to none, as it must be"
    scores["pfam(train=identity)"] = {"a": [0.5], "b": [0.6 + 1e-12]}
    (other,) = compared(scores)
    assert "; not identical to none" in sentence(other)
    extra = [
        {"category": "a", "enhancer_label": e, "seed": 7, "i_auroc": 0.5, "i_ap": x}
        for e, x in (("none", 0.4), ("pfam(train=identity)", 0.3))
    ]
    scores["pfam(train=identity)"]["b"] = [0.6]
    (hidden,) = compared(scores, extra=extra)  # differs in a metric that the table does not even show
    assert hidden.over_none.equal and "equal to none in every cell; not identical to none" in sentence(hidden)


def test_two_controls_of_a_kind_are_told_apart_by_their_labels(compared):
    labels = ["pfam(train=identity)", "pfam(pool_kv=4,train=identity)"]
    scores = {name: {"a": [0.5, 0.6]} for name in ("none", "pfam", *labels)}
    (effect, *_) = compared(scores, controls=dict.fromkeys(labels, "identity"))
    assert all(label in sentence(effect) for label in labels)


def test_columns_of_controls_agree_where_one_host_has_them_in_another_order(compared, row):
    scores = {"none": {"a": [0.5]}, "pfam": {"a": [0.6]}, **{name: {"a": [0.4]} for name in CONTROLS}}
    identity, random = CONTROLS
    # rows of failed cells come last, so that here the order of the controls is the other one
    values = {"none": 0.5, "pfam": 0.6, random: 0.3, identity: math.nan}
    extra = [
        {
            "method_label": "cfa",
            "category": "a",
            "enhancer_label": name,
            "i_auroc": x,
            "status": "ok" if x == x else "failed",
        }
        for name, x in values.items()
    ]
    ((_, table),) = enhancers.section(compared(scores, extra=extra), "elpv").values()
    assert table.header[3:] == [f"over {identity}", f"over {random}"]
    found = {row[0]: tuple(row[3:]) for row in table.texts if row[2] == "pfam"}
    assert found == {"padim": ("+20.00 one pair",) * 2, "cfa": ("no pairs", "+30.00 one pair")}


def paired(low, high, pairs=9, missing=0, equal=False, outcome=None):
    """A comparison with that interval, in points, and unless one is given the outcome that it suggests."""
    low, high = low / 100, high / 100
    outcome = outcome or ("better" if low > 0 else "worse" if high < 0 else "alike")
    return Paired("x", outcome, 0.5, 0.5, (low + high) / 2, low, high, pairs, pairs + missing, 3, 3, equal)


UP, LEVEL, DOWN = paired(0.3, 1.3), paired(-0.2, 0.4), paired(-2.0, -1.0)
GONE = Paired("x", "incomplete", 0.5, 0.6, 0.1, math.nan, math.nan, 1, 2, 1, 1, False)
ONE = Paired("x", "better on images", 0.5, 0.6, 0.1, math.nan, math.nan, 1, 1, 1, 1, False)


@pytest.mark.parametrize(
    ("over_none", "controls", "sentence"),
    [
        (UP, {"identity": UP, "random": UP}, "beats none and both controls"),
        (UP, {"identity": UP}, "beats none and its control identity"),
        (UP, {"a": UP, "b": UP, "c": UP}, "beats none and all its controls"),
        (
            UP,
            {"identity": LEVEL, "random": UP},
            "beats none (+0.80 [0.30, 1.30]) but not its control identity (+0.10 [-0.20, 0.40])",
        ),
        (
            UP,
            {"identity": LEVEL, "random": DOWN},
            "beats none (+0.80 [0.30, 1.30]) but not its controls identity (+0.10 [-0.20, 0.40])"
            " and random (-1.50 [-2.00, -1.00])",
        ),
        (UP, {}, "beats none; the plan has no control for it"),
        (
            LEVEL,
            {"identity": LEVEL, "random": DOWN, "other": UP},
            "cannot be told apart from none; does not beat its controls identity and random",
        ),
        (LEVEL, {"identity": UP}, "cannot be told apart from none, though it beats its control identity"),
        (DOWN, {"random": UP}, "is worse than none, though it beats its control random"),
        (paired(0, 0, equal=True), {}, "equal to none in every cell; the plan has no control for it"),
        (paired(0, 0.1), {"random": UP}, "cannot be told apart from none, though it beats its control random"),
        (
            paired(0.3, 1.3, pairs=5),
            {"identity": UP},
            "beats none and its control identity (only 5 pairs: the interval is a rough one)",
        ),
        (
            paired(0.3, 1.3, pairs=6, missing=3),
            {"identity": UP},
            "beats none and its control identity (3 of 9 pairs missing)",
        ),
        (GONE, {"identity": GONE}, "cannot be compared with none (1 of 2 pairs missing)"),
        (ONE, {"identity": ONE}, "beats none on these images (one seed) and its control identity"),
        (
            paired(0.3, 1.3, outcome="untested"),
            {"identity": UP},
            "too few categories to tell it from none, though it beats its control identity",
        ),
        (
            paired(0.3, 1.3, outcome="unsure of seeds"),
            {},
            "differs from none on these images, but other seeds may turn it; the plan has no control for it",
        ),
    ],
)
def test_the_words_for_it(over_none, controls, sentence):
    assert verdicts.enhancer(over_none, list(controls.items())) == sentence


@pytest.mark.parametrize(
    ("over_none", "kind", "identical", "sentence"),
    [
        (paired(0, 0, equal=True), "identity", True, "identical to none, as it must be"),
        (paired(0, 0, 2, 1, equal=True), "identity", True, "identical to none, as it must be (1 of 3 pairs missing)"),
        (UP, "identity", False, "beats none; not identical to none"),
        (DOWN, "random", False, "is worse than none"),
        (paired(0, 0, equal=True), "random", True, "equal to none in every cell"),
    ],
)
def test_the_words_for_controls(over_none, kind, identical, sentence):
    assert verdicts.control(over_none, kind, identical) == sentence


def test_a_plan_without_none_has_nothing_to_compare_with(compared):
    found = compared({"pfam": {"a": [0.5, 0.6]}, "sbm": {"a": [0.5, 0.7]}})
    assert {sentence(effect) for effect in found} == {enhancers.NO_NONE}
    text = enhancers.markdown(found)
    assert "Nothing to compare with: the plan has no enhancer none." in text and "| method |" not in text


def test_csv_is_tidy_and_full_of_digits_and_markdown_is_readable(tmp_path, compared):
    scores = {"none": {"a": [1 / 3, 0.5]}, "pfam": {"a": [0.5, 0.75]}, "pfam(train=random)": {"a": [0.4, 0.4]}}
    enhancers.write(tmp_path, compared(scores))
    table = pd.read_csv(tmp_path / "enhancers.csv", keep_default_na=False)
    assert table[["enhancer_label", "against"]].to_numpy().tolist() == [
        ["pfam", "none"],
        ["pfam", "pfam(train=random)"],
        ["pfam(train=random)", "none"],
    ]
    assert table["difference"][0] == (0.5 - 1 / 3 + 0.25) / 2 and table["control"][2] == "random"
    assert set(effects.HOST) < set(table.columns) and list(table["pairs"]) == [2, 2, 2]
    text = (tmp_path / "enhancers.md").read_text()
    assert (
        "| padim | objects | 41.67 | pfam | 62.50 | +20.83 [16.67, 25.00] | too few categories to tell it from none"
        in text
    )
    assert "| pfam(train=random) (control) |" in text
    assert "| method | group | enhancer | over pfam(train=random) |" in text
    assert not list(tmp_path.glob(".*"))


def test_a_plan_without_enhancers_leaves_no_file_behind(tmp_path, compared):
    enhancers.write(tmp_path, compared({"none": {"a": [0.5]}, "pfam": {"a": [0.5]}}))
    assert len(list(tmp_path.iterdir())) == 2
    nothing = compared({"none": {"a": [0.5]}})
    enhancers.write(tmp_path, nothing)
    assert not nothing and not list(tmp_path.iterdir())
