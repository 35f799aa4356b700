"""Where the time of a command goes that is not computing: `python -m benchmarks.overhead [--plan P] [--runs 2]`.

`flows.benchmark` with a Prefect server of its own in an empty workspace, and again, when all is there. What each part
took is told by clocks around it, in the very process; parts within a part are not counted twice.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGUN = "ADCORE_BENCHMARK_BEGUN"  # time.time() at which the process was started
COMPUTING = "computing: extraction, fits, maps, metrics"
LATENCIES = "latencies measured"
WORK = (COMPUTING, LATENCIES)
PRINTED = "until the leaderboard is printed"
STEPS = ("enhance", "extract", "fit", "score", "evaluate", "latency")
PLAN = """\
image: {resize: 256}
datasets: [{name: generated, categories: [brick], max_train: 40, max_test: 47}]
methods: [padim, patchcore, {name: cfa, epochs: 2}]
device: cpu
"""


class Clock:
    """Seconds by part: each moment belongs to the part that began last and has not ended."""

    def __init__(self, begun: float) -> None:
        self.seconds: dict[str, float] = {}
        self._parts = ["the rest"]
        self._since = self.begun = begun
        self.ends: dict[str, float] = {}  # when a part last ended

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs within the block."""
        self._turn()
        self._parts.append(name)
        try:
            yield
        finally:
            self._turn()
            self._parts.pop()

    def _turn(self) -> None:
        now = time.time()
        self.seconds[self._parts[-1]] = self.seconds.get(self._parts[-1], 0.0) + now - self._since
        self._since = now

    def around(self, owner: Any, name: str, part: str) -> None:
        """Count what a function of `owner`, a module or a mapping, takes."""
        inner = owner[name] if isinstance(owner, dict) else getattr(owner, name)
        where = inspect.getattr_static(owner, name) if isinstance(owner, type) else None

        @functools.wraps(inner)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(part):
                result = inner(*arguments, **named)
            self.ends[part] = time.time() - self.begun
            return result

        if isinstance(owner, dict):
            owner[name] = timed
        else:
            setattr(owner, name, staticmethod(timed) if isinstance(where, classmethod) else timed)


def told(begun: float) -> Clock:
    """A clock with the parts of `flows.benchmark`, which is not imported yet."""
    clock = Clock(begun)
    with clock.part("import of Prefect and of ours"):
        from adcore.engine import bench, schedule

        for name in STEPS:  # before others take them from there
            clock.around(schedule.STEPS, name, LATENCIES if name == "latency" else COMPUTING)
        for name in ("prepare", "read"):
            clock.around(bench, name, "data sets put in place and read")
        clock.around(bench.Bench, "_found", "data sets validated")

        from adcore.features import backbones
        from adcore.report import leaderboard
        from adcore.results import run
        from flows import _groups, _server, command, stages
        from tasks import publishing

    clock.around(command, "checked", "plan and workspace checked")
    clock.around(_server, "_started", "Prefect's server waited for")
    clock.around(_server, "_end", "Prefect's server ended")
    clock.around(schedule.Work, "find", "cells looked up")
    clock.around(backbones, "require_known", "import of torch and timm")
    clock.around(_groups, "compute", "Prefect's tasks, between our steps")
    clock.around(run, "gather", "results read and compared")
    clock.around(stages, "write_pages", "page of the validation")
    clock.around(leaderboard, "console", "leaderboard printed")
    clock.around(publishing, "write_results", "report and tables")
    clock.around(publishing, "log_runs", "MLflow")
    return clock


def child(plan: str, workspace: str, report: str) -> None:
    """One command in this process; its parts, as JSON, into a file."""
    import runpy

    clock = told(float(os.environ[BEGUN]))
    sys.argv = ["flows.benchmark", "--plan", plan, "--workspace", workspace]
    try:
        runpy.run_module("flows.benchmark", run_name="__main__")
    finally:
        with clock.part("the rest"):
            Path(report).write_text(json.dumps([clock.seconds, clock.ends]), encoding="utf-8")


def parts(plan: Path, workspace: Path) -> dict[str, float]:
    """Seconds by part of a command, the last "the end of the process", and "in all"."""
    from benchmarks.measuring import run

    report = workspace / "parts.json"
    begun = time.time()
    given = ["--child", str(report), "--plan", str(plan), "--workspace", str(workspace)]
    whole = run([sys.executable, "-m", "benchmarks.overhead", *given], {"PREFECT_API_URL": "", BEGUN: str(begun)})
    found, ends = json.loads(report.read_text(encoding="utf-8"))
    rest = whole.seconds - sum(found.values())
    return found | {"end of the process": rest, "in all": whole.seconds, PRINTED: ends["leaderboard printed"]}


def main() -> None:
    """Print seconds by part, of a first command and of a second one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, help="instead of three methods on one category")
    parser.add_argument("--workspace", type=Path, help="with --child")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(str(given.plan), str(given.workspace), given.child)
        return

    from benchmarks.measuring import print_conditions, print_table

    print_conditions("prefect", "mlflow", "torch", "timm", "great-expectations")
    with tempfile.TemporaryDirectory() as name:
        plan = given.plan or Path(name) / "plan.yaml"
        if not given.plan:
            plan.write_text(PLAN, encoding="utf-8")
        places = [Path(name) / "first", Path(name) / "second"]
        for place in places:
            place.mkdir()
        parts(plan, places[0])  # reads all from the disk, compiles kernels, makes the tables of Prefect's server
        for made in ("numba", "prefect/home"):
            shutil.copytree(places[0] / ".cache" / made, places[1] / ".cache" / made)
        cold, warm = parts(plan, places[1]), parts(plan, places[1])
        rows = [(name, cold.get(name, ""), warm.get(name, "")) for name in {**warm, **cold}]
        print_table(("seconds", "computed", "again"), rows)
        print(f"without computing and latencies: {cold['in all'] - sum(cold.get(name, 0.0) for name in WORK):.1f} s")


if __name__ == "__main__":
    main()
