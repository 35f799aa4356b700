"""SLURM's array: a job a missing group. What sbatch would do is done by a stand-in that runs the jobs here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adcore.results.frame import read
from flows import slurm
from flows._start import ServerError
from flows.benchmark import benchmark

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]

SBATCH = """#!{python}
import os, re, subprocess, sys
text = sys.stdin.read()
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
last = re.search(r"--array=0-(\\d+)", text)
for task in range(int(last[1]) + 1 if last else 1):
    subprocess.run(["bash", "-c", text], env=dict(os.environ, SLURM_ARRAY_TASK_ID=str(task)), check=True, stdout=2)
print("17;cluster")
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of what sbatch was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "sbatch.log"
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable, log=str(log)))
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def run(plan: Path, work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.slurm", "--plan", str(plan), "--workspace", str(work), *arguments]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)


def test_a_script_is_what_bash_and_sbatch_take() -> None:
    text = slurm.script("p", ["adcore", "run"], ["parts/a b", "it's"], ["--gres=gpu:1"])
    assert text.startswith("#!/bin/bash\n#SBATCH --job-name=adcore-p\n#SBATCH --array=0-1\n#SBATCH --gres=gpu:1\n")
    told = text.replace("exec adcore run", "printf '%s|'")
    outs = [
        subprocess.run(["bash", "-c", told], env={"SLURM_ARRAY_TASK_ID": str(n)}, capture_output=True, text=True).stdout
        for n in range(2)
    ]
    assert outs == ["--only|parts/a b|", "--only|it's|"]


def test_one_group_is_computed_and_nothing_published(plan_file: PlanFile, work: Path) -> None:
    path = plan_file()
    state = benchmark(plan=str(path), workspace=str(work), only=["parts/cloth"], return_state=True)
    assert state.message == "cells: 2 computed, 0 cached, 0 failed"
    assert not (work / "results/leaderboard.csv").exists()
    state = benchmark(plan=str(path), workspace=str(work), return_state=True)
    assert state.message == "cells: 2 computed, 2 cached, 0 failed"


def test_a_group_that_there_is_not_names_the_nearest(plan_file: PlanFile, work: Path) -> None:
    state = benchmark(plan=str(plan_file()), workspace=str(work), only=["parts/clothe"], return_state=True)
    assert "the plan has no group 'parts/clothe' (did you mean 'parts/cloth'?)" in str(state.message)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_array_computes_everything_and_is_published(plan_file: PlanFile, work: Path, sbatch: Path) -> None:
    path = plan_file()
    assert run(path, work).stdout.count("parts/") == 2
    done = run(path, work, "--submit")
    assert (done.returncode, done.stdout) == (0, "array 17: 2 groups; then 17 publishes\n"), done.stderr
    behind = "--parsable --dependency=afterany:17 --job-name=adcore-publish"
    assert sbatch.read_text().splitlines() == ["--parsable", behind]
    assert read(work / "results" / "leaderboard.csv")["status"].tolist() == ["ok"] * 4
    assert run(path, work, "--submit").stderr.endswith("nothing is missing\n")


def test_without_sbatch_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match="there is no sbatch here"):
        slurm.submit("", [], [])
