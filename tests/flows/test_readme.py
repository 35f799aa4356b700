"""What README shows works as shown."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from adcore.core.plan import Plan, parse

REPO = Path(__file__).parents[2]
README = (REPO / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found.group(1)


def test_a_new_method_is_one_file(plan_file: Callable[..., Path], tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in ("adcore", "tasks", "flows"):
        shutil.copytree(REPO / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "adcore" / "methods" / "mean.py").write_text(block("python"))
    plan = plan_file(methods=["mean"])
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "flows.benchmark",
        "--plan",
        plan,
        "--workspace",
        tmp_path / "work",
    ]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cells: 2 computed, 0 cached, 0 failed"


def test_the_example_plan_is_a_plan() -> None:
    parse(yaml.safe_load(block("yaml")))


def test_every_key_of_a_plan_is_told() -> None:
    table = README[README.index("### Keys of a plan") : README.index("## Three ways")]
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]*)`", table))))
    assert set(Plan.model_fields) <= named
