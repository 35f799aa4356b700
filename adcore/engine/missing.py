"""What has still to be computed of a cell."""

from __future__ import annotations

from dataclasses import dataclass

from adcore.core.store import Store
from adcore.engine.cells import Cell


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
