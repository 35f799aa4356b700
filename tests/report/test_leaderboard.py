"""The leaderboard's files and the summary behind them, against values worked out by hand."""

import dataclasses
import json
import math

import pytest

from adcore.engine import registry
from adcore.report import leaderboard, plots, verdicts
from adcore.results import frame
from adcore.results.contenders import best
from adcore.results.contests import Contests
from adcore.results.run import Results


def of(rows, failures=(), **notes):
    return Results(Contests(frame.frame(rows)), failures=failures, notes=notes)


def contenders(rows):
    (found,) = of(rows).contests.contenders.values()
    return found


def lead(rows):
    return verdicts.lead(of(rows).contests.head("elpv"))


def grid(row, scores, **common):
    """Rows from {method: {category: [score a seed]}}."""
    return [
        row(method_label=m, category=c, seed=s, i_auroc=x, **common)
        for m, categories in scores.items()
        for c, seeds in categories.items()
        for s, x in enumerate(seeds)
    ]


def test_csv_has_the_promised_columns_and_reads_back_exactly(tmp_path, row):
    rows = [row(i_auroc=1 / 3, seed=1), row(category="poly", status="failed", i_auroc=math.nan, fit_s=None)]
    leaderboard.write_leaderboard(tmp_path, of(rows))
    table = frame.read(tmp_path / "leaderboard.csv")
    assert list(table.columns) == list(row())
    assert table["i_auroc"].tolist()[0] == 1 / 3 and math.isnan(table["i_auroc"][1])
    assert table["image"].tolist() == ["256", "256"] and table["enhancer"].tolist() == ["none", "none"]
    assert ",,," in (tmp_path / "leaderboard.csv").read_text() and frame.same(table, frame.frame(rows))
    assert not list(tmp_path.glob(".*"))


def test_a_row_without_a_column_is_refused(row):
    with pytest.raises(ValueError, match="peak_mb"):
        frame.frame([{k: v for k, v in row().items() if k != "peak_mb"}])


@pytest.mark.parametrize("change", [{"extract_s": 9.0}, {"peak_mb": 1.0}, {"score_ms": 2.0}, {"mlflow_run_id": "x"}])
def test_cost_and_run_ids_do_not_tell_leaderboards_apart(row, change):
    rows = [row(), row(category="poly")]
    changed = [rows[1], rows[0] | change]
    assert frame.same(frame.frame(rows), frame.frame(changed))


@pytest.mark.parametrize("change", [{"i_auroc": 0.9 + 1e-12}, {"key": "x"}, {"status": "failed"}, {"seed": 3}])
def test_anything_else_does(row, change):
    assert not frame.same(frame.frame([row()]), frame.frame([row() | change]))


def test_means_are_over_categories_of_means_over_seeds(row):
    (contender,) = contenders(grid(row, {"padim": {"mono": [0.8, 0.9], "poly": [0.5, 0.7]}}))
    assert contender.means["i_auroc"] == pytest.approx((0.85 + 0.6) / 2)
    assert contender.stds["i_auroc"] == pytest.approx(math.sqrt(2) * (0.8 - 0.65) / 2)  # seeds 0.65 and 0.80, n - 1
    assert math.isnan(contender.means["aupro"])


def test_a_contender_with_a_failed_cell_is_last_and_never_best(row):
    rows = grid(row, {"padim": {"a": [0.7], "b": [0.7]}, "cfa": {"a": [0.99]}, "stfpm": {"a": [0.6], "b": [0.6]}})
    rows.append(row(method_label="cfa", category="b", i_auroc=math.nan, status="failed"))
    found = contenders(rows)
    assert [each.name for each in found] == ["padim", "stfpm", "cfa"]
    assert best(found, "i_auroc") == [found[0]]
    text = leaderboard.markdown(of(rows, [{"dataset": "elpv", "category": "b", "error": "boom"}]))
    assert "| cfa (1 of 2 cells failed, not comparable) | 99.0 |" in text and "* elpv · b: boom" in text


