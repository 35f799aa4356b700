"""What the flows share: preparing, validating, computing and publishing, as Prefect tasks."""

from __future__ import annotations

import sys
from typing import Any, cast

from prefect import State
from prefect.utilities.annotations import quote

from adcore.api import in_place, is_in_place
from adcore.core.disk import DiskFull
from adcore.core.plan import DatasetSpec, Plan
from adcore.core.store import Remembering
from adcore.datasets._published import Published
from adcore.datasets.cautions import cautions
from adcore.datasets.validation import Problem, validate
from adcore.datasets.validation_page import write_page
from adcore.engine.bench import Bench, Failure, Layout, foreseen, kind_of, reopened
from adcore.engine.cells import expand
from adcore.results.run import Results
from tasks import publishing, steps
from tasks.tracking import TrackingError

Row = dict[str, Any]


def prepare_all(plan: Plan, layout: Layout) -> tuple[Bench, list[Failure]]:
    """Every dataset in place, read and validated; those that cannot be are failures, and the others go on."""
    manifests: dict[str, str] = {}
    failures: list[Failure] = []
    workspace = str(layout.workspace)
    for spec in plan.datasets:
        state = steps.prepare(spec.name, spec.model_dump_json(), workspace, return_state=True)
        if state.is_completed():
            manifests[spec.name] = state.result()
        else:
            failures += Failure.of(spec, _reason(state))
    text = Bench(plan, layout.workspace, manifests).text
    for name in list(manifests):
        validation = steps.validate(name, *text, return_state=True)
        if not validation.is_completed():
            failures.append(Failure(name, "*", _reason(validation)))
            del manifests[name]
    bench = reopened(*Bench(plan, layout.workspace, manifests).text)
    tell_cautions(bench)
    return bench, failures + bench.failures


def tell_cautions(bench: Bench) -> None:
    """What is doubtful about the data, on the console."""
    for name in bench.manifests:
        for caution in cautions(bench.problems(name)):
            sys.stderr.write(f"warning: {name}/{caution}\n")


def list_missing(plan: Plan, layout: Layout) -> bool:
    """Print what a run would compute, of data that is not in place by its published counts, and what that would take;
    whether nothing is at fault. Raises WeightsError for a backbone that timm does not have."""
    absent = [spec for spec in plan.datasets if not is_in_place(spec, layout)]
    bench, lost = in_place(plan, layout)
    for spec in absent:
        print(f"missing: the files of {spec.name}, and so all of its cells ({_how_to_get(spec)})")
    for failure in lost:
        print(f"failed: {failure.text}")
    store = Remembering(bench.store)
    todo = [cell for cell in bench.cells if not store.expects("cell", cell.key)]
    for cell in todo:
        print(f"missing: {cell.title}")
    wanted = [cell for cell in bench.cells if cell.calibration_key and store.expects("cell", cell.key)]
    for cell in wanted:
        if not store.expects("calibration", cell.calibration_key):
            print(f"missing: the threshold of {cell.title}")
    unseen = [category for spec in absent for category in foreseen(spec, layout)]
    if todo or unseen:
        from adcore.engine import forecast  # takes torch

        print(*forecast.lines(forecast.foresee(plan, [*todo, *expand(plan, unseen)]), plan), sep="\n")
    failed = len(lost) * sum(len(contender.seeds) for contender in bench.contenders)
    print(f"cells: 0 computed, {len(bench.cells) - len(todo)} cached, {failed} failed")
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


def publish_all(bench: Bench, name: str, results: Results) -> str:
    """results/ first, then MLflow, which nothing waits for: why runs were not logged, "" where all are."""
    whole = cast("Results", quote(results))  # as it is: Prefect would look for futures in all of it
    steps.leaderboard(*bench.text, name, whole)
    state = steps.track(*bench.text, name, whole, return_state=True)
    return "" if state.is_completed() else _reason(state)


def publish_alone(bench: Bench, name: str, results: Results) -> str:
    """As `publish_all`, without Prefect."""
    publishing.write_results(bench, name, results)
    try:
        publishing.log_runs(bench, name, results)
    except TrackingError as error:
        return str(error)
    return ""


def _reason(state: State[Any]) -> str:
    """Why a task failed. Raises DiskFull, which nothing goes on behind."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, DiskFull):
        raise error
    return str(error) if isinstance(error, BaseException) else str(state.message)
