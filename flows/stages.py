"""What the flows share: preparing, validating, computing and publishing, as Prefect tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prefect.futures import PrefectFuture
from prefect.states import State

from adcore import work
from adcore.bench import Bench, Failure, Layout, foreseen, kind_of, make_dataset, read, reopened
from adcore.cells import Cell, expand
from adcore.datasets._published import Published
from adcore.datasets.base import DataError
from adcore.datasets.cautions import cautions
from adcore.datasets.validation import Problem, validate
from adcore.datasets.validation_page import write_page
from adcore.disk import DiskFull
from adcore.plan import DatasetSpec, Plan
from adcore.results import Missing, missing
from tasks import data, publish
from tasks.caching import stored
from tasks.cells import STEPS

Row = dict[str, Any]


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
    for name in manifests:
        for caution in cautions(bench.problems(name)):
            sys.stderr.write(f"warning: {name}/{caution}\n")
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
    """Print what a run would compute, of data that is not in place by its published counts, and what that would take;
    whether nothing is at fault. Raises WeightsError for a backbone that timm does not have."""
    absent = [spec for spec in plan.datasets if not is_in_place(spec, layout)]
    bench, lost = in_place(plan, layout)
    for spec in absent:
        print(f"missing: the files of {spec.name}, and so all of its cells ({_how_to_get(spec)})")
    for failure in lost:
        print(f"failed: {failure.dataset}/{failure.category}: {failure.error}")
    todo = [cell for cell in bench.cells if not bench.store.has("cell", cell.key)]
    for cell in todo:
        print(f"missing: {cell.title}")
    unseen = [category for spec in absent for category in foreseen(spec, layout)]
    if todo or unseen:
        from adcore import forecast  # takes torch

        print(*forecast.lines(forecast.foresee(plan, [*todo, *expand(plan, unseen)]), plan), sep="\n")
    print(f"cells: 0 computed, {len(bench.cells) - len(todo)} cached, {len(bench.failed_rows(lost))} failed")
    return not lost


def _how_to_get(spec: DatasetSpec) -> str:
    if issubclass(kind_of(spec), Published):
        return f"`python -m flows.prepare --dataset {spec.of_kind}` tells how to get them"
    return "`python -m flows.prepare` puts them in place"


def write_pages(bench: Bench, lost: list[Failure], data_docs: bool = False) -> None:
    """results/validation.html and, where asked for, Great Expectations' Data Docs in results/data_docs."""
    found: dict[str, list[Problem]] = {}
    for failure in lost:
        if failure.dataset not in bench.manifests:
            problem = Problem(failure.category, "error", "dataset", "", failure.error)
            found.setdefault(failure.dataset, []).append(problem)
    frames = {name: bench.frame(name) for name in bench.manifests}
    for name, frame in frames.items():
        found[name] = bench.problems(name)
        if data_docs:
            validate(frame, bench.dataset(name), bench.layout.results / "data_docs" / name)
    roots = {name: bench.dataset(name).root for name in frames}
    write_page(found, frames, bench.layout.results / "validation.html", bench.notes(), roots)


def publish_all(bench: Bench, name: str, failed: list[Row], failures: list[Row]) -> str:
    """results/ first, then MLflow, which nothing waits for: why runs were not logged, "" where all are.

    `failed` are rows of cells without numbers, `failures` say why."""
    publish.leaderboard(*bench.text, name, failed, failures)
    state = publish.track(*bench.text, name, return_state=True)
    return "" if state.is_completed() else _reason(state)


