"""Run a plan: data, features, fits, maps, metrics, leaderboard. Every cell is computed once.

Exit codes: 0 well; 2 the plan or the workspace cannot be used, nothing ran; 3 something failed, the rest is complete.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import State, flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from adcore.api import require_device
from adcore.core.disk import DiskFull
from adcore.engine.bench import Bench, Failure
from adcore.engine.schedule import Work
from adcore.features.backbones import require_known
from adcore.results import finished
from adcore.results.run import gather
from flows import _stopping, command, stages
from flows.stages import Row
from tasks.progress import Display

# One step at a time: torch uses all cores within a step. (Futures of threads are futures, but typed as no subtype.)
RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=1))


@flow(name="benchmark", task_runner=RUNNER, log_prints=False)
def benchmark(plan: str = "params.yaml", workspace: str = "") -> State[Any]:
    """Compute the missing cells of a plan and publish all of them."""
    loaded, layout = command.opened(plan, workspace)
    require_device(loaded.device)
    bench, lost = stages.prepare_all(loaded, layout)
    work = Work.find(bench)
    _stopping.count(work.counts)
    if work.cells:
        for backbone in loaded.every_backbone:  # only now: it takes timm, which a plan that is all there does without
            require_known(backbone.name)
    errors = _compute(work) if work.cells else {}
    for cell in work.absent():
        errors.setdefault(cell.title, RuntimeError("its metrics were damaged, and are removed; run again"))
    summary = _publish(bench, work, lost, errors, Path(plan).stem)
    state = Failed if summary["failed"] or summary["untracked"] else Completed
    return state(message=summary["last_line"], data=summary)


def _compute(work: Work) -> dict[str, Exception]:
    """Run what is missing; cell title -> error, of the cells that failed."""
    # Prefect types it as if an event loop were running here, where it would be awaited.
    shown = cast(UUID, create_progress_artifact(progress=0.0, key="cells", description="starting"))

    def listener(percent: float, title: str) -> None:
        update_progress_artifact(artifact_id=shown, progress=min(percent, 100.0), description=title)

    with Display(work.weights(), listener) as display, _stopping.ending(display.close):
        futures = stages.submit(work)
        for future in as_completed([future for chain in futures.values() for future in chain]):
            future.wait()  # it has ended, but only now says how; before, it asks the server, which may not know yet
            _require_room(future)
    update_progress_artifact(artifact_id=shown, progress=100.0, description="done")
    errors = {title: _error(chain) for title, chain in futures.items()}
    return {title: error for title, error in errors.items() if error}


def _require_room(future: PrefectFuture[Any]) -> None:
    """End a command where a step raised DiskFull, as the others would; elsewhere raise it."""
    error = future.state.result(raise_on_failure=False) if future.state.is_failed() else None
    if isinstance(error, DiskFull):
        _stopping.leave(command.PARTLY, f"error: {error}")
        raise error


def _error(chain: list[PrefectFuture[Any]]) -> Exception | None:
    """The error of the first step that failed; those behind it only say that they did not run."""
    for future in chain:
        if future.state.is_failed() or future.state.is_crashed():
            error = future.result(raise_on_failure=False)
            return error if isinstance(error, Exception) else RuntimeError(future.state.message)
    return None if all(future.state.is_completed() for future in chain) else RuntimeError("it was not run")


def _publish(bench: Bench, work: Work, lost: list[Failure], errors: dict[str, Exception], name: str) -> Row:
    broken = [bench.by_title[title] for title in errors]
    # A cell whose metrics are there keeps its row, whatever else of it failed.
    never = finished.failed_rows(bench, lost)
    without = [cell for cell in broken if not work.store.has("cell", cell.key)]
    failed = never + [finished.failed_row(cell.names, bench.plan, cell.key) for cell in without]
    failures = [asdict(failure) for failure in lost]
    failures += [
        {
            **bench.by_title[title].names,
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
        }
        for title, error in errors.items()
    ]
    stages.write_pages(bench, lost)
    untracked = stages.publish_all(bench, name, gather(bench, work.store, name, failed, failures))
    computed = sum(needs.computed for title, needs in work.missing.items() if title not in errors)
    cached = len(bench.cells) - computed - len(errors)
    count = len(never) + len(errors)
    line = f"cells: {computed} computed, {cached} cached, {count} failed"
    return {"computed": computed, "cached": cached, "failed": count, "untracked": untracked, "last_line": line}


if __name__ == "__main__":
    command.run(benchmark, command.arguments(__doc__))
