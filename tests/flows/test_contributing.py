"""What CONTRIBUTING shows works as shown: an enhancer, a dataset and a protocol, one file each."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).parents[2]
TEXT = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")


def snippet(path: str) -> str:
    """The first block of Python behind the name of its file."""
    found = re.search(r"```python\n(.*?)```", TEXT[TEXT.index(f"`{path}`") :], re.DOTALL)
    assert found
    return found.group(1)


def test_an_enhancer_a_dataset_and_a_protocol_are_one_file_each(
    plan_file: Callable[..., Path], parts: Path, tmp_path: Path
) -> None:
    clone, root = tmp_path / "clone", tmp_path / "images"
    for name in ("adcore", "tasks", "flows"):
        shutil.copytree(REPO / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ("adcore/enhancers/flat.py", "adcore/datasets/reversed.py", "adcore/protocols/newest.py"):
        (clone / path).write_text(snippet(path))
    for file in parts.glob("*/t*/*/*.png"):
        category, split, defect = file.relative_to(parts).parts[:3]
        (root / defect / category / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / defect / category / split)
    dataset = {"name": "mine", "kind": "reversed", "root": str(root)}
    enhancers = ["none", {"name": "flat", "share": 0.25}]
    plan = plan_file(datasets=[dataset], methods=["padim"], enhancers=enhancers, protocols=["one-class", "newest"])
    command = [sys.executable, "-m", "flows.benchmark", "--plan", plan, "--workspace", tmp_path / "work"]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cells: 8 computed, 0 cached, 0 failed"
