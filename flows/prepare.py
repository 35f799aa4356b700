"""Put the datasets of a plan in place, read every file, and validate them; or one public set, by --dataset."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any, NoReturn

from prefect import State, flow
from prefect.states import Completed, Failed

from adcore.api import is_in_place
from adcore.core.names import printable
from adcore.core.plan import Plan, expanded, parse
from adcore.datasets.base import DataError, Progress
from adcore.datasets.getting import get
from adcore.engine.bench import Failure, Layout, make_dataset
from flows import command, stages
from flows._heartbeat import untagged
from flows._start import PLACE


@flow(name="prepare")
@untagged
def prepare(
    plan: str = "params.yaml", workspace: str = "", dataset: str = "", source: str = "", accept_licence: bool = False
) -> State[Any]:
    """Datasets in place and validated: those of the plan, or one public set from its owners or from `source`."""
    if not dataset:
        return prepared(plan, workspace)
    alone, layout = _only(dataset, workspace)
    try:
        _get(alone, layout, source, accept_licence)
    except DataError as error:
        return _state([Failure(dataset, "*", str(error))], 0)
    return _prepared(alone, layout)


def prepared(plan: str, workspace: str, pages: bool = False) -> State[Any]:
    """Prepare and validate within a flow; `pages` also writes Data Docs."""
    return _prepared(*command.opened(plan, workspace), pages)


def _prepared(loaded: Plan, layout: Layout, pages: bool = False) -> State[Any]:
    bench, lost = stages.prepare_all(loaded, layout)
    stages.write_pages(bench, lost, data_docs=pages)
    return _state(lost, len({(cell.category.dataset, cell.category.name) for cell in bench.cells}))


def _state(lost: list[Failure], ready: int) -> State[Any]:
    failures = [f"failed: {failure.text}" for failure in lost]
    line = "\n".join([*failures, f"categories: {ready} ready, {len(lost)} failed"])
    state = Failed if lost else Completed
    return state(message=line, data={"failed": len(lost), "last_line": line})


def _only(dataset: str, workspace: str) -> tuple[Plan, Layout]:
    """A plan of one dataset of that kind. Raises PlanError, WorkspaceError."""
    alone = parse({"datasets": [dataset], "methods": ["padim"]}, "--dataset")
    layout = Layout.of(workspace or PLACE)
    make_dataset(alone.datasets[0], layout)
    layout.check()
    return alone, layout


def _get(alone: Plan, layout: Layout, source: str, accepted: bool) -> None:
    dataset = make_dataset(alone.datasets[0], layout)
    given = expanded(source).resolve() if source else None
    get(dataset, layout.cache / "archives", given, accepted, _tell, _bar)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _bar(title: str) -> Progress:
    """Tells of every tenth of a long transfer."""
    told = -1

    def progress(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // total if total else 0
        if tenth > told:
            told = tenth
            _tell(f"[{10 * tenth:3d}%] {title} ({done / 2**20:,.0f} of {total / 2**20:,.0f} MB)")

    return progress


def _arguments() -> argparse.Namespace:
    parser = command.parser(__doc__)
    parser.set_defaults(plan="")
    parser.add_argument("--dataset", default="", help="instead of a plan: one public set, by its kind")
    parser.add_argument("--from", dest="source", default="", help="with --dataset: its archive, or its folder")
    parser.add_argument("--accept-licence", action="store_true", help="with --dataset: you consent to its licence")
    given = command.settled(parser.parse_args())
    if given.dataset and given.plan:
        parser.error("give either --plan or --dataset")
    if not given.dataset and (given.source or given.accept_licence):
        parser.error("--from and --accept-licence go with --dataset")
    if printable(given.source) != given.source:
        parser.error(f"--from {printable(given.source)} is not printable text; rename it, or link to it")
    if not given.dataset:
        given.plan = given.plan or str(PLACE / "params.yaml")
        return command.checked(given)
    return _checked(given)


def _checked(given: argparse.Namespace) -> argparse.Namespace:
    with command.clear_errors(given.workspace):
        alone, layout = _only(given.dataset, given.workspace)
    if given.dry_run:
        there = is_in_place(alone.datasets[0], layout)
        print(f"{'in place' if there else 'missing'}: the files of {given.dataset}")
        sys.exit(command.WELL if there else command.PARTLY)
    return given


def _main() -> NoReturn:
    given = _arguments()
    chosen = {"dataset": given.dataset, "source": given.source, "accept_licence": given.accept_licence}
    command.run(partial(prepare, **chosen), given)


if __name__ == "__main__":
    _main()
