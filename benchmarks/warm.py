"""What a run costs that has nothing to compute.

    python -m benchmarks.warm                                       # a synthetic plan of 1,000 finished cells
    python -m benchmarks.warm --plan params.yaml --workspace .      # a plan that was run before

Seconds of `python -m flows.benchmark` from start to end, with a Prefect server of its own and with one that is already
up; and of it the pass over the store. The synthetic plan is PaDiM on the five generated categories with 200 seeds: one
cell is computed, and its artifacts are put into the store under the keys of all. The command that first logs the 200
runs to MLflow is shown too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from adcore.core.contracts import silent
from adcore.core.plan import load
from adcore.core.store import META
from adcore.engine.bench import Bench, prepare
from adcore.engine.cells import Cell
from adcore.engine.schedule import Work
from benchmarks.measuring import Run, print_conditions, print_table, run
from flows import _server, _start

CATEGORIES = 5


def synthetic_plan(cells: int, workspace: Path) -> Path:
    """A plan of so many cells, all of them finished."""
    path = workspace / "synthetic.yaml"
    plan = {"image": {"resize": 224}, "datasets": ["generated"], "methods": ["padim"]}
    path.write_text(yaml.safe_dump(plan | {"seeds": list(range(cells // CATEGORIES))}), encoding="utf-8")
    finish(opened(path, workspace))
    return path


def finish(bench: Bench) -> None:
    """Compute the first cell of a plan, and put its artifacts into the store under the keys of all."""
    first, *others = bench.cells
    bench.computer.extract(first, bench.levels(first), silent)
    bench.computer.fit(first, silent)
    bench.computer.score(first, silent)
    bench.computer.evaluate(first)
    bench.computer.latency(first)
    for cell in others:
        copy_artifacts(bench, first, cell)


def copy_artifacts(bench: Bench, source: Cell, target: Cell) -> None:
    """Everything that a finished cell consists of, under the keys of another cell."""
    for (kind, key), (_, wanted) in zip(source.artifacts, target.artifacts, strict=True):
        # One latency stands for all seeds; on a busy machine there is none.
        if bench.store.path(kind, key).exists() and not bench.store.path(kind, wanted).exists():
            meta = bench.store.meta(kind, key)
            kept = {name: value for name, value in meta.items() if name not in ("key", "kind", "files")}
            with bench.store.write(kind, wanted, kept) as folder:
                for file in bench.store.path(kind, key).iterdir():
                    if file.name != META:
                        shutil.copyfile(file, folder / file.name)


def opened(plan: Path, workspace: Path) -> Bench:
    """A plan over datasets that are put in place."""
    bench = Bench(load(plan), workspace)
    bench.manifests = {spec.name: prepare(spec, bench.layout) for spec in bench.plan.datasets}
    return bench


def command(plan: Path, workspace: Path, url: str) -> Run:
    """The whole command; it starts a server of its own where nothing answers at `url`."""
    given = ["--plan", str(plan), "--workspace", str(workspace)]
    return run([sys.executable, "-m", "flows.benchmark", *given], {"PREFECT_API_URL": url})


@contextlib.contextmanager
def server(home: Path) -> Iterator[str]:
    """The address of a Prefect server for the time of the block."""
    os.environ["PREFECT_API_URL"] = ""
    os.environ["PREFECT_HOME"] = str(home)
    with _server.server():
        yield os.environ["PREFECT_API_URL"]


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main() -> None:
    """Print seconds and what of them is the pass over the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, help="a plan that was run before, instead of the synthetic one")
    parser.add_argument("--workspace", type=Path, default=_start.PLACE, help="of that plan")
    parser.add_argument("--cells", type=int, default=1000, help="of the synthetic plan")
    given = parser.parse_args()

    print_conditions("prefect", "mlflow", "torch")
    with tempfile.TemporaryDirectory() as name:
        rows: list[tuple[str, float]] = []
        workspace = given.workspace.resolve() if given.plan else Path(name)
        nobody = f"http://127.0.0.1:{_start.free_port()}/api"
        if given.plan:
            plan = given.plan.resolve()
            missing = Work.find(opened(plan, workspace)).cells
            if missing:
                sys.exit(f"{len(missing)} cells of {plan} are not in {workspace}; run the plan first")
        else:
            plan = synthetic_plan(given.cells, workspace)
            rows.append(("first command, which logs to MLflow", command(plan, workspace, nobody).seconds))
        rows.append(("command, with a server of its own", command(plan, workspace, nobody).seconds))
        with server(Path(name) / "server") as url:
            command(plan, workspace, url)  # the server is warm too
            rows.append(("command, with a server that is up", command(plan, workspace, url).seconds))
        bench = opened(plan, workspace)
        rows.append(("of which: keys of all cells", seconds(lambda: bench.cells)))
        rows.append(("of which: pass over the store", seconds(lambda: Work.find(bench))))
        print(f"{len(bench.cells)} cells, nothing to compute")
        print_table(("", "s"), rows)


if __name__ == "__main__":
    main()
