"""The table of columns: one name, one place, one way of being written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import adcore
from adcore.columns.base import FinishedCell
from adcore.core.columns import Column
from adcore.engine import registry

ROOT = Path(adcore.__file__).parent


def test_every_file_is_a_metric_or_a_column() -> None:
    for group, found in (
        ("metrics", registry.metrics()),
        ("columns", [c.column.name for c in registry.cell_columns()]),
    ):
        files = {path.stem for path in (ROOT / group).glob("[!_]*.py")} - {"base"}
        assert set(found) == files


def test_the_table_is_that_of_the_leaderboard_in_its_order() -> None:
    names = list(registry.columns())
    assert names[:4] == ["dataset", "category", "protocol", "enhancer"]
    assert names[names.index("seed") + 1] == "i_auroc"
    assert names[names.index("spro") + 1 :][:3] == ["false_alarms", "misses", "extract_s"]
    assert names[-3:] == ["key", "mlflow_run_id", "status"]


@pytest.mark.parametrize("column", registry.columns().values(), ids=list(registry.columns()))
def test_a_column_says_what_it_is_in_one_sentence(column: Column) -> None:
    assert column.title
    assert column.meaning
    assert not column.meaning.endswith(".")


def test_a_subset_belongs_to_the_longest_metric_of_its_name() -> None:
    assert registry.column("i_auroc_logical").title == "image AUROC (logical)"
    assert registry.column("i_auroc_untwinned") is registry.columns()["i_auroc_untwinned"]


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no column is called 'peak_nb' \(did you mean 'peak_mb'\?\)"):
        registry.column("peak_nb")


def test_what_is_judged_by_pixel() -> None:
    names = [name for name in registry.columns() if registry.judged_by_pixel(name)]
    assert names == ["p_auroc", "p_ap", "p_f1max", "aupro", "aupro05"]
    assert registry.judged_by_pixel("aupro_logical")
    assert not registry.judged_by_pixel("spro_logical")


@pytest.mark.parametrize(
    ("column", "stored", "std", "text"),
    [
        (Column("a", "a", "a"), 0.98449, math.nan, "98.4"),
        (Column("a", "a", "a"), 0.98449, 0.0021, "98.4 ± 0.2"),
        (Column("a", "a", "a"), math.nan, 0.1, "–"),
        (Column("a", "a", "a", unit="M", scale=1e6, digits=2), 2_345_678, math.nan, "2.35"),
        (Column("a", "a", "a", unit="MB", digits=0), 12345.6, math.nan, "12,346"),
        (Column("a", "a", "a", unit="", digits=3), 0.98449, 0.0021, "0.984 ± 0.002"),
    ],
)
def test_a_value_is_written_in_the_unit_of_its_column(column: Column, stored: float, std: float, text: str) -> None:
    assert column.format(stored, std) == text


def test_of_a_metric_where_lower_is_better_the_smallest_ranks_first() -> None:
    column = Column("a", "a", "a", better="lower")
    assert max([0.3, 0.1, 0.2], key=column.rank) == 0.1


def test_differences_have_a_digit_more_and_the_unit_of_the_column() -> None:
    percent, plain = Column("a", "a", "a"), Column("a", "a", "a", unit="px", digits=2)
    assert percent.fine(0.0123, "+") + percent.steps == "+1.23 points"
    assert plain.fine(-0.0004) + plain.steps == "0.000 px"
    assert plain.interval(-1, 2.5) == "[-1.000, 2.500]"
    assert percent.interval(math.nan, 1) == "–"


def test_the_table_of_enhancers_takes_percent_only() -> None:
    with pytest.raises(ValueError, match="column a: the table of enhancers is in percent"):
        Column("a", "a", "a", unit="px", shown=("enhancers",))


def test_a_small_value_is_not_nothing() -> None:
    column = Column("p", "M", "millions", kind="cost", unit="M", scale=1e6, digits=2)
    assert [column.format(stored) for stored in (0.0, 1212.0, 8352.0, 4.9e6)] == ["0.00", "0.001", "0.01", "4.90"]


def test_a_record_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    cell = FinishedCell({}, {}, {"fit_s": 1.5, "versions": {}}, {}, tmp_path)
    assert cell.recorded("fit_s") == 1.5
    with pytest.raises(ValueError, match="no record 'model_bytes'; known: extract_s, fit_s, evaluate_s, peak_mb"):
        cell.recorded("model_bytes")