def _reason(state: State[Any]) -> str:
    """Why a task failed. Raises DiskFull, which nothing goes on behind."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, DiskFull):
        raise error
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
        return cls(bench, {cell.title: missing(bench.store, cell, bench.plain(cell)) for cell in bench.cells})

    def counts(self) -> tuple[int, int, int]:
        """Cells whose metrics came since, were there before, and are not there."""
        todo = [cell for cell in self.bench.cells if self.missing[cell.title].computed]
        computed = sum(self.bench.store.path("cell", cell.key).exists() for cell in todo)
        return computed, len(self.bench.cells) - len(todo), len(todo) - computed

    @property
    def cells(self) -> list[Cell]:
        return [cell for cell in self.bench.cells if self.missing[cell.title]]

    @property
    def groups(self) -> list[list[Cell]]:
        """Cells over the same images through the same extractor: their features are extracted once, and may leave the
        bank after them."""
        groups: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.cells:
            links = tuple(link.key for link in cell.links)
            groups.setdefault((_images(cell), links), []).append(cell)
        return list(groups.values())

    def weights(self) -> dict[str, float]:
        """Step title -> its rough share of the work, in images."""
        found: dict[str, float] = {}
        seen: set[str] = set()
        for step, _, title in self._all():
            found[f"{step.name} {title}"] = 0.0 if step.present or step.key in seen else step.weight
            seen.add(step.key)  # enhancers and latencies serve many cells
        return found

    def submit(self) -> dict[str, list[PrefectFuture[Any]]]:
        """Start the steps; cell title -> its futures. A cell's steps wait for one another and fail together."""
        futures: dict[str, list[PrefectFuture[Any]]] = {}
        for group in self.groups:
            chain: list[PrefectFuture[Any]] = []
            for step, cell, title in self._shared(group):
                chain.append(self._start(step, cell, title, chain[-1:]))
            for cell in group:
                own = list(chain)
                for step, computed, title in self._own(cell):
                    own.append(self._start(step, computed, title, own[-1:]))
                futures[cell.title] = own
        return futures

    def _all(self) -> Iterable[Planned]:
        for group in self.groups:
            yield from self._shared(group)
            for cell in group:
                yield from self._own(cell)

    def _shared(self, group: list[Cell]) -> Iterable[Planned]:
        """What the cells of a group need together: trained enhancers, and extracted features where a method reads
        them; one that is given images runs the backbone itself."""
        cell, images = group[0], len(group[0].train)
        title = " ".join(filter(None, [_images(cell), _trained(group)]))
        wanted = {key for member in group for key in self.missing[member.title].enhance}
        for link in cell.links:
            if link.key in wanted:
                step = Step("enhance", link.key, False, work.enhance(link, images))
                yield step, cell, f"{link.enhancer.name} of {title}"
        reading = [member for member in group if not member.arm.method.on_images]
        if any(self.missing[member.title].fit or self.missing[member.title].maps for member in reading):
            yield Step("extract", reading[0].fit_key, False, work.extract(reading[0])), reading[0], title

    def _own(self, cell: Cell) -> Iterable[Planned]:
        needs, plain = self.missing[cell.title], self.bench.plain(cell)
        if needs.maps or needs.latency:
            yield _fit(cell, not needs.fit), cell, cell.title
        if needs.evaluate:
            yield Step("score", cell.maps_key, not needs.maps, work.score(cell)), cell, cell.title
            yield Step("evaluate", cell.key, False, work.evaluate(cell)), cell, cell.title
        if plain and needs.plain and not self.missing[plain.title].fit:
            yield _fit(plain, False), plain, plain.title
        if needs.latency:
            yield Step("latency", cell.latency_key, False, work.LATENCY), cell, cell.title

    def _start(self, step: Step, cell: Cell, title: str, after: list[PrefectFuture[Any]]) -> PrefectFuture[Any]:
        task = stored(STEPS[step.name], self.bench.layout.workspace, step.present)
        return task.submit(title, step.key, cell.title, *self.bench.text, wait_for=after)


Planned = tuple[Step, Cell, str]  # a step, the cell it is computed for, and its title


def _fit(cell: Cell, present: bool) -> Step:
    return Step("fit", cell.fit_key, present, work.fit(cell))


def _trained(group: list[Cell]) -> str:
    """Enhancer and seed, for a title, and the methods whose layers it is for; nothing for the backbone's own maps."""
    cell = group[0]
    if not cell.links:
        return ""
    methods = sorted({member.arm.names["method"] for member in group})
    behind = any(link.enhancer.on_maps for link in cell.links)
    return f"{cell.arm.names['enhancer_label']} seed {cell.arm.seed}" + behind * f" for {', '.join(methods)}"


def _images(cell: Cell) -> str:
    """Which images a cell is of, for a title."""
    protocol, label = cell.arm.protocol, cell.arm.names["protocol_label"]
    parts = [f"{cell.category.dataset}/{cell.category.name}", label if label != "one-class" else ""]
    return " ".join(filter(None, [*parts, f"draw {cell.arm.seed}" if protocol.seeded else ""]))