def test_equal_as_printed_is_equally_best(row):
    found = contenders(grid(row, {"padim": {"a": [0.90001]}, "cfa": {"a": [0.89999]}, "stfpm": {"a": [0.5]}}))
    assert {each.name for each in best(found, "i_auroc")} == {"padim", "cfa"}


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({"padim": {"a": [0.9]}}, "Nothing to compare"),
        (
            {"padim": {"a": [0.9]}, "cfa": {"a": [0.9]}},
            "cfa and padim are level in image AUROC (mean of 1 category, 1 seed): equal in every category.",
        ),
        (
            {"padim": {"a": [0.9], "b": [0.8]}, "cfa": {"a": [0.8], "b": [0.8999]}},
            "padim and cfa are level in image AUROC (mean of 2 categories, 1 seed): padim is ahead of cfa on 1 of 2",
        ),
        (
            {"padim": {"a": [0.9], "b": [0.8]}, "cfa": {"a": [0.8], "b": [0.8]}},
            "padim leads cfa by 5.0 points of image AUROC (mean of 2 categories, 1 seed): padim is ahead of cfa on 1 of"
            " 2 categories and equal on 1, too few to tell (it takes 6).",
        ),
        (
            {"padim": {c: [0.9, 0.7] for c in "abcdef"}, "cfa": {c: [0.7, 0.8] for c in "abcdef"}},
            "padim leads cfa by 5.0 points of image AUROC (mean of 6 categories, 2 seeds): padim beats cfa on 6 of 6"
            " categories, p = 0.03.",
        ),
    ],
)
def test_verdict_says_who_leads_and_whether_to_trust_it(row, scores, sentence):
    assert sentence in lead(grid(row, scores))


def test_a_metric_that_is_no_share_leads_in_its_own_unit(row, monkeypatch):
    column = dataclasses.replace(registry.column("aupro"), unit="px", digits=2, better="lower", shown=("leaderboard",))
    monkeypatch.setitem(registry.columns(), "aupro", column)
    rows = [row(method_label=m, i_auroc=math.nan, i_ap=math.nan, aupro=x) for m, x in (("cfa", 2.0), ("padim", 3.5))]
    assert "cfa leads padim by 1.50 px of AUPRO" in lead(rows)
    text = leaderboard.markdown(of(rows))
    assert "| cfa | **2.00** |" in text
    assert "| padim | 3.50 |" in text


def test_contenders_of_one_name_are_told_apart_by_what_differs(row):
    rows = [row(backbone=b, i_auroc=x) for b, x in (("resnet18", 0.9), ("resnet50", 0.8))]
    assert "padim [resnet18] leads padim [resnet50] by 10.0 points" in lead(rows)


def test_a_plan_without_auroc_is_ranked_by_what_it_has(row):
    rows = [row(method_label=m, i_auroc=math.nan, i_ap=x) for m, x in (("cfa", 0.6), ("padim", 0.7))]
    assert "padim leads cfa by 10.0 points of image AP" in lead(rows)


def test_random_weights_are_marked_wherever_they_are_shown(row, capsys):
    rows = [row(weights="random")]
    leaderboard.console(of(rows))
    assert "(random weights)" in leaderboard.markdown(of(rows))
    assert "(random weights)" in " ".join(capsys.readouterr().err.split())


def test_metrics_files_are_one_a_contender_rounded_and_null_where_nothing_applies(tmp_path, row):
    leaderboard.write_leaderboard(tmp_path, of([row(i_auroc=0.5), row(method_label="gone")]))
    leaderboard.write_leaderboard(tmp_path, of([row(i_auroc=2 / 3), row(backbone="a/b")]))
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.json")}
    assert set(found) == {"metrics/elpv/padim a-b.json", "metrics/elpv/padim tf_efficientnet_lite0.json"}
    values = {"i_auroc": 0.666667, "i_ap": 0.8, "p_auroc": None, "aupro": None}
    assert json.loads(found["metrics/elpv/padim tf_efficientnet_lite0.json"]) == values


