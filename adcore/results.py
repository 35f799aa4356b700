"""What the store holds of a plan: finished cells as leaderboard rows, and what is still missing."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adcore.cells import Cell
from adcore.plan import METRICS, Plan
from adcore.report.groups import UNTWINNED, CellResult
from adcore.report.summary import COST, SIZE
from adcore.report.trained import Trained
from adcore.store import Store


@dataclass(frozen=True)
class Missing:
    """Which steps of a cell have to run."""

    fit: bool
    maps: bool
    evaluate: bool
    latency: bool
    computed: bool  # the metrics themselves are missing, not only a gallery or a latency
    enhance: tuple[str, ...] = ()  # keys of the enhancers that have to be trained
    plain: bool = False  # the fit without an enhancer, which latency is compared with

    def __bool__(self) -> bool:
        return self.evaluate or self.latency


def missing(store: Store, cell: Cell, plain: Cell | None = None) -> Missing:
    """What has to run for a cell; parents are only looked at where a child needs them. `plain`: it without enhancer."""
    cell_there = store.has("cell", cell.key)
    evaluate = not cell_there or not store.has("gallery", cell.gallery_key)
    latency = not store.has("latency", cell.latency_key)
    maps = evaluate and not store.has("maps", cell.maps_key)
    fit = (maps or latency) and not store.has("fit", cell.fit_key)
    compared = latency and plain is not None and not store.has("fit", plain.fit_key)
    enhance = tuple(link.key for link in cell.links if not store.has("enhancer", link.key)) if maps or latency else ()
    return Missing(fit, maps, evaluate, latency, not cell_there, enhance, compared)


def result(store: Store, cell: Cell, metrics: Sequence[str], twins: Collection[tuple[str, str]] = ()) -> CellResult:
    """A finished cell as the leaderboard shows it, with these metrics and what subsets add to them.

    twins: (category, path) of the test images of its dataset that have a twin in training.

    Raises FileNotFoundError where it is not finished."""
    folder = store.path("cell", cell.key)
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    meta = store.meta("cell", cell.key)
    latency = _latency(store, cell) or {"size": {}}
    extra = [name for name in found if name not in METRICS and name.startswith(tuple(f"{m}_" for m in metrics))]
    costs = {
        "extract_s": _number(meta["extract_s"]),
        "fit_s": _number(meta["fit_s"]),
        "score_ms": _number(latency.get("median_ms")),
        "peak_mb": _number(meta["peak_mb"]),
        **{name: _number(latency["size"].get(name)) for name in SIZE},
    }
    row = {**cell.names, **{name: _number(found[name]) for name in (*metrics, *extra)}, **costs}
    if "i_auroc" in metrics:
        row[UNTWINNED] = _untwinned(folder, cell.category.name, row["i_auroc"], twins)
    row |= {"key": cell.key, "mlflow_run_id": "", "status": "ok"}
    maps = store.path("maps", cell.maps_key)
    gallery = store.path("gallery", cell.gallery_key) if store.has("gallery", cell.gallery_key) else None
    return CellResult(row, folder, gallery, maps if maps.exists() else None, _trained(store, cell))


def _untwinned(folder: Path, category: str, whole: float, twins: Collection[tuple[str, str]]) -> float:
    """Image AUROC without the images that have a twin in training; NaN where no category of the dataset has any, so
    that means over categories are over all of them."""
    own = {path for name, path in twins if name == category}
    if not own:
        return whole if twins else math.nan
    images = pd.read_parquet(folder / "images.parquet")
    kept = images[~images["path"].isin(own)]
    subsets = sorted(set(images["subset"]) - {""})
    parts = [kept[kept["subset"].isin(["", name])] for name in subsets] or [kept]
    return float(np.mean([_image_auroc(part) for part in parts]))


def _image_auroc(images: pd.DataFrame) -> float:
    from adcore.metrics import image_metrics  # and SciPy with it, which a set without twins does without

    return image_metrics(images["score"], images["label"])["i_auroc"] if len(images) else math.nan


def timing(store: Store, cell: Cell) -> dict[str, Any] | None:
    """How long an image takes, part by part, and on what it was measured; None where it was not."""
    found = _latency(store, cell)
    if found is None:
        return None
    names = {name: cell.names[name] for name in ("method_label", "enhancer_label", "backbone", "image")}
    meta = store.meta("latency", cell.latency_key)
    machine = {name: meta[name] for name in ("device", "threads", "load_average")}
    return {**names, **machine, "latency": found, "key": cell.latency_key}


def _latency(store: Store, cell: Cell) -> dict[str, Any] | None:
    if not store.has("latency", cell.latency_key):
        return None
    path = store.path("latency", cell.latency_key) / "latency.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _trained(store: Store, cell: Cell) -> tuple[Trained, ...]:
    names = cell.names
    where = names["dataset"], names["category"], names["seed"], names["enhancer_label"]
    folders = [(link.enhancer.name, store.path("enhancer", link.key)) for link in cell.links]
    return tuple(Trained(*where, part, folder) for part, folder in folders if folder.exists())


def failed_row(names: dict[str, Any], plan: Plan, key: str = "") -> dict[str, Any]:
    """The row of a cell that has no numbers."""
    numbers = dict.fromkeys((*plan.metrics, *COST), math.nan)
    return {**names, **numbers, "key": key, "mlflow_run_id": "", "status": "failed"}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
