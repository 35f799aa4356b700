"""What the store holds of a plan: finished cells as leaderboard rows."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pandas as pd

from adcore.columns.base import CellColumn, FinishedCell
from adcore.core.columns import Column
from adcore.core.plan import Plan
from adcore.core.store import Store
from adcore.engine import registry
from adcore.engine.bench import Bench, Failure
from adcore.engine.calibrated import alarms
from adcore.engine.cells import Cell, columns, setting
from adcore.engine.timed import kind_of, timed
from adcore.results.frame import metric_columns
from adcore.results.runs import CellResult
from adcore.results.trained import Trained


def read(bench: Bench, store: Store, metrics: Sequence[str]) -> list[CellResult]:
    """The cells of a plan that are in the store, in its order, with these metrics."""
    for kind, keys in _wanted(bench.cells).items():
        store.bring(kind, keys)
    done = [cell for cell in bench.cells if store.has("cell", cell.key)]
    return [result(store, cell, metrics, bench.twins[cell.category.dataset]) for cell in done]


def _wanted(cells: Iterable[Cell]) -> dict[str, set[str]]:
    """Kind -> keys of what is read of every finished cell."""
    found: dict[str, set[str]] = {kind: set() for kind in ("cell", "gallery", "latency", "busy", "maps", "calibration")}
    for cell in cells:
        if _trains(cell):
            found["maps"].add(cell.maps_key)
        found["cell"].add(cell.key)
        found["gallery"].add(cell.gallery_key)
        found["latency"].add(cell.latency_key)
        found["busy"].add(cell.latency_key)
        found["calibration"].update(filter(None, [cell.calibration_key]))
    return found


def _trains(cell: Cell) -> bool:
    """Whether its maps are read, too: only for the curves of a training; where there was none, they are not fetched."""
    return cell.contender.method.passes(cell.contender.options) is not None


def timings(bench: Bench, store: Store) -> list[dict[str, Any]]:
    """Latencies by part, once a method and enhancer."""
    cells = {cell.latency_key: cell for cell in bench.cells}
    return [measured for cell in cells.values() if (measured := timing(store, cell))]


def narrowed(table: pd.DataFrame, metrics: Collection[str]) -> pd.DataFrame:
    """A leaderboard without the columns that other metrics bring."""
    others = {each.column.name for each in registry.cell_columns()} - {each.column.name for each in _columns(metrics)}
    brought = [name for name in metric_columns(table) if registry.metric_of(name) not in metrics]
    return table.drop(columns=[name for name in table if name in {*others, *brought}])


def result(store: Store, cell: Cell, metrics: Sequence[str], twins: Collection[tuple[str, str]] = ()) -> CellResult:
    """A finished cell as the leaderboard shows it, with these metrics and what subsets add to them.

    twins: (category, path) of the test images of its dataset that have a twin in training.

    Raises FileNotFoundError where it is not finished."""
    folder = store.path("cell", cell.key)
    numbers: dict[str, float | None] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    meta, latency = store.meta("cell", cell.key), timed(store, cell)
    told = alarms(store, cell)
    finished = FinishedCell(cell.names, numbers, meta, latency, folder, twins, told)
    every = registry.metrics()
    subsets = [n for n in numbers if n not in every and any(n.startswith(f"{metric}_") for metric in metrics)]
    row = {**cell.names, **{name: _number(numbers[name]) for name in (*metrics, *subsets)}}
    row |= {each.column.name: _value(each, finished) for each in _columns(metrics)}
    row |= {"key": cell.key, "mlflow_run_id": "", "status": "ok"}
    maps = (store.path if _trains(cell) else store.here)("maps", cell.maps_key)
    gallery = store.path("gallery", cell.gallery_key) if store.has("gallery", cell.gallery_key) else None
    return CellResult(row, folder, gallery, maps if maps.exists() else None, _trained(store, cell), told)


def _columns(metrics: Collection[str]) -> list[CellColumn]:
    """Those that go with these metrics."""
    return [each for each in registry.cell_columns() if set(each.needs) <= set(metrics)]


def _value(brings: CellColumn, cell: FinishedCell) -> float | str:
    """What stands in a row. Raises ValueError, which names the column, where that asks for what is not there."""
    try:
        return _filled(brings.column, brings.value(cell))
    except ValueError as error:
        raise ValueError(f"column '{brings.column.name}' ({type(brings).__module__}): {error}") from None


def _filled(column: Column, value: float | str | None) -> float | str:
    empty = "" if column.text else math.nan
    return empty if value is None else value


def timing(store: Store, cell: Cell) -> dict[str, Any] | None:
    """How long an image takes, part by part, and on what it was measured; None where it was not."""
    found = timed(store, cell)
    if not found:
        return None
    names = {name: cell.names[name] for name in ("method_label", "enhancer_label", "backbone", "image")}
    meta = store.meta(kind_of(store, cell), cell.latency_key)
    machine = {name: meta[name] for name in ("hardware", "device", "threads", "load_average")}
    machine["busy"] = found["busy"]
    return {**names, **machine, "latency": found, "key": cell.latency_key}


def _trained(store: Store, cell: Cell) -> tuple[Trained, ...]:
    names = cell.names
    label = " on ".join(filter(None, [names["enhancer_label"], cell.contender.network]))
    where = names["dataset"], names["category"], names["seed"], label
    folders = [(link.enhancer.name, store.path("enhancer", link.key)) for link in cell.links]
    return tuple(Trained(*where, part, folder) for part, folder in folders if folder.exists())


def failed_rows(bench: Bench, failures: Iterable[Failure]) -> list[dict[str, Any]]:
    """A leaderboard row for every cell that a failed category would have had."""
    settings = [(contender, setting(bench.plan, contender)) for contender in bench.contenders]
    names = (
        columns(lost.dataset, lost.category, contender, seed, shared)
        for lost in failures
        for contender, shared in settings
        for seed in contender.seeds
    )
    return [failed_row(name, bench.plan) for name in names]


def failed_row(names: dict[str, Any], plan: Plan, key: str = "") -> dict[str, Any]:
    """The row of a cell that has no numbers."""
    metrics = dict.fromkeys(plan.metrics, math.nan)
    others = {each.column.name: _filled(each.column, None) for each in _columns(plan.metrics)}
    return {**names, **metrics, **others, "key": key, "mlflow_run_id": "", "status": "failed"}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
