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


def timed(store: Store, cell: Cell) -> dict[str, Any] | None:
    """What was measured (`engine.latency.measure`), with `size`, `device`, `threads`, `load_average`; None: nothing."""
    key = cell.latency_key
    for kind in ("latency", "busy"):
        if store.has(kind, key):
            text = (store.path(kind, key) / "latency.json").read_text(encoding="utf-8")
            meta = store.meta(kind, key)
            return {**json.loads(text), **{name: meta[name] for name in ("device", "threads", "load_average")}}
    return None
