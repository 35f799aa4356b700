"""Latencies in the store: those of a quiet machine, and until there is one that of a busy one, of another kind."""

from __future__ import annotations

import json
import os
from typing import Any

from adcore.core.store import Store
from adcore.engine.cells import Cell

QUIETER = 0.5  # of the load in which a busy machine measured: then it is worth measuring again


def is_timed(store: Store, cell: Cell) -> bool:
    """Whether a latency needs no measuring (any more): not where it is there, nor where only that of a busy machine is
    and this one is no quieter, or would have to fit the model again for it."""
    key = cell.latency_key
    if store.expects("latency", key):
        return True
    if not store.expects("busy", key):
        return False
    load = float(store.meta("busy", key)["load_average"])
    return os.getloadavg()[0] > QUIETER * load or not store.here("fit", cell.fit_key).exists()


def kind_of(store: Store, cell: Cell) -> str:
    """Of what kind the latency of a cell is that is there; "" where none is."""
    return next((kind for kind in ("latency", "busy") if store.has(kind, cell.latency_key)), "")


def timed(store: Store, cell: Cell) -> dict[str, Any]:
    """What was measured (`engine.latency.measure`), with `size`; empty where nothing was."""
    found = kind_of(store, cell)
    if not found:
        return {}
    text = (store.path(found, cell.latency_key) / "latency.json").read_text(encoding="utf-8")
    measured: dict[str, Any] = json.loads(text)
    return measured
