"""One version everywhere, and the Python that `make` takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import adcore

REPO = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
TOOLS = ("make", "sh", "basename", "cp", "mkdir", "touch", "test")
# It writes down what it is asked for, and a virtual environment that it makes has a copy of it.
INTERPRETER = """#!/bin/sh
echo "$(basename $0) $*" >> {log}
if [ "$1" = -m ] && [ "$2" = venv ]; then mkdir -p $3/bin; cp $0 $3/bin/python; fi
"""
SHIM = "#!/bin/sh\nexit 127\n"  # as pyenv's, of a Python that is not installed


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert adcore.__version__ == PROJECT["project"]["version"]
    assert citation["version"] == PROJECT["project"]["version"]


def test_tools_read_the_code_as_the_oldest_python_would() -> None:
    oldest = re.match(r">=(\d\.\d+)", PROJECT["project"]["requires-python"])
    assert oldest
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest[1]
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest[1].replace(".", "")


Make = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(*arguments, python313=..., ...): run our Makefile where only these interpreters are; name -> its script."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPO / name, tmp_path)
    commands = tmp_path / "commands"
    commands.mkdir()
    for tool in TOOLS:
        (commands / tool).symlink_to(str(shutil.which(tool)))

    def run(*arguments: str, **interpreters: str) -> subprocess.CompletedProcess[str]:
        for name, script in interpreters.items():
            path = commands / name.replace("python3", "python3.")
            path.write_text(script.format(log=tmp_path / "log"))
            path.chmod(0o755)
        environment = {"PATH": str(commands)}
        command = [str(commands / "make"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ("interpreters", "taken"),
    [
        ({"python311": INTERPRETER, "python312": INTERPRETER, "python313": INTERPRETER}, "python3.13"),
        ({"python311": INTERPRETER, "python312": INTERPRETER}, "python3.12"),
        ({"python311": INTERPRETER, "python312": SHIM, "python313": SHIM}, "python3.11"),
        ({"python310": INTERPRETER, "python311": INTERPRETER, "python314": INTERPRETER}, "python3.11"),
    ],
)
def test_make_takes_the_newest_python_that_starts(
    interpreters: dict[str, str], taken: str, make: Make, tmp_path: Path
) -> None:
    done = make("setup", **interpreters)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log").read_text().splitlines()
    assert f"{taken} -m venv .venv" in lines
    assert lines[-1].startswith("python -m pip install")  # that of the environment
    assert "-c constraints.txt" in lines[-1]


@pytest.mark.parametrize("interpreters", [{}, {"python312": SHIM}, {"python310": INTERPRETER}])
def test_make_says_which_pythons_it_wants_where_there_is_none(interpreters: dict[str, str], make: Make) -> None:
    done = make("setup", **interpreters)
    assert done.returncode == 2
    assert "adcore needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.13" in done.stdout


def test_make_refuses_a_python_that_adcore_is_not_for(make: Make, tmp_path: Path) -> None:
    done = make("setup", "PYTHON=python3.14", python311=INTERPRETER, python314="#!/bin/sh\nexit 1\n")
    assert done.returncode == 2
    assert "adcore needs Python 3.11, 3.12 or 3.13" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_another_environment_leaves_the_first_alone(make: Make, tmp_path: Path) -> None:
    make("setup", python312=INTERPRETER, python311=INTERPRETER)
    make("setup", "VENV=.venv-3.11", "PYTHON=python3.11")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if "venv" in line] == ["python3.12 -m venv .venv", "python3.11 -m venv .venv-3.11"]


HOOKS = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook["id"]))
def test_a_commit_is_checked_by_what_make_runs(hook: dict[str, str]) -> None:
    command = hook["entry"].replace(".venv/bin", "\t$(BIN)")
    assert command in (REPO / "Makefile").read_text(encoding="utf-8")


def test_a_commit_is_formatted(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x   =  1\n")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for arguments in (["init", "-q"], ["add", "module.py", ".pre-commit-config.yaml"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    environment = os.environ | {"PRE_COMMIT_HOME": str(tmp_path / "home"), "SKIP": "types"}
    command = [sys.executable, "-m", "pre_commit", "run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "files were modified by this hook" in done.stdout
    assert (tmp_path / "module.py").read_text() == "x = 1\n"
