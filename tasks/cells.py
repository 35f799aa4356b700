"""The steps of a cell. Tasks are given names and keys, never arrays, and answer with a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Task

from adcore.bench import Bench, reopened
from adcore.cells import Cell
from adcore.disk import room
from tasks.caching import cached
from tasks.progress import step

Progress = Callable[[float], None]


def _task(name: str, compute: Callable[[Bench, Cell, str, Progress], None]) -> Task[..., Any]:
    @cached(name)
    def run(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
        opened = reopened(plan, workspace, manifests)
        with step(f"{name} {title}") as progress, room(opened.store.root):
            compute(opened, opened.by_title[cell], key, progress)
        return key

    return run


STEPS = {
    "enhance": _task("enhance", lambda bench, cell, key, progress: bench.computer.enhance(cell, key, progress)),
    "extract": _task(
        "extract", lambda bench, cell, _, progress: bench.computer.extract(cell, bench.levels(cell), progress)
    ),
    "fit": _task("fit", lambda bench, cell, _, progress: bench.computer.fit(cell, progress)),
    "score": _task("score", lambda bench, cell, _, progress: bench.computer.score(cell, progress)),
    "evaluate": _task("evaluate", lambda bench, cell, _, __: bench.computer.evaluate(cell)),
    "latency": _task("latency", lambda bench, cell, _, __: bench.computer.latency(cell, bench.plain(cell))),
}
