"""What the flows share: preparing, validating, computing and publishing, as Prefect tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture
from prefect.states import State

from adcore.bench import Bench, Failure, Layout, make_dataset, problems, read, reopened
from adcore.cells import Cell
from adcore.datasets.base import DataError
from adcore.datasets.validation import Problem, validate
from adcore.datasets.validation_page import write_page
from adcore.plan import DatasetSpec, Plan
from adcore.results import Missing, missing
from tasks import cells as cell_tasks
from tasks import data
from tasks.caching import stored


def prepare_all(plan: Plan, layout: Layout) -> tuple[Bench, list[Failure]]:
    """Every dataset in place, read and validated; those that cannot be are failures, and the others go on."""
    manifests: dict[str, str] = {}
    failures: list[Failure] = []
    workspace = str(layout.workspace)
    for spec in plan.datasets:
        state = data.prepare(spec.name, spec.model_dump_json(), workspace, return_state=True)
        if state.is_completed():
            manifests[spec.name] = state.result()
        else:
            failures += [Failure(spec.name, category, _reason(state)) for category in spec.categories or ("*",)]
    text = plan.model_dump_json(), workspace, json.dumps(manifests, sort_keys=True)
    for name in list(manifests):
        state = data.validate(name, *text, return_state=True)
        if not state.is_completed():
            failures.append(Failure(name, "*", _reason(state)))
            del manifests[name]
    bench = reopened(*text[:2], json.dumps(manifests, sort_keys=True))
    return bench, failures + bench.failures


def is_in_place(spec: DatasetSpec, layout: Layout) -> bool:
    """Whether there is something to read; a root that the plan names is not ours to make."""
    return spec.root is not None or make_dataset(spec, layout).root.is_dir()


def in_place(plan: Plan, layout: Layout) -> tuple[Bench, list[Failure]]:
    """As `prepare_all`, from what is there already and without Prefect."""
    manifests: dict[str, str] = {}
    failures: list[Failure] = []
    for spec in plan.datasets:
        if not is_in_place(spec, layout):
            continue
        try:
            manifests[spec.name] = read(spec, layout)
        except DataError as error:
            failures += [Failure(spec.name, category, str(error)) for category in spec.categories or ("*",)]
    bench = Bench(plan, layout.workspace, manifests)
    return bench, failures + bench.failures


def write_pages(bench: Bench, lost: list[Failure], data_docs: bool = False) -> None:
    """results/validation.html and, where asked for, Great Expectations' Data Docs in results/data_docs."""
    found: dict[str, list[Problem]] = {}
    for failure in lost:
        if failure.dataset not in bench.manifests:
            problem = Problem(failure.category, "error", "dataset", "", failure.error)
            found.setdefault(failure.dataset, []).append(problem)
    frames = {name: bench.frame(name) for name in bench.manifests}
    for name, frame in frames.items():
        found[name] = problems(bench.store, bench.manifests[name], bench.dataset(name), frame)
        if data_docs:
            validate(frame, bench.dataset(name), bench.layout.results / "data_docs" / name)
    write_page(found, frames, bench.layout.results / "validation.html", bench.notes())


def _reason(state: State[Any]) -> str:
    error = state.result(raise_on_failure=False)
    return str(error) if isinstance(error, BaseException) else str(state.message)


@dataclass
class Work:
    """The steps that are missing, in an order that keeps the cells of one category together."""

    bench: Bench
    missing: dict[str, Missing] = field(default_factory=dict)

    @classmethod
    def find(cls, bench: Bench) -> Work:
        """Ask the store for all keys in one pass. A latency is measured once, with the first cell that needs it."""
        work, latencies = cls(bench), set[str]()
        for cell in bench.cells:
            needs = missing(bench.store, cell)
            if needs.latency and cell.latency_key in latencies:
                needs = Missing(needs.fit and needs.maps, needs.maps, needs.evaluate, False, needs.computed)
            if needs.latency:
                latencies.add(cell.latency_key)
            work.missing[cell.key] = needs
        return work

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell in self.bench.cells if self.missing[cell.key]]

    @property
    def groups(self) -> list[list[Cell]]:
        """Cells over the same images: their features are extracted once, and may leave the bank after them."""
        groups: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in self.cells:
            images = cell.category.dataset, cell.category.name, cell.arm.names["protocol_label"]
            groups.setdefault(images, []).append(cell)
        return list(groups.values())

    def weights(self) -> dict[str, float]:
        """Step title -> its rough share of the work, in images."""
        found: dict[str, float] = {}
        for group in self.groups:
            if self._extracts(group):
                found[f"extract {_images(group[0])}"] = 1.5 * (len(group[0].train) + len(group[0].test))
            for cell in group:
                found |= {f"{step} {cell.title}": weight for step, _, weight in self._steps(cell)}
        return found

    def _extracts(self, group: list[Cell]) -> bool:
        return any(self.missing[cell.key].fit or self.missing[cell.key].maps for cell in group)

    def _steps(self, cell: Cell) -> Iterable[tuple[str, str, float]]:
        needs, epochs = self.missing[cell.key], getattr(cell.arm.options, "epochs", 0.5)
        if needs.fit:
            yield "fit", cell.fit_key, len(cell.train) * epochs
        if needs.maps:
            yield "score", cell.maps_key, 0.3 * len(cell.test)
        if needs.evaluate:
            yield "evaluate", cell.key, 0.1 * len(cell.test)
        if needs.latency:
            yield "latency", cell.latency_key, 100.0

    def submit(self) -> dict[str, list[PrefectFuture[Any]]]:
        """Start every missing step; a cell's steps wait for one another and fail together, other cells go on."""
        futures: dict[str, list[PrefectFuture[Any]]] = {}
        for group in self.groups:
            features: list[PrefectFuture[Any]] = []
            if self._extracts(group):
                features.append(self._start("extract", group[0].fit_key, group[0], _images(group[0]), []))
            for cell in group:
                chain: list[PrefectFuture[Any]] = []
                for name, key, _ in self._steps(cell):
                    chain.append(self._start(name, key, cell, cell.title, [*features, *chain[-1:]]))
                futures[cell.key] = chain
        return futures

    def _start(
        self, name: str, key: str, cell: Cell, title: str, after: list[PrefectFuture[Any]]
    ) -> PrefectFuture[Any]:
        workspace = self.bench.layout.workspace
        task = stored(getattr(cell_tasks, name), workspace, present=False)
        text = self.bench.plan.model_dump_json(), str(workspace), json.dumps(self.bench.manifests, sort_keys=True)
        return task.submit(title, key, cell.key, *text, wait_for=after)


def _images(cell: Cell) -> str:
    return f"{cell.category.dataset}/{cell.category.name}"
