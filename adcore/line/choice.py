"""Which finished cell of a plan is meant: by its key, by its MLflow run, or as the best of a category."""

from __future__ import annotations

from adcore.core.plan import PlanError, nearest
from adcore.core.store import Remembering
from adcore.engine.bench import Bench
from adcore.engine.cells import Cell
from adcore.results import finished, frame
from adcore.results.contests import leader

FEWEST = 6  # letters that stand for a key or a run


def cell(bench: Bench, run: str = "", best: str = "") -> Cell:
    """The cell that `run` or `best` names. Raises PlanError where that is none, or several.

    run: the beginning of a cell's key, or of the id of an MLflow run as leaderboard.csv has it; behind a slash the
    category, where a run has several. best: `DATASET/CATEGORY`."""
    if bool(run) == bool(best):
        raise PlanError("say which cell: either its key or MLflow run, or of which DATASET/CATEGORY the best")
    return _best(bench, best) if best else _named(bench, run)


def _named(bench: Bench, run: str) -> Cell:
    name, _, category = run.partition("/")
    if len(name) < FEWEST:
        raise PlanError(f"'{run}': give at least {FEWEST} letters of a key or run")
    keys = {key for key, id in _runs(bench).items() if id.startswith(name)}
    meant = [each for each in bench.cells if each.key.startswith(name) or each.key in keys]
    meant = [each for each in meant if category in ("", each.category.name)]
    if not meant:
        raise PlanError(f"no cell of the plan has the key or MLflow run '{run}'; results/leaderboard.csv lists both")
    if len({each.key for each in meant}) > 1:
        listed = ", ".join(dict.fromkeys(f"{name}/{each.category.name}" for each in meant))
        raise PlanError(f"'{run}' stands for several cells; write one of {listed}")
    return _done(bench, meant[0])


def _runs(bench: Bench) -> dict[str, str]:
    """Key of a cell -> id of its MLflow run, as the last leaderboard has it."""
    path = bench.layout.results / "leaderboard.csv"
    if not path.exists():
        return {}
    table = frame.read(path)
    return {str(key): str(run) for key, run in zip(table["key"], table["mlflow_run_id"], strict=True) if run}


def _done(bench: Bench, found: Cell) -> Cell:
    if not bench.store.has("cell", found.key):
        raise PlanError(f"{found.title} is not computed yet; run the plan first")
    return found


def _best(bench: Bench, place: str) -> Cell:
    """The first seed of the contender that leads on a category alone."""
    dataset, _, category = place.partition("/")
    every = list(dict.fromkeys(f"{each.category.dataset}/{each.category.name}" for each in bench.cells))
    if place not in every and dataset in {spec.name for spec in bench.plan.datasets} - bench.manifests.keys():
        raise PlanError(f"the data of {dataset} are not in place here, and are a part of its cells' keys")
    if place not in every:
        raise PlanError(f"the plan has no '{place}'{nearest(place, every)}; it has {', '.join(every)}")
    done = finished.read(bench, Remembering(bench.store), bench.plan.metrics)
    first = leader(frame.frame([each.row for each in done]), dataset, category)
    if first is None:
        raise PlanError(f"no cell of {place} is computed yet; run the plan first")
    return next(each for each in bench.cells if each.key == first.first["key"] and each.category.name == category)
