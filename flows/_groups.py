"""Runs the groups of a plan where its machines are. What failed on one node of a cluster is tried on another."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner

from adcore.core.costs import git_commit
from adcore.core.disk import DiskFull
from adcore.core.errors import RemoteGone
from adcore.engine.cells import Cell
from adcore.engine.schedule import Work, group_title
from flows import _stopping, command
from flows._cluster import Cluster
from tasks import steps
from tasks.nodes import Node, NodeError
from tasks.progress import Display
from tasks.steps import Call, Ended, Fault

LATENCY = "latency"  # the step that may be pinned to some nodes
JUDGED = ("evaluate", "calibrate")  # behind which only what leads to a latency comes


def compute(work: Work, machines: Cluster) -> dict[str, Fault]:
    """Run what is missing; cell title -> why, of the cells that failed."""
    # Prefect types it as if an event loop were running here, where it would be awaited.
    shown = cast(UUID, create_progress_artifact(progress=0.0, key="cells", description="starting"))

    def listener(percent: float, title: str) -> None:
        update_progress_artifact(artifact_id=shown, progress=min(percent, 100.0), description=title)

    with Display(work.weights(), listener) as display, _stopping.ending(display.close), machines.runner() as runner:
        faults = _Groups(work, machines, runner, display).run()
    update_progress_artifact(artifact_id=shown, progress=100.0, description="done")
    return faults


class _Job(NamedTuple):
    """What is submitted of a group: the calls that its cells share, and those of each alone.

    timing: it is latencies that are pinned to some nodes. tried: it has failed once. failed_on: the id of the node that
    it failed on, if that is known."""

    cells: list[Cell]
    shared: list[Call]
    own: dict[str, list[Call]]
    timing: bool = False
    tried: bool = False
    failed_on: str = ""


@dataclass
class _Groups:
    """refusing: ids of the nodes that cannot work for this plan."""

    work: Work
    machines: Cluster
    runner: TaskRunner[PrefectFuture[Any]]
    display: Display
    refusing: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Fault]:
        jobs = [self._job(cells) for cells in self.work.groups]
        if self.machines.latency is None:
            return self._all(jobs)
        faults = self._all([job for job in map(_untimed, jobs) if _calls(job)])
        measured: set[str] = set()  # keys: a latency serves many cells
        return self._all([job for each in jobs if _calls(job := _timed(each, faults, measured))]) | faults

    def _job(self, cells: list[Cell]) -> _Job:
        shared = [Call.of(planned) for planned in self.work.shared(cells)]
        return _Job(cells, shared, {cell.title: [Call.of(each) for each in self.work.own(cell)] for cell in cells})

    def _all(self, jobs: list[_Job]) -> dict[str, Fault]:
        """In rounds: what may be tried on another node is, once the other jobs have ended."""
        if jobs and self.machines.ray and not self.machines.has_node(jobs[0].timing):
            wanted = self.machines.resources(jobs[0].timing).model_dump(exclude_defaults=True) or {"num_cpus": 1}
            _tell(f"no node of the cluster can give a group {wanted}; one that can is waited for")
        faults: dict[str, Fault] = {}
        while jobs:
            futures = {self._submit(job): job for job in jobs}
            jobs = []
            for future in as_completed(list(futures)):
                future.wait()  # it has ended, but only now says how; before, it asks the server, which may not know yet
                job = futures[future]
                try:
                    ended = self._ended(future, job)
                except NodeError as error:
                    if self._goes_on_without(error, job):
                        jobs.append(job)
                        continue
                    ended = Ended(error.node, self._lost(job, error))
                if ended.faults and not job.tried and self._goes_elsewhere(job, ended):
                    jobs.append(job._replace(tried=True, failed_on=ended.node.id))
                    continue
                faults |= ended.faults
                self.display.passed([f"{call.step} {call.title}" for call in _calls(job)])
        return faults

    def _submit(self, job: _Job) -> PrefectFuture[Any]:
        """Start a job, on another node than the one that it failed on."""
        plan, workspace, manifests = self.work.bench.text
        parameters = {
            "title": f"{LATENCY} of {group_title(job.cells)}" if job.timing else group_title(job.cells),
            "dataset": job.cells[0].category.dataset,
            "shared": job.shared,
            "own": job.own,
            "plan": plan,
            "workspace": workspace,
            "manifests": manifests,
            "commit": git_commit(),
            "elsewhere": self.machines.ray is not None,
        }
        with self.machines.reserved(job.timing, self._without(job.failed_on)):
            return self.runner.submit(steps.group, parameters)

    def _ended(self, future: PrefectFuture[Any], job: _Job) -> Ended:
        """How a job ended. Ends a command where a step raised DiskFull, as the others would; elsewhere raises it.
        Raises NodeError."""
        result = future.result(raise_on_failure=False)
        if isinstance(result, DiskFull):
            _stopping.leave(command.PARTLY, f"error: {result}")
            raise result
        if isinstance(result, NodeError):
            raise result
        if future.state.is_completed():
            return cast("Ended", result)
        unknown = RuntimeError(future.state.message or "it was not run")
        return Ended(Node("", ""), self._lost(job, result if isinstance(result, BaseException) else unknown))

    def _lost(self, job: _Job, error: BaseException) -> dict[str, Fault]:
        """Of a job that ended as a whole, the cells that are not there, or of which nobody can tell."""
        return {cell.title: Fault.of(error) for cell in job.cells if not self._is_there(cell)}

    def _is_there(self, cell: Cell) -> bool:
        wanted = [artifact for artifact in cell.artifacts if artifact[0] in ("cell", "calibration")]
        try:
            return all(self.work.bench.store.has(kind, key) for kind, key in wanted)
        except RemoteGone:
            return False

    def _goes_on_without(self, error: NodeError, job: _Job) -> bool:
        """Whether other nodes can do what a node refuses."""
        if not error.node.id or not self.machines.has_node(job.timing, self.refusing | {error.node.id}):
            return False
        if error.node.id not in self.refusing:
            self.refusing.add(error.node.id)
            _tell(f"{error}; it is given nothing more")
        return True

    def _goes_elsewhere(self, job: _Job, ended: Ended) -> bool:
        """Whether what failed on a node can be tried on another; where its process or Prefect's client failed, so that
        none is known, on any."""
        if not self.machines.has_node(job.timing, self._without(ended.node.id)):
            return False
        where = f"on {ended.node.name} and is tried on another node" if ended.node.id else "and is tried once more"
        fault = next(iter(ended.faults.values()))
        _tell(f"{group_title(job.cells)} failed {where}: {fault.error}")
        return True

    def _without(self, failed_on: str) -> set[str]:
        return self.refusing | ({failed_on} if failed_on else set())


def _calls(job: _Job) -> list[Call]:
    return [*job.shared, *(call for calls in job.own.values() for call in calls)]


def _untimed(job: _Job) -> _Job:
    """What a job does but for latencies, and for fits and features that only they want: what leads to metrics, and the
    weights of enhancers."""
    own = {title: _judged(calls) for title, calls in job.own.items()}
    return job._replace(own=own, shared=[call for call in job.shared if any(own.values()) or call.step == "enhance"])


def _judged(calls: list[Call]) -> list[Call]:
    last = max((place for place, call in enumerate(calls) if call.step in JUDGED), default=-1)
    return calls[: last + 1]


def _timed(job: _Job, faults: dict[str, Fault], measured: set[str]) -> _Job:
    """The latencies of a job, of cells that have not failed, but for those whose keys are `measured` already; to which
    their keys are added. Whichever node measures one fits the model again, where it has not done so."""
    own: dict[str, list[Call]] = {}
    for title, calls in job.own.items():
        for call in calls:
            if call.step == LATENCY and title not in faults and call.key not in measured:
                own[title] = [call]
                measured.add(call.key)
    return _Job([cell for cell in job.cells if cell.title in own], [], own, timing=True)


def _tell(sentence: str) -> None:
    sys.stderr.write(f"warning: {sentence}\n")
