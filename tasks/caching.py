"""How Prefect caches: its key is the artifact's own content key, and it counts only while the artifact is intact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import Task, task


def cached(name: str) -> Callable[[Callable[..., Any]], Task[..., Any]]:
    """A task whose cache key is its parameter `key` and whose run is named after its parameter `title`."""
    return task(
        name=name,
        task_run_name=f"{name} {{title}}",
        cache_key_fn=lambda context, parameters: f"{name}-{parameters['key']}",
        persist_result=True,
        result_serializer="json",
    )


def stored(task: Task[..., Any], workspace: Path, present: bool) -> Task[..., Any]:
    """The task with results under `workspace`; where its artifact is not intact, an older result is not believed."""
    return task.with_options(result_storage=workspace / ".cache" / "prefect" / "results", refresh_cache=not present)
