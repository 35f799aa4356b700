"""Every step as a Prefect task: data sets, the steps of a cell, what is published.

Tasks are given names and keys, never arrays, and answer with a key.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from prefect import State, Task, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from adcore.core.disk import DiskFull, room
from adcore.core.plan import DatasetSpec
from adcore.engine import bench
from adcore.engine.bench import Bench, reopened
from adcore.engine.cells import Cell
from adcore.engine.schedule import STEPS, Planned, Progress
from adcore.report import leaderboard as boards
from adcore.results.contests import Contests
from adcore.results.run import Results
from tasks import publishing
from tasks.caching import cached, stored
from tasks.nodes import Node, NodeError, own_workspace
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


def _task(name: str, compute: Callable[[Bench, Cell, str, Progress], None]) -> Task[..., Any]:
    @cached(name)
    def run(title: str, key: str, cell: str, plan: str, workspace: str, manifests: str) -> str:
        opened = reopened(plan, workspace, manifests)
        with step(f"{name} {title}") as progress, room(opened.store.root):
            compute(opened, opened.by_title[cell], key, progress)
        return key

    return run


TASKS = {name: _task(name, compute) for name, compute in STEPS.items()}


class Call(NamedTuple):
    """A step to be run: its name, title and key, the title of its cell, and whether its artifact is there already."""

    step: str
    title: str
    key: str
    cell: str
    present: bool

    @classmethod
    def of(cls, planned: Planned) -> Call:
        step, cell, title = planned
        return cls(step.name, title, step.key, cell.title, step.present)


class Fault(NamedTuple):
    """Why a cell failed: `RuntimeError: ...`, and its traceback."""

    error: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        return cls(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


class Ended(NamedTuple):
    """Where a group was computed; cell -> why, of those that failed."""

    node: Node
    faults: dict[str, Fault]


@task(name="group", task_run_name="group {title}", cache_policy=NO_CACHE)
def group(
    title: str,
    dataset: str,
    shared: list[Call],
    own: dict[str, list[Call]],
    plan: str,
    workspace: str,
    manifests: str,
    commit: str,
    elsewhere: bool,
) -> Ended:
    """The cells of a group, one step behind another where their features are.

    shared: what all of them need first. own: cell -> what it alone needs. commit: of the code that made the keys.
    elsewhere: this is a node of a cluster, with a workspace of its own. Raises DiskFull, and on a node in its place
    NodeError, as for one that would compute something else.
    """
    if elsewhere:
        calls = [*shared, *(call for each in own.values() for call in each)]
        workspace = own_workspace(dataset, [(call.cell, call.key) for call in calls], plan, manifests, commit)

    def fault(calls: list[Call]) -> Fault | None:
        for call in calls:
            run = stored(TASKS[call.step], Path(workspace), call.present)
            arguments = call.title, call.key, call.cell, plan, workspace, manifests
            state = cast("State[str]", run(*arguments, return_state=True))  # typed as if it could be awaited
            if not state.is_completed():
                error = state.result(raise_on_failure=False)
                if isinstance(error, DiskFull):
                    raise NodeError(str(error), Node.here()) if elsewhere else error
                return Fault.of(error if isinstance(error, BaseException) else RuntimeError(str(state.message)))
        return None

    before = fault(shared)
    found = {cell: before or fault(calls) for cell, calls in own.items()}
    return Ended(Node.here(), {cell: why for cell, why in found.items() if why})


@task(name="track", task_run_name="log runs to MLflow", cache_policy=NO_CACHE)
def track(plan: str, workspace: str, manifests: str, name: str, results: Results) -> None:
    """Log what was not logged before, and link to it in Prefect. Raises TrackingError."""
    tracker = publishing.log_runs(reopened(plan, workspace, manifests), name, results)
    if tracker:
        text = "MLflow leaderboard" if tracker.place.pages else "MLflow leaderboard (make ui)"
        create_link_artifact(key="mlflow", link=tracker.link, link_text=text)


@task(name="leaderboard", task_run_name="write results", cache_policy=NO_CACHE)
def leaderboard(plan: str, workspace: str, manifests: str, name: str, results: Results) -> None:
    """All of results/ but what stands beside the data; a table on console and in Prefect."""
    bench = reopened(plan, workspace, manifests)
    description = publishing.write_results(bench, name, results)
    if description:
        create_table_artifact(key="leaderboard", table=_table(results.contests), description=description)
        link = (bench.layout.results / "report.html").as_uri()
        create_link_artifact(key="report", link=link, link_text="report.html")


def _table(contests: Contests) -> list[dict[str, Any]]:
    found = []
    for dataset, contenders in contests.contenders.items():
        table = boards.summary(contenders)
        found += [{"dataset": dataset, **dict(zip(table.header, row, strict=True))} for row in table.texts]
    return found
