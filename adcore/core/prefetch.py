"""Work done ahead by threads, given out in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

WORKERS = min(8, os.cpu_count() or 1)

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    items: Sequence[Item], make: Callable[[Item], Made], batch: int, workers: int = WORKERS
) -> Iterator[list[Made]]:
    """Batches of make(item), in order, by `workers` threads; the next batch is made while one is used."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(make, item) for item in items[:batch]]
        for start in range(0, len(items), batch):
            current = waiting
            waiting = [pool.submit(make, item) for item in items[start + batch : start + 2 * batch]]
            yield [future.result() for future in current]
