"""What the flows share: preparing, validating, computing and publishing, as Prefect tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
from tasks import data
from tasks.caching import stored
from tasks.cells import STEPS


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
            failures += Failure.of(spec, _reason(state))
    text = Bench(plan, layout.workspace, manifests).text
    for name in list(manifests):
        state = data.validate(name, *text, return_state=True)
        if not state.is_completed():
            failures.append(Failure(name, "*", _reason(state)))
            del manifests[name]
    bench = reopened(*Bench(plan, layout.workspace, manifests).text)
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
            failures += Failure.of(spec, str(error))
    bench = Bench(plan, layout.workspace, manifests)
    return bench, failures + bench.failures


def list_missing(plan: Plan, layout: Layout) -> bool:
    """Print what a run would compute, from the data that is in place; whether nothing is at fault."""
    absent = [spec.name for spec in plan.datasets if not is_in_place(spec, layout)]
    bench, lost = in_place(plan, layout)
    for name in absent:
        print(f"missing: the files of {name}, and so all of its cells (python -m flows.prepare puts them in place)")
    for failure in lost:
        print(f"failed: {failure.dataset}/{failure.category}: {failure.error}")
    todo = [cell for cell in bench.cells if missing(bench.store, cell).computed]
    for cell in todo:
        print(f"missing: {cell.title}")
    print(f"cells: 0 computed, {len(bench.cells) - len(todo)} cached, {len(bench.failed_rows(lost))} failed")
    return not lost


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


@dataclass(frozen=True)
class Step:
    """A step of a cell: the task, the key of its artifact, whether that is there already, and its rough cost."""

    name: str
    key: str
    present: bool
    weight: float


@dataclass
class Work:
    """The cells that are not complete (by title), in an order that keeps those over the same images together."""

    bench: Bench
    missing: dict[str, Missing]

    @classmethod
    def find(cls, bench: Bench) -> Work:
        """Ask the store for all keys in one pass."""
        return cls(bench, {cell.title: missing(bench.store, cell) for cell in bench.cells})

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell in self.bench.cells if self.missing[cell.title]]

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
        measured: set[str] = set()
        for group in self.groups:
            if self._extracts(group):
                found[f"extract {_images(group[0])}"] = 1.5 * (len(group[0].train) + len(group[0].test))
            for cell in group:
                for step in self._steps(cell):
                    done = step.present or step.key in measured
                    found[f"{step.name} {cell.title}"] = 0.0 if done else step.weight
                    measured |= {step.key} if step.name == "latency" else set()  # once for many cells
        return found

    def _extracts(self, group: list[Cell]) -> bool:
        return any(self.missing[cell.title].fit or self.missing[cell.title].maps for cell in group)

    def _steps(self, cell: Cell) -> Iterable[Step]:
        needs, epochs = self.missing[cell.title], getattr(cell.arm.options, "epochs", 0.5)
        if needs.maps or needs.latency:
            yield Step("fit", cell.fit_key, not needs.fit, len(cell.train) * epochs)
        if needs.evaluate:
            yield Step("score", cell.maps_key, not needs.maps, 0.3 * len(cell.test))
            yield Step("evaluate", cell.key, False, 0.1 * len(cell.test))
        if needs.latency:
            yield Step("latency", cell.latency_key, False, 100.0)

    def submit(self) -> dict[str, list[PrefectFuture[Any]]]:
        """Start the steps; cell title -> its futures. A cell's steps wait for one another and fail together."""
        futures: dict[str, list[PrefectFuture[Any]]] = {}
        for group in self.groups:
            chain: list[PrefectFuture[Any]] = []
            if self._extracts(group):
                images = Step("extract", group[0].fit_key, False, 0.0)
                chain.append(self._start(images, group[0], _images(group[0]), []))
            for cell in group:
                own = list(chain)
                for step in self._steps(cell):
                    own.append(self._start(step, cell, cell.title, own[-1:]))
                futures[cell.title] = own
        return futures

    def _start(self, step: Step, cell: Cell, title: str, after: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        task = stored(STEPS[step.name], self.bench.layout.workspace, step.present)
        return task.submit(title, step.key, cell.title, *self.bench.text, wait_for=after)


def _images(cell: Cell) -> str:
    return f"{cell.category.dataset}/{cell.category.name}"