def test_a_pipe_in_a_name_keeps_the_markdown_table_whole(row):
    text = leaderboard.markdown(of([row(method_label="mine(a|b)")]))
    assert "| mine(a\\|b) | 90.0 |" in text


def test_what_is_without_twins_stands_beside_image_auroc_and_nowhere_where_there_are_none(tmp_path, row):
    rows = [row(i_auroc_untwinned=0.7), row(dataset="clean", i_auroc_untwinned=math.nan)]
    leaderboard.write_leaderboard(tmp_path, of(rows))
    table = frame.read(tmp_path / "leaderboard.csv")
    columns = list(table.columns)
    assert columns.index("i_auroc_untwinned") == columns.index("i_auroc") + 1
    assert table["i_auroc_untwinned"].tolist() == pytest.approx([0.7, math.nan], nan_ok=True)
    leaky, clean = (tmp_path / "leaderboard.md").read_text().split("## clean")
    assert "| method | image AUROC | image AUROC without twins |" in leaky
    assert "| padim | 90.0 | 70.0 |" in leaky
    assert "without twins" not in clean
    assert json.loads((tmp_path / "metrics/elpv/padim.json").read_text())["i_auroc_untwinned"] == 0.7


def test_an_error_is_told_once_with_what_tells_the_cells_apart() -> None:
    cells = [
        {"dataset": "elpv", "category": "mono", "method_label": "cfa", "backbone": backbone, "error": error}
        for backbone in ("a", "b")
        for error in ("first", "second", "first")
    ]
    assert leaderboard.failure_lines(cells) == [
        "elpv · mono · cfa · a (and 3 more cells): first",
        "elpv · mono · cfa · a (and 1 more cell): second",
    ]


def test_the_console_says_where_tracebacks_are(row, capsys):
    failed = [{"dataset": "elpv", "category": "mono", "error": "no", "traceback": "Traceback ..."}]
    leaderboard.console(of([row()], failed))
    assert "tracebacks: results/failures.txt" in capsys.readouterr().err


def test_a_heading_marks_what_is_better_when_lower() -> None:
    column = registry.column("i_auroc")
    assert column.heading == "image AUROC"
    assert dataclasses.replace(column, better="lower").heading == "image AUROC ↓"


def test_the_lead_sentence_counts_all_that_are_level(row):
    said = lead(
        grid(row, {"a": {"x": [0.9], "y": [0.9]}, "b": {"x": [0.9], "y": [0.9]}, "c": {"x": [0.9], "y": [0.9]}})
    )
    assert said.endswith("equal in every category. So is 1 more.")


def test_the_machine_is_told_once_where_it_is_the_same_and_by_contender_where_not(row):
    same = contenders(grid(row, {"padim": {"mono": [0.8]}, "cfa": {"mono": [0.9]}}))
    table = leaderboard.summary(same)
    assert "measured on EPYC, 2 cores" in table.caption and "measured on" not in table.header
    rows = [row(), row(method_label="cfa", hardware="NVIDIA H200")]
    table = leaderboard.summary(contenders(rows))
    assert {line[-1] for line in column(table, "measured on")} == {"EPYC, 2 cores", "NVIDIA H200"}
    assert "measured on" not in table.caption


def column(table, title):
    place = list(table.header).index(title)
    return [[line[place]] for line in table.texts]


def test_latencies_of_unlike_machines_are_not_drawn_beside_each_other(row, monkeypatch):
    """Only those of the machine that most were measured on; and none of a busy one, which has no number."""
    figures = []
    monkeypatch.setattr(plots, "_svg", figures.append)
    rows = [row(score_ms=10.0), row(method_label="cfa", score_ms=20.0), row(method_label="stpm", score_ms=math.nan)]
    plots.cost_svg(contenders([*rows, row(method_label="mffa", hardware="NVIDIA H200", score_ms=1.0)]))
    (axes,) = figures[0].axes
    assert sorted(float(line.get_xdata()[0]) for line in axes.lines) == [10.0, 20.0]
    assert axes.get_title().endswith("EPYC, 2 cores; 1 measured elsewhere")
