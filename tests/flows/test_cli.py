"""The console script: the same commands as `python -m flows.NAME`, lists of names, and a wheel that works in an empty
folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from adcore.engine import registry
from adcore.papers import published
from flows import cli

PlanFile = Callable[..., Path]
REPO = Path(__file__).parents[2]
SCRIPT = [sys.executable, "-c", "from flows.cli import main; main()"]
NAMES: dict[str, Iterable[str]] = {
    "methods": registry.modules("methods"),
    "enhancers": registry.modules("enhancers"),
    "datasets": registry.modules("datasets"),
    "metrics": registry.modules("metrics"),
    "columns": registry.columns(),
    "protocols": registry.modules("protocols"),
    "tables": published.stems(),
}


def run(*arguments: str, cwd: Path = REPO, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """The script; a variable that is None is taken out of its environment."""
    changed = {**os.environ, "PREFECT_API_URL": "", **environment}
    settings = {name: value for name, value in changed.items() if value is not None}
    return subprocess.run([*SCRIPT, *arguments], cwd=cwd, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", NAMES)
def test_a_list_has_every_name_and_what_it_is(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", what], standalone_mode=False)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == set(NAMES[what])
    assert all(lines.values())


def test_every_list_is_tested() -> None:
    assert set(NAMES) == set(cli.LISTS)


def test_a_list_that_there_is_not_names_the_nearest() -> None:
    done = run("list", "method")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no list of 'method' (did you mean 'methods'?)")


def test_every_flow_that_people_start_is_a_command() -> None:
    flows = {path.stem for path in (REPO / "flows").glob("[!_]*.py") if "if __name__ ==" in path.read_text()}
    assert flows - {module for module, _ in cli.COMMANDS.values()} == {"export"}  # a stage of dvc.yaml


def test_a_plan_that_cannot_be_used_ends_as_by_its_module(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("datasets: [nothing]\n")
    arguments = ["--plan", str(plan), "--workspace", str(tmp_path)]
    command = [sys.executable, "-m", "flows.benchmark", *arguments]
    module = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    script = run("run", *arguments)
    assert (script.returncode, script.stdout, script.stderr) == (module.returncode, module.stdout, module.stderr)
    assert script.returncode == 2


@pytest.mark.slow
def test_a_wheel_runs_a_plan_in_an_empty_folder(plan_file: PlanFile, tmp_path: Path) -> None:
    """Its libraries are this environment's; its own code, suites and printed numbers are the wheel's alone."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    source, site, place = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    subprocess.run(["git", "clone", "-q", str(REPO), str(source)], check=True)
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(wheel, check=True)
    built = next(tmp_path.glob("adcore-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(built)], check=True)
    before = {path for path in site.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    place.mkdir()
    (place / "params.yaml").write_text(plan_file().read_text())
    theirs = {"PYTHONPATH": str(site), "NUMBA_CACHE_DIR": None}  # ours keeps compiled kernels beside the sources
    listed = run("list", "tables", cwd=place, **theirs)
    assert len(listed.stdout.splitlines()) == len(published.stems())
    done = run("run", cwd=place, **theirs)
    assert done.stdout.splitlines()[-1] == "cells: 4 computed, 0 cached, 0 failed", done.stderr
    assert (place / "results" / "report.html").is_file()
    table = run("reproduce", "agpnet_table1", "--dry-run", cwd=place, **theirs)
    assert "missing: the files of mvtec_ad" in table.stdout, table.stderr
    after = {path for path in site.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    assert after == before
