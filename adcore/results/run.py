"""What a plan has come to in a workspace: read once a run, given to every page and to MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from adcore.core.costs import environment, git_commit
from adcore.core.store import Store
from adcore.engine import registry
from adcore.engine.bench import Bench
from adcore.results import defects, effects, finished
from adcore.results.contenders import SETTING, ContenderResult
from adcore.results.contests import Contests, unique_names
from adcore.results.effects import Effect
from adcore.results.frame import Row, frame
from adcore.results.runs import CellResult, RunResult, run_results
from adcore.results.samples import samples
from adcore.results.trained import Trained, cautions


class Ranked(NamedTuple):
    """A contender under the name that tells it from the others of its dataset, and its finished cells."""

    name: str
    contender: ContenderResult
    cells: list[CellResult]


@dataclass(frozen=True)
class Results:
    """contests: of every row of the leaderboard, which has the metrics of the plan. finished: the cells that have
    numbers, with all metrics.

    failures: names of what failed, `error` and, of a step, `traceback`. notes: dataset -> what its numbers must not be
    read without. facts: what is true of the whole plan (its name, the code, the resolution, versions); no time of day.
    timings: latencies by part. effects: of enhancers. picked: images that protocols have picked by seed."""

    contests: Contests
    finished: Sequence[CellResult] = ()
    failures: Sequence[Row] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    timings: Sequence[Mapping[str, Any]] = ()
    effects: Sequence[Effect] = ()
    picked: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def table(self) -> pd.DataFrame:
        """The leaderboard, as `frame` makes it."""
        return self.contests.table

    @cached_property
    def ranked(self) -> dict[str, list[Ranked]]:
        """Dataset -> its contenders, best first."""
        cells: dict[tuple[str, ...], list[CellResult]] = {}
        for cell in self.finished:
            cells.setdefault(tuple(str(cell.row[key]) for key in SETTING), []).append(cell)
        return {
            dataset: [
                Ranked(name, each, cells.get(tuple(each.setting[key] for key in SETTING), []))
                for name, each in zip(unique_names(contenders), contenders, strict=True)
            ]
            for dataset, contenders in self.contests.contenders.items()
        }

    @cached_property
    def defects(self) -> pd.DataFrame:
        """How each kind of defect is found, as `defects.table` makes it."""
        return defects.table([each for ranked in self.ranked.values() for each in ranked])

    @cached_property
    def trained(self) -> list[Trained]:
        """The trainings of enhancers behind the finished cells, each once."""
        return list(dict.fromkeys(training for cell in self.finished for training in cell.trained))

    @cached_property
    def runs(self) -> list[RunResult]:
        """The finished cells by MLflow run."""
        return run_results(self.finished)


def gather(bench: Bench, store: Store, name: str, failed: Sequence[Row], failures: Sequence[Row]) -> Results:
    """The results of a plan called `name`. store: its own, or one that remembers what it was asked in this run.

    failed: rows of cells without numbers. failures: why."""
    cells = finished.read(bench, store, list(registry.metrics()))
    table = finished.narrowed(frame([*(cell.row for cell in cells), *failed]), bench.plan.metrics)
    contests = Contests(table, lambda: samples(store, cells))
    trained = [training for cell in cells for training in cell.trained]
    controls = {label: chain.control for label, chain in bench.chains.items() if chain.control}
    parts = {label: chain.parts for label, chain in bench.chains.items()}
    return Results(
        contests,
        cells,
        failures,
        notes=_with(bench.remarks(), cautions(dict.fromkeys(trained))),
        facts=_facts(bench, name),
        timings=finished.timings(bench, store),
        effects=effects.compare(contests, bench.textures, controls, parts),
        picked=bench.picked(),
    )


def _with(notes: Mapping[str, str], warnings: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {name: "; ".join(filter(None, (note, *warnings.get(name, ())))) for name, note in notes.items()}


def _facts(bench: Bench, name: str) -> dict[str, str]:
    resolution = "the network's input" if bench.plan.evaluate_at == "input" else "the original images"
    versions = environment()["versions"]
    return {
        "plan": name,
        "code": git_commit() or "outside a git checkout",
        "pixel metrics at": f"the resolution of {resolution}",
        "versions": ", ".join(f"{library} {version}" for library, version in versions.items()),
    }
