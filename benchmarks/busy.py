"""What a busy machine costs: `python -m benchmarks.busy [--without]`.

adcore's computing (three methods on one category, no Prefect, all threads) beside no, one and two processes that each
keep a core busy, in turn. What the cores left to it allow: of 2 cores and as many threads, one busy process leaves
4/3 of a core and two leave one, so 1.5 and 2 times the quiet time are fair where all of it is done by all threads.
`--without` also measures it as torch comes, with threads that wait for each other by spinning (GOMP_SPINCOUNT unset).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import print_conditions, print_table, run
from flows._start import ENVIRONMENT

PLAN = """\
image: {resize: 224}
datasets: [{name: generated, categories: [brick], max_train: 30, max_test: 30}]
methods: [padim, patchcore, {name: cfa, epochs: 1}]
device: cpu
"""
SETTING = "GOMP_SPINCOUNT"
BUSY = "while True: pass"


@contextlib.contextmanager
def others(count: int) -> Iterator[None]:
    """So many processes that do nothing but take a core."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def seconds(plan: Path, folder: Path, count: int, spin: bool) -> float:
    """Of computing beside so many busy processes, in an empty workspace."""
    environment = {} if spin else {SETTING: ENVIRONMENT[SETTING]}
    with tempfile.TemporaryDirectory(dir=folder) as workspace, others(count):
        os.environ.pop(SETTING, None)
        return run([sys.executable, "-m", "benchmarks.peer_adcore", str(plan), workspace], environment).seconds


def main() -> None:
    """Print seconds and their ratios to those of the quiet machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="store_true", help="also as torch comes; takes many minutes")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print_conditions("torch", "faiss-cpu")
    with tempfile.TemporaryDirectory() as name:
        plan = Path(name) / "plan.yaml"
        plan.write_text(PLAN, encoding="utf-8")
        seconds(plan, Path(name), 0, False)  # compiles the kernels
        for spin in (False, True) if given.without else (False,):
            rounds = [[seconds(plan, Path(name), count, spin) for count in (0, 1, 2)] for _ in range(given.rounds)]
            best = [min(column) for column in zip(*rounds, strict=True)]
            print("\nas torch comes" if spin else "\nas adcore sets it")
            print_table(("busy processes beside it", "s", "x"), [(n, s, s / best[0]) for n, s in enumerate(best)])


if __name__ == "__main__":
    main()
