"""Run a plan: data, features, fits, maps, metrics, leaderboard. Every cell is computed once.

Exit codes: 0 well; 2 the plan or the workspace cannot be used, nothing ran; 3 something failed, the rest is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.states import Completed, Failed

from adcore.api import in_place, is_in_place, put_in_place, require_device
from adcore.core.remote import configured
from adcore.engine.bench import Bench, Failure
from adcore.engine.schedule import Work
from adcore.features.backbones import require_known
from adcore.results import finished
from adcore.results.run import Results, gather
from flows import _stopping, command, stages
from flows._cluster import Cluster
from flows._groups import compute
from flows._heartbeat import untagged
from flows.stages import Row
from tasks.steps import Fault


@flow(name="benchmark", log_prints=False)
@untagged
def benchmark(
    plan: str = "params.yaml",
    workspace: str = "",
    cluster: str = "",
    ray: str = "",
    store: str = "",
    only: Sequence[str] = (),
) -> State[Any]:
    """Compute the missing cells of a plan and publish all of them.

    cluster: a cluster.yaml (flows/_cluster.py); ray and store: what it says, in short. only: titles of groups, to
    compute these and publish nothing."""
    machines = command.machines(cluster, ray, store)
    loaded, layout = command.opened(plan, workspace)
    require_device(loaded.device)
    bench, lost = stages.prepare_all(loaded, layout)
    for failure in lost if only else ():  # which nothing else would tell
        sys.stderr.write(f"failed: {failure.text}\n")
    work = Work.find(bench, only)
    _stopping.count(work.counts)
    if work.cells:
        for backbone in loaded.every_backbone:  # only now: it takes timm, which a plan that is all there does without
            require_known(backbone.name)
    faults = compute(work, machines) if work.cells else {}
    for cell in work.absent():
        why = "its metrics are not there: they were damaged and are removed, or their store is gone; run again"
        faults.setdefault(cell.title, Fault.of(RuntimeError(why)))
    publish = stages.publish_all
    summary = _told(work, faults) if only else _publish(bench, work, lost, faults, Path(plan).stem, publish)
    state = Failed if summary["failed"] or summary["untracked"] else Completed
    return state(message=summary["last_line"], data=summary)


def alone(given: argparse.Namespace) -> Row | None:
    """What a plan comes to of which all is there, published without Prefect, whose server takes longer to start than
    that; None where something is to be done."""
    loaded, layout = command.opened(given.plan, given.workspace)
    first = not (layout.results / "leaderboard.csv").exists()  # then to look for cells only takes time
    if (
        first
        or given.only
        or given.cluster
        or given.ray
        or not all(is_in_place(each, layout) for each in loaded.datasets)
    ):
        return None
    bench, lost = in_place(loaded, layout)
    work = Work.find(bench)
    if work.cells or work.absent():
        return None
    _stopping.count(work.counts)
    stages.tell_cautions(bench)
    return _publish(bench, work, lost, {}, Path(given.plan).stem, stages.publish_alone)


def meanwhile(given: argparse.Namespace) -> None:
    """Read data and import libraries while Prefect's server starts, which finds both done then. What is wrong with them
    is told by the flow."""
    if given.cluster or given.ray or configured():
        return
    with contextlib.suppress(Exception):
        loaded, layout = command.opened(given.plan, given.workspace)
        bench, _ = put_in_place(loaded, layout)
        if Work.find(bench).cells:
            import adcore.engine.compute  # noqa: F401  (takes torch)

            for backbone in loaded.every_backbone:
                require_known(backbone.name)


def _told(work: Work, faults: dict[str, Fault]) -> Row:
    """What came of some groups, which nobody else tells."""
    for title, fault in faults.items():
        sys.stderr.write(f"failed: {title}: {fault.error}\n{fault.traceback}\n")
    return {"untracked": "", **_counts(work, faults, len(faults))}


def _counts(work: Work, faults: dict[str, Fault], failed: int) -> Row:
    """How many cells were computed and cached, and have failed; and the last line, which says so."""
    computed = sum(work.missing[cell.title].computed for cell in work.wanted if cell.title not in faults)
    cached = len(work.wanted) - computed - len(faults)
    line = f"cells: {computed} computed, {cached} cached, {failed} failed"
    return {"computed": computed, "cached": cached, "failed": failed, "last_line": line}


def _publish(
    bench: Bench,
    work: Work,
    lost: list[Failure],
    faults: dict[str, Fault],
    name: str,
    publish: Callable[[Bench, str, Results], str],
) -> Row:
    broken = [bench.by_title[title] for title in faults]
    # A cell whose metrics are there keeps its row, whatever else of it failed.
    never = finished.failed_rows(bench, lost)
    without = [cell for cell in broken if not work.store.has("cell", cell.key)]
    failed = never + [finished.failed_row(cell.names, bench.plan, cell.key) for cell in without]
    failures = [asdict(failure) for failure in lost]
    failures += [
        {**bench.by_title[title].names, "error": fault.error, "traceback": fault.traceback}
        for title, fault in faults.items()
    ]
    stages.write_pages(bench, lost)
    untracked = publish(bench, name, gather(bench, work.store, name, failed, failures))
    return {"untracked": untracked, **_counts(work, faults, len(never) + len(faults))}


def _arguments() -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.add_argument("--cluster", metavar="FILE", default="", help="machines that compute: see docs/cluster.md")
    parser.add_argument("--ray", metavar="ADDRESS", default="", help="a Ray cluster: HOST:PORT or ray://HOST:PORT")
    only = "compute this group and publish nothing; may be repeated"
    parser.add_argument("--only", metavar="GROUP", action="append", default=[], help=only)
    given = parser.parse_args()
    with command.clear_errors(given.workspace):
        Cluster.load(given.cluster, given.ray, given.store).settle()
    return command.checked(command.settled(given))


if __name__ == "__main__":
    given = _arguments()
    command.run(
        benchmark,
        given,
        *("cluster", "ray", "store", "only"),
        alone=lambda: alone(given),
        meanwhile=lambda: meanwhile(given),
    )
