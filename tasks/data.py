"""Datasets: put in place, read whole, validated."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from adcore.core.disk import room
from adcore.core.plan import DatasetSpec
from adcore.engine import bench
from tasks.progress import step


@task(name="prepare", task_run_name="prepare {dataset}", cache_policy=NO_CACHE)
def prepare(dataset: str, spec: str, workspace: str) -> str:
    """The key of the dataset's manifest. Not cached: it is what notices that a file has changed."""
    layout = bench.Layout(Path(workspace))
    with step(f"prepare {dataset}") as progress, room(layout.workspace):
        parsed = DatasetSpec.model_validate_json(spec)
        return bench.prepare(parsed, layout, lambda done, total: progress(done / max(total, 1)))


@task(name="validate", task_run_name="validate {dataset}", cache_policy=NO_CACHE)
def validate(dataset: str, plan: str, workspace: str, manifests: str) -> int:
    """Number of problems found; the store keeps them by the manifest's content."""
    opened = bench.reopened(plan, workspace, manifests)
    with step(f"validate {dataset}"), room(opened.layout.workspace):
        return len(opened.problems(dataset))
