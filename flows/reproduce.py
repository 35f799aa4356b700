"""Make a table of a paper again: run or resume its suites, then write it beside the printed numbers.

`python -m flows.reproduce list` prints the tables, one a line, and how many of their numbers can be measured;
`python -m flows.reproduce TABLE` writes WORKSPACE/results/tables/TABLE.{csv,md,html}. Exit codes: as flows.benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import pandas as pd
from prefect import State, flow
from prefect.states import Completed, Failed

from adcore.api import in_place
from adcore.core import shipped
from adcore.core.plan import PlanError, load, nearest
from adcore.core.store import Remembering
from adcore.engine import registry
from adcore.engine.bench import Layout
from adcore.papers import published, tables
from adcore.papers.measured import Lookup, Run
from adcore.papers.published import Names, PublishedError
from adcore.papers.targets import Target, paper
from adcore.report import table_pages
from adcore.results import finished
from adcore.results.frame import frame
from flows import command, stages
from flows._heartbeat import untagged
from flows._start import PLACE
from flows.benchmark import benchmark
from flows.efficiency import rows

PROFILES = ("full", "small")
COUNTED = ("computed", "cached", "failed")


@dataclass(frozen=True)
class Source:
    """A printed table, the mapping, and all tables of its paper. sizes: suites whose networks are counted for it."""

    stem: str
    names: Names
    printed: pd.DataFrame
    related: pd.DataFrame
    sizes: tuple[str, ...] = ()

    @property
    def table(self) -> published.Table:
        return self.names.table(self.stem)

    def plans(self, profile: str) -> list[Path]:
        """The suites to run. Raises PlanError."""
        found = [_suite(name) for name in self.table.plans(self.stem, profile)]
        for path in found:
            if not path.is_file():
                raise PlanError(f"no suite {path}; write it, or name another for {self.stem} in names.yaml, `tables`")
        return found


@flow(name="reproduce", log_prints=False)
@untagged
def reproduce(table: str, profile: str = "full", workspace: str = "") -> State[Any]:
    """Run or resume the suites of a table, and write it."""
    source = _read(table)
    layout = Layout.of(workspace or PLACE)
    counts = dict.fromkeys(COUNTED, 0)
    untracked = ""
    for plan in source.plans(profile):
        state = benchmark(plan=str(plan), workspace=str(layout.workspace), return_state=True)
        outcome: Any = state.result(raise_on_failure=False)
        if isinstance(outcome, BaseException):
            raise outcome
        counts = {name: counts[name] + outcome[name] for name in COUNTED}
        untracked = untracked or outcome["untracked"]
    sizes = None if profile == "small" else [row for name in source.sizes for row in _counted(name, layout)]
    made, paths = write(source, profile, layout, sizes)
    counted = ", ".join(f"{number} {name}" for name, number in counts.items())
    line = f"{tables.count(made.rows)}\n{paths[1]}\ncells: {counted}"
    final = Failed if counts["failed"] or untracked else Completed
    return final(message=line, data={"failed": counts["failed"], "untracked": untracked, "last_line": line})


def write(
    source: Source, profile: str, layout: Layout, sizes: Sequence[Mapping[str, Any]] | None = None
) -> tuple[tables.Made, list[Path]]:
    """The table from `sizes` and what the store holds, computing nothing, and its files."""
    runs, missing = [], []
    for plan in source.plans(profile):
        run, absent = _run(plan, layout)
        runs.append(run)
        missing += absent
    small = source.names.small if profile == "small" else None
    lookup = Lookup(runs, small, sizes)
    compared = tables.make(source.stem, source.printed, source.names, lookup, source.related)
    made = tables.Made(source.stem, profile, compared, tuple(missing), boards_of(runs))
    return made, table_pages.write(layout.results / "tables", made, source.table)


def boards_of(runs: list[Run]) -> dict[str, pd.DataFrame]:
    """The finished cells of each suite."""
    return {run.name: run.table[run.table["status"] == "ok"] for run in runs}


def _run(plan: Path, layout: Layout) -> tuple[Run, list[str]]:
    """A suite as the store has it, and what it lacks."""
    loaded, _ = command.opened(str(plan), str(layout.workspace))
    bench, lost = in_place(loaded, layout)
    mend = "is not in place (`python -m flows.prepare --dataset {}` tells how to get it)"
    gone = [spec for spec in loaded.datasets if spec.name not in bench.manifests]
    absent = {spec.name: f"{spec.name} {mend.format(spec.of_kind)}" for spec in gone}
    absent |= {failure.dataset: failure.error for failure in lost if failure.dataset not in bench.manifests}
    store = Remembering(bench.store)
    undone = [cell for cell in bench.cells if not store.has("cell", cell.key)]
    cells = [result.row for result in finished.read(bench, store, list(registry.metrics()))]
    cells += [finished.failed_row(cell.names, loaded, cell.key) for cell in undone]
    cells += finished.failed_rows(bench, lost)
    lines = [f"{plan.stem}: {why}" for why in absent.values()]
    lines += [
        f"{plan.stem}: {failure.dataset}/{failure.category}: {failure.error}"
        for failure in lost
        if failure.dataset not in absent
    ]
    lines += [f"{plan.stem}: {len(undone)} of {len(bench.cells)} cells are not computed"] if undone else []
    return Run.of(plan.stem, bench, frame(cells), absent, finished.timings(bench, store)), lines


def _counted(suite: str, layout: Layout) -> list[dict[str, Any]]:
    """Parameters, multiply-accumulates and throughput of a suite's methods, which take neither data nor training."""
    sys.stderr.write(f"sizes of {suite}: counted and timed with random weights\n")
    return rows(load(_suite(suite)), layout)


