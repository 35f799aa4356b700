"""Which cell is meant."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from adcore import api
from adcore.core.plan import PlanError
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.line import choice


@pytest.fixture
def runs(done: Bench) -> dict[str, str]:
    """Title -> id of an MLflow run, as a leaderboard that names them has it: one for the categories of a seed."""
    table = api.read_results(done.plan, done.layout.workspace)
    table["mlflow_run_id"] = [f"run{row.method}{row.seed}" + "0" * 20 for row in table.itertuples()]
    done.layout.results.mkdir(exist_ok=True)
    table.to_csv(done.layout.results / "leaderboard.csv", index=False)
    return {cell.title: f"run{cell.names['method']}{cell.seed}" for cell in done.cells}


def test_a_key_names_its_cell(done: Bench, cells: dict[str, Cell]) -> None:
    assert choice.cell(done, run=cells["padim"].key[:8]).title == cells["padim"].title


def test_a_run_and_a_category_name_a_cell(done: Bench, cells: dict[str, Cell], runs: dict[str, str]) -> None:
    cell = cells["patchcore"]
    assert choice.cell(done, run=f"{runs[cell.title]}/bolt").title == cell.title


def test_a_run_of_several_categories_lists_them(done: Bench, cells: dict[str, Cell], runs: dict[str, str]) -> None:
    run = runs[cells["padim"].title]
    with pytest.raises(PlanError, match=f"stands for several cells; write one of {run}/bolt, {run}/cloth"):
        choice.cell(done, run=run)


def test_the_best_leads_on_the_category(done: Bench) -> None:
    table = api.read_results(done.plan, done.layout.workspace)
    own = table[table["category"] == "cloth"].groupby("method")["i_auroc"].mean().round(3)
    found = choice.cell(done, best="parts/cloth")
    assert own[found.names["method"]] == own.max() and found.category.name == "cloth"


def test_of_the_best_the_first_seed_is_taken(done: Bench) -> None:
    assert choice.cell(done, best="parts/bolt").seed == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "say which cell"),
        ({"run": "abcdef", "best": "parts/bolt"}, "say which cell"),
        ({"run": "abc"}, "give at least 6 letters"),
        ({"run": "zzzzzzzz"}, "no cell of the plan has the key or MLflow run 'zzzzzzzz'"),
        ({"best": "parts/bolts"}, r"the plan has no 'parts/bolts' \(did you mean 'parts/bolt'\?\)"),
    ],
)
def test_what_names_no_cell_is_refused(done: Bench, given: dict[str, str], error: str) -> None:
    with pytest.raises(PlanError, match=error):
        choice.cell(done, **given)


def test_a_cell_that_is_not_computed_is_refused(done: Bench, tmp_path: Path) -> None:
    plan = done.plan.model_copy(update={"seeds": (7,)})
    other = Bench(plan, done.layout.workspace, done.manifests)
    with pytest.raises(PlanError, match="is not computed yet; run the plan first"):
        choice.cell(other, run=other.cells[0].key)


def test_a_category_without_a_computed_cell_is_refused(done: Bench) -> None:
    other = Bench(done.plan.model_copy(update={"seeds": (7,)}), done.layout.workspace, done.manifests)
    with pytest.raises(PlanError, match="no cell of parts/bolt is computed yet"):
        choice.cell(other, best="parts/bolt")


def test_a_leaderboard_of_another_plan_is_no_hindrance(done: Bench, cells: dict[str, Cell]) -> None:
    path = done.layout.results / "leaderboard.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.exists() else None
    if table is not None:
        table.assign(key="0" * 32).to_csv(path, index=False)
    assert choice.cell(done, run=cells["padim"].key).title == cells["padim"].title


def test_data_that_are_not_in_place_are_told(done: Bench) -> None:
    with pytest.raises(PlanError, match="the data of parts are not in place here"):
        choice.cell(Bench(done.plan, done.layout.workspace, {}), best="parts/bolt")
