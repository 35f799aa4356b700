"""The steps of a cell. Tasks are given names and keys, never arrays, and answer with a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Task

from adcore.core.disk import room
from adcore.engine.bench import Bench, reopened
from adcore.engine.cells import Cell
from adcore.engine.schedule import STEPS, Progress
from tasks.caching import cached
from tasks.progress import step


def _task(name: str, compute: Callable[[Bench, Cell, str, Progress], None]) -> Task[..., Any]:
    @cached(name)
    def run(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
        opened = reopened(plan, workspace, manifests)
        with step(f"{name} {title}") as progress, room(opened.store.root):
            compute(opened, opened.by_title[cell], key, progress)
        return key

    return run


TASKS = {name: _task(name, compute) for name, compute in STEPS.items()}