def _suite(name: str) -> Path:
    return shipped.folder("suites") / f"{name}.yaml"


def _read(stem: str) -> Source:
    """A printed table whose every row is joined. Raises PlanError."""
    folder = shipped.folder("published")
    known = published.stems(folder)
    if stem not in known:
        hint = f"{nearest(stem, known)}; `python -m flows.reproduce list` names all"
        raise PlanError(f"no table '{stem}' in {folder}{hint}")
    try:
        names = published.names(folder)
        read = {other: published.table(other, folder) for other in paper(stem, known)}
        source = Source(stem, names, read[stem], pd.concat(read.values()))
        joined = tables.joined(stem, source.printed, names, source.related)
    except PublishedError as error:
        raise PlanError(str(error)) from None
    if any(isinstance(of, Target) and of.quantity.source == "efficiency" for _, of in joined):
        source = replace(source, sizes=source.table.sized(stem))
    return source


def _listed() -> list[str]:
    """A line a table, and one of all: how many of its numbers adcore can measure. Raises PlanError."""
    rows = []
    for stem in published.stems(shipped.folder("published")):
        source = _read(stem)
        joined = tables.joined(stem, source.printed, source.names, source.related)
        rows.append((stem, len(joined), sum(isinstance(of, Target) for _, of in joined)))
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return [f"{stem:<15}  {printed:>5,} printed numbers, {ours:>5,} can be measured" for stem, printed, ours in rows]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("table", metavar="TABLE", help="a table of published/ by its stem, or `list`")
    parser.add_argument(
        "--profile", choices=PROFILES, default="full", help="small: other data and sizes, for a CPU (default: full)"
    )
    parser.add_argument(
        "--workspace",
        default=str(PLACE),
        help=command.WORKSPACE,
    )
    parser.add_argument("--store", metavar="URL", default="", help=command.STORE)
    parser.add_argument("--dry-run", action="store_true", help="list what is missing and compute nothing")
    return parser.parse_args()


def _checked(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments, where all plans can be used; else, and after a dry run, this exits."""
    well = True
    with command.clear_errors(given.workspace):
        source = _read(given.table)
        for plan in source.plans(given.profile):
            loaded, layout = command.opened(str(plan), given.workspace)
            if given.dry_run:
                print(f"suite: {plan.stem}")
                well &= stages.list_missing(loaded, layout)
    if given.dry_run:
        if given.profile == "full" and source.sizes:
            print(f"sizes of {', '.join(source.sizes)}: counted without data")
        sys.exit(command.WELL if well else command.PARTLY)
    return given


def _main() -> NoReturn:
    given = _arguments()
    if given.table == "list":
        with command.clear_errors(given.workspace):
            print("\n".join(_listed()))
        sys.exit(command.WELL)
    chosen = _checked(command.settled(given))
    chosen.plan = ""

    def chosen_flow(plan: str, workspace: str, return_state: Literal[True]) -> State[Any]:
        return reproduce(table=given.table, profile=given.profile, workspace=workspace, return_state=return_state)

    command.run(chosen_flow, given)


if __name__ == "__main__":
    _main()
