"""Runs the groups of a plan where its machines are. What failed on one node of a cluster is tried on another."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, cast
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


@dataclass
class _Groups:
    """refusing: ids of the nodes that cannot work for this plan."""

    work: Work
    machines: Cluster
    runner: TaskRunner[PrefectFuture[Any]]
    display: Display
    refusing: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Fault]:
        """In rounds: what may be tried on another node is, once the other groups have ended."""
        if self.machines.ray and not self.machines.has_node():
            wanted = self.machines.options.model_dump(exclude_defaults=True) or {"num_cpus": 1}
            _tell(f"no node of the cluster can give a group {wanted}; one that can is waited for")
        faults: dict[str, Fault] = {}
        left = [(cells, "") for cells in self.work.groups]
        while left:
            futures = {self._submit(cells, failed_on): (cells, failed_on) for cells, failed_on in left}
            left = []
            for future in as_completed(list(futures)):
                future.wait()  # it has ended, but only now says how; before, it asks the server, which may not know yet
                cells, failed_on = futures[future]
                try:
                    ended = self._ended(future, cells)
                except NodeError as error:
                    if self._goes_on_without(error):
                        left.append((cells, failed_on))
                        continue
                    ended = Ended(error.node, self._lost(cells, error))
                if ended.faults and not failed_on and self._goes_elsewhere(cells, ended):
                    left.append((cells, ended.node.id))
                    continue
                faults |= ended.faults
                self.display.passed(self.work.titles(cells))
        return faults

    def _submit(self, cells: list[Cell], failed_on: str) -> PrefectFuture[Any]:
        """Start a group, on another node than the one that it failed on."""
        plan, workspace, manifests = self.work.bench.text
        parameters = {
            "title": group_title(cells),
            "dataset": cells[0].category.dataset,
            "shared": [Call.of(planned) for planned in self.work.shared(cells)],
            "own": {cell.title: [Call.of(planned) for planned in self.work.own(cell)] for cell in cells},
            "plan": plan,
            "workspace": workspace,
            "manifests": manifests,
            "commit": git_commit(),
            "elsewhere": self.machines.ray is not None,
        }
        with self.machines.reserved(self._without(failed_on)):
            return self.runner.submit(steps.group, parameters)

    def _ended(self, future: PrefectFuture[Any], cells: list[Cell]) -> Ended:
        """How a group ended. Ends a command where a step raised DiskFull, as the others would; elsewhere raises it.
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
        return Ended(Node("", ""), self._lost(cells, result if isinstance(result, BaseException) else unknown))

    def _lost(self, cells: list[Cell], error: BaseException) -> dict[str, Fault]:
        """Of a group that ended as a whole, the cells that are not there, or of which nobody can tell."""
        return {cell.title: Fault.of(error) for cell in cells if not self._is_there(cell)}

    def _is_there(self, cell: Cell) -> bool:
        try:
            return self.work.bench.store.has("cell", cell.key)
        except RemoteGone:
            return False

    def _goes_on_without(self, error: NodeError) -> bool:
        """Whether other nodes can do what a node refuses."""
        if not error.node.id or not self.machines.has_node(self.refusing | {error.node.id}):
            return False
        if error.node.id not in self.refusing:
            self.refusing.add(error.node.id)
            _tell(f"{error}; it is given nothing more")
        return True

    def _goes_elsewhere(self, cells: list[Cell], ended: Ended) -> bool:
        """Whether what failed on a node can be tried on another."""
        if not ended.node.id or not self.machines.has_node(self._without(ended.node.id)):
            return False
        fault = next(iter(ended.faults.values()))
        _tell(f"{group_title(cells)} failed on {ended.node.name} and is tried on another node: {fault.error}")
        return True

    def _without(self, failed_on: str) -> set[str]:
        return self.refusing | ({failed_on} if failed_on else set())


def _tell(sentence: str) -> None:
    sys.stderr.write(f"warning: {sentence}\n")
