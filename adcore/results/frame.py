"""The leaderboard as a table: one row a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adcore.core import columns
from adcore.core.columns import Column, Kind
from adcore.engine import registry

Row = Mapping[str, Any]


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a cell, columns in the leaderboard's order, metrics float64 with NaN where one does not apply.

    Raises ValueError where a row lacks a column, or has one that nothing brings."""
    required = [*columns.names("place", "name", "setting", "seed", "record"), *registry.of_kind("cost")]
    missing = sorted({name for row in rows for name in required if name not in row})
    if missing:
        raise ValueError(f"leaderboard rows lack the columns {', '.join(missing)}; give every row all of them")
    names = registry.in_order([*required, *(name for row in rows for name in row)])
    return _typed(pd.DataFrame([dict(row) for row in rows], columns=names))


def read(path: Path) -> pd.DataFrame:
    """A leaderboard.csv as `frame` made it: `256` stays text, `none` stays `none`, empty metrics are NaN."""
    return _typed(pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[]))


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two leaderboards are equal in all but the order of rows, the cost columns and the MLflow run ids."""
    left, right = (_comparable(table) for table in (a, b))
    return list(left.columns) == list(right.columns) and left.equals(right)


def table_columns(table: pd.DataFrame, *kinds: Kind) -> list[Column]:
    """The columns of a leaderboard that are of these kinds."""
    every = [registry.column(str(name)) for name in table.columns]
    return [column for column in every if column.kind in kinds]


def metric_columns(table: pd.DataFrame) -> list[str]:
    """Names of the metric columns of a leaderboard."""
    return [column.name for column in table_columns(table, "metric")]


def run_place(row: Mapping[Any, Any]) -> str:
    """What tells a row from others for its run: one content in two datasets is one key, and so are two names of one
    chain, such as `paper` on an object."""
    return f"{row['dataset']}/{row['category']}/{row['enhancer_label']}/{row['key']}"


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    # Python's float() reads back exactly what was written; pandas' own parser may be one bit off.
    values = {
        name: table[name].map(_string).astype(str)
        if registry.column(name).text
        else table[name].map(_float).astype("float64")
        for name in table.columns
    }
    return table.assign(**values).astype({"seed": "int64"})


def _string(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _float(value: Any) -> float:
    return math.nan if value == "" or value is None else float(value)


def _comparable(table: pd.DataFrame) -> pd.DataFrame:
    kept = table.drop(columns=[*registry.of_kind("cost"), "mlflow_run_id"])
    return kept.sort_values([*columns.names("place", "name", "setting", "seed"), "key"], ignore_index=True)
