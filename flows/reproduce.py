"""Make a table of a paper again: run or resume its suites, then write it beside the printed numbers.

`python -m flows.reproduce list` prints the tables, one a line; `python -m flows.reproduce TABLE` writes
WORKSPACE/results/tables/TABLE.{csv,md,html}. Exit codes: as flows.benchmark.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from prefect import flow
from prefect.states import Completed, Failed, State

from adcore import published
from adcore.bench import Layout
from adcore.plan import METRICS, PlanError, nearest
from adcore.published import Names, PublishedError
from adcore.report import leaderboard as boards
from adcore.report import table_pages, tables
from adcore.report.measured import Lookup, Run
from adcore.report.targets import paper
from flows import command, stages
from flows._start import REPO
from flows.benchmark import benchmark

HOME = REPO  # of published/ and suites/
PROFILES = ("full", "small")
COUNTED = ("computed", "cached", "failed")


@flow(name="reproduce", log_prints=False)
def reproduce(table: str, profile: str = "full", workspace: str = "") -> State[Any]:
    """Run or resume the suites of a table, and write it."""
    names, printed = _read(table)
    layout = Layout(Path(workspace).resolve() if workspace else REPO)
    counts = dict.fromkeys(COUNTED, 0)
    for plan in _plans(names, table, profile):
        state = benchmark(plan=str(plan), workspace=str(layout.workspace), return_state=True)
        outcome = state.result(raise_on_failure=False)
        if isinstance(outcome, BaseException):
            raise outcome
        counts = {name: counts[name] + outcome[name] for name in COUNTED}
    made, paths = write(names, table, printed, profile, layout)
    counted = ", ".join(f"{number} {name}" for name, number in counts.items())
    line = f"{tables.count(made.rows)}\n{paths[1]}\ncells: {counted}"
    final = Failed if counts["failed"] else Completed
    return final(message=line, data={"failed": counts["failed"], "last_line": line})


def write(
    names: Names, table: str, printed: pd.DataFrame, profile: str, layout: Layout
) -> tuple[tables.Made, list[Path]]:
    """The table from what the store holds, computing nothing, and its files."""
    runs, missing = [], []
    for plan in _plans(names, table, profile):
        run, absent = _run(plan, layout)
        runs.append(run)
        missing += absent
    lookup = Lookup(runs, names.small if profile == "small" else None, _efficiency(layout))
    folder = HOME / "published"
    related = pd.concat([published.table(stem, folder) for stem in paper(table, published.stems(folder))])
    rows = tables.make(table, printed, names, lookup, related)
    made = tables.Made(table, profile, rows, tuple(missing), boards_of(runs))
    return made, table_pages.write(layout.results / "tables", made, names.table(table))


def boards_of(runs: list[Run]) -> dict[str, pd.DataFrame]:
    """The finished cells of each suite."""
    return {run.name: run.table[run.table["status"] == "ok"] for run in runs}


def _run(plan: Path, layout: Layout) -> tuple[Run, list[str]]:
    """A suite as the store has it, and what it lacks."""
    loaded, _ = command.opened(str(plan), str(layout.workspace))
    bench, lost = stages.in_place(loaded, layout)
    mend = "is not in place (python -m flows.prepare puts it there)"
    absent = {spec.name: f"{spec.name} {mend}" for spec in loaded.datasets if spec.name not in bench.manifests}
    absent |= {failure.dataset: failure.error for failure in lost if failure.dataset not in bench.manifests}
    undone = [cell for cell in bench.cells if not bench.store.has("cell", cell.key)]
    rows = [result.row for result in bench.finished(METRICS)]
    rows += [*(bench.failed_row(cell) for cell in undone), *bench.failed_rows(lost)]
    lines = [f"{plan.stem}: {why}" for why in absent.values()]
    lines += [
        f"{plan.stem}: {failure.dataset}/{failure.category}: {failure.error}"
        for failure in lost
        if failure.dataset not in absent
    ]
    lines += [f"{plan.stem}: {len(undone)} of {len(bench.cells)} cells are not computed"] if undone else []
    return Run.of(plan.stem, bench, boards.frame(rows), absent), lines


def _efficiency(layout: Layout) -> list[dict[str, Any]]:
    path = layout.results / "efficiency.csv"
    return published.records(pd.read_csv(path)) if path.exists() else []


def _read(table: str) -> tuple[Names, pd.DataFrame]:
    """The mapping, and the printed table. Raises PlanError."""
    folder = HOME / "published"
    known = published.stems(folder)
    if table not in known:
        hint = f"{nearest(table, known)}; `python -m flows.reproduce list` names all"
        raise PlanError(f"no table '{table}' in {folder}{hint}")
    try:
        return published.names(folder), published.table(table, folder)
    except PublishedError as error:
        raise PlanError(str(error)) from None


def _plans(names: Names, table: str, profile: str) -> list[Path]:
    return [HOME / "suites" / f"{name}.yaml" for name in names.table(table).plans(table, profile)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("table", metavar="TABLE", help="a table of published/ by its stem, or `list`")
    parser.add_argument(
        "--profile", choices=PROFILES, default="full", help="small: other data and sizes, for a CPU (default: full)"
    )
    parser.add_argument("--workspace", default=str(REPO), help="all is written under this folder (default: the repo)")
    parser.add_argument("--dry-run", action="store_true", help="list what is missing and compute nothing")
    return parser.parse_args()


def _checked(given: argparse.Namespace) -> argparse.Namespace:
    """The arguments, where all plans can be used; else, and after a dry run, this exits."""
    well = True
    try:
        names, _ = _read(given.table)
        for plan in _plans(names, given.table, given.profile):
            loaded, layout = command.opened(str(plan), given.workspace)
            if given.dry_run:
                print(f"suite: {plan.stem}")
                well &= stages.list_missing(loaded, layout)
    except command.UNUSABLE_BECAUSE as error:
        command.unusable(error)
    if given.dry_run:
        sys.exit(command.WELL if well else command.PARTLY)
    return given


def _main() -> NoReturn:
    given = _arguments()
    if given.table == "list":
        print("\n".join(published.stems(HOME / "published")))
        sys.exit(command.WELL)
    chosen = _checked(given)
    chosen.plan = ""

    def chosen_flow(plan: str, workspace: str, return_state: bool) -> State[Any]:
        return reproduce(table=given.table, profile=given.profile, workspace=workspace, return_state=return_state)

    command.run(chosen_flow, given)


if __name__ == "__main__":
    _main()
