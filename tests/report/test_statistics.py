"""What is said about contenders: the words, the numbers behind them, the files and the report's section."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from adcore.engine import registry
from adcore.report import statistics, verdicts
from adcore.report.html import write_report
from adcore.results.contests import Contests
from adcore.results.frame import frame
from adcore.results.images import sample
from adcore.results.run import Results


def cells(row, values, metric="i_auroc", other="p_auroc"):
    """Rows of {method: {category: [value a seed]}}, on one metric alone."""
    missing = {"i_ap": math.nan, "p_auroc": math.nan, "aupro": math.nan, "i_auroc": math.nan}
    return [
        row(method_label=method, category=category, seed=seed, **(missing | {metric: value}))
        for method, categories in values.items()
        for category, seeds in categories.items()
        for seed, value in enumerate(seeds)
    ]


def ahead(*gaps, base=0.8):
    """Two methods, A ahead of B by those points in as many categories, one seed."""
    rows = {f"c{i}": [base + i / 1000] for i in range(len(gaps))}
    return {"A": {name: [rows[name][0] + gap / 100] for name, gap in zip(rows, gaps, strict=True)}, "B": rows}


def contest_of(rows, metric="i_auroc", samples=None):
    contests = Contests(frame(rows), lambda: samples or {})
    return contests.of(next(iter(contests.contenders)), metric)


def images_of(labels, scores):
    paths = [f"{i:03d}.png" for i in range(len(labels))]
    return pd.DataFrame({"path": paths, "label": labels.astype(int), "subset": "", "score": scores})


def judged(row, noises, categories=1, seeds=1, count=80, turn=0.0):
    """Rows and samples of methods that see one signal under so much noise; `turn` makes seeds of the first differ."""
    rows, samples = [], {}
    for c in range(categories):
        rng = np.random.default_rng(c)
        labels = np.arange(count) % 2 == 1
        signal = rng.normal(size=count) + 1.5 * labels
        for method, noise in noises.items():
            for seed in range(seeds):
                shift = turn * seed * labels if method == next(iter(noises)) else 0.0
                scores = signal + noise * rng.normal(size=count) - shift
                value = float(roc_auc_score(labels, scores))
                rows += cells(row, {method: {f"c{c}": [value]}})
                rows[-1] |= {"seed": seed, "key": f"{method}/{c}/{seed}"}
                samples[f"{method}/{c}/{seed}"] = sample(images_of(labels, scores))
    return rows, samples


NINE_OF_TWELVE = (5, 6, 7, 8, 9, 10, 11, 12, 13, -1, -2, -3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (ahead(*NINE_OF_TWELVE), "A beats B on 9 of 12 categories, p = 0.007"),
        (ahead(1, 2, 3, 4, -5, -6, 7, -8, 9, -1.5, 2.5, 3.5), "A and B cannot be told apart: A is ahead on 8 of 12"),
        (ahead(1, 2, 3, 4, 5, 6), "A beats B on 6 of 6 categories, p = 0.03"),
        (ahead(1, 2, 3, 4, 5), "A is ahead of B on 5 of 5 categories, too few to tell (it takes 6)"),
        (ahead(1, 2, 3, 0, 0, 0, 0, 0), "A is ahead of B on 3 of 8 categories and equal on 5, too few to tell"),
        (ahead(0, 0, 0), "B and A are equal in all 3 categories"),
        (ahead(0), "B and A are equal"),
        (ahead(1), "A is ahead of B; one category of pixels cannot be tested"),
        (
            ahead(-1, -1.1, -1.2, -1.3, -1.4, -1.5, -1.6, -1.7, -1.8, 60, base=0.3),
            "A and B cannot be told apart: A is ahead on 1 of 10 categories, p = 0.08",
        ),
        (
            ahead(*(-1 - i / 10 for i in range(14)), 60, base=0.3),
            "B beats A on 14 of 15 categories, p = 0.008, though its mean is lower",
        ),
    ],
)
def test_words_about_two_contenders(row, values, sentence):
    found = contest_of(cells(row, values, "p_auroc"), "p_auroc")
    text = verdicts.verdict(found.pair(0, 1))
    assert text.startswith(sentence.replace("B and A", " and ".join(found.names))), text


def test_p_is_wilcoxons_after_correction_for_all_pairs(row):
    rng = np.random.default_rng(0)
    values = {
        m: {f"c{i}": [0.8 + shift + 0.02 * rng.random()] for i in range(12)}
        for m, shift in zip("ABC", (2e-2, 1e-2, 0), strict=True)
    }
    found = contest_of(cells(row, values))
    a, b, c = (np.array([seeds[0] for seeds in values[m].values()]) for m in "ABC")
    p = [scipy.stats.wilcoxon(x, y, method="exact").pvalue for x, y in ((a, b), (a, c), (b, c))]
    order = np.argsort(p)
    expected, largest = np.empty(3), 0.0
    for place, index in enumerate(order):
        largest = expected[index] = max(largest, min(1.0, (3 - place) * p[index]))
    assert [found.over_categories.corrected[i] for i in ((0, 1), (0, 2), (1, 2))] == pytest.approx(expected.tolist())
    assert "after correction" in verdicts.verdict(found.pair(0, 2))


def test_seeds_are_repeats_of_a_category_not_more_categories(row):
    values = {
        m: {f"c{i}": [base + i / 100 + s / 1000 for s in range(3)] for i in range(6)}
        for m, base in (("A", 0.8), ("B", 0.7))
    }
    found = contest_of(cells(row, values))
    assert found.values.shape == (2, 6) and found.over_categories.p[0, 1] == pytest.approx(2 / 2**6)
    assert found.entries[0].sd == pytest.approx(0.001)


def test_one_category_is_judged_on_its_images(row):
    rows, samples = judged(row, {"A": 0.2, "B": 3.0})
    found = contest_of(rows, samples=samples)
    text = verdicts.verdict(found.pair(0, 1))
    assert text.startswith("on the same 80 images A beats B by ") and text.endswith("(one seed)")
    rows, samples = judged(row, {"A": 0.5, "B": 0.5})
    assert "cannot be told apart: it is ahead by" in verdicts.verdict(contest_of(rows, samples=samples).pair(0, 1))
    without = verdicts.verdict(contest_of(rows).pair(0, 1))
    assert "cannot be tested" in without


def test_what_other_seeds_may_turn_is_not_called_a_win(row):
    rows, samples = judged(row, {"A": 0.0, "B": 4.0}, seeds=2, turn=1.25, count=240)
    found = contest_of(rows, samples=samples)
    assert found.over_images.corrected[0, 1] < 0.05
    assert found.over_seeds.low[0, 1] < 0 < found.over_seeds.high[0, 1]
    assert verdicts.verdict(found.pair(0, 1)).count("but other seeds may turn it: [-") == 1
    assert "beats" not in verdicts.behind(found.pair(0, 1))


def test_few_categories_are_judged_on_the_images_of_all(row):
    rows, samples = judged(row, {"A": 0.2, "B": 3.0}, categories=3, seeds=2)
    found = contest_of(rows, samples=samples)
    assert found.image_count == 240
    text = verdicts.verdict(found.pair(0, 1))
    assert text.startswith(
        "A is ahead of B on 3 of 3 categories, too few to tell (it takes 6); on the same 240 images A"
    )
    alone = [found.over_images_of(c) for c in range(3)]
    spread = [(images.high[0, 1] - images.low[0, 1]) / 2 for images in alone]
    pooled = (found.over_images.high[0, 1] - found.over_images.low[0, 1]) / 2
    assert pooled == pytest.approx(math.sqrt(sum(s**2 for s in spread)) / 3)  # categories are independent


def test_contenders_on_other_images_are_not_compared_on_them(row):
    rows, samples = judged(row, {"A": 0.2, "B": 3.0})
    labels = np.arange(80) % 2 == 1
    samples["B/0/0"] = sample(images_of(labels, np.arange(80.0)).assign(path=[f"x{i}" for i in range(80)]))
    found = contest_of(rows, samples=samples)
    assert np.isnan(found.over_images.p).all() and found.image_count == 0
    assert not np.isnan(
        [found.own_over_images.low, found.own_over_images.high]
    ).any()  # each has an interval of its own


def test_a_contender_without_all_cells_is_left_out_and_named(row):
    values = {m: {f"c{i}": [base + i / 100] for i in range(7)} for m, base in (("A", 0.8), ("B", 0.7), ("C", 0.6))}
    rows = cells(row, values)
    rows[-1] |= {"status": "failed", "i_auroc": math.nan}
    del rows[7]  # B was not run on c0
    found = contest_of(rows)
    assert found.names == ("A",) and set(found.left_out) == {"B", "C"}
    shown = statistics.section(Contests(frame(rows)), "elpv")[0]
    assert "Left out, for failed or missing cells: B, C." in shown["notes"] and not shown["pairs"].rows


def test_same_names_are_told_apart_by_their_settings(row):
    rows = [row(backbone=name, i_auroc=value) for name, value in (("resnet18", 0.9), ("wide", 0.8))]
    assert contest_of(rows).names == ("padim [resnet18]", "padim [wide]")


@pytest.fixture
def told(row):
    """Three methods on six categories with two seeds, judged on images; the last is worse in each."""
    rows, samples = judged(row, {"A": 0.2, "B": 0.3, "C": 4.0}, categories=6, seeds=2)
    return rows, Contests(frame(rows), lambda: samples)


def test_files_hold_all_that_was_found_in_full(told, tmp_path):
    rows, made = told
    assert statistics.write(tmp_path, made)
    table = pd.read_csv(tmp_path / "statistics.csv", keep_default_na=False, na_values=[""])
    own = table[table["other"].isna() & table["category"].isna()].set_index("contender")
    expected = frame(rows).groupby("method_label")["i_auroc"].mean()
    assert (own["value"] - expected).abs().max() < 1e-15
    assert own["average_rank"].sum() == pytest.approx(1 + 2 + 3)
    assert (own["images_low"] < own["value"]).all() and (own["value"] < own["images_high"]).all()
    pairs = table[table["other"].notna()]
    assert pairs["category"].isna().sum() == 3 and (pairs.groupby("category").size() == 3).all()
    assert len(table) == 3 * (1 + 6) + 3 * (1 + 6)
    text = (tmp_path / "statistics.md").read_text()
    assert "| C |" in text and "Friedman" in text and "### image AUROC" in text


def test_nothing_is_read_again_where_nothing_changed(told, tmp_path):
    rows, made = told

    def never():
        raise AssertionError("samples were read")

    assert statistics.write(tmp_path, made)
    again = [r | {"mlflow_run_id": "abc", "score_ms": 1.0} for r in rows]
    assert not statistics.write(tmp_path, Contests(frame(again), never))
    changed = Contests(frame([rows[0] | {"i_auroc": 0.1}, *rows[1:]]), never)
    assert statistics.key(changed) != statistics.key(made)


def test_report_folds_the_tables_and_the_diagram(told, tmp_path):
    _, made = told
    assert write_report(tmp_path / "r.html", Results(made))
    text = (tmp_path / "r.html").read_text()
    assert text.count("Statistics: what can be told apart") == 1 and "<th>A against</th>" in text
    assert "CD = " in text and "Nemenyi" in text
    assert not write_report(tmp_path / "r.html", Results(made))


@pytest.mark.parametrize(("methods", "categories"), [(2, 6), (3, 4)])
def test_no_diagram_where_ranks_say_nothing(row, methods, categories):
    values = {f"m{i}": {f"c{j}": [0.5 + i / 10 + j / 100] for j in range(categories)} for i in range(methods)}
    shown = statistics.section(Contests(frame(cells(row, values))), "elpv")[0]
    assert not shown["figure"] and any(note.startswith("No critical-difference diagram") for note in shown["notes"])
    reach = f"{categories} categories with 3 pairs compared cannot reach significance: it takes 7."
    assert (reach in shown["notes"]) == (categories == 4)


def test_pixel_metrics_have_no_interval_over_images(row):
    rows = cells(row, ahead(1, 2, 3), "p_auroc")
    shown = statistics.section(Contests(frame(rows)), "elpv")[0]
    assert shown["title"] == "pixel AUROC" and all(line[3] == "–" for line in shown["table"].rows)


def test_where_less_is_better_the_smaller_one_leads(row, monkeypatch):
    less = dataclasses.replace(registry.column("aupro"), better="lower")
    monkeypatch.setitem(registry.columns(), "aupro", less)
    up, down = (contest_of(cells(row, ahead(*gaps), "aupro"), "aupro") for gaps in (NINE_OF_TWELVE, [-1] * 12))
    assert verdicts.verdict(up.pair(0, 1)) == "B beats A on 9 of 12 categories, p = 0.007"
    assert up.names == ("B", "A") and up.ranks[0] < up.ranks[1]
    assert verdicts.verdict(down.pair(0, 1)).startswith("A beats B on 12 of 12 categories")
